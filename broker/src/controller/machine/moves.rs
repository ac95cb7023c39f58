//! How the replicas of partitions are changed.
//!
//! A change begins with the replicas that a partition is to have. Its leader carries it out in the partition's group and
//! reports what the group consists of; that decides whether the change ended as it was meant or was undone. The replicas that
//! are members no more are then deleted where they are, and not before.

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_proto::{BrokerId, PartitionIndex, TopicId};

use super::cancelling::{cancellation, factor_set, settled_factor};
use super::{
    ControllerMachine, Decided, check_min_insync_replicas, check_replication_factor, propose,
};
use crate::controller::command::{
    MembersReport, MoveReplicas, PartitionMove, PlannedMove, Response, SetReplicationFactor,
};
use crate::controller::coordinators;
use crate::controller::error::Error;
use crate::controller::event::Event;
use crate::controller::image::{BrokerState, ClusterImage, Topic};
use crate::controller::partition::{Partition, Replica};
use crate::controller::placement::Placement;
use crate::raft::ReplicaId;
use crate::raft::machine::Decision;

/// Changes of replicas that are under way at once where nobody named the partitions: those that draining brokers and lost
/// replicas call for. The next ones start as these end, with what is known then of who is up.
const UNDER_WAY: usize = 256;

/// A change of a partition's replicas that is called for.
pub(super) struct Due {
    pub(super) planned: PlannedMove,
    topic_id: TopicId,
    brokers: Vec<BrokerId>,
}

/// Gives ids to new replicas.
struct NewIds(ReplicaId);

impl NewIds {
    fn of(view: &ClusterImage) -> Self {
        Self(view.next.replica)
    }

    /// The replicas of a partition on `brokers`: those that are there and of use, and new ones. `without` is of no use.
    fn target(
        &mut self,
        partition: &Partition,
        brokers: &[BrokerId],
        without: Option<ReplicaId>,
    ) -> Vec<Replica> {
        let of_use = |replica: &&Replica| {
            Some(replica.id) != without && !partition.lost.contains(&replica.id)
        };
        let replica = |broker: &BrokerId| {
            let mut kept = partition.replicas.iter().filter(of_use);
            if let Some(kept) = kept.find(|replica| replica.broker == *broker) {
                return *kept;
            }
            let id = self.0;
            self.0 = ReplicaId(id.0 + 1);
            Replica {
                id,
                broker: *broker,
            }
        };
        brokers.iter().map(replica).collect()
    }
}

impl ControllerMachine {
    pub(super) fn move_replicas(&self, command: &MoveReplicas) -> Decided {
        let view = self.view();
        let mut ids = NewIds::of(view);
        let mut seen = BTreeSet::new();
        let mut events = Vec::new();
        let mut planned = Vec::new();
        for wanted in &command.moves {
            let (topic, partition) = self.find_partition(wanted)?;
            check_move(view, topic, partition, wanted)?;
            if !seen.insert((topic.id, wanted.partition)) {
                return Err(invalid(wanted, "it stands twice in the request".to_owned()));
            }
            let target = ids.target(partition, &wanted.brokers, None);
            if target == partition.replicas {
                continue;
            }
            planned.push(plan(topic, wanted.partition, partition, &wanted.brokers));
            start(&mut events, topic.id, wanted.partition, partition, target);
        }
        Ok(self.begin(&events, planned, command.validate_only))
    }

