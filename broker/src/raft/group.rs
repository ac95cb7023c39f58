//! The driver of one replica's Raft state: events in, effects out. It writes, sends and waits for nothing.
//!
//! [`Group::handle`] takes an event; [`Group::poll`] answers what has to be done about all that was handled, until
//! there is nothing more. The caller carries the effects out in this order: write, send, apply; it reports
//! [`Event::Applied`] when it has applied and [`Event::Synced`] when the write is durable. Rules:
//!
//! - A follower's messages leave when what they speak of is durable. A leader's leave at once, so that followers write
//!   while it does, but not in a term whose hard state is not durable: a one-voter group wins its election within one
//!   step, and two different entries could otherwise carry one index and term.
//! - A leader counts itself only after its own sync ([`Event::Synced`] reaches Raft before the messages that waited).
//! - Several unsynced writes may be on their way. A write that truncated makes the completions of those before it
//!   stale: they count only together with it.
//! - The journaled commit index is the smaller of commit and what is durable here, so it never points above the log.
//! - A membership change takes effect where it is applied. A joint configuration that does not leave by itself is
//!   pushed.
//! - An idle group sleeps: time does not matter to it until something comes.
//! - A leader whose disk is stuck steps down, and nobody with a stuck disk campaigns.
//! - The crate's own election jitter is off; ours is drawn from a seed, so a run can be repeated.
//!
//! Left out: priorities.

mod check;
mod in_sync;
mod leadership;
mod ready;
mod seeding;
mod sleep;
mod snapshot;

use std::collections::VecDeque;
use std::sync::Arc;

use highwater_storage::{AppliedState, Frame, HardState, Log, Offset, RaftIndex, Term};
use raft::eraftpb::{ConfChangeV2, ConfState, Entry, EntryType, Message, MessageType};
use raft::{Changer, GetEntriesContext, RawNode, StateRole};

use super::config::Config;
use super::effects::{Effects, WriteNumber};
use super::election::ElectionClock;
use super::entry::{self, BadEntry};
use super::event::{Event, Ignored};
use super::membership::{self, Members};
use super::message;
use super::storage::LogStorage;
use super::{Error, GroupId, ReplicaId, logger};

/// The Raft state of one replica.
///
/// Invariants: `applied <= commit <= last index`; `unsynced` is in order of number; nothing of a term above
/// `durable_term` was sent.
pub(super) struct Group {
    replica: ReplicaId,
    config: Arc<Config>,
    node: RawNode<LogStorage>,
    clock: ElectionClock,
    unsynced: VecDeque<Unsynced>,
    /// The newest write that removed entries.
    truncated_by: WriteNumber,
    durable_term: u64,
    /// The hard state as last handed out for writing.
    written: HardState,
    /// The members as of `applied`.
    conf_state: ConfState,
    members: Members,
    /// The last change of the members, or where the replica began if none was applied since.
    members_since: RaftIndex,
    /// The last index handed out for applying, and its term.
    applied: (RaftIndex, Term),
    /// The offset that the next applied record has.
    next_offset: Offset,
    followers: in_sync::Followers,
    sleep: sleep::Sleep,
    /// Whether the disk has not finished a sync for too long.
    is_disk_stalled: bool,
    /// Messages whose time to leave has come.
    outbox: Vec<Message>,
    /// Whether a snapshot is all that a replica of the group needs; the others need the entries before it, too.
    takes_snapshots: bool,
    /// The write that a snapshot was taken with, until it is durable.
    restoring: Option<WriteNumber>,
    /// A snapshot that came and needs entries that are not here.
    offer: Option<Box<Message>>,
    seeding: seeding::Seeding,
}

/// A write that is not known to be durable, and the messages that wait for it.
struct Unsynced {
    number: WriteNumber,
    term: u64,
    messages: Vec<Message>,
}

/// What a replica is in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Leader,
    Follower { leader: Option<ReplicaId> },
    Candidate,
}

