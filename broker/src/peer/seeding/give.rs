//! Gives another broker the frames that a replica of its own needs.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use highwater_proto::internal::v1::{SeedBeginning, SeedRequest, SeedResponse};
use highwater_storage::{Error as StorageError, RaftIndex};
use raft::eraftpb::Entry;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::Stream;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use tracing::{debug, warn};

use crate::peer::shared::{Groups, Shared};
use crate::peer::wire;
use crate::raft::{GroupId, ReplicaId, SeedingProgress, Source, SourceRefusal};

/// Payload bytes read and sent at once; a larger frame goes alone.
const PIECE_BYTES: u64 = 2 << 20;
/// Pieces that are read while others are sent.
const PIECES_AHEAD: usize = 2;
/// How often the leader hears that its follower is being seeded, however slowly: well within the time after which it would
/// take the seeding for lost.
const SIGN_INTERVAL: Duration = Duration::from_secs(1);

/// What is answered.
pub(in crate::peer) type Given = Pin<Box<dyn Stream<Item = Result<SeedResponse, Status>> + Send>>;

/// One pull as the giving broker sees it.
struct Giving {
    shared: Arc<Shared>,
    groups: Arc<dyn Groups>,
    group: GroupId,
    asked: ReplicaId,
    to: ReplicaId,
    next: RaftIndex,
    upto: RaftIndex,
    source: Source,
    has_begun: bool,
    /// Bytes that the other broker has or was sent.
    done_bytes: Arc<AtomicU64>,
    _signs: AbortOnDropHandle<()>,
    _permit: OwnedSemaphorePermit,
}

/// The frames that are asked for. Who asks was checked.
///
/// # Errors
/// Why there are none: UNAVAILABLE when it is worth to ask again, here or elsewhere; OUT_OF_RANGE when the log begins above
/// what is wanted, so that it takes a later snapshot; PERMISSION_DENIED, INVALID_ARGUMENT.
pub(in crate::peer) async fn give(
    shared: Arc<Shared>,
    groups: Arc<dyn Groups>,
    request: SeedRequest,
    permit: OwnedSemaphorePermit,
) -> Result<Given, Status> {
    let (group, asked, to) = (
        GroupId(request.group_id),
        ReplicaId(request.from_replica_id),
        ReplicaId(request.to_replica_id),
    );
    let upto = RaftIndex(request.upto_index);
    if upto.0 == 0 || upto.0 == u64::MAX || request.next_index > upto.0 + 1 {
        return Err(Status::invalid_argument("there are no such indexes"));
    }
    let source = find(&*groups, group, asked, to, upto).await?;
    let done_bytes = Arc::new(AtomicU64::new(request.staged_bytes));
    let signs = tokio::spawn(give_signs(
        Arc::clone(&groups),
        (group, to),
        Arc::clone(&done_bytes),
        source.total_bytes(),
    ));
    let giving = Giving {
        shared,
        next: RaftIndex(request.next_index).max(source.begins().index),
        groups,
        group,
        asked,
        to,
        upto,
        source,
        has_begun: false,
        done_bytes,
        _signs: AbortOnDropHandle::new(signs),
        _permit: permit,
    };
    Ok(ahead(stream::try_unfold(giving, Giving::next_piece)))
}

/// Gets pieces ready before they are asked for.
fn ahead(pieces: impl Stream<Item = Result<SeedResponse, Status>> + Send + 'static) -> Given {
    let (ready, given) = mpsc::channel(PIECES_AHEAD);
    let reading = tokio::spawn(async move {
        let mut pieces = std::pin::pin!(pieces);
        while let Some(piece) = pieces.next().await {
            if ready.send(piece).await.is_err() {
                return;
            }
        }
    });
    let reading = AbortOnDropHandle::new(reading);
    Box::pin(stream::unfold(
        (given, reading),
        |(mut given, reading)| async {
            let piece = given.recv().await?;
            Some((piece, (given, reading)))
        },
    ))
}

