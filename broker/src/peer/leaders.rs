//! Who leads each group, as the leaders themselves say.
//!
//! A leader that serves announces itself to every broker. Nothing of it is stored: a broker that restarts is told by each of
//! the others when it connects. Of two leaderships of a group that with the higher term is the newer, and nobody announces
//! an end: the next leader does.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use highwater_storage::Term;

use crate::partition::Leaderships;
use crate::raft::{GroupId, Leadership, ReplicaId};

/// Groups that the table may hold. More than any cluster has: beyond it announcements of unknown groups are dropped.
const MAX_GROUPS: usize = 1 << 22;

/// A leader and its term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leader {
    /// The term that it leads.
    pub(crate) term: Term,
    /// Who leads.
    pub(crate) replica: ReplicaId,
    /// The voters that keep up with it, itself among them, in order.
    pub(crate) in_sync: Arc<[ReplicaId]>,
}

/// The last known leader of each group.
#[derive(Debug)]
pub(crate) struct LeaderTable {
    state: RwLock<State>,
    /// Counts the changes, for those who wait for one.
    changes: Arc<Leaderships>,
}

#[derive(Debug, Default)]
struct State {
    /// The newest leader of each group.
    leaders: HashMap<GroupId, Leader>,
    /// Those of them that are replicas of this broker, or were.
    own: HashMap<GroupId, Leader>,
}

impl LeaderTable {
    /// A table without leaders, which counts its changes in `changes`.
    pub(crate) fn new(changes: Arc<Leaderships>) -> Self {
        Self {
            state: RwLock::default(),
            changes,
        }
    }

    /// The last known leader of `group`.
    pub(crate) fn get(&self, group: GroupId) -> Option<Leader> {
        self.read().leaders.get(&group).cloned()
    }

    /// Takes what replicas of this broker announce.
    pub(super) fn announce(&self, own: &[Leadership]) {
        self.take(own, true);
    }

    /// Takes what another broker announces.
    pub(crate) fn learn(&self, others: &[Leadership]) {
        self.take(others, false);
    }

    /// The leaderships of replicas of this broker that no newer one ended.
    pub(super) fn own(&self) -> Vec<Leadership> {
        let state = self.read();
        let own = state.own.iter();
        own.map(|(group, leader)| Leadership {
            group: *group,
            term: leader.term,
            replica: leader.replica,
            in_sync: leader.in_sync.to_vec(),
        })
        .collect()
    }

    /// Forgets groups that are no more.
    pub(super) fn forget(&self, groups: impl IntoIterator<Item = GroupId>) {
        let mut state = self.write();
        for group in groups {
            state.leaders.remove(&group);
            state.own.remove(&group);
        }
    }

    fn take(&self, leaderships: &[Leadership], is_own: bool) {
        let mut state = self.write();
        let mut has_changed = false;
        for leadership in leaderships {
            has_changed |= state.take(leadership, is_own);
        }
        drop(state);
        if has_changed {
            self.changes.changed();
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A panic while the lock was held leaves at most one group without its newest leader.
    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether the table changed.
    fn take(&mut self, leadership: &Leadership, is_own: bool) -> bool {
        let group = leadership.group;
        let known = self.leaders.get(&group);
        let is_old = |known: &Leader| {
            known.term > leadership.term
                || known.term == leadership.term
                    && (known.replica != leadership.replica
                        || known.in_sync[..] == leadership.in_sync)
        };
        if known.is_some_and(is_old) {
            return false;
        }
        if known.is_none() && self.leaders.len() >= MAX_GROUPS {
            return false;
        }
        let leader = Leader {
            term: leadership.term,
            replica: leadership.replica,
            in_sync: leadership.in_sync.as_slice().into(),
        };
        self.leaders.insert(group, leader.clone());
        if is_own {
            self.own.insert(group, leader);
        } else {
            self.own.remove(&group);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leadership(group: u64, term: u64, replica: u64) -> Leadership {
        Leadership {
            group: GroupId(group),
            term: Term(term),
            replica: ReplicaId(replica),
            in_sync: vec![ReplicaId(replica)],
        }
    }

    fn leader(term: u64, replica: u64) -> Option<Leader> {
        Some(Leader {
            term: Term(term),
            replica: ReplicaId(replica),
            in_sync: [ReplicaId(replica)].into(),
        })
    }

    #[test]
    fn the_highest_term_wins_in_whatever_order_it_is_heard() {
        let changes = Arc::<Leaderships>::default();
        let table = LeaderTable::new(Arc::clone(&changes));
        table.learn(&[leadership(7, 3, 30)]);
        table.learn(&[leadership(7, 2, 20), leadership(7, 3, 31)]);
        assert_eq!(table.get(GroupId(7)), leader(3, 30));
        assert_eq!(changes.version(), 1);
        table.learn(&[leadership(7, 4, 20), leadership(8, 1, 1)]);
        assert_eq!(table.get(GroupId(7)), leader(4, 20));
        assert_eq!(changes.version(), 2, "what came at once wakes once");
    }

    #[test]
    fn a_leader_says_anew_who_keeps_up_with_it() {
        let table = LeaderTable::new(Arc::default());
        let with_others = Leadership {
            in_sync: vec![ReplicaId(30), ReplicaId(31)],
            ..leadership(7, 3, 30)
        };
        table.learn(&[leadership(7, 3, 30), with_others]);
        let in_sync = table.get(GroupId(7)).unwrap().in_sync;
        assert_eq!(in_sync[..], [ReplicaId(30), ReplicaId(31)]);
    }

    #[test]
    fn own_leaderships_are_told_until_another_broker_leads() {
        let table = LeaderTable::new(Arc::default());
        table.announce(&[leadership(7, 3, 30), leadership(8, 1, 31)]);
        table.learn(&[leadership(9, 1, 40)]);
        let mut own = table.own();
        own.sort_by_key(|leadership| leadership.group);
        assert_eq!(own, [leadership(7, 3, 30), leadership(8, 1, 31)]);
        table.learn(&[leadership(7, 4, 20)]);
        assert_eq!(table.own(), [leadership(8, 1, 31)]);
        // An announcement that a newer one overtook is nobody's.
        table.announce(&[leadership(7, 3, 30)]);
        assert_eq!(table.own(), [leadership(8, 1, 31)]);
    }

    #[test]
    fn a_group_that_is_no_more_is_forgotten() {
        let table = LeaderTable::new(Arc::default());
        table.announce(&[leadership(7, 3, 30), leadership(8, 1, 31)]);
        table.forget([GroupId(7)]);
        assert_eq!(table.get(GroupId(7)), None);
        assert_eq!(table.own(), [leadership(8, 1, 31)]);
    }
}
