//! How an idle group of several voters falls asleep, and what wakes it.
//!
//! A leader that has had nothing to do for a while grows drowsy: its heartbeats carry a mark. A follower that has all
//! that the leader has, durably, sends the mark back and sleeps: it counts no ticks. When all have sent it back, the
//! leader sleeps too. From then on nobody ticks, sends or uses the processor.
//!
//! Sleep hides nothing that time would show, because others watch over the brokers: who hears that the broker of its
//! leader is gone forgets the leader and campaigns, and a leader wakes when fewer than a quorum of its voters' brokers
//! are up. Any message, proposal or read wakes too; a leader that is woken by a message calls all the others. What a
//! sleeping leader does not know (that it was deposed) it could not know awake either: it acknowledges nothing without
//! a majority.
//!
//! Voters on brokers that are gone need not agree, nor have everything: the group wakes when they come back, if not of the
//! news then because they know of no leader and campaign. A learner never does, so the group waits until it has
//! everything.

use std::collections::HashSet;

use bytes::Bytes;
use raft::StateRole;
use raft::eraftpb::{Message, MessageType};

use super::Group;
use crate::raft::ReplicaId;

/// How a heartbeat's context begins that asks to sleep; the number of the attempt follows. The contexts of reads are
/// shorter.
const MARK: &[u8; 5] = b"sleep";

/// Whether a replica sleeps.
#[derive(Debug, Default)]
pub(super) struct Sleep {
    state: State,
    /// Numbers the attempts of a leader.
    attempt: u64,
    /// Members whose brokers are gone, as far as was heard.
    gone: Vec<ReplicaId>,
}

#[derive(Debug)]
enum State {
    Awake {
        /// For how many ticks a leader has had nothing to do.
        idle_ticks: u32,
    },
    /// A leader asks the others whether they sleep.
    Drowsy {
        /// Those who do.
        agreed: Vec<u64>,
    },
    Asleep,
}

impl Default for State {
    fn default() -> Self {
        Self::Awake { idle_ticks: 0 }
    }
}

impl Group {
    pub(in crate::raft) fn is_asleep(&self) -> bool {
        matches!(self.sleep.state, State::Asleep)
    }

    /// There is something to do: it does not sleep, nor soon.
    pub(in crate::raft) fn wake(&mut self) {
        if self.is_asleep() && self.node.raft.state == StateRole::Leader {
            // The others have a whole election timeout to show that they are there.
            self.node.raft.election_elapsed = 0;
        }
        self.sleep.state = State::default();
    }

    /// Whether the broker of a member is gone, as far as was heard.
    pub(super) fn is_gone(&self, id: ReplicaId) -> bool {
        self.sleep.gone.contains(&id)
    }

    /// The brokers of these replicas are gone.
    pub(super) fn members_lost(&mut self, lost: &HashSet<ReplicaId>) {
        let raft = &mut self.node.raft;
        if let Some(successor) = raft.lead_transferee
            && lost.contains(&ReplicaId(successor))
        {
            // Nothing is proposed while a successor is waited for.
            raft.abort_leader_transfer();
        }
        for id in self.members.all() {
            if lost.contains(&id) && !self.sleep.gone.contains(&id) {
                self.sleep.gone.push(id);
            }
        }
        if self.is_asleep() && !self.has_quorum_up() {
            self.wake_all();
        }
    }

    /// The brokers of these replicas are back: they may have missed something, and may not know who leads. That is for the leader to
    /// tell. A follower that woke of it would miss a leader that sleeps, of whose broker nobody was gone.
    pub(super) fn members_back(&mut self, back: &HashSet<ReplicaId>) {
        let gone_before = self.sleep.gone.len();
        self.sleep.gone.retain(|id| !back.contains(id));
        let is_news = self.sleep.gone.len() < gone_before;
        if is_news && self.node.raft.state == StateRole::Leader {
            self.wake_all();
        }
    }

    /// A message that is taken came in. A heartbeat that asks to sleep is made an ordinary one where this replica does
    /// not want to. Answers whether it sleeps once the message is stepped.
    pub(super) fn hear(&mut self, message: &mut Message) -> bool {
        if self.is_gone(ReplicaId(message.from)) {
            // Its broker is back, or not gone yet and may begin anew before anybody hears of that: it has to be asked again
            // whether it sleeps.
            self.sleep.gone.retain(|id| id.0 != message.from);
            self.wake_all();
        }
        match message.get_msg_type() {
            MessageType::MsgHeartbeat if message.context.starts_with(MARK) => {
                if self.may_follow_to_sleep(message) {
                    return true;
                }
                message.context = Bytes::new();
                self.wake();
            }
            // Answers to what was said before it slept.
            MessageType::MsgHeartbeatResponse
                if self.node.raft.state == StateRole::Leader
                    && message.term == self.node.raft.term =>
            {
                self.hear_answer(message);
            }
            _ => self.wake_all(),
        }
        false
    }

