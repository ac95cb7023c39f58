//! What the controller's log says, and its bytes: the messages of `controller_events.proto`.

use std::sync::Arc;

use bytes::Bytes;
use highwater_proto::internal::v1 as wire;
use highwater_proto::{BrokerId, PartitionIndex, ProducerId, TopicId};
use prost::Message;
use uuid::Uuid;

use super::encoding::{
    decode_broker, decode_overrides, decode_partition, decode_recovery, decode_replicas,
    decode_state, decode_topic, decode_topic_id, decode_uuid, encode_broker, encode_overrides,
    encode_partition, encode_recovery, encode_replicas, encode_state, encode_topic, encode_uuid,
};
use super::image::{Broker, BrokerState, Topic};
use super::partition::{Partition, Recovery, Replica};
use crate::raft::{GroupId, ReplicaId};
use crate::topic::config_keys::Overrides;

/// Form of the events and of the snapshot that this program writes and understands.
pub(super) const VERSION: u32 = 1;

/// A change of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The cluster exists from now on.
    ClusterFounded { cluster_id: Uuid },
    /// What every broker must understand.
    FeatureLevelSet { level: u32 },
    /// A broker, or what changed of it.
    BrokerRegistered(Broker),
    /// A topic.
    TopicCreated(Arc<Topic>),
    /// All overrides of a topic from now on.
    TopicConfigsAltered {
        topic_id: TopicId,
        overrides: Overrides,
    },
    /// Partitions that follow those of the topic.
    PartitionsAdded {
        topic_id: TopicId,
        partitions: Vec<Partition>,
    },
    /// A topic is gone.
    TopicDeleted { topic_id: TopicId },
    /// A broker holds nothing of a deleted topic any more.
    TopicDeletionReported { topic_id: TopicId, broker: BrokerId },
    /// Producer ids that are in use from now on.
    ProducerIdsGranted {
        first: ProducerId,
        count: u32,
        broker: BrokerId,
    },
    /// The replicas of a partition are changed from now on.
    ReassignmentStarted {
        topic_id: TopicId,
        partition: PartitionIndex,
        target: Vec<Replica>,
    },
    /// A change of replicas is to be undone.
    ReassignmentCancelled {
        topic_id: TopicId,
        partition: PartitionIndex,
    },
    /// A change of replicas is over; `is_done`: with those that were wanted.
    ReassignmentEnded {
        topic_id: TopicId,
        partition: PartitionIndex,
        is_done: bool,
    },
    /// A broker holds nothing of a removed replica any more.
    ReplicaRemovalReported { replica: ReplicaId },
    /// Replicas that partitions of a topic have from now on.
    ReplicationFactorSet {
        topic_id: TopicId,
        replication_factor: u32,
    },
    /// A partition begins again with one of its replicas, as another group.
    PartitionRecovered {
        topic_id: TopicId,
        partition: PartitionIndex,
        group: GroupId,
        survivor: ReplicaId,
        recovery: Recovery,
    },
    /// It has durably begun.
    RecoveryReported {
        topic_id: TopicId,
        partition: PartitionIndex,
    },
    /// What is to become of a broker.
    BrokerStateSet {
        broker: BrokerId,
        state: BrokerState,
    },
    /// A broker is gone for good.
    BrokerRemoved { broker: BrokerId },
    /// The data directory of a broker was set back to an old copy.
    BrokerSetBack { broker: BrokerId },
    /// The cluster goes on as another one: the controller's majority was lost for good.
    ClusterSucceeded { cluster_id: Uuid },
}

impl Event {
    /// Whether clients or brokers may see what it changes.
    pub(super) fn changes_metadata(&self) -> bool {
        !matches!(self, Self::ProducerIdsGranted { .. })
    }
}

/// The events of one entry as bytes.
pub(super) fn encode(events: &[Event]) -> Bytes {
    let wrap = |event| wire::ControllerEvent {
        event: Some(encode_event(event)),
    };
    let message = wire::ControllerEvents {
        version: VERSION,
        events: events.iter().map(wrap).collect(),
    };
    message.encode_to_vec().into()
}

