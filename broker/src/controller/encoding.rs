//! The bytes of what the image is made of, as events, snapshots and commands hold them. Lists are sorted, so that equal values give equal
//! bytes.

mod removal;

use std::sync::Arc;

use bytes::Bytes;
use highwater_proto::internal::v1 as wire;
use highwater_proto::{BrokerId, TopicId};
use uuid::Uuid;

use super::image::{Broker, FOUNDING_REPLICA, Listener, Start, Topic};
use super::partition::{Partition, Reassignment, Recovery, Replica};
use crate::raft::{GroupId, ReplicaId};
use crate::topic::config_keys::{self, Overrides};

pub(super) use removal::{
    decode_removed, decode_retired, decode_state, encode_removed, encode_retired, encode_state,
};

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
        state: encode_state(broker.state).into(),
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
        state: decode_state(broker.state)?,
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

pub(super) fn encode_topic(topic: &Topic) -> wire::Topic {
    wire::Topic {
        topic_id: encode_uuid(topic.id.0),
        name: topic.name.clone(),
        replication_factor: topic.replication_factor,
        partitions: topic.partitions.iter().map(encode_partition).collect(),
        configs: encode_overrides(&topic.overrides),
    }
}

pub(super) fn decode_topic(topic: wire::Topic) -> Result<Topic, String> {
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

pub(super) fn encode_partition(partition: &Partition) -> wire::Partition {
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

pub(super) fn decode_partition(partition: wire::Partition) -> Partition {
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

pub(super) fn encode_recovery(recovery: &Recovery) -> wire::Recovery {
    wire::Recovery {
        lost_broker_ids: recovery.lost.iter().map(|id| id.0).collect(),
        log_end_offset: recovery.log_end_offset,
        has_begun: recovery.has_begun,
    }
}

pub(super) fn decode_recovery(recovery: wire::Recovery) -> Recovery {
    Recovery {
        lost: recovery.lost_broker_ids.into_iter().map(BrokerId).collect(),
        log_end_offset: recovery.log_end_offset,
        has_begun: recovery.has_begun,
    }
}

pub(super) fn encode_replicas(replicas: &[Replica]) -> Vec<wire::Replica> {
    let encode = |replica: &Replica| wire::Replica {
        replica_id: replica.id.0,
        broker_id: replica.broker.0,
    };
    replicas.iter().map(encode).collect()
}

pub(super) fn decode_replicas(replicas: Vec<wire::Replica>) -> Vec<Replica> {
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