    pub(super) fn set_replication_factor(&self, command: &SetReplicationFactor) -> Decided {
        let view = self.view();
        let topic = self.find(&command.topic, command.topic_id)?;
        let wanted = command.replication_factor;
        check_replication_factor(view, wanted)?;
        check_min_insync_replicas(&topic.config, wanted)?;
        let mut placement = Placement::new(view, &command.avoid);
        let mut ids = NewIds::of(view);
        let mut events = Vec::new();
        let mut planned = Vec::new();
        if topic.replication_factor != wanted {
            events.push(Event::ReplicationFactorSet {
                topic_id: topic.id,
                replication_factor: wanted,
            });
        }
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        for (index, partition) in topic.numbered() {
            if partition.replicas.len() == wanted && !partition.is_changing() {
                continue;
            }
            if partition.is_changing() {
                let (topic, partition) = (topic.name.clone(), index);
                return Err(Error::AlreadyMoving { topic, partition });
            }
            let brokers = resize(&mut placement, brokers_of(&partition.replicas), wanted);
            let target = ids.target(partition, &brokers, None);
            planned.push(plan(topic, index, partition, &brokers));
            start(&mut events, topic.id, index, partition, target);
        }
        Ok(self.begin(&events, planned, command.validate_only))
    }

    pub(super) fn replace_replica(
        &self,
        topic_id: TopicId,
        index: PartitionIndex,
        replica: ReplicaId,
    ) -> Decided {
        let view = self.view();
        let topic = view.topic(topic_id);
        let partition = topic.and_then(|topic| topic.partition(index));
        let (Some(topic), Some(partition)) = (topic, partition) else {
            let name = topic_id.to_string();
            return Err(Error::UnknownTopic { name });
        };
        if partition.is_changing() {
            let (topic, partition) = (topic.name.clone(), index);
            return Err(Error::AlreadyMoving { topic, partition });
        }
        if !partition.replicas.iter().any(|at| at.id == replica) {
            return Err(Error::InvalidReplicas {
                topic: topic.name.clone(),
                partition: index,
                problem: format!("replica {} is none of its replicas", replica.0),
            });
        }
        let brokers = brokers_of(&partition.replicas);
        let target = NewIds::of(view).target(partition, &brokers, Some(replica));
        let mut events = Vec::new();
        let planned = vec![plan(topic, index, partition, &brokers)];
        start(&mut events, topic_id, index, partition, target);
        Ok(self.begin(&events, planned, false))
    }

    /// What a leader reports ends the change that it is about, or says nothing new. A report of an earlier epoch of the
    /// partition is about something else.
    pub(super) fn report_members(&self, report: &MembersReport) -> Decision<Response> {
        let (topic_id, index) = (report.topic_id, report.partition);
        let partition = self.view().partition(topic_id, index);
        let partition = partition.filter(|partition| partition.epoch == report.epoch);
        let ids = |replicas: &[Replica]| replicas.iter().map(|at| at.id).collect::<BTreeSet<_>>();
        let is_done = partition.and_then(|partition| {
            let moving = partition.reassignment.as_ref()?;
            let is = |replicas| report.learners.is_empty() && report.voters == ids(replicas);
            if is(&moving.target) {
                Some(true)
            } else if moving.is_cancelled && is(&partition.replicas) {
                Some(false)
            } else {
                None
            }
        });
        let (Some(is_done), Some(topic)) = (is_done, self.view().topic(topic_id)) else {
            return self.unchanged(Response::Done);
        };
        let mut events = vec![Event::ReassignmentEnded {
            topic_id,
            partition: index,
            is_done,
        }];
        // One that was cancelled may have ended as it was meant.
        let ended = partition.and_then(|partition| partition.reassignment.as_ref());
        if let Some(cancelled) = ended.filter(|moving| moving.is_cancelled) {
            let settled =
                settled_factor(topic, |other, partition| match is_done && other == index {
                    true => cancelled.target.len(),
                    false => partition.coming().len(),
                });
            events.extend(settled.map(|factor| factor_set(topic, factor)));
        }
        propose(&events, Response::Done)
    }

    /// A report may come twice.
    pub(super) fn report_removal(
        &self,
        replica: ReplicaId,
        broker: BrokerId,
    ) -> Decision<Response> {
        let removed = self.view().removed_replica(replica);
        if removed.is_none_or(|removed| removed.broker != broker) {
            return self.unchanged(Response::Done);
        }
        propose(&[Event::ReplicaRemovalReported { replica }], Response::Done)
    }

