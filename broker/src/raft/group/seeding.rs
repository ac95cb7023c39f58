//! A snapshot of a replica whose log is the data, on both sides: who is sent one, what becomes of it, and when it is lost.
//! [`seeding`](crate::raft::seeding) says how the whole goes.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use highwater_storage::{Log, RaftIndex};
use raft::eraftpb::{Message, MessageType};
use raft::{ProgressState, SnapshotStatus, StateRole};

use super::Group;
use crate::raft::ReplicaId;
use crate::raft::config::Config;
use crate::raft::seeding::SeedingProgress;

/// What a leader remembers of those who take snapshots. Nobody's, where this replica does not lead.
#[derive(Debug, Default)]
pub(super) struct Seeding {
    /// Followers that were sent a snapshot and have not answered.
    sent: BTreeMap<u64, Sent>,
    /// Followers that cannot begin with the first entry: they are sent a snapshot in its place.
    newcomers: BTreeSet<u64>,
}

#[derive(Debug)]
struct Sent {
    index: RaftIndex,
    /// Ticks since anything was heard of it.
    quiet_ticks: u32,
    progress: SeedingProgress,
}

impl Seeding {
    pub(super) fn clear(&mut self) {
        self.sent.clear();
        self.newcomers.clear();
    }
}

impl Group {
    /// Gives Raft a message that is checked.
    pub(super) fn step_raft(&mut self, message: Message) {
        let (from, kind) = (message.from, message.get_msg_type());
        let is_answer = kind == MessageType::MsgAppendResponse && !message.reject;
        self.note_newcomer(&message);
        let before = self.matched(from);
        let seeds_newcomer = self.seeding.newcomers.contains(&from);
        self.node.mut_store().set_seeds_newcomer(seeds_newcomer);
        // What Raft itself ignores (a response of somebody who is no member any more) is no news.
        if let Err(error) = self.node.step(message) {
            tracing::debug!(replica = self.replica.0, %error, "ignored a message");
        }
        self.node.mut_store().set_seeds_newcomer(false);
        if is_answer && self.matched(from) > before && self.awaits_snapshot(from) {
            // It has taken an earlier snapshot: the one that it was sent last is not needed.
            self.seeding_failed(ReplicaId(from));
        }
    }

    /// Answers entries from the first on, where this replica does not know who were members then: what is refused is the place
    /// before the first entry, which everybody has.
    pub(super) fn ask_for_snapshot(&mut self, message: &Message) {
        let raft = &self.node.raft;
        // What is not durable yet is not said; the leader asks again.
        if message.term != raft.term || self.durable_term < raft.term {
            return;
        }
        let mut answer = Message::default();
        answer.set_msg_type(MessageType::MsgAppendResponse);
        (answer.from, answer.to) = (self.replica.0, message.from);
        (answer.term, answer.reject) = (raft.term, true);
        self.outbox.push(answer);
    }

    /// Whether a follower asks for a snapshot, or has taken one.
    fn note_newcomer(&mut self, message: &Message) {
        if message.get_msg_type() != MessageType::MsgAppendResponse {
            return;
        }
        if !message.reject {
            self.seeding.newcomers.remove(&message.from);
        } else if message.index == 0 && self.matched(message.from) == 0 {
            self.seeding.newcomers.insert(message.from);
        }
    }

    /// Whether a message is a snapshot that this replica could take if it had the entries before it.
    pub(super) fn is_offer(&self, message: &Message) -> bool {
        let raft = &self.node.raft;
        if message.get_msg_type() != MessageType::MsgSnapshot || self.takes_snapshots {
            return false;
        }
        let metadata = message.get_snapshot().get_metadata();
        let members = metadata.get_conf_state();
        let mut all = members.voters.iter();
        // Of all others Raft knows what to answer.
        message.term >= raft.term
            && raft.state != StateRole::Leader
            && metadata.index > raft.raft_log.committed
            && !raft.raft_log.match_term(metadata.index, metadata.term)
            && (all.any(|id| *id == self.replica.0)
                || members.learners.contains(&self.replica.0)
                || members.voters_outgoing.contains(&self.replica.0))
    }

    /// Who sends a snapshot leads, which is all that Raft hears of it for now.
    pub(super) fn take_offer(&mut self, offer: Message) {
        let raft = &mut self.node.raft;
        if offer.term > raft.term || raft.leader_id != offer.from {
            raft.become_follower(offer.term, offer.from);
        }
        self.offer = Some(Box::new(offer));
    }

