//! Replicas that move: a new one, under a new id, joins as a learner and is seeded; when it is there, one joint change makes it a voter and
//! takes an old one out; what is out is deleted.

use highwater_broker::partition::Standing;
use highwater_broker::raft::{GroupId, MemberChange, Members, Operation, ReplicaId};
use tokio::sync::oneshot;

use super::node::Placed;
use super::plan::NodeId;
use super::schedule::MS;
use super::world::{Event, World};

/// How often it is looked how far a move is, in microseconds.
const LOOK: u64 = 300 * MS;
/// New replicas of a group have ids from here on, above the group's hundred.
const FIRST_NEW: u64 = 10;

/// A replica that is to take the place of another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Move {
    pub(super) group: GroupId,
    pub(super) new: ReplicaId,
    pub(super) old: ReplicaId,
}

/// How far a move is.
#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Unknown,
    Change(Vec<MemberChange>),
    Over,
}

impl World {
    /// Begins to move a replica of some group to a broker that has none of it, where there is one.
    pub(super) fn begin_move(&mut self) {
        let old = self.fate.pick(&self.placed).clone();
        let is_of_group = |placed: &&Placed| placed.group == old.group;
        let holders: Vec<_> = self.placed.iter().filter(is_of_group).collect();
        let is_moving = self.moves.iter().any(|other| other.group == old.group)
            || holders.iter().any(|placed| placed.is_removed);
        let free = (0..self.plan.nodes).map(NodeId);
        let free: Vec<_> = free
            .filter(|node| holders.iter().all(|placed| placed.node != *node))
            .collect();
        if is_moving || free.is_empty() {
            return;
        }
        let node = *self.fate.pick(&free);
        self.replace(&old, node);
    }

    /// Lets a new replica take the place of another: on a broker that has none of the group, or on the same one, where the old one
    /// is laid aside.
    pub(super) fn replace(&mut self, old: &Placed, node: NodeId) {
        self.moved += 1;
        let new = Placed {
            replica: ReplicaId(old.group.0 * 100 + FIRST_NEW + self.moved),
            node,
            // Who the members were when the group began, nobody remembers.
            first_members: Members::default(),
            ..old.clone()
        };
        self.note(format_args!(
            "replica {} on {} is to take the place of {}",
            new.replica.0, new.node, old.replica.0
        ));
        let is_here = node == old.node;
        for placed in &mut self.placed {
            placed.is_aside |= is_here && placed.replica == old.replica;
        }
        if let Some(process) = &mut self.nodes[node.0].process {
            if is_here {
                process.lay_aside(old);
            }
            process.start_replica(&new, None);
            self.plan_turn(node);
        }
        if self.moves.is_empty() {
            self.schedule.after(LOOK, Event::Move);
        }
        self.moves.push(Move {
            group: old.group,
            new: new.replica,
            old: old.replica,
        });
        self.placed.push(new);
    }

    /// Takes each move one step further.
    pub(super) fn step_moves(&mut self) {
        for moving in self.moves.clone() {
            let Some((leader, members)) = self.leader_of(moving.group) else {
                self.wake_if_cold(&moving);
                continue;
            };
            match stage(&moving, &members) {
                Stage::Unknown => {}
                Stage::Change(changes) => {
                    // What came of it is seen by looking at the members.
                    let (answer, _) = oneshot::channel();
                    let group = moving.group;
                    if let Some(process) = &mut self.nodes[leader.0].process {
                        process.operate(Operation::ChangeMembers {
                            group,
                            term: None,
                            changes,
                            answer,
                        });
                        self.plan_turn(leader);
                    }
                }
                Stage::Over => self.end_move(moving),
            }
        }
        if !self.moves.is_empty() {
            self.schedule.after(LOOK, Event::Move);
        }
    }

    /// Has a group be led whose only voter waits for somebody to ask, as brokers do with what moves.
    fn wake_if_cold(&mut self, moving: &Move) {
        let group = moving.group;
        for replica in [moving.old, moving.new] {
            let Some(node) = self.node_of(replica) else {
                continue;
            };
            if let Some(process) = &mut self.nodes[node.0].process {
                process.operate(Operation::CampaignIfCold { group });
                self.plan_turn(node);
            }
        }
    }

    fn end_move(&mut self, moving: Move) {
        self.note(format_args!(
            "replica {} took the place of {}",
            moving.new.0, moving.old.0
        ));
        self.moves.retain(|other| other.group != moving.group);
        for placed in &mut self.placed {
            if placed.replica == moving.old {
                placed.is_removed = true;
                if let Some(process) = &mut self.nodes[placed.node.0].process {
                    process.delete_replica(placed);
                }
            }
        }
        if let Some(node) = self.node_of(moving.old) {
            self.plan_turn(node);
        }
    }

    /// The broker that serves a group in the newest term, and the members as it has applied them.
    pub(super) fn leader_of(&self, group: GroupId) -> Option<(NodeId, Members)> {
        let serving = self.nodes.iter().filter_map(|node| {
            let process = node.process.as_ref()?;
            match process.hosted().get(&group)?.shared.standing() {
                Standing::Serving { term } => Some((term, node.id)),
                _ => None,
            }
        });
        let (_, leader) = serving.max_by_key(|(term, _)| *term)?;
        let process = self.nodes[leader.0].process.as_ref()?;
        Some((leader, process.shard.status(group)?.members))
    }
}

fn stage(moving: &Move, members: &Members) -> Stage {
    let is_in = |list: &[ReplicaId], replica| list.contains(&replica);
    if !members.outgoing.is_empty() {
        Stage::Unknown
    } else if is_in(&members.learners, moving.new) {
        Stage::Change(vec![
            MemberChange::AddVoter(moving.new),
            MemberChange::Remove(moving.old),
        ])
    } else if !is_in(&members.voters, moving.new) {
        Stage::Change(vec![MemberChange::AddLearner(moving.new)])
    } else if is_in(&members.voters, moving.old) {
        Stage::Unknown
    } else {
        Stage::Over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_goes_through_a_learner_and_a_joint_change() {
        let moving = Move {
            group: GroupId(1),
            new: ReplicaId(9),
            old: ReplicaId(2),
        };
        let mut members = Members::of_voters([1, 2, 3].map(ReplicaId));
        let learn = vec![MemberChange::AddLearner(ReplicaId(9))];
        assert_eq!(stage(&moving, &members), Stage::Change(learn));
        members.learners = vec![ReplicaId(9)];
        let Stage::Change(joint) = stage(&moving, &members) else {
            panic!("a learner is to be promoted");
        };
        assert_eq!(joint.len(), 2);
        members.outgoing = members.voters.clone();
        assert_eq!(stage(&moving, &members), Stage::Unknown);
        let members = Members::of_voters([1, 9, 3].map(ReplicaId));
        assert_eq!(stage(&moving, &members), Stage::Over);
    }
}
