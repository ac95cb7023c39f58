//! Pulls what replicas of this broker need.

use std::sync::Arc;
use std::time::{Duration, Instant};

use highwater_proto::internal::v1::peer_service_client::PeerServiceClient;
use highwater_proto::internal::v1::{SeedBeginning, SeedRequest, SeedResponse};
use highwater_storage::{Error as StorageError, Offset, RaftIndex, StagedFrom, Term, Unsynced};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Code, Status, Streaming};
use tracing::{debug, info, warn};

use super::throttle::Throttle;
use crate::peer::shared::Groups;
use crate::peer::{Peers, wire};
use crate::raft::{Pull, ReceiveError, Receiving};

/// Wait before a source is asked again, at first and at most.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// Silence of a source after which it is asked again.
const SILENCE: Duration = Duration::from_secs(30);
/// A pull that gets no further for so long is given up. The leader offers again, where it is still needed.
const GIVE_UP_AFTER: Duration = Duration::from_secs(600);

/// What [`Pulls`] works with.
pub(in crate::peer) struct PullsSpec {
    pub(in crate::peer) peers: Peers,
    pub(in crate::peer) groups: Arc<dyn Groups>,
    /// Pulls at once; the others wait.
    pub(in crate::peer) at_once: usize,
    /// Bytes per second of all together beside what else is written; 0: as fast as they come.
    pub(in crate::peer) bytes_per_second: u64,
    /// The largest message that is taken.
    pub(in crate::peer) message_bytes: usize,
}

/// See the module's documentation. Clones share it.
#[derive(Clone)]
pub(in crate::peer) struct Pulls {
    peers: Peers,
    groups: Arc<dyn Groups>,
    slots: Arc<Semaphore>,
    throttle: Arc<Throttle>,
    message_bytes: usize,
}

/// Why a pull does not go on.
enum Ended {
    /// All is there.
    Done,
    /// It is worth to try again.
    Again(String),
    /// It is of no use.
    Never(String),
}

impl Pulls {
    pub(in crate::peer) fn new(spec: PullsSpec) -> Self {
        Self {
            peers: spec.peers,
            groups: spec.groups,
            slots: Arc::new(Semaphore::new(spec.at_once)),
            throttle: Arc::new(Throttle::new(spec.bytes_per_second)),
            message_bytes: spec.message_bytes,
        }
    }

