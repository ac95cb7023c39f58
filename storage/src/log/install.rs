//! Beginning a log anew after a snapshot.

use super::log::Log;
use super::{AppliedState, HardState};
use crate::checkpoint::LogStart;
use crate::error::{Error, Result};
use crate::journal::{Record, Turn};
use crate::{Offset, RaftIndex, Term};

impl Log {
    /// Replaces all that the log holds by the state of its group at `applied`: the next frame is the one after `applied.index`, its
    /// record the one at `next_offset`, and records below `log_start` are gone. For groups whose snapshot is everything. Durable with
    /// the turn's ticket, together with what else the turn writes; until then a crash leaves the log as it was. The hard state rises
    /// with it. Readers keep the slices that they hold; segments leave through the next checkpoints.
    ///
    /// # Errors
    /// [`Error::Invalid`]: it is not above the commit index, so that it could take something back, or it is larger than a frame may be;
    /// nothing changed. [`Error::Damaged`], [`Error::Poisoned`].
    pub fn install_snapshot(
        &mut self,
        turn: &mut Turn,
        applied: AppliedState,
        next_offset: Offset,
        log_start: Offset,
    ) -> Result<()> {
        self.check_writable()?;
        self.check_snapshot(&applied, next_offset, log_start)?;
        let (index, term) = (applied.index, applied.term);
        turn.add(&Record::SnapshotInstalled {
            log: self.id(),
            applied,
            next_offset,
            log_start,
        });
        self.wrote_journal = true;
        self.begin_after(index, term, next_offset);
        self.log_start = log_start;
        self.raise_hard_state(turn, index, term);
        self.shared.note_change();
        self.show();
        Ok(())
    }

    pub(super) fn check_snapshot(
        &self,
        applied: &AppliedState,
        next_offset: Offset,
        log_start: Offset,
    ) -> Result<()> {
        let refuse = |rule: &str| {
            Err(Error::invalid(format!(
                "cannot install a snapshot at index {} on log {}: {rule}",
                applied.index,
                self.id()
            )))
        };
        if applied.index <= self.hard_state.commit || applied.index.0 == u64::MAX {
            return refuse("it must be above the commit index");
        }
        if log_start < self.log_start || log_start > next_offset {
            return refuse("its log start goes back, or is above its next offset");
        }
        let bytes = applied.conf_state.len() as u64 + applied.snapshot.len() as u64;
        if bytes > self.directory.config.max_payload_bytes {
            return refuse("it is larger than max_payload_bytes");
        }
        Ok(())
    }

    /// Lets go of all frames. Generations go on, so nothing is written where anything was.
    pub(super) fn begin_after(&mut self, index: RaftIndex, term: Term, next_offset: Offset) {
        self.seal_active();
        self.retired.append(&mut self.sealed);
        self.heads.clear();
        self.terms.clear();
        self.start = LogStart {
            index: index.next(),
            offset: next_offset,
            term_before: term,
        };
        (self.next_index, self.next_offset) = (index.next(), next_offset);
    }

    /// What a snapshot holds was committed, in its term or later.
    pub(super) fn raise_hard_state(&mut self, turn: &mut Turn, index: RaftIndex, term: Term) {
        let known = self.hard_state;
        let vote = if term > known.term { 0 } else { known.vote };
        let raised = HardState {
            term: known.term.max(term),
            vote,
            commit: known.commit.max(index),
        };
        self.set_hard_state(turn, raised);
    }
}
