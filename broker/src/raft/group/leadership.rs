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

    /// The leader is known to be gone.
    pub(super) fn forget_leader(&mut self) {
        let raft = &mut self.node.raft;
        if raft.state == StateRole::Follower {
            let (term, lost) = (raft.term, raft.leader_id);
            raft.become_follower(term, raft::INVALID_ID);
            let turn = self.turn_after(lost);
            self.clock.hurry(&mut self.node.raft, turn);
        }
    }

    /// How many other voters campaign before this one when the leader `lost` is gone: each of them knows without asking. Who is first
    /// goes by the leader's id, so that the partitions of a broker are shared out.
    fn turn_after(&self, lost: u64) -> u32 {
        let is_left = |id: &&ReplicaId| id.0 != lost && !self.is_gone(**id);
        let left: Vec<_> = self.members.voters.iter().filter(is_left).collect();
        let count = left.len() as u64;
        let Some(first) = (lost + 1).checked_rem(count) else {
            return 0;
        };
        let mut places = (0..count).zip(left);
        let mine = places.find(|(_, id)| **id == self.replica);
        let turn = mine.map(|(place, _)| (place + count - first) % count);
        turn.and_then(|turn| u32::try_from(turn).ok()).unwrap_or(0)
    }

    /// Another voter asked, before it campaigns, whether it would be elected.
    pub(super) fn asked_before_vote(&mut self, request: &Message) {
        let raft = &mut self.node.raft;
        let has_all = raft.raft_log.is_up_to_date(request.index, request.log_term);
        self.clock.asked(raft, has_all);
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
        let leads = self.node.raft.state == StateRole::Leader;
        // Who sleeps has nothing to write; should something come, the next tick is here again.
        if !(is_stalled && leads) || self.is_asleep() || self.successor().is_none() {
            return;
        }
        // Stepping down holds back, until the next sync, what Raft itself would send.
        self.outbox.extend(self.farewell());
        self.wake();
        self.node.raft.become_follower(term, raft::INVALID_ID);
    }

    /// Asks the successor of a leader that leads no more to campaign at once. Others might sleep, and never miss it.
    pub(in crate::raft) fn farewell(&self) -> Option<Message> {
        let raft = &self.node.raft;
        if raft.state != StateRole::Leader || self.durable_term < raft.term {
            return None;
        }
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgTimeoutNow);
        (message.from, message.to) = (self.replica.0, self.successor()?.0);
        message.term = raft.term;
        Some(message)
    }
}
