//! What readers see of a partition without asking its shard.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use highwater_storage::{Offset, Term};
use tokio::sync::Notify;

use super::leaderships::Leaderships;
use crate::raft::ReplicaId;
use crate::raft::machine::Role;
use crate::topic::TopicConfig;

/// Where the replica stands, for readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Leads `term` and serves. Fetches, produces and offset queries are answered.
    Serving {
        /// The term it leads, which is the leader epoch.
        term: Term,
    },
    /// Leads `term` but has not applied its own no-op yet: readers wait or come back.
    Opening {
        /// The term it leads.
        term: Term,
    },
    /// Follows, or looks for a leader.
    Following {
        /// The newest term it knows.
        term: Term,
        /// The leader of that term where known.
        leader: Option<ReplicaId>,
    },
    /// The log failed or is damaged. Nothing is acknowledged.
    Quarantined,
}

impl Standing {
    /// Whether it leads and serves.
    #[must_use]
    pub fn is_serving(self) -> bool {
        matches!(self, Self::Serving { .. })
    }
}

const SERVING: u64 = 0;
const OPENING: u64 = 1;
const FOLLOWING: u64 = 2;
const QUARANTINED: u64 = 3;
const KIND_BITS: u32 = 2;
/// Raft replica ids are never 0.
const NO_LEADER: u64 = 0;

/// What readers see of a partition.
///
/// Only the shard writes, at the end of a turn; readers take the standing first and the offsets after it. High
/// watermark and log start never go back, and `log_start <= high_watermark` holds for a reader that loads the log
/// start first.
#[derive(Debug)]
pub struct PartitionShared {
    /// Kind of standing in the low bits, term above: one word, so that a reader never pairs one's term with the other.
    standing: AtomicU64,
    leader: AtomicU64,
    /// Since when no leader is known, while none is. Taken where that changes, and where somebody asks.
    leaderless_since: Mutex<Option<Instant>>,
    high_watermark: AtomicU64,
    log_start: AtomicU64,
    log_end: AtomicU64,
    config: ArcSwap<TopicConfig>,
    leaderships: Arc<Leaderships>,
    watchers: Arc<Watchers>,
}

impl PartitionShared {
    /// A partition of which nothing is known yet. `leaderships` hears of its changes of leader and term.
    pub fn new(config: Arc<TopicConfig>, leaderships: Arc<Leaderships>) -> Self {
        Self {
            standing: AtomicU64::new(FOLLOWING),
            leader: AtomicU64::new(NO_LEADER),
            leaderless_since: Mutex::new(Some(Instant::now())),
            high_watermark: AtomicU64::new(0),
            log_start: AtomicU64::new(0),
            log_end: AtomicU64::new(0),
            config: ArcSwap::new(config),
            leaderships,
            watchers: Arc::default(),
        }
    }

    /// Where the replica stands. The leader may already be that of a newer term: it is a hint.
    pub fn standing(&self) -> Standing {
        let word = self.standing.load(Ordering::SeqCst);
        let term = Term(word >> KIND_BITS);
        match word & ((1 << KIND_BITS) - 1) {
            SERVING => Standing::Serving { term },
            OPENING => Standing::Opening { term },
            FOLLOWING => {
                let leader = self.leader.load(Ordering::Relaxed);
                let leader = (leader != NO_LEADER).then_some(ReplicaId(leader));
                Standing::Following { term, leader }
            }
            _ => Standing::Quarantined,
        }
    }

    /// For how long the replica has known no leader; `None` while it leads, knows who does, or is quarantined.
    pub(crate) fn leaderless_for(&self) -> Option<Duration> {
        let since = self.leaderless_since.lock();
        let since = since.unwrap_or_else(PoisonError::into_inner);
        since.map(|since| since.elapsed())
    }

    /// First offset that is not committed and applied.
    pub fn high_watermark(&self) -> Offset {
        Offset(self.high_watermark.load(Ordering::SeqCst))
    }

    /// First offset held.
    pub fn log_start(&self) -> Offset {
        Offset(self.log_start.load(Ordering::SeqCst))
    }