    pub(super) fn continue_moves(&self, avoid: &BTreeSet<BrokerId>) -> Decision<Response> {
        let view = self.view();
        let draining = view.draining();
        let room = UNDER_WAY.saturating_sub(view.reassigned().len());
        let mut ids = NewIds::of(view);
        let mut events = Vec::new();
        let mut planned = Vec::new();
        for (topic, index, partition) in view.reassigned() {
            let is_hopeless = |new: &Replica| avoid.contains(&new.broker);
            if partition.leads_to(&draining).any(is_hopeless) {
                let (event, undone) = cancellation(topic, index, partition);
                events.push(event);
                planned.push(undone);
            }
        }
        for due in self.due_moves(avoid, &draining, room) {
            let index = due.planned.partition;
            if let Some(partition) = view.partition(due.topic_id, index) {
                let target = ids.target(partition, &due.brokers, None);
                start(&mut events, due.topic_id, index, partition, target);
                planned.push(due.planned);
            }
        }
        self.grow_coordinators(avoid, &mut ids, &mut events, &mut planned);
        self.begin(&events, planned, false)
    }

    /// Begins to replicate coordinators as they should be, where there were too few brokers when they were made.
    fn grow_coordinators(
        &self,
        avoid: &BTreeSet<BrokerId>,
        ids: &mut NewIds,
        events: &mut Vec<Event>,
        planned: &mut Vec<PlannedMove>,
    ) {
        let view = self.view();
        let mut placement = Placement::new(view, avoid);
        let wanted = coordinators::REPLICATION_FACTOR;
        for (topic, index, partition) in view.small_coordinators() {
            let is_planned =
                |other: &PlannedMove| other.topic == topic.name && other.partition == index;
            let brokers = resize(&mut placement, brokers_of(&partition.replicas), wanted);
            if planned.iter().any(is_planned) || brokers.len() < wanted {
                continue;
            }
            if usize::try_from(topic.replication_factor).is_ok_and(|factor| factor != wanted) {
                events.push(Event::ReplicationFactorSet {
                    topic_id: topic.id,
                    replication_factor: u32::try_from(wanted).unwrap_or(u32::MAX),
                });
            }
            let target = ids.target(partition, &brokers, None);
            planned.push(plan(topic, index, partition, &brokers));
            start(events, topic.id, index, partition, target);
        }
    }

    /// The changes that the `draining` brokers and lost replicas call for, at most so many.
    pub(super) fn due_moves(
        &self,
        avoid: &BTreeSet<BrokerId>,
        draining: &BTreeSet<BrokerId>,
        most: usize,
    ) -> Vec<Due> {
        let view = self.view();
        let mut placement = Placement::new(view, avoid);
        placement.exclude(draining);
        let mut due = Vec::new();
        for topic in view.topics() {
            for (index, partition) in topic.numbered() {
                if due.len() >= most {
                    return due;
                }
                if partition.is_changing() {
                    continue;
                }
                let mut brokers = relocate(&mut placement, partition, draining);
                if topic.is_internal() && brokers.iter().any(|id| !draining.contains(id)) {
                    brokers.retain(|id| !draining.contains(id));
                }
                // Without a majority nothing can be changed: that needs somebody who gives up what is lost.
                let lost = partition.lost.len();
                let is_mendable = lost > 0 && lost * 2 < partition.replicas.len();
                if brokers != brokers_of(&partition.replicas) || is_mendable {
                    due.push(Due {
                        planned: plan(topic, index, partition, &brokers),
                        topic_id: topic.id,
                        brokers,
                    });
                }
            }
        }
        due
    }

    /// Starts or undoes changes of replicas, unless that is only to be checked.
    pub(super) fn begin(
        &self,
        events: &[Event],
        planned: Vec<PlannedMove>,
        validate_only: bool,
    ) -> Decision<Response> {
        let response = Response::Moves(planned);
        if validate_only || events.is_empty() {
            return self.unchanged(response);
        }
        propose(events, response)
    }

