//! Clients that do not read their answers.
//!
//! What of an answer the transport has and does not send waits for the client: its flow-control window is closed. Such answers
//! hold memory that others need, so after a while the client loses its connection.
//!
//! That the transport asks for more of an answer, or drops it, says nothing: hyper does so as soon as it has handed to HTTP/2 what
//! it got before.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tracing::warn;

/// Cuts a connection off.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectionCut(CancellationToken);

impl ConnectionCut {
    /// A cut that `all` makes, too.
    pub(super) fn of(all: &CancellationToken) -> Self {
        Self(all.child_token())
    }

    /// What the connection waits for.
    pub(super) fn token(&self) -> &CancellationToken {
        &self.0
    }
}

/// All answers on their way.
#[derive(Clone, Debug)]
pub(super) struct Stalls {
    answers: Arc<Mutex<Vec<Weak<Progress>>>>,
    began: Instant,
}

/// An answer is handed out in pieces of this size at most, so that a client which takes one slowly is told from one which does
/// not.
const PIECE_BYTES: usize = 256 << 10;

#[derive(Debug)]
struct Progress {
    began: Instant,
    /// Pieces that the transport has and has not sent.
    pieces: AtomicUsize,
    /// When it took or sent one last, in milliseconds since the start.
    moved_ms: AtomicU64,
    connection: ConnectionCut,
}

impl Progress {
    fn has_moved(&self) {
        let now_ms = millis(self.began.elapsed());
        self.moved_ms.store(now_ms, Ordering::Relaxed);
    }
}

impl Stalls {
    pub(super) fn new() -> Self {
        Self {
            answers: Arc::default(),
            began: Instant::now(),
        }
    }

    /// Watches `body` on its way to the client of `connection`.
    pub(super) fn watch(&self, body: Body, connection: ConnectionCut) -> Body {
        let progress = Arc::new(Progress {
            began: self.began,
            pieces: AtomicUsize::new(0),
            moved_ms: AtomicU64::new(0),
            connection,
        });
        self.lock().push(Arc::downgrade(&progress));
        Body::new(WatchedBody {
            body,
            left: Bytes::new(),
            progress,
        })
    }

    /// Cuts off who has not read for `timeout`, until `stop`.
    pub(super) async fn run(self, timeout: Duration, stop: CancellationToken) {
        let mut looks = tokio::time::interval(timeout / 4);
        loop {
            tokio::select! {
                _ = looks.tick() => self.look(timeout),
                () = stop.cancelled() => return,
            }
        }
    }

    fn look(&self, timeout: Duration) {
        let now_ms = millis(self.began.elapsed());
        self.lock().retain(|answer| {
            let Some(progress) = answer.upgrade() else {
                return false;
            };
            let is_waiting = progress.pieces.load(Ordering::Relaxed) > 0;
            let stalled_ms = now_ms.saturating_sub(progress.moved_ms.load(Ordering::Relaxed));
            if is_waiting && stalled_ms >= millis(timeout) {
                warn!(
                    stalled_ms,
                    "a client does not read its answer: its connection is closed"
                );
                progress.connection.0.cancel();
                return false;
            }
            true
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Progress>>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

struct WatchedBody {
    body: Body,
    /// What is still to be handed out of the last frame.
    left: Bytes,
    progress: Arc<Progress>,
}

impl WatchedBody {
    /// The next piece of what is left.
    fn piece(&mut self) -> Frame<Bytes> {
        let bytes = self.left.split_to(self.left.len().min(PIECE_BYTES));
        self.progress.has_moved();
        self.progress.pieces.fetch_add(1, Ordering::Relaxed);
        let progress = Arc::clone(&self.progress);
        Frame::data(Bytes::from_owner(Piece { bytes, progress }))
    }
}

impl hyper::body::Body for WatchedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.left.is_empty() {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            match frame.into_data() {
                Ok(data) if data.is_empty() => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(data) => self.left = data,
                Err(other) => return Poll::Ready(Some(Ok(other))),
            }
        }
        Poll::Ready(Some(Ok(self.piece())))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let left = self.left.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(left));
        }
        hint.set_lower(hint.lower().saturating_add(left));
        hint
    }
}

/// A piece of an answer that the transport has.
struct Piece {
    bytes: Bytes,
    progress: Arc<Progress>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.progress.has_moved();
        self.progress.pieces.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn body_of(bytes: Vec<u8>) -> Body {
        Body::new(http_body_util::Full::new(Bytes::from(bytes)))
    }

    #[tokio::test]
    async fn only_an_answer_that_the_transport_has_and_does_not_send_is_cut() {
        let stalls = Stalls::new();
        let cuts = [(); 3].map(|()| ConnectionCut::default());
        let [idle, sent, stalled] = &cuts;
        let watch = |cut: &ConnectionCut| stalls.watch(body_of(vec![1]), cut.clone());
        let _idle = watch(idle);
        let mut sent_body = watch(sent);
        drop(sent_body.frame().await.unwrap().unwrap());
        let mut stalled_body = watch(stalled);
        let piece = stalled_body.frame().await.unwrap().unwrap();
        // It has asked for all of it, and forgets the rest.
        assert!(stalled_body.frame().await.is_none());
        drop(stalled_body);
        stalls.look(Duration::from_secs(3600));
        assert!(!stalled.0.is_cancelled());
        stalls.look(Duration::ZERO);
        assert!(stalled.0.is_cancelled());
        assert!(!idle.0.is_cancelled() && !sent.0.is_cancelled());
        drop(piece);
    }

    #[tokio::test]
    async fn a_large_answer_is_handed_out_whole_in_pieces() {
        let stalls = Stalls::new();
        let whole: Vec<u8> = (0..=250).cycle().take(2 * PIECE_BYTES + 5).collect();
        let mut body = stalls.watch(body_of(whole.clone()), ConnectionCut::default());
        let mut lengths = Vec::new();
        let mut all = Vec::new();
        while let Some(frame) = body.frame().await {
            let piece = frame.unwrap().into_data().unwrap();
            lengths.push(piece.len());
            all.extend_from_slice(&piece);
        }
        assert_eq!(lengths, [PIECE_BYTES, PIECE_BYTES, 5]);
        assert_eq!(all, whole);
    }

    #[tokio::test]
    async fn finished_answers_are_forgotten() {
        let stalls = Stalls::new();
        let connection = ConnectionCut::default();
        let body = stalls.watch(Body::empty(), connection.clone());
        drop(body);
        stalls.look(Duration::ZERO);
        assert!(stalls.lock().is_empty());
        assert!(!connection.0.is_cancelled());
    }
}