    /// The entries before an offer are here. What it says was committed when it was made, so it is as true when the present
    /// leader says it.
    pub(super) fn seeded(&mut self, mut offer: Message) {
        let raft = &self.node.raft;
        (offer.from, offer.term) = (raft.leader_id, raft.term);
        self.step_raft(offer);
    }

    /// Whether Raft has taken a snapshot that it has not handed out yet.
    pub(in crate::raft) fn is_restoring(&self) -> bool {
        self.node.raft.snap().is_some()
    }

    /// A snapshot as of `index` went to a follower, unless Raft had a reason not to send it.
    pub(super) fn snapshot_sent(&mut self, to: ReplicaId, index: RaftIndex) {
        if self.awaits_snapshot(to.0) {
            let sent = Sent {
                index,
                quiet_ticks: 0,
                progress: SeedingProgress::default(),
            };
            self.seeding.sent.insert(to.0, sent);
        }
    }

    /// A follower gets what it needs.
    pub(super) fn seeding_goes_on(&mut self, to: ReplicaId, progress: SeedingProgress) {
        if let Some(sent) = self.seeding.sent.get_mut(&to.0) {
            sent.quiet_ticks = 0;
            sent.progress = progress;
        }
    }

    /// A snapshot is of no use any more: Raft looks anew what the follower needs when it hears of it.
    pub(super) fn seeding_failed(&mut self, to: ReplicaId) {
        if self.awaits_snapshot(to.0) {
            tracing::debug!(
                replica = self.replica.0,
                to = to.0,
                "a snapshot was not taken"
            );
            self.node.report_snapshot(to.0, SnapshotStatus::Failure);
        }
        self.seeding.sent.remove(&to.0);
    }

    /// The brokers of these replicas are back. Whoever began anew has forgotten what it was sent.
    pub(super) fn seedings_lost(&mut self, back: &HashSet<ReplicaId>) {
        let lost: Vec<_> = self.seeding.sent.keys().copied().map(ReplicaId).collect();
        for to in lost.into_iter().filter(|to| back.contains(to)) {
            self.seeding_failed(to);
        }
    }

    /// Counts the ticks since anything was heard of a snapshot; one that waits for too long is to be sent again.
    pub(super) fn tick_seedings(&mut self) {
        let tracker = self.node.raft.prs();
        let waiting = |id: &u64| {
            let progress = tracker.get(*id);
            progress.is_some_and(|progress| progress.state == ProgressState::Snapshot)
        };
        self.seeding.sent.retain(|id, _| waiting(id));
        let limit = if self.takes_snapshots {
            self.config.snapshot_ticks
        } else {
            self.config.seeding_ticks
        };
        let mut lost = Vec::new();
        for (id, sent) in &mut self.seeding.sent {
            sent.quiet_ticks += 1;
            if sent.quiet_ticks > limit {
                lost.push(ReplicaId(*id));
            }
        }
        for to in lost {
            self.seeding_failed(to);
        }
    }

    /// How far a follower is with what it needs for a snapshot, if it was sent one.
    pub(super) fn seeding_of(&self, id: u64) -> Option<SeedingProgress> {
        let sent = self.seeding.sent.get(&id);
        let sent = sent.filter(|_| self.awaits_snapshot(id) && !self.takes_snapshots);
        sent.map(|sent| sent.progress)
    }

    /// Looks anew who is to be seeded though the log has what it lacks. Whoever is being seeded goes on from there with
    /// entries.
    pub(in crate::raft) fn set_seed_below(&mut self) {
        let held = self.seeding.sent.values().map(|sent| sent.index.next());
        let held = held.min().unwrap_or(self.applied.0.next());
        let below = seed_below(self.log(), &self.config).min(held);
        self.node.mut_store().set_seed_below(below);
    }

    fn matched(&self, id: u64) -> u64 {
        let progress = self.node.raft.prs().get(id);
        progress.map_or(0, |progress| progress.matched)
    }

    fn awaits_snapshot(&self, id: u64) -> bool {
        let raft = &self.node.raft;
        let progress = raft.prs().get(id);
        raft.state == StateRole::Leader
            && progress.is_some_and(|progress| progress.state == ProgressState::Snapshot)
    }
}

/// The index from which on entries are worth sending one by one: whoever lacks some below lacks more than
/// [`Config::seeding_bytes`] and more than half of the log.
fn seed_below(log: &Log, config: &Config) -> RaftIndex {
    let bytes = config.seeding_bytes.max(log.bytes() / 2);
    log.tail_start(bytes)
}
