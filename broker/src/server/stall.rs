//! Clients that do not read their answers.
//!
//! An answer that is handed to the transport and not asked for again waits for the client: its flow-control window is
//! closed. Such answers hold memory that others need, so after a while the client loses its connection.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
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

#[derive(Debug)]
struct Progress {
    /// When a piece was handed to the transport, in milliseconds since the start; [`ASKED`] while the transport asks.
    handed_ms: AtomicU64,
    connection: ConnectionCut,
}

const ASKED: u64 = u64::MAX;

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
            handed_ms: AtomicU64::new(ASKED),
            connection,
        });
        self.lock().push(Arc::downgrade(&progress));
        Body::new(WatchedBody {
            body,
            progress,
            began: self.began,
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
            let handed_ms = progress.handed_ms.load(Ordering::Relaxed);
            if handed_ms != ASKED && now_ms.saturating_sub(handed_ms) >= millis(timeout) {
                warn!(
                    stalled_ms = now_ms - handed_ms,
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
    progress: Arc<Progress>,
    began: Instant,
}

impl hyper::body::Body for WatchedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let handed_ms = match &polled {
            Poll::Ready(Some(Ok(frame))) if frame.is_data() => millis(self.began.elapsed()),
            _ => ASKED,
        };
        self.progress.handed_ms.store(handed_ms, Ordering::Relaxed);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn only_a_handed_answer_that_nobody_asks_for_is_cut() {
        let stalls = Stalls::new();
        let (idle, stalled) = (ConnectionCut::default(), ConnectionCut::default());
        let full = || Body::new(http_body_util::Full::new(Bytes::from_static(b"x")));
        let _idle = stalls.watch(full(), idle.clone());
        let mut body = stalls.watch(full(), stalled.clone());
        body.frame().await.unwrap().unwrap();
        stalls.look(Duration::from_secs(3600));
        assert!(!stalled.0.is_cancelled());
        stalls.look(Duration::ZERO);
        assert!(stalled.0.is_cancelled());
        assert!(!idle.0.is_cancelled());
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
