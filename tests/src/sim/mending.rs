//! Replicas that are mended: what a broker's mending and the controller do about damage, at their virtual times.
//!
//! A replica that is quarantined for damage, or in whose log a reader met some, gets another one in its place once a majority without
//! it keeps up with a leader. The change is a move like any other, except that the new one mostly comes to the same broker.

use highwater_broker::partition::Standing;
use highwater_broker::raft::{Ailment, Failure, GroupId, Operation, ReplicaId};
use highwater_storage::{Frame, LogId, Offset};

use super::durable;
use super::node::Placed;
use super::plan::{NodeId, Peril};
use super::schedule::SECOND;
use super::world::{Event, World};

/// How often brokers look, in microseconds.
const INTERVAL: u64 = SECOND;

/// Whether another replica helps one that failed so.
pub(super) fn is_of_damage(failure: &Failure) -> bool {
    // A replica is stopped as one whose log failed where a reader met the damage.
    matches!(failure.ailment, Ailment::Damaged | Ailment::LogFailed)
}

impl World {
    /// Lets brokers look after damage from now on, in runs that have some.
    pub(super) fn begin_mending(&mut self) {
        if self.plan.perils.contains(&Peril::Damage) {
            self.schedule.after(INTERVAL, Event::MendReplicas);
        }
    }

    /// Every broker looks after its replicas.
    pub(super) fn mend_replicas(&mut self) {
        self.schedule.after(INTERVAL, Event::MendReplicas);
        for at in 0..self.plan.nodes {
            let id = NodeId(at);
            if !self.is_paused(id) {
                self.stop_damaged(id);
                self.rebuild_damaged(id);
            }
        }
    }

    /// Ends the part of replicas in whose logs a reader met damage, where others go on.
    fn stop_damaged(&mut self, id: NodeId) {
        let Some(process) = &mut self.nodes[id.0].process else {
            return;
        };
        let met = process.store.health().damaged_logs;
        let mut stopped = Vec::new();
        for (group, hosted) in process.hosted() {
            let is_running = hosted.shared.standing() != Standing::Quarantined;
            let is_met = |(log, _): &&(LogId, _)| *log == LogId(hosted.replica.0);
            let reason = met.iter().find(is_met).filter(|_| is_running);
            stopped.extend(reason.map(|(_, reason)| (*group, hosted.replica, reason)));
        }
        let mut operations = Vec::new();
        for (group, replica, reason) in stopped {
            if self.voters_of(group) > 1 {
                let reason = format!("a reader met damage: {reason}");
                operations.push(Operation::Fail { replica, reason });
            }
        }
        if let Some(process) = &mut self.nodes[id.0].process
            && !operations.is_empty()
        {
            operations
                .into_iter()
                .for_each(|operation| process.operate(operation));
            self.plan_turn(id);
        }
    }

    /// Has replicas replaced that are quarantined for damage, or whose logs are gone.
    fn rebuild_damaged(&mut self, id: NodeId) {
        let Some(process) = &self.nodes[id.0].process else {
            return;
        };
        let is_patient = |placed: &&Placed| match process.hosted().get(&placed.group) {
            Some(hosted) => {
                let status = process.shard.status(placed.group);
                let failure = status.and_then(|status| status.failure);
                hosted.replica == placed.replica && failure.as_ref().is_some_and(is_of_damage)
            }
            None => !placed.is_removed && !placed.is_aside,
        };
        let here = self.placed.iter().filter(|placed| placed.node == id);
        let damaged = here.filter(|placed| self.damaged.contains(&placed.replica));
        for patient in damaged.filter(is_patient).cloned().collect::<Vec<_>>() {
            if self.can_rebuild(&patient) {
                let node = self.place_for(&patient);
                self.replace(&patient, node);
            }
        }
    }

    /// Whether its group is not being changed, and goes on with a majority without it.
    fn can_rebuild(&self, patient: &Placed) -> bool {
        let group = patient.group;
        let is_moving = self.moves.iter().any(|moving| moving.group == group);
        let others = self.keep_up_elsewhere(group, patient.replica);
        !is_moving && others.is_some_and(|others| others * 2 > self.voters_of(group))
    }

    /// The voters but for `patient` that keep up with the leader, itself included; `None` without one.
    fn keep_up_elsewhere(&self, group: GroupId, patient: ReplicaId) -> Option<usize> {
        let (leader, _) = self.leader_of(group)?;
        let process = self.nodes[leader.0].process.as_ref()?;
        let followers = process.shard.status(group)?.followers;
        let others = followers.iter().filter(|follower| {
            follower.is_in_sync && !follower.is_learner && follower.replica != patient
        });
        Some(1 + others.count())
    }

    /// Where a new one goes: mostly to where the old one is.
    fn place_for(&mut self, patient: &Placed) -> NodeId {
        let is_free = |node: &NodeId| {
            let mut of_group = self
                .placed
                .iter()
                .filter(|placed| placed.group == patient.group);
            of_group.all(|placed| placed.node != *node)
        };
        let free: Vec<_> = (0..self.plan.nodes).map(NodeId).filter(is_free).collect();
        if free.is_empty() || self.rot.percent(70) {
            patient.node
        } else {
            *self.rot.pick(&free)
        }
    }

    /// Reads what damaged replicas hold, so that damage is met that nobody met before. Answers which one is to be mended.
    pub(super) fn find_damage(&self) -> Option<String> {
        let mut placed = self.placed.iter().filter(|placed| !placed.is_removed);
        placed.find_map(|placed| {
            let process = self.nodes[placed.node.0].process.as_ref()?;
            let hosted = process.hosted().get(&placed.group)?;
            if !self.damaged.contains(&hosted.replica) {
                return None;
            }
            let (mut next, high) = (hosted.shared.log_start(), hosted.shared.high_watermark());
            while next < high {
                match hosted.reader.read(next, high, durable::READ_BYTES) {
                    Ok(read) => next = after(&read.frames, high),
                    Err(error) => return Some(format!("{error}")),
                }
            }
            None
        })
    }
}

/// The offset behind some frames; that of the end, where there are none.
fn after(frames: &[Frame], end: Offset) -> Offset {
    frames.last().map_or(end, Frame::next_offset)
}
