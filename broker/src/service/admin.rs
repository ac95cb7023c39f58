//! Administration of topics: the controller decides, this broker waits until what it decided is in force here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use highwater_proto::{ApiError, PartitionIndex, Reason, TopicId, v1};
use highwater_storage::{LogId, Offset};
use tokio::sync::Notify;
use tokio::time::Instant;
use tonic::{Request, Response, Status};
use tracing::{info, warn};
use uuid::Uuid;
use v1::admin_service_server::AdminService;

use super::metadata::{Sources, replica_brokers};
use super::{Context, refusals};
use crate::authorize::{Operation, Principal, Resource, authorize};
use crate::controller::{self, ClusterImage, Command, Topic};
use crate::controller_client::unexpected;
use crate::health::Health;
use crate::hosted::{HostedPartition, parse_topic_id, unknown_topic};
use crate::partition::{self, Standing, TrimTo};
use crate::raft::{ReplicaId, Reply};
use crate::replica;
use crate::server::CallDeadline;
use crate::topic::config_keys;

/// Memory of a trim command, for the mailbox.
const TRIM_BYTES: usize = 64;

/// The admin service.
#[derive(Clone)]
pub(crate) struct Admin {
    context: Arc<Context>,
}

impl Admin {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    fn check_configs(&self, count: usize) -> Result<(), ApiError> {
        let most = self.context.config.admin.max_configs;
        within(count, "configs", "admin.max_configs", most)
    }

    fn configs(
        &self,
        configs: HashMap<String, String>,
    ) -> Result<BTreeMap<String, String>, ApiError> {
        self.check_configs(configs.len())?;
        Ok(configs.into_iter().collect())
    }

    /// Waits until this broker has done what the image says, as far as `is_in` tells.
    async fn wait_until(&self, deadline: Instant, is_in: impl FnMut(&Arc<ClusterImage>) -> bool) {
        let mut reconciled = self.context.reconciled.clone();
        let waited = tokio::time::timeout_at(deadline, reconciled.wait_for(is_in)).await;
        if waited.is_err() {
            warn!("a change of topics is durable but not in force on this broker yet");
        }
    }

    /// Waits until each partition of a topic that is to be led from here is.
    async fn wait_for_leaders(&self, topic: TopicId, deadline: Instant) {
        let changed = Arc::new(Notify::new());
        let hosted = self.context.hosted.load();
        let partitions = hosted.of_topic(topic);
        let _watches: Vec<_> = partitions
            .iter()
            .map(|partition| partition.shared.watch(Arc::clone(&changed)))
            .collect();
        for partition in &partitions {
            partition.wake_if_cold();
        }
        while partitions.iter().any(|partition| partition.is_opening()) {
            if tokio::time::timeout_at(deadline, changed.notified())
                .await
                .is_err()
            {
                warn!(%topic, "the topic is durable but not all of its partitions have leaders yet");
                return;
            }
        }
    }

    /// Carries out a change of the topic `name`, once it is clear that the caller may do `operation`. Answers what the
    /// controller said, and until when the caller waits for the change to be in force here.
    async fn change<R>(
        &self,
        operation: Operation,
        name: &str,
        request: Request<R>,
        command: impl FnOnce(R) -> Result<Command, ApiError>,
    ) -> Result<(controller::Response, Instant), ApiError> {
        let call = request.extensions().get::<CallDeadline>().copied();
        let wait = Duration::from_millis(self.context.config.admin.leader_wait_ms.into());
        let deadline = wait_deadline(Instant::now(), wait, call);
        authorize(&Principal::Anonymous, operation, Resource::Topic(name))?;
        let command = command(request.into_inner())?;
        let response = self.context.controller.ask(command).await?;
        Ok((response, deadline))
    }

    fn find(&self, name: &str) -> Result<Arc<Topic>, ApiError> {
        let image = self.context.cluster.image();
        image
            .topic_named(name)
            .cloned()
            .ok_or_else(|| unknown_topic(name))
    }

