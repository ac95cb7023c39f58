//! The process of one simulated broker: the product's shard, its store, and the work around them that threads do in a real
//! broker.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use highwater_broker::partition::{Leaderships, Limits, PartitionReplica, PartitionShared};
use highwater_broker::raft::machine::Timestamp;
use highwater_broker::raft::{
    Acks, Error, FoundLog, GroupId, Inbox, Members, Operation, Origin, Outcome, PeerMessage,
    ReplicaId, Reply, ReplySink, Request, Shard, Started, TurnReport,
};
use highwater_broker::replica::{Command, Replica};
use highwater_broker::topic::{TimestampType, TopicConfig};
use highwater_proto::internal::v1::PartitionSnapshot;
use highwater_storage::{AppliedState, LogReader, LogSpec, Pressure, RecoveredLog, Store};
use prost::Message;
use tokio::sync::oneshot;

use super::bug::Bug;
use super::chance::Chance;
use super::checkpointing::Checkpointing;
use super::disk::SyncInFlight;
use super::node::Placed;
use super::plan::Plan;

/// See the module's documentation.
pub(super) struct Process {
    pub(super) store: Arc<Store>,
    pub(super) shard: Shard<Replica>,
    inbox: Inbox<Replica>,
    /// What waits until the journal has room.
    withheld: Inbox<Replica>,
    answers: Arc<Answers>,
    starting: Vec<Starting>,
    hosted: BTreeMap<GroupId, Hosted>,
    /// Logs that were found at the start and in which nothing runs.
    aside: BTreeMap<ReplicaId, FoundLog>,
    members_before: BTreeMap<GroupId, Members>,
    pub(super) sync: Option<Syncing>,
    /// Syncs that ended.
    pub(super) syncs: u64,
    pub(super) checkpoint: Checkpointing,
    pub(super) wants_ticks: bool,
    /// Whether a turn is planned.
    pub(super) is_turn_planned: bool,
    /// Whether a step of a checkpoint is planned.
    pub(super) is_checkpoint_planned: bool,
    bug: Option<Bug>,
}

/// A sync on its way, and the logs that are durable when it ends.
#[derive(Debug)]
pub(super) struct Syncing {
    pub(super) flight: SyncInFlight,
    pub(super) covers: Vec<ReplicaId>,
}

/// A replica that runs here.
#[derive(Clone, Debug)]
pub(super) struct Hosted {
    pub(super) replica: ReplicaId,
    pub(super) shared: Arc<PartitionShared>,
    pub(super) reader: LogReader,
}

struct Starting {
    group: GroupId,
    replica: ReplicaId,
    shared: Arc<PartitionShared>,
    answer: oneshot::Receiver<Result<Started, Error>>,
}

/// What came out of a turn.
pub(super) struct Turned {
    pub(super) report: TurnReport,
    /// Answers to requests, by tag.
    pub(super) answers: Vec<(u64, Outcome<Replica>)>,
    /// Replicas that could not be started.
    pub(super) failed_starts: Vec<(ReplicaId, String)>,
}

/// Gathers the answers of a process.
#[derive(Default)]
struct Answers(Mutex<Vec<(u64, Outcome<Replica>)>>);

impl ReplySink<Replica> for Answers {
    fn answer(&self, tag: u64, outcome: Outcome<Replica>) {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.push((tag, outcome));
    }
}

