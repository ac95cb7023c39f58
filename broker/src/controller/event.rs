//! What the controller's log and its snapshots say, and their bytes.
//!
//! The bytes are the protobuf messages of `controller_events.proto` and `controller_snapshot.proto`. Lists are sorted,
//! so that equal states give equal bytes.

mod removal;

use std::sync::Arc;

use bytes::Bytes;
use highwater_proto::internal::v1 as wire;
use highwater_proto::{BrokerId, PartitionIndex, ProducerId, TopicId};
use highwater_storage::RaftIndex;
use prost::Message;
use uuid::Uuid;

use super::image::{
    Broker, BrokerState, ClusterImage, DeletedTopic, FOUNDING_REPLICA, Listener, NextIds, Parts,
    Start, Topic,
};
use super::partition::{Partition, Reassignment, Recovery, Replica};
use crate::raft::{GroupId, ReplicaId};
use crate::topic::config_keys::{self, Overrides};

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

/// A snapshot that no known version wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the controller's snapshot cannot be used: {reason}")]
pub struct BadSnapshot {
    /// What is wrong with it.
    pub reason: String,
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
            state: removal::encode_state(*state).into(),
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
            state: removal::decode_state(event.state)?,
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

/// The image as bytes; equal images give equal bytes.
pub(super) fn encode_snapshot(image: &ClusterImage) -> Bytes {
    let encode_deleted = |deleted: &Arc<DeletedTopic>| wire::DeletedTopic {
        topic: Some(encode_topic(&deleted.topic)),
        waiting_broker_ids: deleted.waiting.iter().map(|broker| broker.0).collect(),
    };
    let snapshot = wire::ControllerSnapshot {
        version: VERSION,
        metadata_version: image.metadata_version.0,
        cluster_id: image.cluster_id.map(encode_uuid).unwrap_or_default(),
        feature_level: image.feature_level,
        brokers: image
            .brokers()
            .map(|broker| encode_broker(broker))
            .collect(),
        topics: image.topics().map(|topic| encode_topic(topic)).collect(),
        deleted_topics: image.deleted_topics().map(encode_deleted).collect(),
        next_group_id: image.next.group.0,
        next_replica_id: image.next.replica.0,
        next_producer_id: image.next.producer.0,
        removed_replicas: image
            .removed_replicas()
            .map(removal::encode_removed)
            .collect(),
        retired_directories: image.retired().map(removal::encode_retired).collect(),
    };
    snapshot.encode_to_vec().into()
}

/// The image that was encoded; no bytes mean a cluster that begins.
pub(super) fn decode_snapshot(snapshot: &[u8]) -> Result<ClusterImage, BadSnapshot> {
    if snapshot.is_empty() {
        return Ok(ClusterImage::default());
    }
    image_of(snapshot).map_err(|reason| BadSnapshot { reason })
}

fn image_of(snapshot: &[u8]) -> Result<ClusterImage, String> {
    let snapshot = wire::ControllerSnapshot::decode(snapshot).map_err(|error| error.to_string())?;
    if snapshot.version != VERSION {
        return Err(format!("version {} is not known", snapshot.version));
    }
    let cluster_id = if snapshot.cluster_id.is_empty() {
        None
    } else {
        Some(decode_uuid(&snapshot.cluster_id)?)
    };
    let decode_shared = |topic| decode_topic(topic).map(Arc::new);
    let decode_deleted = |deleted: wire::DeletedTopic| {
        let topic = deleted.topic.ok_or("a deleted topic is not named")?;
        Ok::<_, String>(DeletedTopic {
            topic: decode_shared(topic)?,
            waiting: deleted
                .waiting_broker_ids
                .into_iter()
                .map(BrokerId)
                .collect(),
        })
    };
    ClusterImage::from_parts(Parts {
        metadata_version: RaftIndex(snapshot.metadata_version),
        cluster_id,
        feature_level: snapshot.feature_level,
        next: NextIds {
            group: GroupId(snapshot.next_group_id),
            replica: ReplicaId(snapshot.next_replica_id),
            producer: ProducerId(snapshot.next_producer_id),
        },
        brokers: snapshot
            .brokers
            .into_iter()
            .map(decode_broker)
            .collect::<Result<_, _>>()?,
        topics: snapshot
            .topics
            .into_iter()
            .map(decode_shared)
            .collect::<Result<_, _>>()?,
        deleted: snapshot
            .deleted_topics
            .into_iter()
            .map(decode_deleted)
            .collect::<Result<_, _>>()?,
        removed: snapshot
            .removed_replicas
            .into_iter()
            .map(removal::decode_removed)
            .collect::<Result<_, _>>()?,
        retired: snapshot
            .retired_directories
            .into_iter()
            .map(removal::decode_retired)
            .collect::<Result<_, _>>()?,
    })
}

pub(super) fn encode_broker(broker: &Broker) -> wire::Broker {
    let encode_listener = |listener: &Listener| wire::Listener {
        name: listener.name.clone(),
        host: listener.host.clone(),
        port: u32::from(listener.port),
    };
    wire::Broker {
        broker_id: broker.id.0,
        incarnation_id: encode_uuid(broker.incarnation_id),
        listeners: broker.listeners.iter().map(encode_listener).collect(),
        rack: broker.rack.clone().unwrap_or_default(),
        controller_replica_id: broker.controller_replica.0,
        state: removal::encode_state(broker.state).into(),
        start_number: broker.start.number,
        run_id: broker.start.run_id,
        lost_controller_replica_id: None,
        is_set_back: false,
    }
}

pub(super) fn decode_broker(broker: wire::Broker) -> Result<Broker, String> {
    let decode_listener = |listener: wire::Listener| {
        let port = u16::try_from(listener.port).map_err(|_| format!("port {}", listener.port))?;
        Ok::<_, String>(Listener {
            name: listener.name,
            host: listener.host,
            port,
        })
    };
    Ok(Broker {
        state: removal::decode_state(broker.state)?,
        start: Start {
            number: broker.start_number,
            run_id: broker.run_id,
        },
        id: BrokerId(broker.broker_id),
        incarnation_id: decode_uuid(&broker.incarnation_id)?,
        // Without one: written when clusters had one broker.
        controller_replica: match broker.controller_replica_id {
            0 => FOUNDING_REPLICA,
            id => ReplicaId(id),
        },
        listeners: broker
            .listeners
            .into_iter()
            .map(decode_listener)
            .collect::<Result<_, _>>()?,
        rack: (!broker.rack.is_empty()).then_some(broker.rack),
    })
}

fn encode_topic(topic: &Topic) -> wire::Topic {
    wire::Topic {
        topic_id: encode_uuid(topic.id.0),
        name: topic.name.clone(),
        replication_factor: topic.replication_factor,
        partitions: topic.partitions.iter().map(encode_partition).collect(),
        configs: encode_overrides(&topic.overrides),
    }
}

fn decode_topic(topic: wire::Topic) -> Result<Topic, String> {
    let overrides = decode_overrides(topic.configs);
    Ok(Topic {
        id: decode_topic_id(&topic.topic_id)?,
        name: topic.name,
        replication_factor: topic.replication_factor,
        partitions: topic.partitions.into_iter().map(decode_partition).collect(),
        config: Arc::new(config_keys::resolve(&overrides)),
        overrides,
    })
}

fn encode_partition(partition: &Partition) -> wire::Partition {
    let encode_ids = |ids: &mut dyn Iterator<Item = &ReplicaId>| ids.map(|id| id.0).collect();
    let encode_reassignment = |moving: &Reassignment| wire::Reassignment {
        target: encode_replicas(&moving.target),
        is_cancelled: moving.is_cancelled,
    };
    wire::Partition {
        group_id: partition.group.0,
        replicas: encode_replicas(&partition.replicas),
        founder_ids: encode_ids(&mut partition.founders.iter()),
        epoch: partition.epoch,
        lost_replica_ids: encode_ids(&mut partition.lost.iter()),
        reassignment: partition.reassignment.as_ref().map(encode_reassignment),
        recovery: partition.recovery.as_ref().map(encode_recovery),
    }
}

fn decode_partition(partition: wire::Partition) -> Partition {
    let decode_reassignment = |moving: wire::Reassignment| Reassignment {
        target: decode_replicas(moving.target),
        is_cancelled: moving.is_cancelled,
    };
    Partition {
        group: GroupId(partition.group_id),
        replicas: decode_replicas(partition.replicas),
        founders: partition.founder_ids.into_iter().map(ReplicaId).collect(),
        epoch: partition.epoch,
        lost: partition
            .lost_replica_ids
            .into_iter()
            .map(ReplicaId)
            .collect(),
        reassignment: partition.reassignment.map(decode_reassignment),
        recovery: partition.recovery.map(decode_recovery),
    }
}

fn encode_recovery(recovery: &Recovery) -> wire::Recovery {
    wire::Recovery {
        lost_broker_ids: recovery.lost.iter().map(|id| id.0).collect(),
        log_end_offset: recovery.log_end_offset,
        has_begun: recovery.has_begun,
    }
}

fn decode_recovery(recovery: wire::Recovery) -> Recovery {
    Recovery {
        lost: recovery.lost_broker_ids.into_iter().map(BrokerId).collect(),
        log_end_offset: recovery.log_end_offset,
        has_begun: recovery.has_begun,
    }
}

fn encode_replicas(replicas: &[Replica]) -> Vec<wire::Replica> {
    let encode = |replica: &Replica| wire::Replica {
        replica_id: replica.id.0,
        broker_id: replica.broker.0,
    };
    replicas.iter().map(encode).collect()
}

fn decode_replicas(replicas: Vec<wire::Replica>) -> Vec<Replica> {
    let decode = |replica: wire::Replica| Replica {
        id: ReplicaId(replica.replica_id),
        broker: BrokerId(replica.broker_id),
    };
    replicas.into_iter().map(decode).collect()
}

pub(super) fn encode_overrides(overrides: &Overrides) -> Vec<wire::ConfigValue> {
    let encode = |(name, value): (&String, &String)| wire::ConfigValue {
        name: name.clone(),
        value: value.clone(),
    };
    overrides.iter().map(encode).collect()
}

pub(super) fn decode_overrides(configs: Vec<wire::ConfigValue>) -> Overrides {
    configs
        .into_iter()
        .map(|config| (config.name, config.value))
        .collect()
}

pub(super) fn encode_uuid(id: Uuid) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

pub(super) fn decode_uuid(bytes: &[u8]) -> Result<Uuid, String> {
    Uuid::from_slice(bytes).map_err(|_| format!("a UUID has {} bytes", bytes.len()))
}

pub(super) fn decode_topic_id(bytes: &[u8]) -> Result<TopicId, String> {
    decode_uuid(bytes).map(TopicId)
}
