//! What all parts of a broker's way to the others share.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use highwater_proto::BrokerId;
use highwater_proto::internal::v1::{Heartbeat, ShardPulse};
use highwater_storage::{RaftIndex, StagedFrom, Staging};
use prometheus::IntCounter;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tracing::{debug, info, warn};

use super::leaders::LeaderTable;
use super::liveness::{Cause, Change, Liveness, Pulse};
use super::me::{Identity, Sender};
use super::outbox::Outbox;
use super::routes::Routes;
use super::seeding::Throttle;
use super::{outbox, wire};
use crate::metrics;
use crate::raft::{
    self, GroupId, Operation, PeerMessage, Pull, Pulled, ReplicaId, SeedingProgress, Shards,
    Source, SourceRefusal,
};
use crate::replica::Replica;
use crate::tls::Tls;

/// The groups of this broker, as other brokers see them.
pub(crate) trait Groups: Send + Sync + 'static {
    /// Takes a message for one of them, or loses it.
    fn deliver(&self, message: PeerMessage);

    /// The broker of these replicas is gone: whoever follows one of them has no leader any more.
    fn lose_leaders(&self, replicas: HashSet<ReplicaId>);

    /// The broker of these replicas is back.
    fn greet_members(&self, replicas: HashSet<ReplicaId>);

    /// Whether they go on.
    fn pulse(&self) -> Pulse;

    /// Asks a replica for what another pulls, the last of it at `upto`.
    fn source(
        &self,
        group: GroupId,
        replica: ReplicaId,
        to: ReplicaId,
        upto: RaftIndex,
    ) -> Asked<Result<Source, SourceRefusal>>;

    /// Begins to take over frames for a replica.
    fn stage(
        &self,
        group: GroupId,
        replica: ReplicaId,
        from: StagedFrom,
    ) -> Asked<Result<Staging, raft::Error>>;

    /// All frames of a pull are there.
    fn pulled(&self, pulled: Pulled);

    /// Bytes of entries that were written to logs here since the start. What is copied from other brokers is not among them.
    fn written_bytes(&self) -> u64;

    /// A replica on another broker is being seeded.
    fn seeding_goes_on(&self, group: GroupId, to: ReplicaId, progress: SeedingProgress);

    /// A replica on another broker cannot be seeded with the snapshot that it was sent.
    fn seeding_failed(&self, group: GroupId, to: ReplicaId);
}

/// An answer that comes, unless a shard has no room for the question or stops.
pub(crate) type Asked<T> = oneshot::Receiver<T>;

impl Groups for Shards<Replica> {
    fn deliver(&self, message: PeerMessage) {
        self.send_message(message);
    }

    fn lose_leaders(&self, replicas: HashSet<ReplicaId>) {
        let replicas = Arc::new(replicas);
        let lost = self.broadcast(|| Operation::LeadersLost {
            replicas: Arc::clone(&replicas),
        });
        if let Err(error) = lost {
            warn!(%error, "some groups wait for their election timeout before they replace a leader that is gone");
        }
    }

    fn greet_members(&self, replicas: HashSet<ReplicaId>) {
        let replicas = Arc::new(replicas);
        let greeted = self.broadcast(|| Operation::MembersBack {
            replicas: Arc::clone(&replicas),
        });
        if let Err(error) = greeted {
            warn!(%error, "some groups do not hear that a broker is back");
        }
    }

    fn pulse(&self) -> Pulse {
        let shards = self.counters().iter().map(|shard| ShardPulse {
            turns: shard.turns(),
            is_ticking: shard.is_ticking(),
        });
        let sync_age = self.sync_age().unwrap_or_default();
        Pulse {
            shards: shards.collect(),
            sync_age_ms: u64::try_from(sync_age.as_millis()).unwrap_or(u64::MAX),
            is_leaving: false,
        }
    }

    fn written_bytes(&self) -> u64 {
        self.counters()
            .iter()
            .map(|shard| shard.entry_bytes())
            .sum()
    }

    fn source(
        &self,
        group: GroupId,
        replica: ReplicaId,
        to: ReplicaId,
        upto: RaftIndex,
    ) -> Asked<Result<Source, SourceRefusal>> {
        ask(self, group, |answer| Operation::Source {
            group,
            replica,
            to,
            upto,
            answer,
        })
    }

    fn stage(
        &self,
        group: GroupId,
        replica: ReplicaId,
        from: StagedFrom,
    ) -> Asked<Result<Staging, raft::Error>> {
        ask(self, group, |answer| Operation::Stage {
            group,
            replica,
            from,
            answer,
        })
    }

    fn pulled(&self, pulled: Pulled) {
        let group = pulled.group();
        tell(self, group, Operation::Seeded(pulled));
    }

