//! What a checkpoint has to say of a replica.

use highwater_storage::{AppliedState, CapturedLog, Turn};

use super::{Consensus, Replica};
use crate::raft::Error;
use crate::raft::machine::Machine;

/// Whether a replica has to be captured again.
pub(super) struct Mark {
    /// Whether anything of its log changed since the last capture.
    pub(super) is_changed: bool,
    /// Its applied state as of the last capture. What a failed machine would say of itself counts for nothing.
    pub(super) applied: AppliedState,
}

impl<M: Machine> Replica<M> {
    /// Captures applied state, members and hard state as of one index, if anything changed.
    ///
    /// # Errors
    /// When the members cannot be encoded, which ends the replica.
    pub(in crate::raft) fn capture(
        &mut self,
        turn: &mut Turn,
    ) -> Result<Option<CapturedLog>, Error> {
        if !self.mark.is_changed {
            return Ok(None);
        }
        let captured = match &mut self.consensus {
            Consensus::Running(group) => {
                let (index, term) = group.applied();
                let applied = AppliedState {
                    index,
                    term,
                    conf_state: group.conf_state()?,
                    snapshot: self.machine.snapshot(),
                };
                // Without snapshots for followers, only a group of one can do without the entries.
                let may_compact = !group.wants_ticks() && self.machine.snapshot_replaces_log();
                let log = group.log_mut();
                let mut hard_state = log.hard_state();
                if hard_state.commit < index {
                    hard_state.commit = index;
                    log.set_hard_state(turn, hard_state);
                }
                if may_compact {
                    log.compact(index.next());
                }
                self.mark.applied = applied.clone();
                Some(log.capture(applied))
            }
            // A log that failed is left as the last checkpoint says it is.
            Consensus::Quarantined {
                log, is_log_sound, ..
            } => log
                .as_mut()
                .filter(|_| *is_log_sound)
                .map(|log| log.capture(self.mark.applied.clone())),
        };
        self.mark.is_changed = false;
        Ok(captured)
    }

    /// Something of its log changed: the next checkpoint has to capture it.
    pub(in crate::raft) fn changed(&mut self) {
        self.mark.is_changed = true;
    }

    /// Closes the active segment.
    pub(in crate::raft) fn roll(&mut self) {
        self.changed();
        if let Some(log) = self.log_mut() {
            log.roll();
        }
    }
}
