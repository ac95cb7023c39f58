//! How changes of replicas are undone.
//!
//! A change that is cancelled ends with the replicas that the partition had, or as it was meant where its group has the new voters
//! already. What would only begin again is not cancelled.

use std::collections::BTreeSet;

use highwater_proto::{BrokerId, PartitionIndex};

use super::moves::{brokers_of, plan};
use super::{ControllerMachine, Decided, check_min_insync_replicas};
use crate::controller::command::{CancelMoves, PlannedMove};
use crate::controller::error::Error;
use crate::controller::event::Event;
use crate::controller::image::{ClusterImage, Topic};
use crate::controller::partition::{Partition, Replica};

impl ControllerMachine {
    pub(super) fn cancel_moves(&self, command: &CancelMoves) -> Decided {
        let view = self.view();
        let named = match &command.topic {
            Some(name) => Some(self.find(name, None)?.id),
            None => None,
        };
        let mut events = Vec::new();
        let mut planned = Vec::new();
        let mut cancelled = BTreeSet::new();
        for (topic, index, partition) in view.reassigned() {
            let is_meant = named.is_none_or(|id| id == topic.id)
                && command.partition.is_none_or(|wanted| wanted == index);
            if !is_meant {
                continue;
            }
            match would_begin_again(view, topic, index, partition, &command.down) {
                Some(_) if command.partition.is_none() => continue,
                Some(refusal) => return Err(refusal),
                None => {}
            }
            let (event, undone) = cancellation(topic, index, partition);
            let moving = partition.reassignment.as_ref();
            if moving.is_some_and(|moving| !moving.is_cancelled) {
                events.push(event);
                cancelled.insert((topic.id, index));
            }
            planned.push(undone);
        }
        if planned.is_empty() {
            return Err(Error::NothingToCancel);
        }
        let topics: BTreeSet<_> = cancelled.iter().map(|(topic, _)| *topic).collect();
        for topic in topics.into_iter().filter_map(|id| view.topic(id)) {
            let settled = settled_factor(topic, |index, partition| {
                match cancelled.contains(&(topic.id, index)) {
                    true => partition.replicas.len(),
                    false => partition.coming().len(),
                }
            });
            if let Some(factor) = settled {
                check_min_insync_replicas(&topic.config, factor)?;
                events.push(factor_set(topic, factor));
            }
        }
        Ok(self.begin(&events, planned, false))
    }
}

/// The end of a change before its time, and what it was.
pub(super) fn cancellation(
    topic: &Topic,
    index: PartitionIndex,
    partition: &Partition,
) -> (Event, PlannedMove) {
    let moving = partition.reassignment.as_ref();
    let target = moving.map_or(&[][..], |moving| &moving.target);
    let event = Event::ReassignmentCancelled {
        topic_id: topic.id,
        partition: index,
    };
    (event, plan(topic, index, partition, &brokers_of(target)))
}

/// Why a change that is cancelled would only begin again; `None` where it would not.
fn would_begin_again(
    view: &ClusterImage,
    topic: &Topic,
    index: PartitionIndex,
    partition: &Partition,
    down: &BTreeSet<BrokerId>,
) -> Option<Error> {
    let draining = view.draining();
    let mut removing = partition.removing();
    if let Some(leaving) = removing.find(|old| draining.contains(&old.broker)) {
        return Some(Error::MovedByDraining {
            topic: topic.name.clone(),
            partition: index,
            broker: leaving.broker,
        });
    }
    let moving = partition.reassignment.as_ref()?;
    let set = |replicas: &[Replica]| brokers_of(replicas).into_iter().collect::<BTreeSet<_>>();
    if set(&moving.target) != set(&partition.replicas) {
        return None;
    }
    // Where its broker is down, a new replica that takes the place of a damaged one may never come to be.
    let is_called_for =
        |old: &&Replica| partition.lost.contains(&old.id) || !down.contains(&old.broker);
    let rebuilt = partition.removing().find(is_called_for)?;
    Some(Error::Rebuilt {
        topic: topic.name.clone(),
        partition: index,
        broker: rebuilt.broker,
    })
}

/// The number of replicas that a topic has where each of its partitions has `count`, and it is not the one that it should have.
/// Partitions that began again with fewer are still to have as many as before.
pub(super) fn settled_factor(
    topic: &Topic,
    count: impl Fn(PartitionIndex, &Partition) -> usize,
) -> Option<u32> {
    let mut partitions = topic.numbered();
    let (index, first) = partitions.next()?;
    let first = count(index, first);
    let is_even = partitions.all(|(index, partition)| count(index, partition) == first);
    let is_recovering = topic.partitions.iter().any(|at| at.recovery.is_some());
    let factor = u32::try_from(first).ok()?;
    let is_settled =
        is_even && !is_recovering && !topic.is_internal() && factor != topic.replication_factor;
    is_settled.then_some(factor)
}

pub(super) fn factor_set(topic: &Topic, replication_factor: u32) -> Event {
    Event::ReplicationFactorSet {
        topic_id: topic.id,
        replication_factor,
    }
}
