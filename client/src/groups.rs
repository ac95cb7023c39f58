//! Administering consumer groups and their offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use highwater_proto::{ApiError, BrokerId, Offset, Reason, v1};
use tonic::transport::Channel;
use v1::groups_service_client::GroupsServiceClient;

use crate::cluster::{MAX_RESPONSE_BYTES, Repeat};
use crate::{Admin, Error};

fn client(channel: Channel) -> GroupsServiceClient<Channel> {
    GroupsServiceClient::new(channel).max_decoding_message_size(MAX_RESPONSE_BYTES)
}

/// An error of one partition, if it is one.
fn of_partition(
    partition: Option<&v1::TopicPartition>,
    error: Option<v1::Error>,
) -> Result<(), Error> {
    let Some(error) = error else {
        return Ok(());
    };
    let (topic, index) = partition.map_or(("", 0), |named| (&named.topic[..], named.partition));
    Err(Error::Partition {
        topic: Arc::from(topic),
        partition: index,
        source: error.into(),
    })
}

/// Makes one request to the coordinator of a group.
macro_rules! ask_coordinator {
    ($self:ident, $group:expr, $method:ident, $request:expr, $repeat:expr) => {{
        let message = $request;
        let cluster = &$self.cluster;
        let time = cluster.settings.request_timeout;
        cluster
            .ask_coordinator($group, $repeat, time, |channel| {
                let request = cluster.request(message.clone());
                async move {
                    let answer = client(channel).$method(request).await;
                    Ok(answer.map_err(ApiError::from)?.into_inner())
                }
            })
            .await
    }};
}

