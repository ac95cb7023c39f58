//! Administering topics, and finding offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::join_all;
use highwater_proto::{ApiError, BrokerId, Offset, Reason, TopicId, v1};
use v1::admin_service_client::AdminServiceClient;
use v1::cluster_service_client::ClusterServiceClient;

use crate::Error;
use crate::cluster::{Cluster, MAX_RESPONSE_BYTES, Repeat};
use crate::metadata;
use crate::offsets::{self, FoundOffset, Start};

/// A topic to create.
///
/// ```
/// # use highwater_client::NewTopic;
/// let topic = NewTopic::new("flights").partitions(8).config("retention.ms", "86400000");
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct NewTopic {
    request: v1::CreateTopicRequest,
}

impl NewTopic {
    /// A topic with the broker's default partitions, replicas and configs.
    pub fn new(name: &str) -> Self {
        Self {
            request: v1::CreateTopicRequest {
                name: name.to_owned(),
                ..v1::CreateTopicRequest::default()
            },
        }
    }

    /// Sets the number of partitions.
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.request.partitions = partitions;
        self
    }

    /// Sets the number of replicas of each partition.
    pub fn replication_factor(mut self, replicas: u32) -> Self {
        self.request.replication_factor = replicas;
        self
    }

    /// Sets a topic config by Kafka's name of it.
    pub fn config(mut self, name: &str, value: impl ToString) -> Self {
        self.request
            .configs
            .insert(name.to_owned(), value.to_string());
        self
    }

    /// Only checks whether it could be created.
    pub fn validate_only(mut self) -> Self {
        self.request.validate_only = true;
        self
    }
}

/// A topic that was created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Identity; `None` when it was only validated.
    pub id: Option<TopicId>,
    /// Number of partitions.
    pub partitions: u32,
    /// Replicas of each partition.
    pub replication_factor: u32,
}

/// Changes to the configs of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct ConfigChanges {
    set: BTreeMap<String, String>,
    unset: Vec<String>,
    validate_only: bool,
}

impl ConfigChanges {
    /// No change.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a config.
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.set.insert(name.to_owned(), value.to_string());
        self
    }

    /// Returns a config to its default.
    pub fn unset(mut self, name: &str) -> Self {
        self.unset.push(name.to_owned());
        self
    }

    /// Only checks whether the changes could be made.
    pub fn validate_only(mut self) -> Self {
        self.validate_only = true;
        self
    }
}

/// Administers a cluster. Made by [`Client::admin`](crate::Client::admin).
///
/// Requests that only read are repeated until they succeed or the request timeout has passed; those that change
/// something are repeated only when nothing can have happened.
#[derive(Clone)]
pub struct Admin {
    pub(crate) cluster: Arc<Cluster>,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

/// Makes one unary request: the method of the client, the request, and whether repeating is safe.
macro_rules! ask {
    ($self:ident, $client:ident . $method:ident, $request:expr, $repeat:expr) => {{
        let message = $request;
        $self
            .cluster
            .ask($repeat, |channel| {
                let request = $self.cluster.request(message.clone());
                async move {
                    let mut client =
                        $client::new(channel).max_decoding_message_size(MAX_RESPONSE_BYTES);
                    client.$method(request).await
                }
            })
            .await
    }};
}

mod moves;
mod recovery;

pub use moves::Moves;

impl Admin {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster }
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// `TOPIC_ALREADY_EXISTS`, `INVALID_TOPIC`, `INVALID_PARTITIONS`, `INVALID_REPLICATION_FACTOR`, `INVALID_CONFIG`.
    pub async fn create_topic(&self, topic: NewTopic) -> Result<CreatedTopic, Error> {
        let created = ask!(
            self,
            AdminServiceClient.create_topic,
            topic.request,
            Repeat::Unsafe
        )?;
        Ok(CreatedTopic {
            id: TopicId::from_slice(&created.topic_id),
            partitions: created.partitions,
            replication_factor: created.replication_factor,
        })
    }