    fn find_partition(&self, wanted: &PartitionMove) -> Result<(&Arc<Topic>, &Partition), Error> {
        let topic = self.find(&wanted.topic, wanted.topic_id)?;
        let partition = topic.partition(wanted.partition);
        let partition = partition.ok_or_else(|| Error::UnknownPartition {
            topic: topic.name.clone(),
            partition: wanted.partition,
        })?;
        Ok((topic, partition))
    }
}

/// Whether the partition may go where it is wanted.
fn check_move(
    view: &ClusterImage,
    topic: &Topic,
    partition: &Partition,
    wanted: &PartitionMove,
) -> Result<(), Error> {
    let brokers = &wanted.brokers;
    if partition.is_changing() {
        return Err(Error::AlreadyMoving {
            topic: topic.name.clone(),
            partition: wanted.partition,
        });
    }
    if usize::try_from(topic.replication_factor).is_ok_and(|factor| factor != brokers.len()) {
        return Err(invalid(
            wanted,
            format!(
                "{} brokers are named and the topic has {} replicas of each partition; for another number: highwater topic \
                 alter {} -r {}",
                brokers.len(),
                topic.replication_factor,
                topic.name,
                brokers.len().max(1)
            ),
        ));
    }
    let unique: BTreeSet<_> = brokers.iter().collect();
    if unique.len() < brokers.len() {
        return Err(invalid(wanted, "a broker is named twice".to_owned()));
    }
    for id in brokers {
        let broker = view.broker(*id).ok_or(Error::UnknownBroker { id: *id })?;
        if broker.state != BrokerState::Active {
            return Err(invalid(
                wanted,
                format!("broker {id} is being decommissioned or replaced and gets no replicas"),
            ));
        }
    }
    Ok(())
}

fn invalid(wanted: &PartitionMove, problem: String) -> Error {
    Error::InvalidReplicas {
        topic: wanted.topic.clone(),
        partition: wanted.partition,
        problem,
    }
}

/// A change that only puts the same replicas in another order is done at once.
fn start(
    events: &mut Vec<Event>,
    topic_id: TopicId,
    partition: PartitionIndex,
    before: &Partition,
    target: Vec<Replica>,
) {
    let set = |replicas: &[Replica]| replicas.iter().copied().collect::<BTreeSet<_>>();
    let is_order_only = set(&target) == set(&before.replicas);
    events.push(Event::ReassignmentStarted {
        topic_id,
        partition,
        target,
    });
    if is_order_only {
        events.push(Event::ReassignmentEnded {
            topic_id,
            partition,
            is_done: true,
        });
    }
}

pub(super) fn plan(
    topic: &Topic,
    index: PartitionIndex,
    partition: &Partition,
    brokers: &[BrokerId],
) -> PlannedMove {
    PlannedMove {
        topic: topic.name.clone(),
        partition: index,
        from: brokers_of(&partition.replicas),
        to: brokers.to_vec(),
    }
}

pub(super) fn brokers_of(replicas: &[Replica]) -> Vec<BrokerId> {
    replicas.iter().map(|replica| replica.broker).collect()
}

/// The brokers of a partition that is to have `wanted` replicas.
fn resize(placement: &mut Placement, mut brokers: Vec<BrokerId>, wanted: usize) -> Vec<BrokerId> {
    while brokers.len() < wanted {
        match placement.extend(&brokers) {
            Some(broker) => brokers.push(broker),
            None => break,
        }
    }
    while brokers.len() > wanted {
        match placement.shrink(&brokers) {
            Some(broker) => brokers.retain(|other| *other != broker),
            None => break,
        }
    }
    brokers
}

/// The brokers of a partition that leaves the `draining` ones, as far as there are others.
fn relocate(
    placement: &mut Placement,
    partition: &Partition,
    draining: &BTreeSet<BrokerId>,
) -> Vec<BrokerId> {
    let mut brokers = brokers_of(&partition.replicas);
    for rank in 0..brokers.len() {
        if !draining.contains(&brokers[rank]) {
            continue;
        }
        if let Some(broker) = placement.extend(&brokers) {
            brokers[rank] = broker;
        }
    }
    brokers
}