/// The events of one entry. The error says what is not understood.
pub(super) fn decode(data: &[u8]) -> Result<Vec<Event>, String> {
    let message = wire::ControllerEvents::decode(data).map_err(|error| error.to_string())?;
    if message.version != VERSION {
        return Err(format!(
            "events of version {} are not known",
            message.version
        ));
    }
    let unwrap = |event: wire::ControllerEvent| {
        decode_event(event.event.ok_or("it holds an event of an unknown kind")?)
    };
    message.events.into_iter().map(unwrap).collect()
}

fn encode_event(event: &Event) -> wire::controller_event::Event {
    use wire::controller_event::Event as Wire;
    match event {
        Event::ClusterFounded { cluster_id } => Wire::ClusterFounded(wire::ClusterFounded {
            cluster_id: encode_uuid(*cluster_id),
        }),
        Event::FeatureLevelSet { level } => Wire::FeatureLevelSet(wire::FeatureLevelSet {
            feature_level: *level,
        }),
        Event::BrokerRegistered(broker) => Wire::BrokerRegistered(encode_broker(broker)),
        Event::TopicCreated(topic) => Wire::TopicCreated(encode_topic(topic)),
        Event::TopicConfigsAltered {
            topic_id,
            overrides,
        } => Wire::TopicConfigsAltered(wire::TopicConfigsAltered {
            topic_id: encode_uuid(topic_id.0),
            configs: encode_overrides(overrides),
        }),
        Event::PartitionsAdded {
            topic_id,
            partitions,
        } => Wire::PartitionsAdded(wire::PartitionsAdded {
            topic_id: encode_uuid(topic_id.0),
            partitions: partitions.iter().map(encode_partition).collect(),
        }),
        Event::TopicDeleted { topic_id } => Wire::TopicDeleted(wire::TopicDeleted {
            topic_id: encode_uuid(topic_id.0),
        }),
        Event::TopicDeletionReported { topic_id, broker } => {
            Wire::TopicDeletionReported(wire::TopicDeletionReported {
                topic_id: encode_uuid(topic_id.0),
                broker_id: broker.0,
            })
        }
        Event::ProducerIdsGranted {
            first,
            count,
            broker,
        } => Wire::ProducerIdsGranted(wire::ProducerIdsGranted {
            first_producer_id: first.0,
            count: *count,
            broker_id: broker.0,
        }),
        Event::ReassignmentStarted {
            topic_id,
            partition,
            target,
        } => Wire::ReassignmentStarted(wire::ReassignmentStarted {
            topic_id: encode_uuid(topic_id.0),
            partition: partition.0,
            target: encode_replicas(target),
        }),
        Event::ReassignmentCancelled {
            topic_id,
            partition,
        } => Wire::ReassignmentCancelled(wire::ReassignmentCancelled {
            topic_id: encode_uuid(topic_id.0),
            partition: partition.0,
        }),
        Event::ReassignmentEnded {
            topic_id,
            partition,
            is_done,
        } => Wire::ReassignmentEnded(wire::ReassignmentEnded {
            topic_id: encode_uuid(topic_id.0),
            partition: partition.0,
            is_done: *is_done,
        }),
        Event::ReplicaRemovalReported { replica } => {
            Wire::ReplicaRemovalReported(wire::ReplicaRemovalReported {
                replica_id: replica.0,
            })
        }
        Event::ReplicationFactorSet {
            topic_id,
            replication_factor,
        } => Wire::ReplicationFactorSet(wire::ReplicationFactorSet {
            topic_id: encode_uuid(topic_id.0),
            replication_factor: *replication_factor,
        }),
        Event::PartitionRecovered {
            topic_id,
            partition,
            group,
            survivor,
            recovery,
        } => Wire::PartitionRecovered(wire::PartitionRecovered {
            topic_id: encode_uuid(topic_id.0),
            partition: partition.0,
            group_id: group.0,
            survivor_replica_id: survivor.0,
            recovery: Some(encode_recovery(recovery)),
        }),
        Event::RecoveryReported {
            topic_id,
            partition,
        } => Wire::RecoveryReported(wire::RecoveryReported {
            topic_id: encode_uuid(topic_id.0),
            partition: partition.0,
        }),
        Event::BrokerStateSet { broker, state } => Wire::BrokerStateSet(wire::BrokerStateSet {
            broker_id: broker.0,
            state: encode_state(*state).into(),
        }),
        Event::BrokerRemoved { broker } => Wire::BrokerRemoved(wire::BrokerRemoved {
            broker_id: broker.0,
        }),
        Event::BrokerSetBack { broker } => Wire::BrokerSetBack(wire::BrokerSetBack {
            broker_id: broker.0,
        }),
        Event::ClusterSucceeded { cluster_id } => Wire::ClusterSucceeded(wire::ClusterSucceeded {
            cluster_id: encode_uuid(*cluster_id),
        }),
    }
}

