//! Who keeps up with a leader.
//!
//! A voter is in sync when it answered within about an election timeout and holds all that was committed about an
//! election timeout ago. Both are looked at once per tick: a voter that fell silent or behind is out of sync after one
//! to two election timeouts, one whose broker is gone at once, and a new leader takes everybody to be in sync until it
//! knows better. The leader itself always is.

use highwater_storage::RaftIndex;
use raft::StateRole;

use super::Group;
use crate::raft::ReplicaId;
use crate::raft::request::FollowerStatus;

/// What a leader remembers of its followers besides what Raft does.
#[derive(Debug, Default)]
pub(super) struct Followers {
    term: u64,
    /// For how many ticks nothing was heard of a member; those that are heard of are not in it.
    quiet: Vec<(u64, u32)>,
    /// Ticks since `goal` was taken.
    elapsed_ticks: u32,
    /// What was committed at the last look.
    goal: u64,
    /// What was committed at the look before it: who is in sync has this.
    reached: u64,
}

impl Followers {
    fn quiet_ticks(&self, id: u64) -> u32 {
        let found = self.quiet.iter().find(|(other, _)| *other == id);
        found.map_or(0, |(_, ticks)| *ticks)
    }
}

impl Group {
    /// A tick went by for a leader. To be called before Raft hears of it, which forgets who was active.
    pub(super) fn tick_followers(&mut self) {
        let raft = &self.node.raft;
        if self.followers.term != raft.term {
            self.followers = Followers {
                term: raft.term,
                ..Followers::default()
            };
        }
        let followers = &mut self.followers;
        let before = std::mem::take(&mut followers.quiet);
        for (id, progress) in raft.prs().iter() {
            if progress.recent_active || *id == self.replica.0 {
                continue;
            }
            let ticks = before.iter().find(|(other, _)| other == id);
            let ticks = ticks.map_or(0, |(_, ticks)| *ticks);
            followers.quiet.push((*id, ticks.saturating_add(1)));
        }
        followers.elapsed_ticks += 1;
        if followers.elapsed_ticks >= self.config.election_ticks {
            followers.elapsed_ticks = 0;
            followers.reached = followers.goal;
            followers.goal = raft.raft_log.committed;
        }
    }

    /// Whether a member keeps up with this leader.
    pub(in crate::raft) fn is_in_sync(&self, id: ReplicaId) -> bool {
        if id == self.replica {
            return true;
        }
        let Some(progress) = self.node.raft.prs().get(id.0) else {
            return false;
        };
        if self.is_gone(id) {
            return false;
        }
        if self.followers.term != self.node.raft.term {
            return true;
        }
        self.followers.quiet_ticks(id.0) < self.config.election_ticks
            && progress.matched >= self.followers.reached
    }

    /// The voters that keep up with this leader, itself among them, in order; empty where it does not lead.
    pub(in crate::raft) fn in_sync(&self) -> Vec<ReplicaId> {
        if self.node.raft.state != StateRole::Leader {
            return Vec::new();
        }
        let voters = self.members.voters.iter().chain(&self.members.outgoing);
        let mut in_sync: Vec<_> = voters.copied().filter(|id| self.is_in_sync(*id)).collect();
        in_sync.sort_unstable();
        in_sync.dedup();
        in_sync
    }

    /// The other members, in order, as this leader sees them; empty where it does not lead.
    pub(in crate::raft) fn followers(&self) -> Vec<FollowerStatus> {
        let raft = &self.node.raft;
        if raft.state != StateRole::Leader {
            return Vec::new();
        }
        let others = raft.prs().iter().filter(|(id, _)| **id != self.replica.0);
        let mut followers: Vec<_> = others
            .map(|(id, progress)| {
                let replica = ReplicaId(*id);
                FollowerStatus {
                    replica,
                    matched: RaftIndex(progress.matched),
                    is_in_sync: self.is_in_sync(replica),
                    committed: RaftIndex(progress.committed_index),
                    is_learner: self.members.learners.contains(&replica),
                    seeding: self.seeding_of(*id),
                }
            })
            .collect();
        followers.sort_unstable_by_key(|follower| follower.replica);
        followers
    }

    /// How many voters keep up with this leader; in a joint configuration, of the half that has fewer.
    pub(in crate::raft) fn in_sync_count(&self) -> usize {
        self.least(|voters| voters.iter().filter(|id| self.is_in_sync(**id)).count())
    }

    /// Whether a majority keeps up with this leader to the last entry that is committed, so that nobody waits for a member that is
    /// behind.
    pub(in crate::raft) fn moves_without_laggards(&self) -> bool {
        let raft = &self.node.raft;
        let has_all = |id: &&ReplicaId| {
            let progress = raft.prs().get(id.0);
            **id == self.replica
                || progress.is_some_and(|progress| progress.matched >= raft.raft_log.committed)
                    && self.is_in_sync(**id)
        };
        self.least(|voters| voters.iter().filter(has_all).count()) >= self.quorum()
    }

    /// Whether all other members that are not gone are known to hold the entry at `index` durably.
    pub(in crate::raft) fn has_everywhere(&self, index: RaftIndex) -> bool {
        let members = self.node.raft.prs().iter();
        let mut others = members.filter(|(id, _)| **id != self.replica.0);
        others.all(|(id, progress)| progress.matched >= index.0 || self.is_gone(ReplicaId(*id)))
    }

    /// How many voters are known to hold the entry at `index` durably; in a joint configuration, of the half that has
    /// fewer.
    pub(in crate::raft) fn holders(&self, index: u64) -> usize {
        let has = |id: &&ReplicaId| {
            let progress = self.node.raft.prs().get(id.0);
            progress.is_some_and(|progress| progress.matched >= index)
        };
        self.least(|voters| voters.iter().filter(has).count())
    }

    /// How many voters hold what is committed, at least.
    pub(in crate::raft) fn quorum(&self) -> usize {
        self.least(|voters| voters.len() / 2 + 1)
    }

    /// The last index that this leader has on its own disk.
    pub(in crate::raft) fn own_synced(&self) -> u64 {
        let own = self.node.raft.prs().get(self.replica.0);
        own.map_or(0, |progress| progress.matched)
    }

    fn least(&self, count: impl Fn(&[ReplicaId]) -> usize) -> usize {
        let coming = count(&self.members.voters);
        if self.members.outgoing.is_empty() {
            coming
        } else {
            coming.min(count(&self.members.outgoing))
        }
    }
}
