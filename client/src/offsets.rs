//! Finding offsets: where to start reading, and where a partition ends.

use std::future::Future;
use std::time::Instant;

use highwater_proto::{ApiError, Offset, Reason, v1};
use tonic::transport::Channel;
use v1::offset_spec::Spec;
use v1::offsets_service_client::OffsetsServiceClient;

use crate::Error;
use crate::cluster::Cluster;
use crate::retry::wants_metadata;

/// Where to start reading a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the first record that the partition holds.
    Earliest,
    /// Behind the last committed record: only what comes from now on.
    Latest,
    /// At this offset.
    Offset(Offset),
    /// At the first record whose timestamp is this or later, in milliseconds since 1970; behind the last record when
    /// there is none.
    Timestamp(i64),
}

/// An offset that was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundOffset {
    /// The offset.
    pub offset: Offset,
    /// The timestamp of the record there, when it was looked up by time and there is one.
    pub timestamp_ms: Option<i64>,
}

/// Asks the partition's leader, following it if it moves, until the request timeout has passed.
pub(crate) async fn find(
    cluster: &Cluster,
    topic: &str,
    partition: u32,
    start: Start,
) -> Result<FoundOffset, Error> {
    let spec = match start {
        Start::Earliest => Spec::Earliest(v1::EarliestOffset {}),
        Start::Latest => Spec::Latest(v1::LatestOffset {}),
        Start::Timestamp(timestamp_ms) => Spec::TimestampMs(timestamp_ms),
        Start::Offset(offset) => {
            return Ok(FoundOffset {
                offset,
                timestamp_ms: None,
            });
        }
    };
    // Of a time that no record is as late as, the end.
    for spec in [spec, Spec::Latest(v1::LatestOffset {})] {
        if let Some(found) = list(cluster, topic, partition, spec).await? {
            return Ok(found);
        }
    }
    let problem = "the broker answered without an offset";
    Err(Error::Api(ApiError::new(
        Reason::UnknownServerError,
        problem,
    )))
}

/// The first record at or after an offset, with its timestamp where it has one; `None` where there is none yet.
pub(crate) async fn record_at(
    cluster: &Cluster,
    topic: &str,
    partition: u32,
    offset: Offset,
) -> Result<Option<FoundOffset>, Error> {
    list(cluster, topic, partition, Spec::AtOffset(offset.0)).await
}

/// Asks the partition's leader; `None` when there is no such offset.
async fn list(
    cluster: &Cluster,
    topic: &str,
    partition: u32,
    spec: Spec,
) -> Result<Option<FoundOffset>, Error> {
    at_leader(cluster, topic, partition, |channel| {
        ask(cluster, channel, topic, partition, spec)
    })
    .await
}

/// Makes a request to the partition's leader that may be made twice, following the leader if it moves, until the request
/// timeout has passed.
pub(crate) async fn at_leader<T, F>(
    cluster: &Cluster,
    topic: &str,
    partition: u32,
    call: impl Fn(Channel) -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, ApiError>>,
{
    let known = cluster.topic(topic).await?;
    if partition >= known.partitions() {
        cluster.refresh(&[topic.to_owned()]).await?;
    }
    let give_up_at = Instant::now() + cluster.settings.request_timeout;
    let mut failures = 0;
    loop {
        let error = match leader(cluster, topic, partition) {
            Ok(channel) => match call(channel).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            },
            Err(error) => error,
        };
        failures += 1;
        cluster.hint(topic, partition, &error);
        let backoff = cluster.settings.backoff;
        let wait = backoff.wait_after(&error, failures, rand::random());
        let absent = error.code() == tonic::Code::NotFound && failures > 1;
        if absent || !error.is_retriable() || Instant::now() + wait > give_up_at {
            return Err(Error::Partition {
                topic: topic.into(),
                partition,
                source: error,
            });
        }
        tokio::time::sleep(wait).await;
        if wants_metadata(&error)
            && let Err(error) = cluster.refresh(&[topic.to_owned()]).await
        {
            tracing::debug!(%error, "cannot refresh metadata");
        }
    }
}

/// The way to the partition's leader.
fn leader(cluster: &Cluster, topic: &str, partition: u32) -> Result<Channel, ApiError> {
    let metadata = cluster.metadata();
    let known = metadata.topic(topic);
    if known.is_none_or(|known| partition >= known.partitions()) {
        return Err(unknown(topic, partition));
    }
    let Some((_, address)) = metadata.leader(topic, partition) else {
        let problem = format!("partition {partition} of topic {topic} has no leader");
        return Err(ApiError::new(Reason::LeaderNotAvailable, problem));
    };
    cluster
        .channel(address)
        .map_err(|error| ApiError::new(Reason::BrokerNotAvailable, error.to_string()))
}

/// Asks once. `None` when there is no such offset.
async fn ask(
    cluster: &Cluster,
    channel: Channel,
    topic: &str,
    partition: u32,
    spec: Spec,
) -> Result<Option<FoundOffset>, ApiError> {
    let metadata = cluster.metadata();
    let known = metadata.topic(topic);
    let known = known.ok_or_else(|| unknown(topic, partition))?;
    let request = cluster.request(v1::ListOffsetsRequest {
        items: vec![v1::ListOffsetsItem {
            partition: Some(v1::TopicPartition {
                topic: topic.to_owned(),
                topic_id: bytes::Bytes::copy_from_slice(known.id.as_bytes()),
                partition,
            }),
            spec: Some(v1::OffsetSpec { spec: Some(spec) }),
        }],
    });
    let answer = OffsetsServiceClient::new(channel)
        .list_offsets(request)
        .await?;
    let listed = answer.into_inner().offsets.into_iter().next();
    let listed = listed.unwrap_or_default();
    if let Some(error) = listed.error {
        return Err(error.into());
    }
    Ok(listed.offset.map(|offset| FoundOffset {
        offset: Offset(offset),
        timestamp_ms: Some(listed.timestamp_ms).filter(|time| *time >= 0),
    }))
}

fn unknown(topic: &str, partition: u32) -> ApiError {
    let problem = format!("topic {topic} has no partition {partition}");
    ApiError::new(Reason::UnknownTopicOrPartition, problem)
}
