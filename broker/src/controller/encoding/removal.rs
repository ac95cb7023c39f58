//! The bytes of what becomes of brokers and of replicas that were removed.

use highwater_proto::internal::v1 as wire;
use highwater_proto::{BrokerId, PartitionIndex, TopicId};
use uuid::Uuid;

use super::{decode_uuid, encode_uuid};
use crate::controller::image::BrokerState;
use crate::controller::partition::RemovedReplica;
use crate::raft::{GroupId, ReplicaId};

pub(in crate::controller) fn encode_state(state: BrokerState) -> wire::BrokerState {
    match state {
        BrokerState::Active => wire::BrokerState::Unspecified,
        BrokerState::Draining => wire::BrokerState::Draining,
        BrokerState::Replaceable => wire::BrokerState::Replaceable,
    }
}

pub(in crate::controller) fn decode_state(state: i32) -> Result<BrokerState, String> {
    match wire::BrokerState::try_from(state) {
        Ok(wire::BrokerState::Unspecified) => Ok(BrokerState::Active),
        Ok(wire::BrokerState::Draining) => Ok(BrokerState::Draining),
        Ok(wire::BrokerState::Replaceable) => Ok(BrokerState::Replaceable),
        Err(_) => Err(format!("a broker's state {state} is not known")),
    }
}

pub(in crate::controller) fn encode_removed(
    (id, removed): (ReplicaId, &RemovedReplica),
) -> wire::RemovedReplica {
    wire::RemovedReplica {
        replica_id: id.0,
        topic_id: encode_uuid(removed.topic_id.0),
        partition: removed.partition.0,
        group_id: removed.group.0,
        broker_id: removed.broker.0,
    }
}

pub(in crate::controller) fn decode_removed(
    removed: wire::RemovedReplica,
) -> Result<(ReplicaId, RemovedReplica), String> {
    let entry = RemovedReplica {
        topic_id: TopicId(decode_uuid(&removed.topic_id)?),
        partition: PartitionIndex(removed.partition),
        group: GroupId(removed.group_id),
        broker: BrokerId(removed.broker_id),
    };
    Ok((ReplicaId(removed.replica_id), entry))
}

pub(in crate::controller) fn encode_retired(
    (incarnation_id, broker): (Uuid, BrokerId),
) -> wire::RetiredDirectory {
    wire::RetiredDirectory {
        incarnation_id: encode_uuid(incarnation_id),
        broker_id: broker.0,
    }
}

pub(in crate::controller) fn decode_retired(
    retired: wire::RetiredDirectory,
) -> Result<(Uuid, BrokerId), String> {
    Ok((
        decode_uuid(&retired.incarnation_id)?,
        BrokerId(retired.broker_id),
    ))
}