/// Lets the leader know, as long as the other broker is connected, that its follower is being seeded.
async fn give_signs(
    groups: Arc<dyn Groups>,
    (group, to): (GroupId, ReplicaId),
    done_bytes: Arc<AtomicU64>,
    total_bytes: u64,
) {
    let mut interval = tokio::time::interval(SIGN_INTERVAL);
    loop {
        interval.tick().await;
        let done_bytes = done_bytes.load(Ordering::Relaxed);
        let progress = SeedingProgress {
            done_bytes,
            total_bytes: total_bytes.max(done_bytes),
        };
        groups.seeding_goes_on(group, to, progress);
    }
}

async fn find(
    groups: &dyn Groups,
    group: GroupId,
    asked: ReplicaId,
    to: ReplicaId,
    upto: RaftIndex,
) -> Result<Source, Status> {
    let found = groups.source(group, asked, to, upto).await;
    let refusal = match found {
        Ok(Ok(source)) => return Ok(source),
        Ok(Err(refusal)) => refusal,
        Err(_) => SourceRefusal::NotHere,
    };
    let reason = refusal.to_string();
    Err(match refusal {
        SourceRefusal::NotHere | SourceRefusal::NotYet => Status::unavailable(reason),
        SourceRefusal::NoMember => Status::permission_denied(reason),
        SourceRefusal::Past => {
            groups.seeding_failed(group, to);
            Status::out_of_range(reason)
        }
    })
}

impl Giving {
    async fn next_piece(mut self) -> Result<Option<(SeedResponse, Self)>, Status> {
        if !self.has_begun {
            self.has_begun = true;
            return Ok(Some((self.beginning(), self)));
        }
        if self.next > self.upto {
            return Ok(None);
        }
        let (source, next) = (self.source, self.next);
        let read = tokio::task::spawn_blocking(move || {
            let read = source.read(next, PIECE_BYTES);
            (source, read)
        });
        let (source, read) = read
            .await
            .map_err(|_| Status::internal("reading the log panicked"))?;
        self.source = source;
        match read {
            Ok(entries) => {
                let bytes = entries.iter().map(|entry| entry.data.len()).sum();
                let piece = self.piece(entries, bytes)?;
                self.make_way(bytes).await;
                Ok(Some((piece, self)))
            }
            Err(StorageError::Compacted { .. }) => self.begin_later().await,
            Err(error) => {
                warn!(group = self.group.0, %error, "frames for a replica that is seeded cannot be read");
                Err(Status::unavailable("the frames cannot be read here"))
            }
        }
    }

    /// Records were trimmed meanwhile: it goes on from where the log begins now.
    async fn begin_later(mut self) -> Result<Option<(SeedResponse, Self)>, Status> {
        let (group, asked, to) = (self.group, self.asked, self.to);
        self.source = find(&*self.groups, group, asked, to, self.upto).await?;
        let begins = self.source.begins().index;
        if begins <= self.next {
            // It is neither gone nor there: another replica may have it.
            return Err(Status::unavailable("the frames are not here"));
        }
        debug!(group = group.0, index = %begins, "a replica is seeded from later on");
        self.next = begins;
        Ok(Some((self.beginning(), self)))
    }

    fn beginning(&self) -> SeedResponse {
        let begins = self.source.begins();
        SeedResponse {
            beginning: Some(SeedBeginning {
                index: begins.index.0,
                offset: begins.offset.0,
                term_before: begins.term_before.0,
                log_bytes: self.source.total_bytes(),
            }),
            first_index: self.next.0,
            entries: Vec::new(),
        }
    }

    /// Leaves disk and processor to what else is written here.
    async fn make_way(&self, bytes: usize) {
        let written_bytes = self.groups.written_bytes();
        let throttle = &self.shared.giving;
        let pause = throttle.take(bytes, written_bytes, Instant::now());
        tokio::time::sleep(pause).await;
    }

    fn piece(&mut self, entries: Vec<Entry>, bytes: usize) -> Result<SeedResponse, Status> {
        let follows = entries
            .first()
            .is_some_and(|entry| entry.index == self.next.0);
        let Some(last) = entries.last().filter(|_| follows).map(|entry| entry.index) else {
            return Err(Status::unavailable("the frames are not here"));
        };
        let first_index = self.next.0;
        let entries = wire::encode_entries(entries)
            .ok_or_else(|| Status::internal("an entry of the log has no form here"))?;
        self.next = RaftIndex(last).next();
        self.done_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(SeedResponse {
            beginning: None,
            first_index,
            entries,
        })
    }
}
