//! The controller's snapshot: the whole image as the bytes of `controller_snapshot.proto`.

use std::sync::Arc;

use bytes::Bytes;
use highwater_proto::internal::v1 as wire;
use highwater_proto::{BrokerId, ProducerId};
use highwater_storage::RaftIndex;
use prost::Message;

use super::encoding::{
    decode_broker, decode_removed, decode_retired, decode_topic, decode_uuid, encode_broker,
    encode_removed, encode_retired, encode_topic, encode_uuid,
};
use super::event::VERSION;
use super::image::{ClusterImage, DeletedTopic, NextIds, Parts};
use crate::raft::{GroupId, ReplicaId};

/// A snapshot that no known version wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the controller's snapshot cannot be used: {reason}")]
pub struct BadSnapshot {
    /// What is wrong with it.
    pub reason: String,
}

/// The image as bytes; equal images give equal bytes.
pub(super) fn encode(image: &ClusterImage) -> Bytes {
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
        removed_replicas: image.removed_replicas().map(encode_removed).collect(),
        retired_directories: image.retired().map(encode_retired).collect(),
    };
    snapshot.encode_to_vec().into()
}

/// The image that was encoded; no bytes mean a cluster that begins.
pub(super) fn decode(snapshot: &[u8]) -> Result<ClusterImage, BadSnapshot> {
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
        brokers: decode_each(snapshot.brokers, decode_broker)?,
        topics: decode_each(snapshot.topics, decode_shared)?,
        deleted: decode_each(snapshot.deleted_topics, decode_deleted)?,
        removed: decode_each(snapshot.removed_replicas, decode_removed)?,
        retired: decode_each(snapshot.retired_directories, decode_retired)?,
    })
}

fn decode_each<W, T, C: FromIterator<T>>(
    parts: Vec<W>,
    decode: impl Fn(W) -> Result<T, String>,
) -> Result<C, String> {
    parts.into_iter().map(decode).collect()
}
