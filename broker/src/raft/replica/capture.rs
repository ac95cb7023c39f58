//! What a checkpoint has to say of a replica.

use highwater_storage::{AppliedState, CapturedLog, Turn};

use super::{Consensus, Replica};
use crate::raft::Error;
use crate::raft::machine::Machine;

impl<M: Machine> Replica<M> {
    /// Captures applied state, members and hard state as of one index. Of a failed replica that is the last captured
    /// state: what a failed machine would say of itself counts for nothing. `None` when its log is gone.
    ///
    /// # Errors
    /// When the members cannot be encoded, which ends the replica.
    pub(in crate::raft) fn capture(
        &mut self,
        turn: &mut Turn,
    ) -> Result<Option<CapturedLog>, Error> {
        let group = match &mut self.consensus {
            Consensus::Running(group) => group,
            Consensus::Quarantined { log, .. } => {
                let captured = log.as_mut().map(|log| log.capture(self.captured.clone()));
                return Ok(captured);
            }
        };
        if self.blocked.is_some() {
            // Raft has handed out entries that wait, with the write before them, for room on the disk: it is ahead of
            // the machine, and what was captured before is the last that belongs to one index.
            return Ok(Some(group.log_mut().capture(self.captured.clone())));
        }
        let (index, term) = group.applied();
        self.captured = AppliedState {
            index,
            term,
            conf_state: group.conf_state()?,
            snapshot: self.machine.snapshot(),
        };
        let is_alone = group.members().is_alone(self.id);
        let catchup_bytes = group.catchup_bytes();
        let log = group.log_mut();
        let mut hard_state = log.hard_state();
        if hard_state.commit < index {
            hard_state.commit = index;
            log.set_hard_state(turn, hard_state);
        }
        if self.machine.snapshot_replaces_log() {
            // Who is a little behind is sent entries, who is further behind the snapshot. A group of one needs neither.
            let kept = if is_alone {
                index.next()
            } else {
                log.tail_start(catchup_bytes).min(index.next())
            };
            log.compact(kept);
        } else {
            group.set_seed_below();
        }
        let log = group.log_mut();
        Ok(Some(log.capture(self.captured.clone())))
    }
}