    fn seeding_goes_on(&self, group: GroupId, to: ReplicaId, progress: SeedingProgress) {
        let progress = Operation::SeedingProgress {
            group,
            to,
            progress,
        };
        tell(self, group, progress);
    }

    fn seeding_failed(&self, group: GroupId, to: ReplicaId) {
        tell(self, group, Operation::SeedingFailed { group, to });
    }
}

/// Asks a shard. One that takes no question drops whoever would answer, which is heard at once.
fn ask<T>(
    shards: &Shards<Replica>,
    group: GroupId,
    question: impl FnOnce(oneshot::Sender<T>) -> Operation<Replica>,
) -> Asked<T> {
    let (answer, asked) = oneshot::channel();
    tell(shards, group, question(answer));
    asked
}

fn tell(shards: &Shards<Replica>, group: GroupId, operation: Operation<Replica>) {
    if let Err(error) = shards.operate(group, operation) {
        debug!(group = group.0, %error, "a shard did not hear of a seeding; it begins again");
    }
}

/// What waits for each other broker.
pub(super) type Outboxes = HashMap<BrokerId, Arc<Outbox>>;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) identity: Identity,
    pub(super) routes: Routes,
    pub(super) tls: Option<Tls>,
    pub(super) leaders: Arc<LeaderTable>,
    pub(super) outboxes: ArcSwap<Outboxes>,
    pub(super) outbox_limits: outbox::Limits,
    pub(super) message_limits: wire::Limits,
    pub(super) up: watch::Sender<Arc<BTreeSet<BrokerId>>>,
    /// Whether this broker is about to stop.
    pub(super) is_leaving: AtomicBool,
    pub(super) metrics: metrics::Peers,
    pub(super) lost: Lost,
    pub(super) began: Instant,
    /// What replicas here want pulled.
    pub(super) wanted: mpsc::Sender<Pull>,
    /// Room for other brokers to pull from here, and how fast they may.
    pub(super) givers: Arc<Semaphore>,
    pub(super) giving: Throttle,
    pub(super) liveness: Mutex<Liveness>,
}

/// Counters of messages that were not sent.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) queue: IntCounter,
    pub(super) route: IntCounter,
    pub(super) form: IntCounter,
}

impl Lost {
    pub(super) fn new(metrics: &metrics::Peers) -> Self {
        let counter = |cause: &str| metrics.lost.with_label_values(&[cause]);
        Self {
            queue: counter("queue"),
            route: counter("route"),
            form: counter("form"),
        }
    }
}

impl Shared {
    /// Takes a sign of life.
    pub(super) fn heard(&self, sender: &Sender, beat: Heartbeat, groups: &dyn Groups) {
        let now_ms = self.now_ms();
        let change = self
            .liveness()
            .heard(sender.broker, sender.run_id, beat, now_ms);
        self.tell(change, groups);
    }

    /// Sends signs of life, and looks who is missing. To be called once per interval.
    pub(super) fn tick(&self, groups: &dyn Groups) {
        let pulse = Pulse {
            is_leaving: self.is_leaving.load(Ordering::Relaxed),
            ..groups.pulse()
        };
        let now_ms = self.now_ms();
        let (beats, changes) = self.liveness().tick(&pulse, now_ms);
        let outboxes = self.outboxes.load();
        for (broker, beat) in beats {
            if let Some(outbox) = outboxes.get(&broker) {
                outbox.beat(beat);
            }
        }
        self.tell(changes, groups);
    }

    /// Makes changes known: to the groups first, which elect.
    pub(super) fn tell(&self, changes: impl IntoIterator<Item = Change>, groups: &dyn Groups) {
        let mut has_changed = false;
        for change in changes {
            has_changed = true;
            let (broker, is_up) = match change {
                Change::Up(broker) => {
                    groups.greet_members(self.routes.replicas_on(broker));
                    info!(%broker, "broker is up");
                    (broker, true)
                }
                Change::Down(broker, cause) => {
                    groups.lose_leaders(self.routes.replicas_on(broker));
                    warn!(%broker, %cause, "broker is down");
                    let labels = [&broker.to_string(), label(cause)];
                    self.metrics.downs.with_label_values(&labels).inc();
                    (broker, false)
                }
            };
            let gauge = self.metrics.up.with_label_values(&[broker.to_string()]);
            gauge.set(i64::from(is_up));
        }
        if has_changed {
            let up = Arc::new(self.liveness().up().collect());
            self.up.send_replace(up);
        }
    }

    /// A panic while the lock was held leaves each broker's state whole.
    pub(super) fn liveness(&self) -> MutexGuard<'_, Liveness> {
        self.liveness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn label(cause: Cause) -> &'static str {
    match cause {
        Cause::Silent => "silent",
        Cause::Deaf => "deaf",
        Cause::Restarted => "restarted",
        Cause::DiskStalled => "disk",
        Cause::ShardStalled => "shard",
        Cause::Gone => "gone",
    }
}