impl Admin {
    /// All consumer groups, by id.
    ///
    /// # Errors
    /// `COORDINATOR_NOT_AVAILABLE` when the list cannot be had completely before the request timeout has passed.
    pub async fn list_groups(&self) -> Result<Vec<v1::ListedGroup>, Error> {
        let give_up_at = Instant::now() + self.cluster.settings.request_timeout;
        let mut failures = 0;
        loop {
            let error = match self.try_list_groups().await {
                Ok(groups) => return Ok(groups),
                Err(error) if !error.is_retriable() => return Err(error),
                Err(error) => error,
            };
            failures += 1;
            let wait = self.cluster.settings.backoff.wait(failures, rand::random());
            if Instant::now() + wait > give_up_at {
                return Err(error);
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Asks one broker, and for what that does not coordinate those that it names.
    async fn try_list_groups(&self) -> Result<Vec<v1::ListedGroup>, Error> {
        let request = || self.cluster.request(v1::ListGroupsRequest {});
        let ask = |channel| async move { client(channel).list_groups(request()).await };
        let first = self.cluster.ask(Repeat::Safe, ask).await?;
        let mut groups: BTreeMap<_, _> = first
            .groups
            .into_iter()
            .map(|group| (group.group_id.clone(), group))
            .collect();
        let mut missing: BTreeSet<u32> = first
            .elsewhere
            .iter()
            .map(|share| share.coordinator)
            .collect();
        let brokers: BTreeSet<u32> = first
            .elsewhere
            .iter()
            .filter_map(|share| share.broker_id)
            .collect();
        for broker in brokers {
            let metadata = self.cluster.refresh(&[]).await?;
            let Some(address) = metadata.address(BrokerId(broker)) else {
                continue;
            };
            let answer = client(self.cluster.channel(address)?)
                .list_groups(request())
                .await?
                .into_inner();
            let not_there: BTreeSet<u32> = answer
                .elsewhere
                .iter()
                .map(|share| share.coordinator)
                .collect();
            missing.retain(|coordinator| not_there.contains(coordinator));
            groups.extend(
                answer
                    .groups
                    .into_iter()
                    .map(|group| (group.group_id.clone(), group)),
            );
        }
        if missing.is_empty() {
            return Ok(groups.into_values().collect());
        }
        let problem =
            "some groups have no coordinator at the moment: the list would not be complete";
        Err(Error::Api(ApiError::new(
            Reason::CoordinatorNotAvailable,
            problem,
        )))
    }

    /// A group with its members, their assignment and state.
    ///
    /// # Errors
    /// `GROUP_ID_NOT_FOUND`.
    pub async fn describe_group(&self, group: &str) -> Result<v1::DescribedGroup, Error> {
        let request = v1::DescribeGroupsRequest {
            group_ids: vec![group.to_owned()],
        };
        let cluster = &self.cluster;
        let time = cluster.settings.request_timeout;
        cluster
            .ask_coordinator(group, Repeat::Safe, time, |channel| {
                let request = cluster.request(request.clone());
                async move {
                    let answer = client(channel).describe_groups(request).await?.into_inner();
                    let described = answer.groups.into_iter().next().unwrap_or_default();
                    match described.error {
                        Some(error) => Err(ApiError::from(error)),
                        None => Ok(described),
                    }
                }
            })
            .await
    }

    /// All committed offsets of a group, by topic and partition. None for a group that does not exist.
    ///
    /// # Errors
    /// The coordinator cannot be reached.
    pub async fn group_offsets(&self, group: &str) -> Result<Vec<v1::CommittedOffset>, Error> {
        let request = v1::FetchOffsetsRequest {
            group_id: group.to_owned(),
            ..Default::default()
        };
        let answer = ask_coordinator!(self, group, fetch_offsets, request, Repeat::Safe)?;
        let mut offsets = answer.offsets;
        let place = |offset: &v1::CommittedOffset| {
            offset
                .partition
                .as_ref()
                .map(|named| (named.topic.clone(), named.partition))
        };
        offsets.sort_by_key(place);
        Ok(offsets)
    }

    /// Sets committed offsets of a group that has no members: where it goes on when they come.
    ///
    /// # Errors
    /// `NON_EMPTY_GROUP`; `OFFSET_OUT_OF_RANGE` beyond the end of a partition. Those before the one that failed are set.
    pub async fn set_group_offsets(
        &self,
        group: &str,
        offsets: &[(String, u32, Offset)],
    ) -> Result<(), Error> {
        let to_commit = |(topic, partition, offset): &(String, u32, Offset)| v1::OffsetToCommit {
            partition: Some(named(topic, *partition)),
            offset: offset.0,
            ..Default::default()
        };
        let request = v1::CommitOffsetsRequest {
            group_id: group.to_owned(),
            offsets: offsets.iter().map(to_commit).collect(),
            ..Default::default()
        };
        let answer = ask_coordinator!(self, group, commit_offsets, request, Repeat::Safe)?;
        let mut results = answer.results.into_iter();
        results.try_for_each(|result| of_partition(result.partition.as_ref(), result.error))
    }

    /// Forgets committed offsets of partitions that no member of the group is subscribed to.
    ///
    /// # Errors
    /// `GROUP_ID_NOT_FOUND`, `GROUP_SUBSCRIBED_TO_TOPIC`.
    pub async fn delete_group_offsets(
        &self,
        group: &str,
        partitions: &[(String, u32)],
    ) -> Result<(), Error> {
        let request = v1::DeleteOffsetsRequest {
            group_id: group.to_owned(),
            partitions: partitions
                .iter()
                .map(|(topic, partition)| named(topic, *partition))
                .collect(),
        };
        let answer = ask_coordinator!(self, group, delete_offsets, request, Repeat::Safe)?;
        let mut results = answer.results.into_iter();
        results.try_for_each(|result| of_partition(result.partition.as_ref(), result.error))
    }

    /// Deletes a group without members, with all its committed offsets.
    ///
    /// # Errors
    /// `GROUP_ID_NOT_FOUND`, `NON_EMPTY_GROUP`.
    pub async fn delete_group(&self, group: &str) -> Result<(), Error> {
        let request = v1::DeleteGroupRequest {
            group_id: group.to_owned(),
        };
        ask_coordinator!(self, group, delete_group, request, Repeat::Unsafe)?;
        Ok(())
    }
}

fn named(topic: &str, partition: u32) -> v1::TopicPartition {
    v1::TopicPartition {
        topic: topic.to_owned(),
        topic_id: bytes::Bytes::new(),
        partition,
    }
}
