//! One replica: its Raft state, its machine, and the callers in between.
//!
//! A shard gives it events ([`Replica::message`], [`Replica::command`] ...), then lets it [`drive`](Replica::drive)
//! until it has nothing more to do in this turn. What it writes gathers in the shard's one journal turn; the shard
//! says with [`Replica::submitted`] which ticket that became and with [`Replica::synced`] when it is done.
//!
//! A replica whose log or machine failed is quarantined: it keeps its log and its applied state for readers, takes no
//! part in its group, and refuses every command.

mod acks;
mod capture;
mod change;
mod decide;
mod fetch;
mod leadership;
mod quarantine;
mod read;
mod refound;
mod seeding;
mod snapshot;
mod start;
mod status;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use highwater_storage::{
    AppliedState, Error as StorageError, Log, Offset, RaftIndex, Term, Ticket, Turn,
};

use super::ailment::Ailment;
use super::catching_up::CatchingUp;
use super::cold_read::ColdRead;
use super::counters::ShardCounters;
use super::effects::{Applicable, Effects, Write, WriteNumber};
use super::entry::Committed;
use super::event::{Event, Ignored};
use super::group::Group;
use super::machine::{Machine, Refusal, Role, Timestamp};
use super::message::{Leadership, PeerMessage};
use super::request::Request;
use super::seeding::Pull;
use super::waiters::Waiters;
use super::{Error, GroupId, ReplicaId};

pub(super) use self::start::Start;

/// One replica. See the module's documentation.
pub(super) struct Replica<M: Machine> {
    group_id: GroupId,
    id: ReplicaId,
    machine: M,
    consensus: Consensus,
    role: Role,
    /// The no-op of the present leadership: commands are decided once it is applied.
    serving_from: RaftIndex,
    /// Commands that wait to be decided.
    queue: VecDeque<Request<M>>,
    /// Callers whose entries are on the way.
    waiters: Waiters<M>,
    /// Callers who read.
    reads: read::Reads,
    change: Option<change::PendingChange>,
    /// Entries for followers that are being read.
    cold_reads: fetch::ColdReads,
    /// What it needs to begin anew, where it has to.
    seeding: Option<seeding::Seeding>,
    /// The last index of proposals that are in the log before Raft hands them out.
    written_ahead: Option<RaftIndex>,
    /// Effects whose write waits for room on the disk. Raft is not asked for more meanwhile.
    blocked: Option<Box<Effects>>,
    /// The newest write of this turn, whose ticket is not known yet.
    unsubmitted: Option<WriteNumber>,
    /// Writes whose ticket is not done, in order.
    unsynced: VecDeque<(Ticket, WriteNumber)>,
    /// The log start that the log was last told.
    log_start: Offset,
    /// The applied state as of the last checkpoint.
    captured: AppliedState,
    /// Whether readers have not seen the newest applied state or role.
    is_unpublished: bool,
    /// The term and the voters in sync that were announced last.
    announced: (Term, Vec<ReplicaId>),
    /// Whether other voters may be in sync than were announced.
    is_in_sync_stale: bool,
    /// Whether its shard has it on the list of those to drive.
    pub(super) is_active: bool,
}

/// The part of a replica that failing takes away.
enum Consensus {
    Running(Box<Group>),
    Quarantined {
        /// `None` once it is taken for deletion.
        log: Option<Box<Log>>,
        ailment: Ailment,
        reason: String,
    },
}

/// What a turn lends to the replicas it drives.
pub(super) struct TurnContext<'a> {
    /// What the turn writes.
    pub(super) turn: Turn,
    /// The wall clock when the turn began.
    pub(super) now: Timestamp,
    /// Whether the disk has no room for more records.
    pub(super) is_disk_full: bool,
    /// Messages to peers, in order.
    pub(super) outbox: Vec<PeerMessage>,
    /// Leaderships that began to serve.
    pub(super) leaderships: Vec<Leadership>,
    /// Which groups' followers are sent what they lack.
    pub(super) catching_up: CatchingUp<ColdRead>,
    /// Entries that have to be read elsewhere.
    pub(super) cold_reads: Vec<ColdRead>,
    /// Frames that have to come from another broker.
    pub(super) pulls: Vec<Pull>,
    /// Commands decided or refused, and the bytes they held.
    pub(super) released: Released,
    pub(super) counters: &'a ShardCounters,
}