    /// Carries out what is wanted until `stop`.
    pub(in crate::peer) async fn run(
        self,
        mut wanted: mpsc::Receiver<Pull>,
        stop: CancellationToken,
    ) {
        let tasks = TaskTracker::new();
        loop {
            let pull = tokio::select! {
                () = stop.cancelled() => break,
                pull = wanted.recv() => pull,
            };
            let Some(pull) = pull else {
                break;
            };
            let (pulls, stop) = (self.clone(), stop.clone());
            tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = pulls.carry_out(pull) => {}
                }
            });
        }
        tasks.close();
        tasks.wait().await;
    }

    async fn carry_out(&self, pull: Pull) {
        let (group, replica) = (pull.group().0, pull.replica().0);
        let entry_bytes = self.peers.shared.message_limits.entry_bytes;
        let mut receiving = Receiving::new(pull, entry_bytes);
        let (mut wait, mut moved) = (FIRST_WAIT, Instant::now());
        while !receiving.pull().is_over() {
            // Whoever has nobody to pull from keeps nobody else from it.
            let Ok(slot) = self.slots.acquire().await else {
                return;
            };
            let before = receiving.bytes();
            let ended;
            (receiving, ended) = match self.attempt(receiving).await {
                (Some(receiving), ended) => (receiving, ended),
                (None, Ended::Again(reason) | Ended::Never(reason)) => {
                    warn!(group, replica, reason, "seeding is given up");
                    return;
                }
                (None, Ended::Done) => {
                    info!(group, replica, "all frames of a seeding are here");
                    return;
                }
            };
            drop(slot);
            if receiving.bytes() > before {
                (wait, moved) = (FIRST_WAIT, Instant::now());
            }
            match ended {
                Ended::Again(reason) if moved.elapsed() < GIVE_UP_AFTER => {
                    debug!(group, replica, reason, "seeding goes on later");
                }
                Ended::Done => return,
                Ended::Again(reason) | Ended::Never(reason) => {
                    warn!(group, replica, reason, "seeding is given up");
                    return;
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Pulls until the source ends, or all is there. What is left to be gone on with, and how it ended.
    async fn attempt(&self, receiving: Receiving) -> (Option<Receiving>, Ended) {
        let mut pieces = match self.open(&receiving).await {
            Ok(pieces) => pieces,
            Err(ended) => return (Some(receiving), ended),
        };
        let (mut receiving, mut syncing) = (receiving, Syncing::default());
        loop {
            if receiving.is_complete() {
                return (None, self.finish(receiving).await);
            }
            if receiving.pull().is_over() {
                return (None, Ended::Never("it is not needed any more".to_owned()));
            }
            let piece = match tokio::time::timeout(SILENCE, pieces.message()).await {
                Ok(Ok(Some(piece))) => piece,
                Ok(Ok(None)) => return (Some(receiving), again("the source ended it")),
                Ok(Err(status)) => return (Some(receiving), ended_by(&status)),
                Err(_) => return (Some(receiving), again("the source says nothing")),
            };
            // What was written so far may be of no use any more.
            if piece.beginning.is_some()
                && let Err(ended) = syncing.end().await
            {
                return (Some(receiving), ended);
            }
            let taken;
            (receiving, taken) = match self.take(receiving, piece).await {
                (Some(receiving), taken) => (receiving, taken),
                (None, _) => return (None, Ended::Never("writing frames panicked".to_owned())),
            };
            if let Err(ended) = taken {
                return (Some(receiving), ended);
            }
            if let Some(unsynced) = receiving.unsynced()
                && let Err(ended) = syncing.go_on(unsynced).await
            {
                return (Some(receiving), ended);
            }
        }
    }

    /// Asks the broker of the leader.
    async fn open(&self, receiving: &Receiving) -> Result<Streaming<SeedResponse>, Ended> {
        let pull = receiving.pull();
        let source = pull.source().ok_or_else(|| again("no leader is known"))?;
        let broker = self.peers.routes().broker_of(source);
        let broker = broker.ok_or_else(|| again("it is not known where the leader is"))?;
        let cluster_id = self.peers.cluster_id();
        let cluster_id = cluster_id.ok_or_else(|| again("this broker belongs to no cluster"))?;
        let channel = self.peers.channel(broker);
        let channel = channel.map_err(|error| again(&error.to_string()))?;
        let client = PeerServiceClient::new(channel);
        let mut client = client.max_decoding_message_size(self.message_bytes);
        let identity = &self.peers.shared.identity;
        let request = SeedRequest {
            hello: Some(identity.hello_to(broker, cluster_id)),
            group_id: pull.group().0,
            from_replica_id: source.0,
            to_replica_id: pull.replica().0,
            next_index: receiving.next_index().unwrap_or_default().0,
            upto_index: pull.upto().0,
            staged_bytes: receiving.bytes(),
        };
        let opened = tokio::time::timeout(SILENCE, client.seed(request)).await;
        let opened = opened.map_err(|_| again("the source does not answer"))?;
        Ok(opened.map_err(|status| ended_by(&status))?.into_inner())
    }

    async fn take(
        &self,
        mut receiving: Receiving,
        piece: SeedResponse,
    ) -> (Option<Receiving>, Result<(), Ended>) {
        if let Some(beginning) = &piece.beginning {
            let begun = self.begin(&mut receiving, beginning).await;
            if begun.is_err() {
                return (Some(receiving), begun);
            }
        }
        let limits = &self.peers.shared.message_limits;
        let entries = match wire::decode_entries(piece.first_index, piece.entries, limits) {
            Ok(entries) => entries,
            Err(refused) => {
                let refused = Err(self.refuse(&refused.to_string()));
                return (Some(receiving), refused);
            }
        };
        let bytes = entries.iter().map(|entry| entry.data.len()).sum();
        let written_bytes = self.groups.written_bytes();
        let pause = self.throttle.take(bytes, written_bytes, Instant::now());
        tokio::time::sleep(pause).await;
        let writing = tokio::task::spawn_blocking(move || {
            let written = receiving.append(&entries);
            (receiving, written)
        });
        match writing.await {
            Ok((receiving, written)) => (
                Some(receiving),
                written.map_err(|error| self.ended_here(&error)),
            ),
            Err(_) => (None, Ok(())),
        }
    }

    async fn begin(
        &self,
        receiving: &mut Receiving,
        beginning: &SeedBeginning,
    ) -> Result<(), Ended> {
        let begins = StagedFrom {
            index: RaftIndex(beginning.index),
            offset: Offset(beginning.offset),
            term_before: Term(beginning.term_before),
        };
        let is_anew = receiving.begin(begins, beginning.log_bytes);
        if !is_anew.map_err(|bad| self.refuse(&bad.to_string()))? {
            return Ok(());
        }
        let pull = receiving.pull();
        let staging = self.groups.stage(pull.group(), pull.replica(), begins);
        match staging.await {
            Ok(Ok(staging)) => {
                receiving.staged(staging);
                Ok(())
            }
            Ok(Err(error)) => Err(Ended::Never(error.to_string())),
            Err(_) => Err(again("the shard does not answer")),
        }
    }

    async fn finish(&self, receiving: Receiving) -> Ended {
        let finishing = tokio::task::spawn_blocking(move || receiving.finish());
        match finishing.await {
            Ok(Ok(pulled)) => {
                self.groups.pulled(pulled);
                Ended::Done
            }
            Ok(Err(error)) => Ended::Never(error.to_string()),
            Err(_) => Ended::Never("syncing frames panicked".to_owned()),
        }
    }

    fn ended_here(&self, error: &ReceiveError) -> Ended {
        match error {
            ReceiveError::Storage(StorageError::NoSpace { .. }) => again(&error.to_string()),
            ReceiveError::Piece(_) | ReceiveError::Storage(StorageError::Invalid { .. }) => {
                self.refuse(&error.to_string())
            }
            ReceiveError::Storage(_) => Ended::Never(error.to_string()),
        }
    }

    /// What came is from no correct broker, or was damaged on its way.
    fn refuse(&self, reason: &str) -> Ended {
        let refused = &self.peers.shared.metrics.refused;
        refused.with_label_values(&["seeding"]).inc();
        Ended::Never(reason.to_owned())
    }
}

/// The disk's part, which goes on while more is written.
#[derive(Default)]
struct Syncing(Option<JoinHandle<Result<(), StorageError>>>);

impl Syncing {
    /// Begins to sync what was written, once that of before is synced.
    async fn go_on(&mut self, unsynced: Unsynced) -> Result<(), Ended> {
        self.end().await?;
        self.0 = Some(tokio::task::spawn_blocking(move || unsynced.sync()));
        Ok(())
    }

    /// Waits for what is being synced.
    async fn end(&mut self) -> Result<(), Ended> {
        match self.0.take() {
            None => Ok(()),
            Some(syncing) => match syncing.await {
                Ok(synced) => synced.map_err(|error| Ended::Never(error.to_string())),
                Err(_) => Err(Ended::Never("syncing frames panicked".to_owned())),
            },
        }
    }
}

fn again(reason: &str) -> Ended {
    Ended::Again(reason.to_owned())
}

fn ended_by(status: &Status) -> Ended {
    let reason = status.message().to_owned();
    match status.code() {
        Code::OutOfRange | Code::InvalidArgument | Code::Unimplemented => Ended::Never(reason),
        _ => Ended::Again(reason),
    }
}
