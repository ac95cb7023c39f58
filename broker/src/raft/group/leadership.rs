//! How a replica comes to lead, and how it gives leadership up.

use raft::StateRole;
use raft::eraftpb::{Message, MessageType};

use super::Group;
use crate::raft::ReplicaId;
use crate::raft::config::TERM_LIMIT;
use crate::raft::event::Ignored;

impl Group {
    pub(super) fn campaign(&mut self) -> Result<(), Ignored> {
        let raft = &self.node.raft;
        if raft.state == StateRole::Leader {
            return Ok(());
        }
        if !raft.promotable() || !self.may_campaign() {
            return Err(Ignored::NotNow);
        }
        self.node.campaign().map_err(|_| Ignored::NotNow)
    }

    /// Who cannot make a vote durable had better not ask for others. A sole voter wins at once, and then counts all
    /// its entries as durable: they must be. Terms run out at 2^31.
    pub(super) fn may_campaign(&self) -> bool {
        let is_settled = self.unsynced.is_empty() && !self.node.has_ready();
        !self.is_disk_stalled
            && self.is_restored()
            && self.node.raft.term + 1 < TERM_LIMIT
            && (is_settled || !self.is_sole_voter())
    }

    pub(super) fn forget_leader(&mut self) {
        let raft = &mut self.node.raft;
        if raft.state == StateRole::Follower {
            let term = raft.term;
            raft.become_follower(term, raft::INVALID_ID);
            self.clock.hurry(raft);
        }
    }

    /// The voter to lead next, if this replica no longer did: of those who were heard of lately the one that has most.
    pub(in crate::raft) fn successor(&self) -> Option<ReplicaId> {
        let raft = &self.node.raft;
        let others = self.members.voters.iter().filter(|id| **id != self.replica);
        others
            .filter_map(|id| Some((*id, raft.prs().get(id.0)?)))
            .max_by_key(|(id, progress)| {
                let rank = std::cmp::Reverse(id.0);
                (progress.recent_active, progress.matched, rank)
            })
            .map(|(id, _)| id)
    }

    /// Whether leadership is on its way to another voter.
    pub(in crate::raft) fn is_handing_over(&self) -> bool {
        self.node.raft.lead_transferee.is_some()
    }

    /// The disk has not finished a sync for so long that it counts as stuck, or it goes on again.
    ///
    /// A leader with a stuck disk still replicates and keeps its followers quiet, but counts for no majority: it steps
    /// down at once, and asks its successor to campaign without waiting for anything.
    pub(super) fn disk_stalled(&mut self, is_stalled: bool) {
        self.is_disk_stalled = is_stalled;
        let term = self.node.raft.term;
        if !is_stalled || self.node.raft.state != StateRole::Leader {
            return;
        }
        let Some(successor) = self.successor() else {
            return;
        };
        // Stepping down holds back, until the next sync, what Raft itself would send.
        if self.durable_term >= term {
            let mut message = Message::default();
            message.set_msg_type(MessageType::MsgTimeoutNow);
            (message.from, message.to, message.term) = (self.replica.0, successor.0, term);
            self.outbox.push(message);
        }
        self.node.raft.become_follower(term, raft::INVALID_ID);
    }
}