/// Room that a mailbox gets back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Released {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl Released {
    pub(super) fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes;
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
    }
}

impl<M: Machine> Replica<M> {
    /// A peer's message. What is not for this replica or from no honest peer is dropped.
    pub(super) fn message(&mut self, message: PeerMessage) -> Result<(), Error> {
        let from = message.from();
        self.handle(Event::Message(message.message), |ignored| {
            tracing::debug!(from = from.0, ?ignored, "dropped a message");
        })
    }

    /// A command for the machine. It is answered, whatever happens.
    pub(super) fn command(&mut self, request: Request<M>) {
        self.queue.push_back(request);
    }

    /// One tick went by.
    pub(super) fn tick(&mut self) -> Result<(), Error> {
        let is_awaited = self.waiters.await_holders() || self.change.is_some();
        if let Consensus::Running(group) = &mut self.consensus
            && is_awaited
        {
            group.wake();
        }
        self.handle(Event::Tick, |_| {})?;
        self.check_holders();
        self.is_in_sync_stale = true;
        Ok(())
    }

    /// The broker of the leader is gone.
    pub(super) fn leader_lost(&mut self) -> Result<(), Error> {
        self.handle(Event::LeaderLost, |_| {})
    }

    /// The brokers of some of its group's members are gone; perhaps that of its leader.
    pub(super) fn members_lost(&mut self, lost: &Arc<HashSet<ReplicaId>>) -> Result<(), Error> {
        self.is_in_sync_stale = true;
        self.handle(Event::MembersLost(Arc::clone(lost)), |_| {})?;
        if self.leader().is_some_and(|leader| lost.contains(&leader)) {
            self.handle(Event::LeaderLost, |_| {})?;
        }
        Ok(())
    }

    /// The brokers of some of its group's members are back.
    pub(super) fn members_back(&mut self, back: &Arc<HashSet<ReplicaId>>) -> Result<(), Error> {
        self.is_in_sync_stale = true;
        self.handle(Event::MembersBack(Arc::clone(back)), |_| {})
    }

    /// Whether one of `replicas` is a member of its group.
    pub(super) fn has_member_in(&self, replicas: &HashSet<ReplicaId>) -> bool {
        match &self.consensus {
            Consensus::Running(group) => group.members().all().any(|id| replicas.contains(&id)),
            Consensus::Quarantined { .. } => false,
        }
    }

    /// Hands leadership over, where this replica has it.
    pub(super) fn transfer_leader(&mut self, to: ReplicaId) -> Result<(), Error> {
        if matches!(self.role, Role::Leader { .. }) {
            self.handle(Event::TransferLeader(to), |_| {})?;
        }
        Ok(())
    }

    /// Hands leadership over to whoever is best prepared. True while it leads and somebody else could.
    pub(super) fn transfer_away(&mut self) -> Result<bool, Error> {
        let Consensus::Running(group) = &self.consensus else {
            return Ok(false);
        };
        if !matches!(self.role, Role::Leader { .. }) {
            return Ok(false);
        }
        match group.successor() {
            Some(successor) if !group.is_handing_over() => {
                self.handle(Event::TransferLeader(successor), |_| {})?;
                Ok(true)
            }
            successor => Ok(successor.is_some()),
        }
    }

    /// The disk is stuck, or goes on again.
    pub(super) fn disk_stalled(&mut self, is_stalled: bool) -> Result<(), Error> {
        self.handle(Event::DiskStalled(is_stalled), |_| {})
    }

    /// Starts an election where no leader is known.
    pub(super) fn campaign_if_leaderless(&mut self) -> Result<(), Error> {
        if self.is_leaderless() {
            self.handle(Event::Campaign, |_| {})?;
        }
        Ok(())
    }

    /// Elects the only voter of a cold group.
    pub(super) fn campaign_if_cold(&mut self) -> Result<(), Error> {
        let is_cold = matches!(self.role, Role::Follower { .. });
        match &self.consensus {
            Consensus::Running(group) if is_cold && group.is_sole_voter() => {
                self.handle(Event::Campaign, |_| {})
            }
            _ => Ok(()),
        }
    }

