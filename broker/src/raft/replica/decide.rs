//! How a leader decides what waits for it: all of it at once, as one proposal.

use highwater_storage::{Error as StorageError, RaftIndex};
use raft::eraftpb::Entry;

use super::{Consensus, Replica, TurnContext};
use crate::raft::Error;
use crate::raft::entry;
use crate::raft::event::{Event, Ignored};
use crate::raft::machine::{Decision, EntryKind, Machine, NewEntry, Refusal, Role};
use crate::raft::reply::Reply;
use crate::raft::request::{Acks, Request};
use crate::raft::waiters::Until;

/// What a leader holds at most.
const UNCOMMITTED: &str = "the group's limit of uncommitted bytes";

/// The proposals of one turn.
struct Gathered {
    first: RaftIndex,
    next: RaftIndex,
    entries: Vec<Entry>,
    bytes: usize,
}

impl<M: Machine> Replica<M> {
    /// Decides the queued commands, or refuses them, or lets them wait for the election of a cold group. True when
    /// Raft has something to do because of it.
    pub(super) fn decide(&mut self, context: &mut TurnContext<'_>) -> Result<bool, Error> {
        if self.queue.is_empty() {
            return Ok(false);
        }
        match self.role {
            Role::Leader { serving: true, .. } => {}
            Role::Leader { serving: false, .. } => return Ok(false),
            Role::Follower { leader, .. } => return self.wake_or_refuse(leader, context),
            Role::Quarantined => {
                self.refuse_queue(&self.failed(), context);
                return Ok(false);
            }
        }
        let Consensus::Running(group) = &self.consensus else {
            return Ok(false);
        };
        // A leader that hands over waits for the end of it.
        if !group.takes_proposals() {
            return Ok(false);
        }
        let first = group.last_index().next();
        let mut gathered = Gathered {
            first,
            next: first,
            entries: Vec::with_capacity(self.queue.len()),
            bytes: 0,
        };
        while let Some(request) = self.queue.pop_front() {
            context.released.add(request.bytes);
            self.decide_one(request, &mut gathered, context);
        }
        self.propose(gathered, context)
    }

    fn decide_one(
        &mut self,
        request: Request<M>,
        gathered: &mut Gathered,
        context: &TurnContext<'_>,
    ) {
        let Request {
            command,
            acks,
            reply,
            ..
        } = request;
        match self.machine.decide(command, gathered.next, context.now) {
            Err(error) => reply.answer(Err(error)),
            Ok(Decision::Answer {
                response,
                after: Some(index),
            }) if index > self.applied_index() => self.wait(index, acks, reply, response),
            Ok(Decision::Answer { response, .. }) => reply.answer(Ok(response)),
            Ok(Decision::Propose { entries, response }) => {
                match self.admit(&entries, acks, gathered, context.is_disk_full) {
                    Ok(()) => {
                        self.gather(&entries, gathered);
                        self.wait(gathered.next.previous(), acks, reply, response);
                    }
                    Err(refusal) => reply.refuse(refusal),
                }
            }
        }
    }

    /// Answers when the entry at `index` is as far as the caller wants it.
    fn wait(&mut self, index: RaftIndex, acks: Acks, reply: Reply<M>, response: M::Response) {
        let until = match acks {
            Acks::None => return reply.answer(Ok(response)),
            Acks::Leader => Until::Synced,
            Acks::Quorum { min_in_sync } => match &self.consensus {
                Consensus::Running(group) if min_in_sync > group.quorum() => {
                    Until::Held(min_in_sync)
                }
                _ => Until::Applied,
            },
        };
        self.waiters.add(index, until, reply, response);
    }

    /// Whether there is room for `entries`, in Raft's memory and on the disk, and whether those who are to have them
    /// are there. Trims and deletes go on with a full disk.
    fn admit(
        &self,
        entries: &[NewEntry],
        acks: Acks,
        gathered: &Gathered,
        is_disk_full: bool,
    ) -> Result<(), Refusal> {
        let bytes = entries.iter().map(|entry| entry.data.len()).sum();
        let Consensus::Running(group) = &self.consensus else {
            return Err(self.failed());
        };
        if let Acks::Quorum { min_in_sync } = acks
            && min_in_sync > 1
        {
            let in_sync = group.in_sync_count();
            if in_sync < min_in_sync {
                return Err(Refusal::NotEnoughReplicas {
                    needed: min_in_sync,
                    in_sync,
                    appended: false,
                });
            }
        }
        if !group.has_room(gathered.bytes, bytes) {
            return Err(Refusal::Busy { limit: UNCOMMITTED });
        }
        if is_disk_full && entries.iter().any(|entry| entry.kind == EntryKind::Batch) {
            return Err(Refusal::DiskFull);
        }
        Ok(())
    }