    async fn trim(&self, item: &v1::TrimItem) -> Result<u64, ApiError> {
        let partition = self.context.find(item.partition.as_ref())?;
        authorize(
            &Principal::Anonymous,
            Operation::Delete,
            Resource::Topic(&partition.topic.name),
        )?;
        let to = item.before_offset.map_or(TrimTo::HighWatermark, |offset| {
            TrimTo::Offset(Offset(offset))
        });
        let (reply, answer) = Reply::once();
        partition.send(partition::Command::Trim { to }, TRIM_BYTES, reply);
        let timeout = Duration::from_millis(u64::from(self.context.config.requests.timeout_ms));
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(Ok(replica::Response::Partition(partition::Response::Trimmed {
                log_start,
            })))) => Ok(log_start.0),
            Ok(Ok(Ok(_))) => Err(unexpected()),
            Ok(Ok(Err(error))) => {
                let error = refusals::of_replica(error);
                Err(self.context.with_leader_of(&partition, error))
            }
            Ok(Err(_)) | Err(_) => Err(ApiError::new(
                Reason::RequestTimedOut,
                "the trim was not acknowledged in time: it may have been carried out",
            )),
        }
    }

    fn describe(&self, topic: &Topic) -> v1::DescribeTopicResponse {
        let context = &self.context;
        let partitions = context.with_sources(|sources| {
            topic
                .numbered()
                .map(|(index, partition)| {
                    let here = sources.hosted.get(topic.id, index);
                    let here = here.map(AsRef::as_ref);
                    let placed = partition.replica_on(context.broker);
                    let replica =
                        placed.map(|placed| describe_replica(here, &context.health, placed.id));
                    v1::PartitionDescription {
                        replica,
                        ..describe_partition(sources, index, partition, here)
                    }
                })
                .collect()
        });
        v1::DescribeTopicResponse {
            name: topic.name.clone(),
            topic_id: Bytes::copy_from_slice(topic.id.as_bytes()),
            replication_factor: topic.replication_factor,
            configs: configs_of(topic),
            partitions,
        }
    }
}

/// Until when a change that is durable may wait to be in force. Ends well before the call does: its caller must learn
/// that the change was made.
fn wait_deadline(now: Instant, wait: Duration, call: Option<CallDeadline>) -> Instant {
    let left = call.map_or(wait, |call| call.0.saturating_duration_since(now) / 4 * 3);
    now + wait.min(left)
}

/// Whether a request may hold `count` of `what`.
fn within(count: usize, what: &str, limit: &'static str, most: usize) -> Result<(), ApiError> {
    if count <= most {
        return Ok(());
    }
    Err(ApiError::new(
        Reason::LimitExceeded,
        format!("the request holds {count} {what}, {limit} allows {most}"),
    )
    .with("limit", limit)
    .with("most", most))
}

fn describe_partition(
    sources: &Sources<'_>,
    index: PartitionIndex,
    partition: &controller::Partition,
    here: Option<&HostedPartition>,
) -> v1::PartitionDescription {
    let (leader, term) = sources.leaders.of(partition, here);
    let in_sync = leader.map_or_else(Vec::new, |_| sources.leaders.in_sync(partition));
    let mut description = v1::PartitionDescription {
        partition: index.0,
        leader_broker_id: leader.map(|broker| broker.0),
        leader_epoch: term.0,
        replica_broker_ids: replica_brokers(partition),
        in_sync_broker_ids: in_sync.into_iter().map(|broker| broker.0).collect(),
        ..Default::default()
    };
    if let Some(here) = here {
        let segments = here.reader.segments();
        description.log_start_offset = here.shared.log_start().0;
        description.high_watermark = here.shared.high_watermark().0;
        description.log_bytes = segments.iter().map(|segment| segment.bytes).sum();
        if here.shared.standing() == Standing::Quarantined {
            description.error = Some(quarantined().into());
        }
    }
    description
}

