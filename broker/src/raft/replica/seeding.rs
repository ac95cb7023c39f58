//! How a replica whose log is the data takes an offer, and how it serves another that does.

use std::sync::{Arc, Weak};

use highwater_storage::{Offset, RaftIndex, Staged, StagedFrom, Staging};
use raft::eraftpb::Message;

use super::{Consensus, Replica, TurnContext};
use crate::raft::event::Event;
use crate::raft::machine::{Machine, Role};
use crate::raft::seeding::{Board, Pull, Pulled, SeedingProgress, Source, SourceRefusal};
use crate::raft::snapshot::{self, Installable};
use crate::raft::{Error, ReplicaId};

/// An offer, and the frames that have to come before it.
pub(super) struct Seeding {
    offer: Box<Message>,
    upto: RaftIndex,
    /// Dead when the pull was lost.
    board: Weak<Board>,
    /// The frames, once they are all there.
    staged: Option<Staged>,
}

impl Seeding {
    fn is_alive(&self) -> bool {
        self.staged.is_some() || self.board.strong_count() > 0
    }
}

impl Drop for Seeding {
    fn drop(&mut self) {
        if let Some(board) = self.board.upgrade() {
            board.end();
        }
    }
}

impl<M: Machine> Replica<M> {
    /// Has pulled what an offer needs. One offer is as good as a later one: what is under way goes on.
    pub(super) fn take_offer(
        &mut self,
        offer: Box<Message>,
        context: &mut TurnContext<'_>,
    ) -> Result<(), Error> {
        if self.seeding.as_ref().is_some_and(Seeding::is_alive) {
            return Ok(());
        }
        let Installable {
            applied,
            next_offset,
            ..
        } = snapshot::open(offer.get_snapshot())?;
        let board = Arc::new(Board::default());
        tracing::info!(group = self.group_id.0, replica = self.id.0, index = %applied.index, "is seeded");
        self.seeding = Some(Seeding {
            offer,
            upto: applied.index,
            board: Arc::downgrade(&board),
            staged: None,
        });
        context.pulls.push(Pull {
            group: self.group_id,
            replica: self.id,
            upto: applied.index,
            term: applied.term,
            next_offset,
            board,
        });
        self.watch_seeding();
        Ok(())
    }

    /// Tells whoever pulls where to pull from, or that nothing is needed any more.
    pub(super) fn watch_seeding(&mut self) {
        let Some(seeding) = &self.seeding else {
            return;
        };
        let is_needed = match &self.consensus {
            Consensus::Running(group) => group.commit() < seeding.upto || group.is_restoring(),
            Consensus::Quarantined { .. } => false,
        };
        if !is_needed || !seeding.is_alive() {
            self.seeding = None;
        } else if let Some(board) = seeding.board.upgrade() {
            board.set_source(self.leader());
        }
    }

    /// Begins to take over frames from where another log begins.
    ///
    /// # Errors
    /// [`Error::NotSeeded`] when nothing is wanted; what storage says.
    pub(in crate::raft) fn stage(
        &mut self,
        replica: ReplicaId,
        from: StagedFrom,
    ) -> Result<Staging, Error> {
        let is_wanted = self.id == replica && self.seeding.is_some();
        match &mut self.consensus {
            Consensus::Running(group) if is_wanted => Ok(group.log_mut().stage(from)?),
            _ => Err(Error::NotSeeded { replica }),
        }
    }

    /// The frames that an offer needs are there, and durable.
    pub(in crate::raft) fn pulled(&mut self, pulled: Pulled) -> Result<(), Error> {
        let Pulled { pull, staged } = pulled;
        let board = Arc::downgrade(&pull.board);
        match &mut self.seeding {
            Some(seeding) if seeding.board.ptr_eq(&board) => seeding.staged = Some(staged),
            _ => tracing::debug!(group = self.group_id.0, "frames came that nobody waits for"),
        }
        self.take_seeded()
    }

    /// Gives Raft an offer whose frames are there, once it knows a leader who can say it.
    pub(super) fn take_seeded(&mut self) -> Result<(), Error> {
        let has_leader = self.leader().is_some();
        let ready = self.seeding.as_mut();
        let ready = ready.filter(|seeding| has_leader && seeding.staged.is_some());
        let Some(seeding) = ready else {
            return Ok(());
        };
        let offer = std::mem::take(&mut seeding.offer);
        self.handle(Event::Seeded(offer), |_| {})?;
        let Consensus::Running(group) = &self.consensus else {
            return Ok(());
        };
        if !group.is_restoring() {
            tracing::info!(
                group = self.group_id.0,
                replica = self.id.0,
                "needs no seeding any more"
            );
            self.seeding = None;
        }
        Ok(())
    }

    /// Puts the frames in the place of the log, with the state after them. Both are durable with the turn, or neither.
    pub(super) fn install_seeded(
        &mut self,
        installable: &Installable,
        context: &mut TurnContext<'_>,
    ) -> Result<Offset, Error> {
        let staged = self
            .seeding
            .as_mut()
            .and_then(|seeding| seeding.staged.take());
        self.seeding = None;
        let (Some(staged), Consensus::Running(group)) = (staged, &mut self.consensus) else {
            return Err(Error::Machine {
                replica: self.id,
                reason: "a snapshot came without the entries before it".to_owned(),
            });
        };
        // Records may have been trimmed since the snapshot was made: the entry that says so comes after it.
        let log_start = installable.log_start.max(staged.begins().offset);
        let applied = installable.applied.clone();
        let log = group.log_mut();
        log.install_staged(&mut context.turn, staged, applied, log_start)?;
        Ok(log_start)
    }

    /// What it holds up to `upto`, for another replica of its group.
    pub(in crate::raft) fn source(
        &self,
        replica: ReplicaId,
        to: ReplicaId,
        upto: RaftIndex,
    ) -> Result<Source, SourceRefusal> {
        let Consensus::Running(group) = &self.consensus else {
            return Err(SourceRefusal::NotHere);
        };
        if self.id != replica {
            return Err(SourceRefusal::NotHere);
        }
        if group.applied().0 < upto {
            return Err(SourceRefusal::NotYet);
        }
        if !group.members().all().any(|member| member == to) {
            return Err(SourceRefusal::NoMember);
        }
        let log = group.log();
        let begins = log.begins();
        if begins.index > upto.next() {
            return Err(SourceRefusal::Past);
        }
        Ok(Source {
            reader: log.reader(),
            begins,
            upto,
            total_bytes: log.bytes(),
            unfiled: log.frames_without_file(),
        })
    }

    /// A follower gets what it needs for the snapshot that it was sent.
    pub(in crate::raft) fn seeding_goes_on(
        &mut self,
        to: ReplicaId,
        progress: SeedingProgress,
    ) -> Result<(), Error> {
        self.handle(Event::SeedingProgress(to, progress), |_| {})
    }

    /// A follower needs a later snapshot.
    pub(in crate::raft) fn seeding_failed(&mut self, to: ReplicaId) -> Result<(), Error> {
        if matches!(self.role, Role::Leader { .. }) {
            self.handle(Event::SeedingFailed(to), |_| {})?;
        }
        Ok(())
    }

    /// How far this replica's own seeding is.
    pub(super) fn seeding_progress(&self) -> Option<SeedingProgress> {
        let seeding = self.seeding.as_ref().filter(|seeding| seeding.is_alive())?;
        let board = seeding.board.upgrade();
        Some(board.map_or_else(SeedingProgress::default, |board| board.progress()))
    }
}
