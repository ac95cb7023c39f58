//! The end of a run: the trouble stops, everything starts anew, and what is left is looked at.

use highwater_broker::partition::Standing;
use highwater_broker::raft::{GroupId, ReplicaStatus};
use highwater_storage::fs::CrashMode;
use highwater_storage::{LogReader, Offset};

use super::durable;
use super::ledger::{BatchNumber, Seen};
use super::node::Placed;
use super::plan::NodeId;
use super::schedule::{MS, SECOND};
use super::violation::{Check, Checked, broken};
use super::world::{Event, World};

/// How often it is looked whether all is well again, in microseconds.
const LOOK: u64 = 250 * MS;
/// How long it may take until all is well again, in microseconds.
const PATIENCE: u64 = 60 * SECOND;

impl World {
    /// Heals the network and the disks and starts every broker anew: after an orderly crash, or after the power went.
    pub(super) fn end_trouble(&mut self) -> Checked {
        self.calm_since = Some(self.now());
        self.note(format_args!("the trouble is over"));
        self.network.heal();
        let mode = *self.fate.pick(&[
            None,
            Some(CrashMode::Process),
            Some(CrashMode::PowerDropped),
        ]);
        for at in 0..self.plan.nodes {
            let id = NodeId(at);
            let node = &mut self.nodes[at];
            (node.paused_until, node.slow_until) = (self.schedule.now(), self.schedule.now());
            node.disk.clear_faults();
            node.disk.end_shortage();
            // A process that met a failing disk does not recover by itself.
            let mode = mode.or(node.is_excused.then_some(CrashMode::Process));
            if let Some(mode) = mode.filter(|_| node.process.is_some()) {
                self.crash(id, mode);
            }
            self.nodes[at].is_excused = false;
            self.nodes[at].is_full = false;
            self.restart(id)?;
        }
        for producer in 0..self.producers.len() {
            self.make_batch(producer);
            self.send_batches(producer);
        }
        self.schedule.after(LOOK, Event::Judge);
        Ok(())
    }

    /// Looks whether all is well again, and then at everything.
    pub(super) fn judge(&mut self) -> Checked {
        match self.what_is_missing() {
            None => {
                self.is_done = true;
                self.note(format_args!("all is well again"));
                self.drain()
            }
            Some(missing) => {
                let since = self.calm_since.unwrap_or_default();
                if self.now() > since.plus(PATIENCE) {
                    return self.not_live(missing);
                }
                self.note(format_args!("not yet: {missing}"));
                self.nudge();
                self.schedule.after(LOOK, Event::Judge);
                Ok(())
            }
        }
    }

    /// Producers that send a batch once send another: a cold group of one voter wakes up only for somebody.
    fn nudge(&mut self) {
        for number in 0..self.producers.len() {
            let producer = &self.producers[number];
            if !producer.is_idempotent() && producer.pending.is_empty() {
                self.make_batch(number);
                self.send_batches(number);
            }
        }
    }

    /// What has not come back yet.
    fn what_is_missing(&self) -> Option<String> {
        for producer in &self.producers {
            if let Some(pending) = producer.pending.front() {
                return Some(format!(
                    "batch {} of group {} is not acknowledged",
                    pending.number.0, producer.group.0
                ));
            }
        }
        if let Some(moving) = self.moves.first() {
            return Some(format!("a replica of group {} still moves", moving.group.0));
        }
        let groups = self.plan.groups.iter().map(|plan| plan.group);
        let missing = groups.into_iter().find_map(|group| self.missing_in(group));
        missing.or_else(|| self.find_damage())
    }

    fn missing_in(&self, group: GroupId) -> Option<String> {
        let mut statuses = Vec::new();
        let mut leads = false;
        let is_in = |placed: &&Placed| placed.group == group && !placed.is_removed;
        for placed in self.placed.iter().filter(is_in) {
            let process = self.nodes[placed.node.0].process.as_ref();
            let hosted = process.and_then(|process| process.hosted().get(&group));
            let status = process.and_then(|process| process.shard.status(group));
            let (Some(hosted), Some(status)) = (hosted, status) else {
                return Some(format!("replica {} does not run", placed.replica.0));
            };
            if status.failure.is_some() {
                return Some(format!("replica {} is quarantined", placed.replica.0));
            }
            leads |= matches!(hosted.shared.standing(), Standing::Serving { .. });
            statuses.push(status);
        }
        if !leads {
            return Some(format!("group {} has no leader: {statuses:?}", group.0));
        }
        let place = |status: &ReplicaStatus| (status.last, status.commit, status.applied);
        let first = place(&statuses[0]);
        let is_settled = first.0 == first.1 && first.1 == first.2;
        if !is_settled || statuses.iter().any(|status| place(status) != first) {
            return Some(format!(
                "the replicas of group {} differ: {statuses:?}",
                group.0
            ));
        }
        None
    }

    /// Reads every replica from end to end.
    fn drain(&mut self) -> Checked {
        for placed in self.placed.clone() {
            if placed.is_removed {
                continue;
            }
            let process = self.nodes[placed.node.0].process.as_ref();
            let hosted = process.and_then(|process| process.hosted().get(&placed.group));
            let Some(hosted) = hosted.cloned() else {
                continue;
            };
            let marks = (hosted.shared.log_start(), hosted.shared.high_watermark());
            let found = self.drain_one(placed.group, &hosted.reader, marks)?;
            self.ledger
                .check_nothing_lost(placed.group, marks.0.0, &found)?;
            self.ledger.check_producers(placed.group, &found)?;
            self.note(format_args!(
                "replica {} holds {} batches from {} to {}",
                placed.replica.0,
                found.len(),
                marks.0,
                marks.1
            ));
        }
        Ok(())
    }

    /// The batches from the log start to the high watermark; they follow one another without a gap.
    fn drain_one(
        &mut self,
        group: GroupId,
        reader: &LogReader,
        (start, high): (Offset, Offset),
    ) -> Checked<Vec<(u64, BatchNumber)>> {
        let mut found = Vec::new();
        let mut next = start;
        while next < high {
            let read = match reader.read(next, high, durable::READ_BYTES) {
                Ok(read) => read,
                Err(error) => {
                    let detail = format!("group {} cannot be read at {next}: {error}", group.0);
                    return broken(Check::NoAckedLoss, detail);
                }
            };
            let before = next;
            for frame in &read.frames {
                // The first batch may begin below the log start.
                if frame.base_offset > next || frame.base_offset < next && next > start {
                    let detail = format!("group {} has a gap at {next}", group.0);
                    return broken(Check::ReplicasAgree, detail);
                }
                next = frame.next_offset();
                let number = self.ledger.found(group, frame, Seen::Drained)?;
                found.push((frame.base_offset.0, number));
            }
            if next == before {
                let detail = format!("group {} ends at {next}, below {high}", group.0);
                return broken(Check::NoAckedLoss, detail);
            }
        }
        Ok(found)
    }
}
