//! Callers who want less than a commit, or more.

use highwater_storage::RaftIndex;

use super::{Consensus, Replica};
use crate::raft::machine::Machine;

impl<M: Machine> Replica<M> {
    /// Answers who waits for the leader's own disk, or for the disks of more voters than a majority.
    pub(super) fn answer_acks(&mut self) {
        let Consensus::Running(group) = &self.consensus else {
            return;
        };
        if self.waiters.await_sync() {
            self.waiters.synced(RaftIndex(group.own_synced()));
        }
        if self.waiters.await_holders() {
            let applied = group.applied().0;
            self.waiters.held(applied, |index| group.holders(index.0));
        }
    }

    /// Turns away who waits for more voters than keep up.
    pub(super) fn check_holders(&mut self) {
        if let Consensus::Running(group) = &self.consensus
            && self.waiters.await_holders()
        {
            self.waiters.fall_short(group.in_sync_count());
        }
    }
}