impl Group {
    /// Takes up a replica where its log was left. On failure the log comes back with the reason. `takes_snapshots` says
    /// whether a snapshot of its machine is all that a replica needs.
    pub(super) fn open(
        group: GroupId,
        replica: ReplicaId,
        config: Arc<Config>,
        log: Log,
        applied: &AppliedState,
        takes_snapshots: bool,
        seed: u64,
    ) -> Result<Self, Box<(Log, Error)>> {
        let (hard_state, conf_state) = match check::check_log(replica, &log, applied) {
            Ok(states) => states,
            Err(error) => return Err(Box::new((log, error))),
        };
        let storage = LogStorage::new(log, hard_state, conf_state.clone());
        let next_offset = match storage.offset_at(applied.index.next()) {
            Ok(offset) => offset,
            Err(error) => return Err(Box::new((storage.into_log(), error.into()))),
        };
        let raft_config = config.of_replica(replica.0, applied.index.0);
        // The configuration is validated and the log checked: what is left to fail is a bug, which ends the replica.
        let node = RawNode::new(&raft_config, storage, &logger::of_group(group))
            .expect("the configuration and the log were checked");
        let mut members = Members::from_raft(&conf_state);
        members.voters.sort_unstable();
        Ok(Self {
            replica,
            clock: ElectionClock::new(&config, seed),
            config,
            node,
            unsynced: VecDeque::new(),
            truncated_by: WriteNumber::default(),
            durable_term: hard_state.term.0,
            written: hard_state,
            conf_state,
            members,
            members_since: applied.index,
            applied: (applied.index, applied.term),
            next_offset,
            followers: in_sync::Followers::default(),
            sleep: sleep::Sleep::default(),
            is_disk_stalled: false,
            outbox: Vec::new(),
            takes_snapshots,
            restoring: None,
            offer: None,
            seeding: seeding::Seeding::default(),
        })
    }

    /// Takes an event. What follows from it comes out of [`Group::poll`].
    pub(super) fn handle(&mut self, event: Event) -> Result<(), Ignored> {
        if event.wakes() {
            self.wake();
        }
        match event {
            Event::Message(message) => self.step(message)?,
            Event::Tick => self.tick(),
            Event::Campaign => self.campaign()?,
            Event::Propose(entries) => self.propose(entries)?,
            Event::ChangeMembers(change) => self.change_members(&change)?,
            Event::TransferLeader(to) => self.node.transfer_leader(to.0),
            Event::ReadIndex(number) => self.node.read_index(number.encode()),
            Event::LeaderLost => self.forget_leader(),
            Event::MembersLost(lost) => self.members_lost(&lost),
            Event::MembersBack(back) => {
                self.members_back(&back);
                self.seedings_lost(&back);
            }
            Event::DiskStalled(is_stalled) => self.disk_stalled(is_stalled),
            Event::Synced(number) => self.synced(number),
            Event::Applied => {
                self.advance_applied();
            }
            Event::Fetched(contexts, frames) => self.fetched(contexts, frames),
            Event::Snapshot {
                to,
                machine,
                log_start,
            } => self.send_snapshot(to, &machine, log_start),
            Event::Seeded(offer) => self.seeded(*offer),
            Event::SeedingProgress(to, progress) => self.seeding_goes_on(to, progress),
            Event::SeedingFailed(to) => self.seeding_failed(to),
        }
        self.settle();
        Ok(())
    }

    /// The next thing to do, if there is one.
    ///
    /// # Errors
    /// [`Error::Damaged`] for an entry that is none of ours, [`Error::Storage`] for one that cannot be read: the replica must not go on.
    pub(super) fn poll(&mut self) -> Result<Option<Effects>, Error> {
        self.check_reads()?;
        let mut effects = Effects {
            send: std::mem::take(&mut self.outbox),
            fetch: self.node.mut_store().take_fetches(),
            snapshots: self.node.mut_store().take_wanted(),
            offer: self.offer.take(),
            ..Effects::default()
        };
        if self.node.has_ready() {
            let ready = self.node.ready();
            self.check_reads()?;
            self.take(ready, &mut effects)?;
        }
        effects.write.hard_state = self.hard_state_to_write();
        Ok((!effects.is_empty()).then_some(effects))
    }

