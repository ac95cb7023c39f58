//! What the other threads of a simulated broker do, each at its virtual time: syncs, checkpoints, reads for followers.

use highwater_broker::raft::{ColdRead, ReplicaId};
use highwater_storage::{Error as StorageError, Ticket};

use super::checkpointing::Stepped;
use super::disk::SyncBegun;
use super::plan::NodeId;
use super::process::Syncing;
use super::schedule::MS;
use super::violation::{Check, Checked, broken};
use super::world::{Event, World};

/// A sync that is over sooner than this, in microseconds, is over at once.
const INSTANT: u64 = 200;
/// How long after a sync an idle journal is told so.
const HEARTBEAT: u64 = 5 * MS;
/// How long after a failure for want of room the next attempt is made.
const RETRY: u64 = 100 * MS;
/// Reads for followers in a thousand that get lost.
const COLD_READS_LOST_PER_MILLE: u64 = 20;

impl World {
    pub(super) fn begin_sync(&mut self, id: NodeId) -> Checked {
        let now = self.now();
        let node = &mut self.nodes[id.0];
        let takes = node.sync_time(&self.plan, now);
        let Some(process) = &mut node.process else {
            return Ok(());
        };
        if process.sync.is_some() {
            return Ok(());
        }
        let covers = process.replicas();
        if takes < INSTANT {
            let synced = process.store.sync();
            return self.synced(id, synced, covers);
        }
        match node.disk.begin_sync(&process.store) {
            SyncBegun::Held(flight) => {
                process.sync = Some(Syncing { flight, covers });
                self.schedule.after(takes, Event::EndSync(id, node.life));
                Ok(())
            }
            SyncBegun::Ended(synced) => self.synced(id, synced, covers),
        }
    }

    pub(super) fn end_sync(&mut self, id: NodeId) -> Checked {
        let process = self.nodes[id.0].process.as_mut();
        let Some(Syncing { flight, covers }) = process.and_then(|process| process.sync.take())
        else {
            return Ok(());
        };
        self.synced(id, flight.end(), covers)
    }

    fn synced(
        &mut self,
        id: NodeId,
        synced: Result<Ticket, StorageError>,
        covers: Vec<ReplicaId>,
    ) -> Checked {
        match synced {
            Ok(ticket) => {
                self.plan_turn(id);
                self.note(format_args!("{id} synced {}", ticket.0));
                let node = &mut self.nodes[id.0];
                node.logs_synced(covers);
                let life = node.life;
                let Some(process) = &mut node.process else {
                    return Ok(());
                };
                process.syncs += 1;
                let (syncs, goes_on) = (process.syncs, process.store.has_unsynced());
                self.schedule
                    .after(HEARTBEAT, Event::Heartbeat(id, life, syncs));
                if goes_on {
                    self.schedule.after(0, Event::BeginSync(id, life));
                }
                Ok(())
            }
            Err(StorageError::NoSpace { reason }) => {
                self.note(format_args!("{id} cannot sync yet: {reason}"));
                let life = self.nodes[id.0].life;
                self.schedule.after(RETRY, Event::BeginSync(id, life));
                Ok(())
            }
            Err(error) => self.directory_failed(id, &error.to_string()),
        }
    }

    fn directory_failed(&mut self, id: NodeId, reason: &str) -> Checked {
        self.note(format_args!("{id} failed: {reason}"));
        let node = &mut self.nodes[id.0];
        if !node.is_excused {
            let detail = format!("the directory of {id} failed: {reason}");
            return broken(Check::HealthyReplicasGoOn, detail);
        }
        if let Some(process) = &mut node.process {
            process.shard.fail(&reason.into());
        }
        self.plan_turn(id);
        Ok(())
    }

    pub(super) fn heartbeat(&mut self, id: NodeId, syncs: u64) -> Checked {
        let Some(process) = &self.nodes[id.0].process else {
            return Ok(());
        };
        let is_idle = process.syncs == syncs && process.sync.is_none();
        if !is_idle || !process.store.needs_heartbeat() {
            return Ok(());
        }
        match process.store.heartbeat_journal() {
            // The next sync says what it would have said.
            Ok(()) | Err(StorageError::NoSpace { .. }) => {
                self.plan_turn(id);
                Ok(())
            }
            Err(error) => self.directory_failed(id, &error.to_string()),
        }
    }

    pub(super) fn plan_checkpoint(&mut self, id: NodeId) {
        let node = &mut self.nodes[id.0];
        if let Some(process) = &mut node.process
            && !std::mem::replace(&mut process.is_checkpoint_planned, true)
        {
            let soon = self.jitter.within(100..=5 * MS);
            self.schedule.after(soon, Event::Checkpoint(id, node.life));
        }
    }

    pub(super) fn step_checkpoint(&mut self, id: NodeId) -> Checked {
        let Some(process) = &mut self.nodes[id.0].process else {
            return Ok(());
        };
        process.is_checkpoint_planned = false;
        if process.sync.is_some() {
            self.plan_checkpoint(id);
            return Ok(());
        }
        let stepped = process.step_checkpoint();
        match stepped {
            Stepped::On => self.plan_checkpoint(id),
            Stepped::NeedsTurn => {
                self.plan_turn(id);
                self.plan_checkpoint(id);
            }
            Stepped::Done => {
                self.note(format_args!("{id} made a checkpoint"));
                self.plan_turn(id);
            }
            Stepped::Nothing => self.plan_turn(id),
            Stepped::GivenUp(error) => {
                self.note(format_args!("{id} gave a checkpoint up: {error}"));
                let is_planned = self.nodes[id.0].process.as_mut();
                let is_planned = is_planned.map(|process| &mut process.is_checkpoint_planned);
                is_planned.into_iter().for_each(|planned| *planned = true);
                let life = self.nodes[id.0].life;
                self.schedule.after(RETRY, Event::Checkpoint(id, life));
                self.plan_turn(id);
            }
            Stepped::Failed(reason) => return self.directory_failed(id, &reason),
        }
        Ok(())
    }

    /// Reads for followers take their time, and a reader that has too much to do loses some.
    pub(super) fn begin_cold_read(&mut self, id: NodeId, read: ColdRead) {
        let is_lost = self.jitter.per_mille(COLD_READS_LOST_PER_MILLE);
        let takes = self.jitter.within(20..=10 * MS);
        if !is_lost || self.calm_since.is_some() {
            let event = Event::ColdRead(id, self.nodes[id.0].life, Box::new(read));
            self.schedule.after(takes, event);
        }
    }

    pub(super) fn finish_cold_read(&mut self, id: NodeId, read: ColdRead) {
        if let Some(process) = &mut self.nodes[id.0].process {
            process.operate(read.run());
            self.plan_turn(id);
        }
    }
}
