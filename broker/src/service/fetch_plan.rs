//! What a fetch request or an assignment asks for, checked.

use std::collections::HashSet;
use std::sync::Arc;

use highwater_proto::{ApiError, PartitionIndex, Reason, TopicId, v1};
use highwater_storage::Offset;
use tokio::time::Instant;

use super::Context;
use crate::authorize::{Operation, Principal, Resource, authorize};
use crate::hosted::HostedPartition;

/// One partition of a request: where to read, or why not.
#[derive(Debug)]
pub(super) struct PlannedRead {
    /// As it was named.
    pub(super) named: Option<v1::TopicPartition>,
    /// From where.
    pub(super) offset: Offset,
    /// At most this many bytes, but one batch at least.
    pub(super) max_bytes: u64,
    /// The leader epoch that the client knows.
    pub(super) known_epoch: Option<u64>,
    /// Whether the client takes what a follower has.
    pub(super) allow_follower: bool,
    /// Since when its subscriber waits for a leader.
    pub(super) opening_since: Option<Instant>,
    /// What to read.
    pub(super) partition: Result<Arc<HostedPartition>, ApiError>,
}

impl PlannedRead {
    /// The partition as an answer names it: with the topic's id.
    pub(super) fn name(&self) -> Option<v1::TopicPartition> {
        match &self.partition {
            Ok(partition) => Some(v1::TopicPartition {
                topic: partition.topic.name.clone(),
                topic_id: bytes::Bytes::copy_from_slice(partition.topic.id.as_bytes()),
                partition: partition.index.0,
            }),
            Err(_) => self.named.clone(),
        }
    }
}

/// Looks up the partitions of a request.
///
/// # Errors
/// For the request as a whole: too many partitions, or one of them twice.
pub(super) fn plan(
    context: &Context,
    principal: &Principal,
    allow_follower: bool,
    partitions: Vec<v1::FetchPartition>,
) -> Result<Vec<PlannedRead>, ApiError> {
    let config = &context.config.fetch;
    let most = config.max_partitions;
    if partitions.len() > most {
        return Err(ApiError::new(
            Reason::LimitExceeded,
            format!(
                "{} partitions are asked for, fetch.max_partitions allows {most}",
                partitions.len()
            ),
        )
        .with("limit", "fetch.max_partitions")
        .with("most", most));
    }
    let mut seen: HashSet<(TopicId, PartitionIndex)> = HashSet::with_capacity(partitions.len());
    let mut planned = Vec::with_capacity(partitions.len());
    for asked in partitions {
        let partition = context
            .find(asked.partition.as_ref())
            .and_then(|partition| {
                authorize(
                    principal,
                    Operation::Read,
                    Resource::Topic(&partition.topic.name),
                )?;
                Ok(partition)
            });
        if let Ok(partition) = &partition
            && !seen.insert((partition.topic.id, partition.index))
        {
            return Err(ApiError::new(
                Reason::InvalidRequest,
                format!(
                    "partition {} of topic {} is asked for twice",
                    partition.index, partition.topic.name
                ),
            ));
        }
        let max_bytes = match asked.max_bytes {
            0 => config.default_partition_bytes,
            max_bytes => max_bytes.min(config.max_bytes),
        };
        planned.push(PlannedRead {
            named: asked.partition,
            offset: Offset(asked.offset),
            max_bytes: u64::from(max_bytes),
            known_epoch: asked.leader_epoch,
            allow_follower,
            opening_since: None,
            partition,
        });
    }
    Ok(planned)
}

/// The format asked for.
///
/// # Errors
/// `INVALID_REQUEST` for an unknown one.
pub(super) fn format(format: i32) -> Result<v1::RecordFormat, ApiError> {
    match v1::RecordFormat::try_from(format) {
        Ok(v1::RecordFormat::Unspecified | v1::RecordFormat::Batches) => {
            Ok(v1::RecordFormat::Batches)
        }
        Ok(v1::RecordFormat::Records) => Ok(v1::RecordFormat::Records),
        Err(_) => Err(ApiError::new(
            Reason::InvalidRequest,
            format!("`format` is {format}, which is no known value"),
        )),
    }
}