    /// A topic with its configs and, per partition, leader, offsets and size. What only a partition's leader knows is asked of
    /// that; where it cannot be had, the partition is described as the broker sees it that was asked first.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`.
    pub async fn describe_topic(&self, name: &str) -> Result<v1::DescribeTopicResponse, Error> {
        let request = v1::DescribeTopicRequest {
            name: name.to_owned(),
            as_known_here: false,
        };
        let mut topic = ask!(
            self,
            AdminServiceClient.describe_topic,
            request.clone(),
            Repeat::Safe
        )?;
        let metadata = self.cluster.refresh(&[name.to_owned()]).await?;
        let led = topic.partitions.iter().filter_map(|p| p.leader_broker_id);
        let leaders: BTreeSet<u32> = led.collect();
        let asked = leaders.into_iter().map(|leader| {
            let request = request.clone();
            let metadata = &metadata;
            async move {
                let address = metadata.address(BrokerId(leader))?;
                let channel = self.cluster.channel(address).ok()?;
                let mut client =
                    AdminServiceClient::new(channel).max_decoding_message_size(MAX_RESPONSE_BYTES);
                let request = self.cluster.short_request(request);
                let answer = client.describe_topic(request).await.ok()?;
                Some((leader, answer.into_inner()))
            }
        });
        for (leader, described) in join_all(asked).await.into_iter().flatten() {
            if described.topic_id != topic.topic_id {
                continue;
            }
            for seen_there in described.partitions {
                let mut partitions = topic.partitions.iter_mut();
                let seen_here = partitions.find(|here| here.partition == seen_there.partition);
                if let Some(seen_here) = seen_here
                    && seen_there.leader_broker_id == Some(leader)
                    && seen_there.leader_epoch >= seen_here.leader_epoch
                {
                    *seen_here = seen_there;
                }
            }
        }
        Ok(topic)
    }

    /// A topic as one broker knows it by itself, with the replicas that it holds. Soon answered or refused, also while nobody
    /// leads partitions or the controller.
    ///
    /// # Errors
    /// The broker cannot be reached; `UNKNOWN_TOPIC_OR_PARTITION`.
    pub async fn describe_topic_on(
        &self,
        broker: &v1::Broker,
        name: &str,
    ) -> Result<v1::DescribeTopicResponse, Error> {
        let request = v1::DescribeTopicRequest {
            name: name.to_owned(),
            as_known_here: true,
        };
        let channel = self.cluster.channel(&metadata::address_of(broker))?;
        let mut client =
            AdminServiceClient::new(channel).max_decoding_message_size(MAX_RESPONSE_BYTES);
        let request = self.cluster.short_request(request);
        Ok(client.describe_topic(request).await?.into_inner())
    }

    /// Every topic, by name, as of now: see [`Admin::linearizable_metadata`].
    ///
    /// # Errors
    /// The broker cannot be reached; `NOT_CONTROLLER` while nobody leads the controller.
    pub async fn list_topics(&self) -> Result<Vec<v1::TopicMetadata>, Error> {
        Ok(self.linearizable_metadata(&[]).await?.topics)
    }

    /// Brokers, and the topics named, or all when none is, with every change that anybody was told of before the call.
    ///
    /// # Errors
    /// The broker cannot be reached; `NOT_CONTROLLER` while nobody leads the controller.
    pub async fn linearizable_metadata(
        &self,
        topics: &[String],
    ) -> Result<v1::ClusterMetadata, Error> {
        let request = v1::GetMetadataRequest {
            topics: topics.to_vec(),
            linearizable: true,
        };
        // A broker that is cut off from the controller is not waited for long: another one may not be.
        let answer = self.cluster.ask(Repeat::Safe, |channel| {
            let request = self.cluster.short_request(request.clone());
            async move {
                let mut client = ClusterServiceClient::new(channel)
                    .max_decoding_message_size(MAX_RESPONSE_BYTES);
                client.get_metadata(request).await
            }
        });
        Ok(answer.await?.metadata.unwrap_or_default())
    }

    /// Brokers, and the topics named, or all when none is, as the broker knows them that answers: it may not have heard yet of
    /// a change that another one has acknowledged, and answers also while nobody leads the controller.
    ///
    /// # Errors
    /// The broker cannot be reached.
    pub async fn metadata(&self, topics: &[String]) -> Result<v1::ClusterMetadata, Error> {
        let request = v1::GetMetadataRequest {
            topics: topics.to_vec(),
            linearizable: false,
        };
        let answer = ask!(
            self,
            ClusterServiceClient.get_metadata,
            request,
            Repeat::Safe
        )?;
        Ok(answer.metadata.unwrap_or_default())
    }

    /// Version, feature level and health of the cluster.
    ///
    /// # Errors
    /// The broker cannot be reached.
    pub async fn describe_cluster(&self) -> Result<v1::DescribeClusterResponse, Error> {
        let request = v1::DescribeClusterRequest {};
        ask!(
            self,
            ClusterServiceClient.describe_cluster,
            request,
            Repeat::Safe
        )
    }

    /// What each of the brokers says of the cluster and of itself, or why it says nothing.
    pub async fn describe_brokers(
        &self,
        brokers: Vec<v1::Broker>,
    ) -> Vec<(v1::Broker, Result<v1::DescribeClusterResponse, Error>)> {
        let asked = brokers.into_iter().map(|broker| async move {
            let described = self.describe_broker(&broker).await;
            (broker, described)
        });
        join_all(asked).await
    }