    /// Does what there is to do.
    ///
    /// # Errors
    /// What ends this replica: it is to be quarantined.
    pub(super) fn drive(&mut self, context: &mut TurnContext<'_>) -> Result<(), Error> {
        self.check_readers()?;
        self.take_seeded()?;
        loop {
            while let Some(effects) = self.next_effects()? {
                if !self.carry_out(effects, context)? {
                    return Ok(());
                }
            }
            self.publish();
            self.answer_acks();
            self.announce(context);
            if !(self.decide(context)? | self.ask_reads()?) {
                return Ok(());
            }
        }
    }

    /// What [`Replica::drive`] wrote was submitted as `ticket`. Answers the ticket to wait for, if any.
    pub(super) fn submitted(&mut self, ticket: Ticket) -> Option<Ticket> {
        let Consensus::Running(group) = &mut self.consensus else {
            return None;
        };
        let number = self.unsubmitted.take()?;
        let ticket = group.log_mut().ticket(ticket);
        self.unsynced.push_back((ticket, number));
        Some(ticket)
    }

    /// Everything up to `ticket` is durable.
    pub(super) fn synced(&mut self, ticket: Ticket) -> Result<(), Error> {
        let mut durable = None;
        while let Some((_, number)) = self.unsynced.pop_front_if(|(waited, _)| *waited <= ticket) {
            durable = Some(number);
        }
        match durable {
            Some(number) => self.handle(Event::Synced(number), |_| {}),
            None => Ok(()),
        }
    }

    /// Whether ticks matter to it.
    pub(super) fn wants_ticks(&self) -> bool {
        match &self.consensus {
            Consensus::Running(group) => group.wants_ticks(),
            Consensus::Quarantined { .. } => false,
        }
    }

    /// The leader that it follows.
    pub(super) fn leader(&self) -> Option<ReplicaId> {
        match self.role {
            Role::Follower { leader, .. } => leader,
            Role::Leader { .. } | Role::Quarantined => None,
        }
    }

    /// Whether it leads its group.
    pub(super) fn leads(&self) -> bool {
        matches!(self.role, Role::Leader { .. })
    }

    /// Whether no other member that is not gone lacks the entry at `index`, as far as this leader knows; true where it does not lead.
    pub(super) fn has_everywhere(&self, index: RaftIndex) -> bool {
        match &self.consensus {
            Consensus::Running(group) => !self.leads() || group.has_everywhere(index),
            Consensus::Quarantined { .. } => true,
        }
    }

    /// Whether it follows, but knows of nobody who leads.
    pub(super) fn is_leaderless(&self) -> bool {
        matches!(self.role, Role::Follower { leader: None, .. })
    }

    pub(super) fn id(&self) -> ReplicaId {
        self.id
    }

    pub(super) fn group_id(&self) -> GroupId {
        self.group_id
    }

    /// Ends the replica and gives its log away. What was proposed may commit yet; what was not is refused.
    pub(super) fn stop(mut self) -> (Option<Log>, Released) {
        let mut released = Released::default();
        for request in self.queue.drain(..) {
            released.add(request.bytes);
            request.reply.refuse(Refusal::UnknownGroup);
        }
        self.waiters.abandon();
        self.reads.refuse(&Refusal::UnknownGroup);
        if let Some(change) = self.change.take() {
            change.answer(Err(Refusal::Indefinite.into()));
        }
        let log = match self.consensus {
            Consensus::Running(group) => Some(group.into_log()),
            Consensus::Quarantined { log, .. } => log.map(|log| *log),
        };
        (log, released)
    }

    /// The applied state as of the last checkpoint.
    pub(super) fn captured(&self) -> &AppliedState {
        &self.captured
    }

    /// Its log, for changes that are no entries.
    pub(super) fn log_mut(&mut self) -> Option<&mut Log> {
        match &mut self.consensus {
            Consensus::Running(group) => Some(group.log_mut()),
            Consensus::Quarantined { log, .. } => log.as_deref_mut(),
        }
    }

    /// Ends a replica whose readers met damage: what was committed is not there any more, so nothing may follow it.
    fn check_readers(&self) -> Result<(), Error> {
        let met = match &self.consensus {
            Consensus::Running(group) => group.log().damage_met(),
            Consensus::Quarantined { .. } => None,
        };
        met.map_or(Ok(()), |reason| {
            Err(Error::Damaged {
                replica: self.id,
                reason: reason.to_owned(),
            })
        })
    }

    fn next_effects(&mut self) -> Result<Option<Effects>, Error> {
        if let Some(blocked) = self.blocked.take() {
            return Ok(Some(*blocked));
        }
        match &mut self.consensus {
            Consensus::Running(group) => group.poll(),
            Consensus::Quarantined { .. } => Ok(None),
        }
    }