    fn gather(&mut self, entries: &[NewEntry], gathered: &mut Gathered) {
        debug_assert!(!entries.is_empty(), "a proposal has at least one entry");
        for entry in entries {
            self.machine.proposed(gathered.next, entry);
            gathered.entries.push(entry::from_proposal(entry));
            gathered.bytes += entry.data.len();
            gathered.next = gathered.next.next();
        }
    }

    /// Proposes what was gathered. It goes into the log first: a disk without room then refuses it before Raft, which
    /// takes nothing back, has heard of it.
    fn propose(
        &mut self,
        gathered: Gathered,
        context: &mut TurnContext<'_>,
    ) -> Result<bool, Error> {
        let Gathered { first, entries, .. } = gathered;
        if entries.is_empty() {
            return Ok(false);
        }
        if !self.write_ahead(first, &entries, context)? {
            self.take_back(first, &Refusal::DiskFull);
            return Ok(false);
        }
        let mut was_dropped = false;
        self.handle(Event::Propose(entries), |_| was_dropped = true)?;
        if was_dropped {
            self.written_ahead = None;
            if let Some(log) = self.log_mut() {
                log.truncate_suffix(&mut context.turn, first)?;
            }
            self.take_back(first, &Refusal::Busy { limit: UNCOMMITTED });
        }
        Ok(!was_dropped)
    }

    /// False when the disk has no room.
    fn write_ahead(
        &mut self,
        first: RaftIndex,
        entries: &[Entry],
        context: &mut TurnContext<'_>,
    ) -> Result<bool, Error> {
        let Consensus::Running(group) = &mut self.consensus else {
            return Ok(false);
        };
        let term = group.term();
        let mut index = first;
        let mut frames = Vec::with_capacity(entries.len());
        for entry in entries {
            let mut frame = entry::to_frame(entry).map_err(|bad| Error::Machine {
                replica: self.id,
                reason: bad.to_string(),
            })?;
            (frame.index, frame.term) = (index, term);
            frames.push(frame);
            index = index.next();
        }
        match group.log_mut().append(&mut context.turn, &frames) {
            Ok(()) => {
                self.written_ahead = Some(index.previous());
                Ok(true)
            }
            Err(StorageError::NoSpace { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn take_back(&mut self, first: RaftIndex, refusal: &Refusal) {
        self.machine.retract(first);
        self.waiters.refuse_from(first, refusal);
    }

    /// A follower that can win an election alone does so; the commands wait. Any other refuses them.
    fn wake_or_refuse(
        &mut self,
        leader: Option<crate::raft::ReplicaId>,
        context: &mut TurnContext<'_>,
    ) -> Result<bool, Error> {
        let Consensus::Running(group) = &self.consensus else {
            return Ok(false);
        };
        let mut ignored = None;
        if group.is_sole_voter() {
            self.handle(Event::Campaign, |why| ignored = Some(why))?;
            if ignored.is_none() {
                return Ok(true);
            }
            // What is unsynced ends some day, and then the election can begin.
            let waits = !self.unsynced.is_empty() || self.unsubmitted.is_some();
            if ignored == Some(Ignored::NotNow) && waits {
                return Ok(false);
            }
        }
        // Somebody needs the leader: if it is gone, this is how a follower that sleeps finds out.
        if let Consensus::Running(group) = &mut self.consensus {
            group.wake();
        }
        self.refuse_queue(&Refusal::NotLeader { leader }, context);
        Ok(false)
    }

    pub(super) fn refuse_queue(&mut self, refusal: &Refusal, context: &mut TurnContext<'_>) {
        for request in self.queue.drain(..) {
            context.released.add(request.bytes);
            request.reply.refuse(refusal.clone());
        }
    }

    pub(super) fn applied_index(&self) -> RaftIndex {
        match &self.consensus {
            Consensus::Running(group) => group.applied().0,
            Consensus::Quarantined { .. } => self.captured.index,
        }
    }
}