impl Answers {
    fn take(&self) -> Vec<(u64, Outcome<Replica>)> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Process {
    pub(super) fn new(
        store: Arc<Store>,
        plan: &Plan,
        mut chance: Chance,
        bug: Option<Bug>,
    ) -> Self {
        let random = Box::new(move || chance.next());
        Self {
            shard: Shard::new(Arc::clone(&store), Arc::new(plan.raft.clone()), random),
            store,
            inbox: Inbox::default(),
            withheld: Inbox::default(),
            answers: Arc::default(),
            starting: Vec::new(),
            hosted: BTreeMap::new(),
            aside: BTreeMap::new(),
            members_before: BTreeMap::new(),
            sync: None,
            syncs: 0,
            checkpoint: Checkpointing::Idle,
            wants_ticks: true,
            is_turn_planned: false,
            is_checkpoint_planned: false,
            bug,
        }
    }

    /// Starts a replica with the next turn, on the log that was found or on a new one.
    pub(super) fn start_replica(&mut self, placed: &Placed, found: Option<RecoveredLog>) {
        let config = Arc::new(topic_config(placed.segment_bytes));
        let shared = Arc::new(PartitionShared::new(config, Arc::<Leaderships>::default()));
        let origin = match found {
            Some(found) => Origin::Recovered(FoundLog::new(found)),
            None => Origin::New {
                spec: LogSpec {
                    directory: placed.directory(),
                    max_segment_bytes: placed.segment_bytes,
                    write_caching: false,
                },
                members: placed.first_members.clone(),
                snapshot: Bytes::new(),
            },
        };
        let (answer, answered) = oneshot::channel();
        let (bug, published) = (self.bug, Arc::clone(&shared));
        self.inbox.operations.push(Operation::Start {
            group: placed.group,
            replica: placed.replica,
            origin,
            build: Box::new(move |_, applied| build(applied, published, bug)),
            answer,
        });
        self.starting.push(Starting {
            group: placed.group,
            replica: placed.replica,
            shared,
            answer: answered,
        });
    }

    /// Keeps a log in which nothing is to run.
    pub(super) fn keep_aside(&mut self, placed: &Placed, found: RecoveredLog) {
        self.aside.insert(placed.replica, FoundLog::new(found));
    }

    /// Ends a replica with the next turn and keeps its log, so that another of its group can start here.
    pub(super) fn lay_aside(&mut self, placed: &Placed) {
        let (answer, _) = oneshot::channel();
        self.operate(Operation::LayAside {
            group: placed.group,
            replica: placed.replica,
            answer,
        });
        self.no_longer_host(placed);
    }

    /// Deletes a replica with the next turn.
    pub(super) fn delete_replica(&mut self, placed: &Placed) {
        let (answer, _) = oneshot::channel();
        let found = self.aside.remove(&placed.replica);
        self.operate(Operation::Delete {
            group: placed.group,
            replica: placed.replica,
            found,
            answer,
        });
        self.no_longer_host(placed);
    }

    fn no_longer_host(&mut self, placed: &Placed) {
        let is_it = |hosted: &Hosted| hosted.replica == placed.replica;
        if self.hosted.get(&placed.group).is_some_and(is_it) {
            self.hosted.remove(&placed.group);
        }
    }

    pub(super) fn operate(&mut self, operation: Operation<Replica>) {
        self.inbox.operations.push(operation);
    }

    pub(super) fn message(&mut self, message: PeerMessage) {
        self.withheld.messages.push(message);
    }

    pub(super) fn command(&mut self, group: GroupId, command: Command, bytes: usize, tag: u64) {
        self.withheld.requests.push(Request {
            group,
            command,
            bytes,
            acks: Acks::Quorum { min_in_sync: 0 },
            reply: Reply::tagged(self.answers.clone(), tag),
        });
    }

    pub(super) fn tick(&mut self) {
        self.inbox.ticks = 1;
    }

    /// One turn of the shard, with all that came. A journal without room lets only operations and ticks through.
    pub(super) fn turn(&mut self, now: Timestamp) -> Turned {
        self.is_turn_planned = false;
        let groups = self.hosted.keys();
        let members = groups.filter_map(|group| Some((*group, self.shard.status(*group)?.members)));
        self.members_before = members.collect();
        if self.store.checkpoint_pressure() < Pressure::TurnsMustWait {
            self.inbox.messages.append(&mut self.withheld.messages);
            self.inbox.requests.append(&mut self.withheld.requests);
        }
        let report = self.shard.turn(&mut self.inbox, now);
        self.wants_ticks = report.wants_ticks;
        let failed_starts = self.note_started();
        Turned {
            report,
            answers: self.answers.take(),
            failed_starts,
        }
    }

    fn note_started(&mut self) -> Vec<(ReplicaId, String)> {
        let mut failed = Vec::new();
        for mut starting in std::mem::take(&mut self.starting) {
            match starting.answer.try_recv() {
                Ok(Ok(Started { reader, .. })) => {
                    let hosted = Hosted {
                        replica: starting.replica,
                        shared: starting.shared,
                        reader,
                    };
                    self.hosted.insert(starting.group, hosted);
                }
                Ok(Err(error)) => failed.push((starting.replica, error.to_string())),
                Err(_) => self.starting.push(starting),
            }
        }
        failed
    }

    /// The members of a group when the last turn began.
    pub(super) fn members_before(&self, group: GroupId) -> Option<&Members> {
        self.members_before.get(&group)
    }

    pub(super) fn hosted(&self) -> &BTreeMap<GroupId, Hosted> {
        &self.hosted
    }

    /// The replicas that run here.
    pub(super) fn replicas(&self) -> Vec<ReplicaId> {
        self.hosted.values().map(|hosted| hosted.replica).collect()
    }

    /// Ends the process, whose disk does nothing any more. Waiting callers hear nothing.
    pub(super) fn kill(self) {
        if let Some(syncing) = self.sync {
            // What it answers is of no use: the process is dead.
            drop(syncing.flight.end());
        }
    }
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process")
            .field("hosted", &self.hosted)
            .finish_non_exhaustive()
    }
}

/// Makes a partition's machine, as the broker does.
fn build(
    applied: &AppliedState,
    shared: Arc<PartitionShared>,
    bug: Option<Bug>,
) -> Result<Replica, String> {
    let mut snapshot = applied.snapshot.clone();
    if bug == Some(Bug::ProducersNotInSnapshot) && !snapshot.is_empty() {
        let whole = PartitionSnapshot::decode(snapshot).map_err(|error| error.to_string())?;
        let without = PartitionSnapshot {
            producers: Vec::new(),
            ..whole
        };
        snapshot = without.encode_to_vec().into();
    }
    PartitionReplica::new(&snapshot, Limits::default(), shared)
        .map(|replica| Replica::Partition(Box::new(replica)))
        .map_err(|error| error.to_string())
}

/// A topic that refuses nothing for its size or its time, and keeps everything until it is trimmed.
fn topic_config(segment_bytes: u64) -> TopicConfig {
    TopicConfig {
        retention_ms: None,
        retention_bytes: None,
        segment_bytes,
        segment_ms: u64::MAX,
        max_message_bytes: 1 << 20,
        timestamp_type: TimestampType::CreateTime,
        timestamp_before_max_ms: u64::MAX,
        timestamp_after_max_ms: u64::MAX,
        min_insync_replicas: 1,
        write_caching: false,
    }
}