    /// Gives Raft an event and sees to what it did to the role.
    fn handle(&mut self, event: Event, ignored: impl FnOnce(Ignored)) -> Result<(), Error> {
        let Consensus::Running(group) = &mut self.consensus else {
            return Ok(());
        };
        match group.handle(event) {
            Ok(()) => {}
            Err(Ignored::LostLog(reason)) => {
                return Err(Error::Damaged {
                    replica: self.id,
                    reason,
                });
            }
            Err(other) => ignored(other),
        }
        self.observe_role();
        self.watch_seeding();
        Ok(())
    }

    /// False when the disk has no room for the write: the effects wait, and with them everything Raft wants.
    fn carry_out(
        &mut self,
        mut effects: Effects,
        context: &mut TurnContext<'_>,
    ) -> Result<bool, Error> {
        self.install_snapshot(&mut effects.write, context)?;
        match self.write(&mut effects.write, context) {
            Ok(()) => {}
            Err(StorageError::NoSpace { reason }) => {
                tracing::warn!(group = self.group_id.0, reason, "a write waits for room");
                self.blocked = Some(Box::new(effects));
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        }
        if effects.number.is_some() {
            self.unsubmitted = effects.number;
        }
        let group = self.group_id;
        context.outbox.extend(
            effects
                .send
                .into_iter()
                .map(|message| PeerMessage { group, message }),
        );
        let applied_any = !effects.apply.is_empty();
        for applicable in effects.apply {
            self.apply(applicable)?;
        }
        if applied_any {
            self.after_apply()?;
        }
        self.reads_confirmed(effects.reads);
        for fetch in effects.fetch {
            self.fetch(fetch, context)?;
        }
        self.send_snapshots(effects.snapshots)?;
        if let Some(offer) = effects.offer {
            self.take_offer(offer, context)?;
        }
        Ok(true)
    }

    /// Writes, and takes out of `write` what is done.
    fn write(
        &mut self,
        write: &mut Write,
        context: &mut TurnContext<'_>,
    ) -> highwater_storage::Result<()> {
        let written_ahead = self.written_ahead.take();
        let Some(log) = self.log_mut() else {
            return Ok(());
        };
        if let Some(first_removed) = write.truncate_from {
            log.truncate_suffix(&mut context.turn, first_removed)?;
            write.truncate_from = None;
        }
        // What the leader proposed is in the log already.
        let ahead = write
            .frames
            .partition_point(|frame| Some(frame.index) <= written_ahead);
        if ahead < write.frames.len() {
            log.append(&mut context.turn, &write.frames[ahead..])?;
        }
        context.counters.wrote(&write.frames);
        if let Some(hard_state) = write.hard_state {
            log.set_hard_state(&mut context.turn, hard_state);
        }
        Ok(())
    }

    fn apply(&mut self, applicable: Applicable) -> Result<(), Error> {
        let index = applicable.index;
        let applied = match applicable.committed {
            Committed::NoOp => {
                self.change_ignored(index);
                Ok(())
            }
            Committed::MembersChanged => {
                self.members_changed(index)?;
                Ok(())
            }
            Committed::Lost {
                base_offset,
                record_count,
            } => self.machine.apply_lost(index, base_offset, record_count),
            Committed::ForMachine(entry) => self.machine.apply(&entry),
        };
        applied.map_err(|unlawful| Error::Machine {
            replica: self.id,
            reason: unlawful.to_string(),
        })
    }

    /// Tells Raft, the log, the readers and then the waiting callers, in this order.
    fn after_apply(&mut self) -> Result<(), Error> {
        self.handle(Event::Applied, |_| {})?;
        let log_start = self.machine.log_start();
        let is_trimmed = log_start > self.log_start;
        self.log_start = self.log_start.max(log_start);
        if let Some(log) = self.log_mut() {
            log.note_applied();
            if is_trimmed {
                log.set_log_start(log_start);
            }
        }
        self.is_unpublished = true;
        self.publish();
        if let Consensus::Running(group) = &self.consensus {
            self.waiters.applied(group.applied().0);
            self.reads.applied(group.applied().0);
        }
        Ok(())
    }

    fn publish(&mut self) {
        if std::mem::take(&mut self.is_unpublished) {
            self.machine.publish();
        }
    }
}