    /// Puts the replica to sleep if `lulled`, the answer of [`Group::hear`], and a leader if all agree.
    pub(super) fn fall_asleep(&mut self, lulled: bool) {
        let sleeps = match &self.sleep.state {
            State::Drowsy { agreed } => {
                let mut others = self.members.all().filter(|id| *id != self.replica);
                let agree = others.all(|id| agreed.contains(&id.0) || self.is_gone(id));
                agree && self.may_sleep()
            }
            State::Awake { .. } => lulled && self.node.raft.state == StateRole::Follower,
            State::Asleep => false,
        };
        if sleeps {
            self.sleep.state = State::Asleep;
            self.node.raft.maybe_free_inflight_buffers();
        }
    }

    /// A tick went by for a leader.
    pub(super) fn tick_sleep(&mut self) {
        let may_sleep = self.may_sleep();
        match &mut self.sleep.state {
            state if !may_sleep => *state = State::default(),
            State::Awake { idle_ticks } => {
                *idle_ticks += 1;
                if *idle_ticks >= self.config.sleep_ticks {
                    self.sleep.attempt += 1;
                    self.sleep.state = State::Drowsy { agreed: Vec::new() };
                }
            }
            State::Drowsy { .. } | State::Asleep => {}
        }
    }

    /// Marks the heartbeats of a drowsy leader. Those of its last tick may leave when it sleeps already, and must wake nobody: it would
    /// not hear of that.
    pub(super) fn lull(&self, messages: &mut [Message]) {
        if matches!(self.sleep.state, State::Awake { .. }) {
            return;
        }
        for message in messages {
            if message.get_msg_type() == MessageType::MsgHeartbeat && message.context.is_empty() {
                message.context = self.mark();
            }
        }
    }

    fn wake_all(&mut self) {
        let was_asleep = self.is_asleep();
        self.wake();
        if was_asleep {
            // Only a leader has anything to say.
            self.node.ping();
        }
    }

    fn hear_answer(&mut self, message: &Message) {
        if message.context == self.mark()
            && let State::Drowsy { agreed } = &mut self.sleep.state
            && !agreed.contains(&message.from)
        {
            agreed.push(message.from);
        }
    }

    /// Whether nothing is left to do or to tell.
    fn may_sleep(&self) -> bool {
        let raft = &self.node.raft;
        let last = raft.raft_log.last_index();
        let has_all = |id: u64| {
            let progress = raft.prs().get(id);
            progress.is_some_and(|progress| {
                progress.matched == last
                    && (progress.committed_index == last || self.is_gone(ReplicaId(id)))
            })
        };
        self.config.sleep_ticks > 0
            && !self.is_sole_voter()
            && !self.is_disk_stalled
            && self.has_settled()
            && raft.pending_read_count() == 0
            && self.has_quorum_up()
            && self.members.all().all(|id| {
                id == self.replica
                    || has_all(id.0)
                    || self.is_gone(id) && !self.members.learners.contains(&id)
            })
    }

    /// Whether a follower has all that its leader has, and the leader says that this is all there is.
    fn may_follow_to_sleep(&self, message: &Message) -> bool {
        let raft = &self.node.raft;
        let last = raft.raft_log.last_index();
        raft.state == StateRole::Follower
            && raft.leader_id == message.from
            && raft.term == message.term
            && message.commit == last
            && raft.raft_log.persisted == last
            && self.unsynced.is_empty()
    }

    /// Whether the brokers of a quorum of voters are up.
    fn has_quorum_up(&self) -> bool {
        let up = |voters: &[ReplicaId]| voters.iter().filter(|id| !self.is_gone(**id)).count();
        let halves = [&self.members.voters, &self.members.outgoing];
        halves
            .iter()
            .all(|voters| voters.is_empty() || up(voters) > voters.len() / 2)
    }

    fn mark(&self) -> Bytes {
        [&MARK[..], &self.sleep.attempt.to_be_bytes()]
            .concat()
            .into()
    }
}