    /// The offset after everything that this replica, as a leader, has proposed; at least the high watermark.
    pub fn log_end(&self) -> Offset {
        let log_end = Offset(self.log_end.load(Ordering::Relaxed));
        log_end.max(self.high_watermark())
    }

    /// The topic's configuration in force.
    pub fn config(&self) -> Arc<TopicConfig> {
        self.config.load_full()
    }

    /// Puts another configuration in force; decisions from the next on follow it.
    pub fn set_config(&self, config: Arc<TopicConfig>) {
        self.config.store(config);
    }

    /// Wakes `notify` after each change of standing, high watermark or log start, until the answer is dropped. One
    /// `notify` may watch many partitions. Look at the partition *after* registering: what changed before does not
    /// wake.
    pub fn watch(&self, notify: Arc<Notify>) -> Watch {
        self.watchers.add(notify)
    }

    /// Shows readers where the replica stands.
    pub(crate) fn set_role(&self, role: Role) {
        let (kind, term, leader) = match role {
            Role::Leader {
                term,
                serving: true,
            } => (SERVING, term, None),
            Role::Leader {
                term,
                serving: false,
            } => (OPENING, term, None),
            Role::Follower { term, leader } => (FOLLOWING, term, leader),
            Role::Quarantined => (QUARANTINED, Term(0), None),
        };
        let leader = leader.map_or(NO_LEADER, |leader| leader.0);
        let leader_before = self.leader.swap(leader, Ordering::Relaxed);
        let word = term.0 << KIND_BITS | kind;
        let word_before = self.standing.swap(word, Ordering::SeqCst);
        if (word_before, leader_before) != (word, leader) {
            self.note_leaderless(kind == FOLLOWING && leader == NO_LEADER);
            self.watchers.wake();
            self.leaderships.changed();
        }
    }

    /// Terms may pass while nobody is elected: the time goes on.
    fn note_leaderless(&self, is_leaderless: bool) {
        let since = self.leaderless_since.lock();
        let mut since = since.unwrap_or_else(PoisonError::into_inner);
        *since = is_leaderless.then(|| since.unwrap_or_else(Instant::now));
    }

    pub(super) fn set_log_end(&self, log_end: Offset) {
        self.log_end.store(log_end.0, Ordering::Relaxed);
    }

    /// Shows readers what is applied. The high watermark goes first, so that the log start never passes it.
    pub(super) fn publish(&self, log_start: Offset, high_watermark: Offset) {
        let before = self.high_watermark.swap(high_watermark.0, Ordering::SeqCst);
        debug_assert!(before <= high_watermark.0, "the high watermark went back");
        let start_before = self.log_start.swap(log_start.0, Ordering::SeqCst);
        debug_assert!(start_before <= log_start.0, "the log start went back");
        if before != high_watermark.0 || start_before != log_start.0 {
            self.watchers.wake();
        }
    }
}

/// Who waits for a change. Waking nobody costs one atomic load.
#[derive(Debug, Default)]
struct Watchers {
    /// Length of `list`. A watcher counts itself before it looks at the partition, and the shard looks here after it
    /// published, both sequentially consistent: one of them sees the other.
    count: AtomicUsize,
    list: Mutex<WatchList>,
}

#[derive(Debug, Default)]
struct WatchList {
    next_id: u64,
    watchers: Vec<(u64, Arc<Notify>)>,
}

impl Watchers {
    fn add(self: &Arc<Self>, notify: Arc<Notify>) -> Watch {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let id = list.next_id;
        list.next_id += 1;
        list.watchers.push((id, notify));
        self.count.store(list.watchers.len(), Ordering::SeqCst);
        drop(list);
        Watch {
            id,
            watchers: Arc::clone(self),
        }
    }

    fn wake(&self) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, notify) in &list.watchers {
            notify.notify_one();
        }
    }

    fn remove(&self, id: u64) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.watchers.retain(|(other, _)| *other != id);
        self.count.store(list.watchers.len(), Ordering::SeqCst);
    }
}

/// A registration with [`PartitionShared::watch`]; ends when dropped.
#[derive(Debug)]
#[must_use = "the watch ends when it is dropped"]
pub struct Watch {
    id: u64,
    watchers: Arc<Watchers>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.watchers.remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::testing::config;

