//! How a replica's state is sent to another, and how it takes another's.

use super::{Consensus, Replica, TurnContext};
use crate::raft::effects::Write;
use crate::raft::event::Event;
use crate::raft::machine::Machine;
use crate::raft::{Error, ReplicaId};

impl<M: Machine> Replica<M> {
    /// Sends the applied state to followers that lack entries which are compacted away.
    pub(super) fn send_snapshots(&mut self, followers: Vec<ReplicaId>) -> Result<(), Error> {
        if followers.is_empty() || !self.machine.snapshot_replaces_log() {
            return Ok(());
        }
        let (machine, log_start) = (self.machine.snapshot(), self.machine.log_start());
        for to in followers {
            let machine = machine.clone();
            let event = Event::Snapshot {
                to,
                machine,
                log_start,
            };
            self.handle(event, |_| {})?;
        }
        Ok(())
    }

    /// Begins anew after a snapshot, and takes it out of `write`. The machine goes first: one that does not understand
    /// it leaves the log as it is.
    pub(super) fn install_snapshot(
        &mut self,
        write: &mut Write,
        context: &mut TurnContext<'_>,
    ) -> Result<(), Error> {
        let Some(installable) = write.snapshot.take() else {
            return Ok(());
        };
        let Consensus::Running(group) = &mut self.consensus else {
            return Ok(());
        };
        let applied = installable.applied;
        self.machine
            .restore(&applied.snapshot)
            .map_err(|reason| Error::Machine {
                replica: self.id,
                reason,
            })?;
        let (group_id, index) = (self.group_id.0, applied.index);
        group.log_mut().install_snapshot(
            &mut context.turn,
            applied.clone(),
            installable.next_offset,
            installable.log_start,
        )?;
        tracing::info!(group = group_id, %index, "began anew after a snapshot");
        self.log_start = installable.log_start;
        self.captured = applied;
        self.is_unpublished = true;
        Ok(())
    }
}
