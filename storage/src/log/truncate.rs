//! Cutting a log's suffix off.

use super::log::Log;
use crate::error::{Error, Result};
use crate::journal::{Record, Turn};
use crate::{Offset, RaftIndex};

impl Log {
    /// Removes the frames from `first_removed` on. The segment is closed: what follows goes to another place. Nothing happens above the
    /// last index. Reads the disk where the frames before are not in memory.
    ///
    /// # Errors
    /// [`Error::Invalid`] at or below the commit index or below the first index; [`Error::Poisoned`].
    pub fn truncate_suffix(&mut self, turn: &mut Turn, first_removed: RaftIndex) -> Result<()> {
        self.check_writable()?;
        if first_removed >= self.next_index {
            return Ok(());
        }
        if first_removed <= self.hard_state.commit || first_removed < self.start.index {
            return Err(Error::invalid(format!(
                "cannot remove index {first_removed} of log {}: it is committed or gone (first {}, commit {})",
                self.id(),
                self.start.index,
                self.hard_state.commit
            )));
        }
        self.seal_active();
        self.next_offset = self
            .cut(first_removed)
            .map_err(|error| self.shared.poison(&error))?;
        self.next_index = first_removed;
        self.terms.retain(|(index, _)| *index < first_removed);
        // A generation of its own, so that nothing goes where the removed frames were.
        let next = self.next_generation;
        self.next_generation = next.next();
        turn.add(&Record::Truncated {
            log: self.id(),
            next,
            first_removed,
        });
        self.wrote_journal = true;
        self.shared.note_change();
        self.show();
        Ok(())
    }

    /// Takes the frames from `first_removed` on out of all segments, and says which offset comes next then.
    fn cut(&mut self, first_removed: RaftIndex) -> Result<Offset> {
        let mut next_offset = self.next_offset;
        while let Some(head) = self.heads.last_mut() {
            next_offset = head.spec().base_offset;
            if head.spec().first_index < first_removed {
                head.truncate(first_removed);
                return Ok(next_offset);
            }
            self.heads.pop();
        }
        while let Some(last) = self.sealed.last_mut() {
            if last.segment.spec().first_index < first_removed {
                if last.segment.end().next_index > first_removed {
                    last.segment
                        .truncate(first_removed)
                        .map_err(|error| self.shared.read_error(error))?;
                }
                return Ok(last.segment.end().next_offset);
            }
            next_offset = last.segment.spec().base_offset;
            self.retired.extend(self.sealed.pop());
        }
        Ok(next_offset)
    }
}