    fn shared() -> PartitionShared {
        PartitionShared::new(Arc::new(config()), Arc::default())
    }

    /// Whether `notify` was woken since it was last asked.
    fn woken(notify: &Notify) -> bool {
        let mut waiting = std::pin::pin!(notify.notified());
        waiting.as_mut().enable()
    }

    #[test]
    fn the_time_without_a_leader_goes_on_over_terms_and_ends_with_a_leader() {
        let shared = shared();
        let follower = |term, leader: Option<u64>| Role::Follower {
            term: Term(term),
            leader: leader.map(ReplicaId),
        };
        let at_first = shared.leaderless_for().unwrap();
        shared.set_role(follower(3, None));
        let later = shared.leaderless_for().unwrap();
        assert!(later >= at_first);
        shared.set_role(follower(3, Some(7)));
        assert_eq!(shared.leaderless_for(), None);
        shared.set_role(follower(4, None));
        assert!(shared.leaderless_for().is_some());
        for role in [
            Role::Quarantined,
            Role::Leader {
                term: Term(5),
                serving: false,
            },
        ] {
            shared.set_role(role);
            assert_eq!(shared.leaderless_for(), None);
        }
    }

    #[test]
    fn readers_see_the_standing_with_its_term() {
        let shared = shared();
        let nobody = Standing::Following {
            term: Term(0),
            leader: None,
        };
        assert_eq!(shared.standing(), nobody);
        let leader = Some(ReplicaId(9));
        for (role, standing) in [
            (
                Role::Leader {
                    term: Term(3),
                    serving: false,
                },
                Standing::Opening { term: Term(3) },
            ),
            (
                Role::Leader {
                    term: Term(3),
                    serving: true,
                },
                Standing::Serving { term: Term(3) },
            ),
            (
                Role::Follower {
                    term: Term(4),
                    leader,
                },
                Standing::Following {
                    term: Term(4),
                    leader,
                },
            ),
            (Role::Quarantined, Standing::Quarantined),
        ] {
            shared.set_role(role);
            assert_eq!(shared.standing(), standing);
        }
    }

    #[test]
    fn one_watcher_hears_of_many_partitions() {
        let partitions = [shared(), shared()];
        let notify = Arc::new(Notify::new());
        let watches: Vec<_> = partitions
            .iter()
            .map(|partition| partition.watch(Arc::clone(&notify)))
            .collect();
        assert!(!woken(&notify));
        for partition in &partitions {
            partition.publish(Offset(0), Offset(1));
            assert!(woken(&notify));
            partition.publish(Offset(0), Offset(1));
            assert!(!woken(&notify), "nothing changed");
            partition.publish(Offset(1), Offset(1));
            assert!(woken(&notify));
            partition.set_role(Role::Quarantined);
            assert!(woken(&notify));
        }
        drop(watches);
        partitions[0].publish(Offset(1), Offset(2));
        assert!(!woken(&notify));
    }

    #[test]
    fn dropping_one_watch_leaves_the_others() {
        let shared = shared();
        let notifies = [Arc::new(Notify::new()), Arc::new(Notify::new())];
        let first = shared.watch(Arc::clone(&notifies[0]));
        let _second = shared.watch(Arc::clone(&notifies[1]));
        drop(first);
        shared.publish(Offset(0), Offset(1));
        assert!(!woken(&notifies[0]));
        assert!(woken(&notifies[1]));
    }

    #[test]
    fn no_change_is_missed_by_a_reader_that_looks_after_it_registered() {
        let shared = Arc::new(shared());
        let writer = Arc::clone(&shared);
        let last = 20_000;
        let writing = std::thread::spawn(move || {
            for offset in 1..=last {
                writer.publish(Offset(0), Offset(offset));
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut seen = Offset(0);
            while seen < Offset(last) {
                let notify = Arc::new(Notify::new());
                let _watch = shared.watch(Arc::clone(&notify));
                if shared.high_watermark() == seen {
                    notify.notified().await;
                }
                seen = shared.high_watermark();
            }
        });
        writing.join().unwrap();
    }
}