    async fn describe_broker(
        &self,
        broker: &v1::Broker,
    ) -> Result<v1::DescribeClusterResponse, Error> {
        let channel = self.cluster.channel(&metadata::address_of(broker))?;
        let mut client =
            ClusterServiceClient::new(channel).max_decoding_message_size(MAX_RESPONSE_BYTES);
        let request = self.cluster.short_request(v1::DescribeClusterRequest {});
        Ok(client.describe_cluster(request).await?.into_inner())
    }

    /// Changes configs of a topic.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`, `INVALID_CONFIG`.
    pub async fn alter_topic(&self, name: &str, changes: ConfigChanges) -> Result<(), Error> {
        let request = v1::AlterTopicRequest {
            name: name.to_owned(),
            set: changes.set.into_iter().collect(),
            unset: changes.unset,
            validate_only: changes.validate_only,
            ..v1::AlterTopicRequest::default()
        };
        ask!(self, AdminServiceClient.alter_topic, request, Repeat::Safe).map(drop)
    }

    /// Deletes a topic and its records. With an id, only if the topic of that name has it.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`, `UNKNOWN_TOPIC_ID`.
    pub async fn delete_topic(&self, name: &str, id: Option<TopicId>) -> Result<(), Error> {
        let request = v1::DeleteTopicRequest {
            name: name.to_owned(),
            topic_id: id_bytes(id),
        };
        ask!(
            self,
            AdminServiceClient.delete_topic,
            request,
            Repeat::Unsafe
        )
        .map(drop)
    }

    /// Gives a topic more partitions, `total` altogether. Keys may land elsewhere from then on.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`, `INVALID_PARTITIONS`.
    pub async fn add_partitions(&self, name: &str, total: u32) -> Result<(), Error> {
        let request = v1::AddPartitionsRequest {
            name: name.to_owned(),
            total_partitions: total,
            ..v1::AddPartitionsRequest::default()
        };
        ask!(
            self,
            AdminServiceClient.add_partitions,
            request,
            Repeat::Unsafe
        )
        .map(drop)
    }

    /// Checks whether [`Admin::add_partitions`] would be done, and adds none.
    ///
    /// # Errors
    /// As [`Admin::add_partitions`].
    pub async fn validate_partitions(&self, name: &str, total: u32) -> Result<(), Error> {
        let request = v1::AddPartitionsRequest {
            name: name.to_owned(),
            total_partitions: total,
            validate_only: true,
            ..v1::AddPartitionsRequest::default()
        };
        ask!(
            self,
            AdminServiceClient.add_partitions,
            request,
            Repeat::Safe
        )
        .map(drop)
    }

    /// Removes the records of a partition below an offset, all committed ones when it is `None`; returns the log start
    /// offset afterwards.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`, `OFFSET_OUT_OF_RANGE`.
    pub async fn trim_partition(
        &self,
        topic: &str,
        partition: u32,
        before: Option<Offset>,
    ) -> Result<Offset, Error> {
        let request = v1::TrimPartitionsRequest {
            items: vec![v1::TrimItem {
                partition: Some(v1::TopicPartition {
                    topic: topic.to_owned(),
                    partition,
                    ..v1::TopicPartition::default()
                }),
                before_offset: before.map(u64::from),
            }],
        };
        let trim = |channel| {
            let request = self.cluster.request(request.clone());
            async move {
                let answer = AdminServiceClient::new(channel)
                    .trim_partitions(request)
                    .await?;
                match answer.into_inner().outcomes.into_iter().next() {
                    Some(v1::TrimOutcome {
                        error: Some(error), ..
                    }) => Err(error.into()),
                    Some(outcome) => Ok(Offset(outcome.log_start_offset)),
                    None => Err(ApiError::new(
                        Reason::UnknownServerError,
                        "the broker answered nothing for the partition",
                    )),
                }
            }
        };
        offsets::at_leader(&self.cluster, topic, partition, trim).await
    }

    /// Finds the offset of a start in a partition; see [`Start`].
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`, or the partition's leader cannot be reached.
    pub async fn find_offset(
        &self,
        topic: &str,
        partition: u32,
        start: Start,
    ) -> Result<FoundOffset, Error> {
        offsets::find(&self.cluster, topic, partition, start).await
    }

    /// The first record at or after an offset of a partition, with its timestamp where it has one; `None` where no such record
    /// is committed yet.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`, or the partition's leader cannot be reached.
    pub async fn record_at(
        &self,
        topic: &str,
        partition: u32,
        offset: Offset,
    ) -> Result<Option<FoundOffset>, Error> {
        offsets::record_at(&self.cluster, topic, partition, offset).await
    }
}

fn id_bytes(id: Option<TopicId>) -> bytes::Bytes {
    id.map_or_else(bytes::Bytes::new, |id| {
        bytes::Bytes::copy_from_slice(id.as_bytes())
    })
}