fn decode_event(event: wire::controller_event::Event) -> Result<Event, String> {
    use wire::controller_event::Event as Wire;
    Ok(match event {
        Wire::ClusterFounded(event) => Event::ClusterFounded {
            cluster_id: decode_uuid(&event.cluster_id)?,
        },
        Wire::FeatureLevelSet(event) => Event::FeatureLevelSet {
            level: event.feature_level,
        },
        Wire::BrokerRegistered(broker) => Event::BrokerRegistered(decode_broker(broker)?),
        Wire::TopicCreated(topic) => Event::TopicCreated(Arc::new(decode_topic(topic)?)),
        Wire::TopicConfigsAltered(event) => Event::TopicConfigsAltered {
            topic_id: decode_topic_id(&event.topic_id)?,
            overrides: decode_overrides(event.configs),
        },
        Wire::PartitionsAdded(event) => Event::PartitionsAdded {
            topic_id: decode_topic_id(&event.topic_id)?,
            partitions: event.partitions.into_iter().map(decode_partition).collect(),
        },
        Wire::TopicDeleted(event) => Event::TopicDeleted {
            topic_id: decode_topic_id(&event.topic_id)?,
        },
        Wire::TopicDeletionReported(event) => Event::TopicDeletionReported {
            topic_id: decode_topic_id(&event.topic_id)?,
            broker: BrokerId(event.broker_id),
        },
        Wire::ProducerIdsGranted(event) => Event::ProducerIdsGranted {
            first: ProducerId(event.first_producer_id),
            count: event.count,
            broker: BrokerId(event.broker_id),
        },
        Wire::ReassignmentStarted(event) => Event::ReassignmentStarted {
            topic_id: decode_topic_id(&event.topic_id)?,
            partition: PartitionIndex(event.partition),
            target: decode_replicas(event.target),
        },
        Wire::ReassignmentCancelled(event) => Event::ReassignmentCancelled {
            topic_id: decode_topic_id(&event.topic_id)?,
            partition: PartitionIndex(event.partition),
        },
        Wire::ReassignmentEnded(event) => Event::ReassignmentEnded {
            topic_id: decode_topic_id(&event.topic_id)?,
            partition: PartitionIndex(event.partition),
            is_done: event.is_done,
        },
        Wire::ReplicaRemovalReported(event) => Event::ReplicaRemovalReported {
            replica: ReplicaId(event.replica_id),
        },
        Wire::ReplicationFactorSet(event) => Event::ReplicationFactorSet {
            topic_id: decode_topic_id(&event.topic_id)?,
            replication_factor: event.replication_factor,
        },
        Wire::PartitionRecovered(event) => Event::PartitionRecovered {
            topic_id: decode_topic_id(&event.topic_id)?,
            partition: PartitionIndex(event.partition),
            group: GroupId(event.group_id),
            survivor: ReplicaId(event.survivor_replica_id),
            recovery: decode_recovery(event.recovery.unwrap_or_default()),
        },
        Wire::RecoveryReported(event) => Event::RecoveryReported {
            topic_id: decode_topic_id(&event.topic_id)?,
            partition: PartitionIndex(event.partition),
        },
        Wire::BrokerStateSet(event) => Event::BrokerStateSet {
            broker: BrokerId(event.broker_id),
            state: decode_state(event.state)?,
        },
        Wire::BrokerRemoved(event) => Event::BrokerRemoved {
            broker: BrokerId(event.broker_id),
        },
        Wire::BrokerSetBack(event) => Event::BrokerSetBack {
            broker: BrokerId(event.broker_id),
        },
        Wire::ClusterSucceeded(event) => Event::ClusterSucceeded {
            cluster_id: decode_uuid(&event.cluster_id)?,
        },
    })
}
