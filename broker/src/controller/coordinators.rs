//! Where consumer groups are coordinated: the partitions of a topic that belongs to the broker, made when a group is first
//! asked for.
//!
//! They are placed, replicated and moved as any topic's partitions are. What runs in them is another machine, clients do not
//! see them, and nobody adds to them or deletes them: a group's coordinator is found by the number of partitions.

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_proto::{BrokerId, PartitionIndex, TopicId};

use super::command::Response;
use super::error::Error;
use super::event::Event;
use super::image::{Broker, BrokerState, ClusterImage, Topic};
use super::machine::{ControllerMachine, Decided, new_partitions, propose};
use super::name::RESERVED_PREFIX;
use super::partition::Partition;
use crate::topic::config_keys::{self, Overrides};

/// Name of the topic whose partitions are the coordinators. No other can have it.
const COORDINATOR_TOPIC: &str = "__consumer_groups";
/// Size of a segment of a coordinator's log: snapshots replace what is older.
const SEGMENT_BYTES: u64 = 4 << 20;
/// Replicas of a coordinator where there are enough brokers: one may then be lost at any time.
pub(super) const REPLICATION_FACTOR: usize = 3;

impl Topic {
    /// Whether it belongs to the broker: clients do not see it.
    pub fn is_internal(&self) -> bool {
        self.name.starts_with(RESERVED_PREFIX)
    }
}

impl ClusterImage {
    /// The topics that clients may see, by id.
    pub fn client_topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics().filter(|topic| !topic.is_internal())
    }

    /// Partitions of the topics that clients may see.
    pub fn client_partition_count(&self) -> usize {
        let coordinators = self
            .coordinators()
            .map_or(0, |topic| topic.partitions.len());
        self.partition_count() - coordinators
    }

    /// Coordinators that were made when there were fewer brokers and can be replicated as they should now. One has three replicas or
    /// stays as it is: two are lost with either of their brokers.
    pub(super) fn small_coordinators(
        &self,
    ) -> impl Iterator<Item = (&Arc<Topic>, PartitionIndex, &Partition)> {
        let active = |broker: &&Arc<Broker>| broker.state == BrokerState::Active;
        let has_room = self.brokers().filter(active).count() >= REPLICATION_FACTOR;
        let topic = self.coordinators().filter(|_| has_room);
        let is_small = |(_, _, partition): &(_, _, &Partition)| {
            !partition.is_changing()
                && partition.lost.is_empty()
                && partition.replicas.len() < REPLICATION_FACTOR
        };
        let numbered = topic.into_iter().flat_map(|topic| {
            let numbered = topic.numbered();
            numbered.map(move |(index, partition)| (topic, index, partition))
        });
        numbered.filter(is_small)
    }

    /// The topic whose partitions are the coordinators of consumer groups, once there is one.
    pub fn coordinators(&self) -> Option<&Arc<Topic>> {
        self.topic_colliding(COORDINATOR_TOPIC)
    }
}

impl ControllerMachine {
    /// Makes the coordinators, unless they are there.
    pub(super) fn create_coordinators(
        &self,
        id: TopicId,
        count: u32,
        avoid: &BTreeSet<BrokerId>,
    ) -> Decided {
        let view = self.view();
        if view.coordinators().is_some() {
            return Ok(self.unchanged(Response::Done));
        }
        self.check_partitions(0, count)?;
        if id.0.is_nil() || view.topic(id).is_some() || view.deleted_topic(id).is_some() {
            return Err(Error::TopicIdUsed { id });
        }
        let brokers = view.brokers().len().clamp(1, REPLICATION_FACTOR);
        let replication_factor = u32::try_from(brokers).unwrap_or(1);
        let overrides = Overrides::from([("segment.bytes".to_owned(), SEGMENT_BYTES.to_string())]);
        let topic = Topic {
            id,
            name: COORDINATOR_TOPIC.to_owned(),
            replication_factor,
            partitions: new_partitions(view, count, replication_factor, avoid),
            config: Arc::new(config_keys::resolve(&overrides)),
            overrides,
        };
        Ok(propose(
            &[Event::TopicCreated(Arc::new(topic))],
            Response::Done,
        ))
    }
}

#[cfg(test)]
mod tests;
