//! How a replica's state is sent to another, and how it takes another's.

use highwater_storage::Offset;

use super::{Replica, TurnContext};
use crate::raft::effects::Write;
use crate::raft::event::Event;
use crate::raft::machine::Machine;
use crate::raft::snapshot::Installable;
use crate::raft::{Error, ReplicaId};

impl<M: Machine> Replica<M> {
    /// Sends the applied state to followers that need it in place of entries.
    pub(super) fn send_snapshots(&mut self, followers: Vec<ReplicaId>) -> Result<(), Error> {
        if followers.is_empty() {
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
        self.machine
            .restore(&installable.applied.snapshot)
            .map_err(|reason| Error::Machine {
                replica: self.id,
                reason,
            })?;
        let log_start = if self.machine.snapshot_replaces_log() {
            self.install_alone(&installable, context)?
        } else {
            self.install_seeded(&installable, context)?
        };
        let (group, index) = (self.group_id.0, installable.applied.index);
        tracing::info!(group, %index, "began anew after a snapshot");
        self.log_start = self.log_start.max(log_start);
        self.captured = installable.applied;
        self.is_unpublished = true;
        Ok(())
    }

    fn install_alone(
        &mut self,
        installable: &Installable,
        context: &mut TurnContext<'_>,
    ) -> Result<Offset, Error> {
        if let Some(log) = self.log_mut() {
            log.install_snapshot(
                &mut context.turn,
                installable.applied.clone(),
                installable.next_offset,
                installable.log_start,
            )?;
        }
        Ok(installable.log_start)
    }
}