/// The replica of this broker, which is to be here.
fn describe_replica(
    here: Option<&HostedPartition>,
    health: &Health,
    id: ReplicaId,
) -> v1::ReplicaDescription {
    let finding = health.finding_of(LogId(id.0));
    let Some(here) = here else {
        let standing = match finding {
            Some(_) => v1::ReplicaStanding::Failed,
            None => v1::ReplicaStanding::Starting,
        };
        return v1::ReplicaDescription {
            standing: standing.into(),
            finding,
            ..Default::default()
        };
    };
    let standing = match here.shared.standing() {
        Standing::Serving { .. } => v1::ReplicaStanding::Leading,
        Standing::Opening { .. } => v1::ReplicaStanding::Opening,
        Standing::Following {
            leader: Some(_), ..
        } => v1::ReplicaStanding::Following,
        Standing::Following { leader: None, .. } => v1::ReplicaStanding::Leaderless,
        Standing::Quarantined => v1::ReplicaStanding::Failed,
    };
    let segments = here.reader.segments().into_iter();
    let newest = segments.map(|segment| segment.max_timestamp_ms).max();
    v1::ReplicaDescription {
        standing: standing.into(),
        finding,
        high_watermark: here.shared.high_watermark().0,
        newest_timestamp_ms: newest.filter(|newest| *newest >= 0),
        leaderless_ms: here
            .shared
            .leaderless_for()
            .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
    }
}

fn quarantined() -> ApiError {
    ApiError::new(
        Reason::StorageError,
        "the partition's log failed or is damaged: it takes no records; see the broker's health",
    )
}

fn configs_of(topic: &Topic) -> Vec<v1::TopicConfig> {
    config_keys::describe(&topic.overrides)
        .into_iter()
        .map(|setting| {
            let source = if setting.is_override {
                v1::ConfigSource::Topic
            } else {
                v1::ConfigSource::Default
            };
            v1::TopicConfig {
                name: setting.name.to_owned(),
                value: setting.value,
                source: source.into(),
                documentation: setting.documentation.to_owned(),
            }
        })
        .collect()
}