    /// An error where Raft wanted entries that could not be read since the last call.
    fn check_reads(&mut self) -> Result<(), Error> {
        let failure = self.node.mut_store().take_failure();
        failure.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Whether time matters to this replica: not while it sleeps, nor where there is nobody to hear from and nothing left
    /// to tell those who could never lead. To one of these it matters until it has not heard its leader for an election timeout:
    /// for so long it votes for nobody else, and others may know of a change that makes it a voter.
    pub(super) fn wants_ticks(&self) -> bool {
        let raft = &self.node.raft;
        if self.is_asleep() {
            false
        } else if raft.state == StateRole::Leader {
            let is_alone = self.members.is_alone(self.replica);
            !(is_alone || self.is_sole_voter() && self.is_idle())
        } else if raft.promotable() {
            !self.is_sole_voter()
        } else {
            let has_leader = raft.leader_id != raft::INVALID_ID;
            has_leader && raft.election_elapsed < self.config.election_ticks as usize
        }
    }

    /// Whether a leader has nothing left to tell or to learn.
    fn is_idle(&self) -> bool {
        let raft = &self.node.raft;
        let last = raft.raft_log.last_index();
        self.has_settled()
            && raft
                .prs()
                .iter()
                .all(|(_, progress)| progress.matched == last && progress.committed_index == last)
    }

    /// Whether a leader has committed and applied all it has, and neither hands over nor changes its members.
    fn has_settled(&self) -> bool {
        let raft = &self.node.raft;
        let last = raft.raft_log.last_index();
        raft.state == StateRole::Leader
            && raft.lead_transferee.is_none()
            && self.conf_state.voters_outgoing.is_empty()
            && self.unsynced.is_empty()
            && raft.raft_log.committed == last
            && self.applied.0.0 == last
    }

    /// Whether this replica wins any election by itself.
    pub(super) fn is_sole_voter(&self) -> bool {
        self.members.is_sole_voter(self.replica)
    }

    pub(super) fn standing(&self) -> Standing {
        let raft = &self.node.raft;
        match raft.state {
            StateRole::Leader => Standing::Leader,
            StateRole::Follower => Standing::Follower {
                leader: (raft.leader_id != raft::INVALID_ID).then_some(ReplicaId(raft.leader_id)),
            },
            StateRole::Candidate | StateRole::PreCandidate => Standing::Candidate,
        }
    }

    pub(super) fn term(&self) -> Term {
        Term(self.node.raft.term)
    }

    pub(super) fn commit(&self) -> RaftIndex {
        RaftIndex(self.node.raft.raft_log.committed)
    }

    /// The last index in the log, with what Raft holds but did not hand out yet. The next proposal stands after it.
    pub(super) fn last_index(&self) -> RaftIndex {
        RaftIndex(self.node.raft.raft_log.last_index())
    }

    /// The last applied index and its term.
    pub(super) fn applied(&self) -> (RaftIndex, Term) {
        self.applied
    }

    pub(super) fn members(&self) -> &Members {
        &self.members
    }

    /// The index of the change that made them members, or a later one.
    pub(super) fn members_since(&self) -> RaftIndex {
        self.members_since
    }

    /// Whether a change of the members may be on its way: none may begin before it is over.
    pub(super) fn is_changing(&self) -> bool {
        self.node.raft.has_pending_conf() || !self.conf_state.voters_outgoing.is_empty()
    }

    /// The members as of [`Group::applied`], as storage keeps them.
    pub(super) fn conf_state(&self) -> Result<bytes::Bytes, Error> {
        membership::encode(&self.conf_state)
    }

    /// Whether Raft would take a proposal: not while leadership is handed over, nor from a leader that was removed.
    pub(super) fn takes_proposals(&self) -> bool {
        let raft = &self.node.raft;
        raft.state == StateRole::Leader
            && raft.lead_transferee.is_none()
            && raft.prs().get(self.replica.0).is_some()
    }

    /// Whether `bytes` more may be proposed together with `gathered` bytes before them. One entry always may.
    pub(super) fn has_room(&self, gathered: usize, bytes: usize) -> bool {
        let held = self.node.raft.uncommitted_size().saturating_add(gathered);
        let limit = usize::try_from(self.config.uncommitted_bytes).unwrap_or(usize::MAX);
        held == 0 || held.saturating_add(bytes) <= limit
    }

    /// Bytes of entries to keep for followers that are a little behind.
    pub(super) fn catchup_bytes(&self) -> u64 {
        self.config.catchup_bytes
    }

    pub(super) fn log(&self) -> &Log {
        self.node.store().log()
    }

    /// One past the last index that is both in the log and known to Raft.
    pub(super) fn log_end(&self) -> RaftIndex {
        let last = self.log().last_index().0;
        RaftIndex(last.min(self.node.raft.raft_log.last_index())).next()
    }

    pub(super) fn log_mut(&mut self) -> &mut Log {
        self.node.mut_store().log_mut()
    }

    pub(super) fn into_log(self) -> Log {
        self.node.raft.r.raft_log.store.into_log()
    }

    fn step(&mut self, mut message: Message) -> Result<(), Ignored> {
        let raft = &self.node.raft;
        message::check(&message, self.replica, raft.term, &self.config)
            .map_err(Ignored::Message)?;
        let last = raft.raft_log.last_index();
        if message.get_msg_type() == MessageType::MsgHeartbeat
            && message.term >= raft.term
            && message.commit > last
        {
            return Err(Ignored::LostLog(format!(
                "replica {} counts on entry {} here, but the log ends at {last}",
                message.from, message.commit
            )));
        }
        if message.get_msg_type() == MessageType::MsgTimeoutNow && !self.may_campaign() {
            return Err(Ignored::NotNow);
        }
        // Who were the members at the first entry is not known here, and the changes after it make nothing of nobody.
        let begins_at_first =
            message.get_msg_type() == MessageType::MsgAppend && message.index == 0;
        if begins_at_first && self.members == Members::default() {
            self.ask_for_snapshot(&message);
            return Err(Ignored::NoMembers);
        }
        let lulled = self.hear(&mut message);
        if message.get_msg_type() == MessageType::MsgRequestPreVote {
            self.asked_before_vote(&message);
        }
        if self.is_offer(&message) {
            self.take_offer(message);
            return Ok(());
        }
        self.step_raft(message);
        self.fall_asleep(lulled);
        Ok(())
    }

    fn tick(&mut self) {
        if self.is_asleep() {
            return;
        }
        let leads = self.node.raft.state == StateRole::Leader;
        if leads && self.is_disk_stalled {
            // It slept when the disk got stuck.
            self.disk_stalled(true);
            return;
        }
        if leads {
            self.tick_sleep();
            self.tick_followers();
            self.tick_seedings();
        }
        let is_due = leads || (self.clock.tick(&mut self.node.raft) && self.may_campaign());
        if is_due {
            self.node.tick();
        }
    }

    fn propose(&mut self, entries: Vec<Entry>) -> Result<(), Ignored> {
        debug_assert!(!entries.is_empty(), "a proposal has at least one entry");
        if self.node.raft.state != StateRole::Leader {
            return Err(Ignored::NotLeader);
        }
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.replica.0;
        message.entries = entries.into();
        self.node.raft.step(message).map_err(|_| Ignored::Dropped)
    }

    fn change_members(&mut self, change: &ConfChangeV2) -> Result<(), Ignored> {
        let raft = &self.node.raft;
        if raft.state != StateRole::Leader {
            return Err(Ignored::NotLeader);
        }
        if self.is_changing() {
            return Err(Ignored::Dropped);
        }
        let mut changer = Changer::new(raft.prs());
        let tried = match change.enter_joint() {
            Some(auto_leave) => changer.enter_joint(auto_leave, &change.changes),
            None => changer.simple(&change.changes),
        };
        tried.map_err(|error| Ignored::BadChange(error.to_string()))?;
        self.propose_change(change)
    }

    fn propose_change(&mut self, change: &ConfChangeV2) -> Result<(), Ignored> {
        let mut entry = Entry::default();
        entry.set_entry_type(EntryType::EntryConfChangeV2);
        entry.data = protobuf::Message::write_to_bytes(change)
            .map_err(|error| Ignored::BadChange(error.to_string()))?
            .into();
        let pending = self.node.raft.pending_conf_index;
        let proposed = self.propose(vec![entry]);
        if proposed.is_err() {
            // Raft notes where the change is to stand before it finds no room for it, and takes no other until that index is applied.
            self.node.raft.pending_conf_index = pending;
        }
        proposed
    }

    fn advance_applied(&mut self) {
        let applied = self.applied.0.0;
        let last = self.node.raft.raft_log.last_index();
        self.node.mut_store().trim(applied);
        self.node.advance_apply_to(applied);
        // Raft writes the end of a joint configuration without telling anybody before the next heartbeat.
        if self.node.raft.raft_log.last_index() > last {
            self.node.raft.bcast_append();
        }
    }

    fn synced(&mut self, number: WriteNumber) {
        if number < self.truncated_by {
            return;
        }
        // Raft learns of it before the messages that waited leave.
        self.node.on_persist_ready(number.0);
        self.snapshot_synced(number);
        while self
            .unsynced
            .front()
            .is_some_and(|unsynced| unsynced.number <= number)
        {
            if let Some(unsynced) = self.unsynced.pop_front() {
                self.durable_term = self.durable_term.max(unsynced.term);
                self.outbox.extend(unsynced.messages);
            }
        }
    }

    fn fetched(&mut self, contexts: Vec<GetEntriesContext>, frames: Vec<Frame>) {
        let entries = frames.into_iter().map(entry::from_frame).collect();
        self.node.mut_store().set_fetched(entries);
        for context in contexts {
            self.node.on_entries_fetched(context);
        }
        self.node.mut_store().set_fetched(Vec::new());
    }

    /// What has to be seen to after any event.
    fn settle(&mut self) {
        self.clock.observe(&mut self.node.raft);
        let raft = &self.node.raft;
        if raft.state != StateRole::Leader {
            self.seeding.clear();
            return;
        }
        let is_joint = !self.conf_state.voters_outgoing.is_empty();
        if is_joint && self.conf_state.auto_leave && !raft.has_pending_conf() {
            // Raft leaves by itself only when it led while the change was applied. Refused, it is tried again later.
            if self.propose_change(&ConfChangeV2::default()).is_ok() {
                tracing::debug!(
                    replica = self.replica.0,
                    "pushed the end of a joint configuration"
                );
            }
        } else if !is_joint && !raft.promotable() {
            let term = raft.term;
            self.node.raft.become_follower(term, raft::INVALID_ID);
        }
    }

    fn damaged(&self, bad: &BadEntry) -> Error {
        Error::Damaged {
            replica: self.replica,
            reason: bad.to_string(),
        }
    }
}