/// A topic id that may be absent.
fn optional_id(bytes: &[u8]) -> Result<Option<TopicId>, ApiError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    parse_topic_id(bytes).map(Some)
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn create_topic(
        &self,
        request: Request<v1::CreateTopicRequest>,
    ) -> Result<Response<v1::CreateTopicResponse>, Status> {
        let name = request.get_ref().name.clone();
        let command = |request: v1::CreateTopicRequest| {
            Ok(Command::CreateTopic(controller::CreateTopic {
                topic_id: TopicId(Uuid::new_v4()),
                name: request.name,
                partitions: (request.partitions > 0).then_some(request.partitions),
                replication_factor: (request.replication_factor > 0)
                    .then_some(request.replication_factor),
                configs: self.configs(request.configs)?,
                avoid: BTreeSet::new(),
                validate_only: request.validate_only,
            }))
        };
        let (response, deadline) = self
            .change(Operation::Create, &name, request, command)
            .await?;
        let controller::Response::TopicCreated {
            topic_id,
            partitions,
            replication_factor,
        } = response
        else {
            return Err(unexpected().into());
        };
        if let Some(id) = topic_id {
            self.wait_until(deadline, |image| image.topic(id).is_some())
                .await;
            self.wait_for_leaders(id, deadline).await;
            info!(topic = name, %id, partitions, "topic created");
        }
        Ok(Response::new(v1::CreateTopicResponse {
            topic_id: topic_id.map_or_else(Bytes::new, |id| Bytes::copy_from_slice(id.as_bytes())),
            partitions,
            replication_factor,
        }))
    }

    async fn describe_topic(
        &self,
        request: Request<v1::DescribeTopicRequest>,
    ) -> Result<Response<v1::DescribeTopicResponse>, Status> {
        let name = request.get_ref().name.as_str();
        if authorize(
            &Principal::Anonymous,
            Operation::Describe,
            Resource::Topic(name),
        )
        .is_err()
        {
            return Err(unknown_topic(name).into());
        }
        if !request.get_ref().as_known_here {
            self.context.newest_image(&request).await?;
        }
        let topic = self.find(name)?;
        Ok(Response::new(self.describe(&topic)))
    }

    async fn alter_topic(
        &self,
        request: Request<v1::AlterTopicRequest>,
    ) -> Result<Response<v1::AlterTopicResponse>, Status> {
        let name = request.get_ref().name.clone();
        let validate_only = request.get_ref().validate_only;
        let command = |request: v1::AlterTopicRequest| {
            self.check_configs(request.unset.len())?;
            Ok(Command::AlterTopic(controller::AlterTopic {
                name: request.name,
                topic_id: optional_id(&request.topic_id)?,
                set: self.configs(request.set)?,
                unset: request.unset,
                validate_only,
            }))
        };
        let (_, deadline) = self
            .change(Operation::Alter, &name, request, command)
            .await?;
        if !validate_only {
            let version = self.context.cluster.image().version();
            self.wait_until(deadline, |image| image.version() >= version)
                .await;
            info!(topic = name, "topic altered");
        }
        Ok(Response::new(v1::AlterTopicResponse {}))
    }

    async fn delete_topic(
        &self,
        request: Request<v1::DeleteTopicRequest>,
    ) -> Result<Response<v1::DeleteTopicResponse>, Status> {
        let name = request.get_ref().name.clone();
        let command = |request: v1::DeleteTopicRequest| {
            Ok(Command::DeleteTopic(controller::DeleteTopic {
                name: request.name,
                topic_id: optional_id(&request.topic_id)?,
            }))
        };
        let (response, deadline) = self
            .change(Operation::Delete, &name, request, command)
            .await?;
        let controller::Response::TopicDeleted { topic_id } = response else {
            return Err(unexpected().into());
        };
        self.wait_until(deadline, |image| image.topic(topic_id).is_none())
            .await;
        info!(topic = name, id = %topic_id, "topic deleted");
        Ok(Response::new(v1::DeleteTopicResponse {
            topic_id: Bytes::copy_from_slice(topic_id.as_bytes()),
        }))
    }

    async fn add_partitions(
        &self,
        request: Request<v1::AddPartitionsRequest>,
    ) -> Result<Response<v1::AddPartitionsResponse>, Status> {
        let name = request.get_ref().name.clone();
        let (total, validate_only) = {
            let request = request.get_ref();
            (request.total_partitions, request.validate_only)
        };
        let command = |request: v1::AddPartitionsRequest| {
            Ok(Command::AddPartitions(controller::AddPartitions {
                name: request.name,
                topic_id: optional_id(&request.topic_id)?,
                total,
                avoid: BTreeSet::new(),
                validate_only,
            }))
        };
        let (_, deadline) = self
            .change(Operation::Alter, &name, request, command)
            .await?;
        if !validate_only {
            let id = self.find(&name)?.id;
            self.wait_until(deadline, |image| {
                image
                    .topic(id)
                    .is_none_or(|topic| topic.partitions.len() >= total as usize)
            })
            .await;
            self.wait_for_leaders(id, deadline).await;
            info!(topic = name, partitions = total, "partitions added");
        }
        Ok(Response::new(v1::AddPartitionsResponse {}))
    }

    async fn trim_partitions(
        &self,
        request: Request<v1::TrimPartitionsRequest>,
    ) -> Result<Response<v1::TrimPartitionsResponse>, Status> {
        let items = request.into_inner().items;
        let most = self.context.config.admin.max_items;
        within(items.len(), "partitions", "admin.max_items", most)?;
        let mut seen = std::collections::HashSet::new();
        for item in &items {
            if let Ok(partition) = self.context.hosted.find(item.partition.as_ref())
                && !seen.insert((partition.topic.id, partition.index))
            {
                return Err(ApiError::new(
                    Reason::InvalidRequest,
                    format!(
                        "partition {} of topic {} stands twice in the request",
                        partition.index, partition.topic.name
                    ),
                )
                .into());
            }
        }
        let mut outcomes = Vec::with_capacity(items.len());
        for item in items {
            let trimmed = self.trim(&item).await;
            let (error, log_start_offset) = match trimmed {
                Ok(log_start) => (None, log_start),
                Err(error) => {
                    let requests = &self.context.metrics.requests;
                    requests.failed_with("TrimPartitions", error.reason_name());
                    (Some(error.into()), 0)
                }
            };
            outcomes.push(v1::TrimOutcome {
                partition: item.partition,
                error,
                log_start_offset,
            });
        }
        Ok(Response::new(v1::TrimPartitionsResponse { outcomes }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_answered_before_its_caller_gives_up() {
        let now = Instant::now();
        let wait = Duration::from_secs(30);
        let in_seconds = |seconds| Some(CallDeadline(now + Duration::from_secs(seconds)));
        assert_eq!(wait_deadline(now, wait, None), now + wait);
        assert_eq!(wait_deadline(now, wait, in_seconds(60)), now + wait);
        let soon = wait_deadline(now, wait, in_seconds(4));
        assert_eq!(soon, now + Duration::from_secs(3));
    }
}
