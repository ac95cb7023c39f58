//! Metadata and the state of the cluster.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use highwater_proto::{ApiError, Reason, v1};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tonic::{Request, Response, Status};
use v1::cluster_service_server::ClusterService;

use super::metadata::Sources;
use super::{Context, refusals};
use crate::authorize::{Operation, Principal, Resource, authorize};
use crate::controller::ClusterImage;
use crate::health::finding;
use crate::server::{CallDeadline, ListenerName, Origin};

/// Changes of leaders that come within this time after others were told are told together: after a start or a failure
/// thousands of partitions elect at once, and each answer holds all of them.
const GATHER: Duration = Duration::from_millis(50);

/// The cluster service.
#[derive(Clone)]
pub(crate) struct Cluster {
    context: Arc<Context>,
}

impl Cluster {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

impl Context {
    /// The cluster with the named topics, or with all that `principal` may see.
    fn metadata(
        &self,
        principal: &Principal,
        listener: &str,
        names: &[String],
    ) -> v1::ClusterMetadata {
        let may_see =
            |name: &str| authorize(principal, Operation::Describe, Resource::Topic(name)).is_ok();
        self.with_sources(|sources| sources.metadata(listener, names, may_see))
    }

    /// What metadata is made of, as it is now.
    pub(super) fn with_sources<T>(&self, use_them: impl FnOnce(&Sources<'_>) -> T) -> T {
        let leader_changes = self.hosted.leaderships().version() + self.cluster.role_changes();
        use_them(&Sources {
            leader_changes,
            image: &self.cluster.image(),
            hosted: &self.hosted.load(),
            controller_role: self.cluster.role(),
            leaders: &self.leaders,
        })
    }

    /// The image with every change that anybody was told of before the call. Whoever asks in vain learns why before the deadline of
    /// the call.
    ///
    /// # Errors
    /// As [`read_barrier`](crate::controller_client::ControllerClient::read_barrier).
    pub(super) async fn newest_image<T>(
        &self,
        request: &Request<T>,
    ) -> Result<Arc<ClusterImage>, ApiError> {
        let deadline = request.extensions().get::<CallDeadline>();
        let limit = Duration::from_millis(u64::from(self.config.requests.timeout_ms));
        let left = deadline.map_or(limit, |deadline| {
            deadline.0.saturating_duration_since(Instant::now())
        });
        let controller = self.controller.with_timeout(limit.min(left) / 4 * 3);
        controller.read_barrier().await
    }

    pub(super) fn check_names(&self, names: &[String]) -> Result<(), ApiError> {
        let most = self.config.admin.max_names;
        if names.len() > most {
            return Err(ApiError::new(
                Reason::LimitExceeded,
                format!(
                    "{} topics are named, admin.max_names allows {most}",
                    names.len()
                ),
            )
            .with("limit", "admin.max_names")
            .with("most", most));
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl ClusterService for Cluster {
    async fn get_metadata(
        &self,
        request: Request<v1::GetMetadataRequest>,
    ) -> Result<Response<v1::GetMetadataResponse>, Status> {
        let principal = Principal::Anonymous;
        authorize(&principal, Operation::Describe, Resource::Cluster)?;
        let listener = listener_of(&request);
        self.context.check_names(&request.get_ref().topics)?;
        if request.get_ref().linearizable {
            self.context.newest_image(&request).await?;
        }
        let names = request.into_inner().topics;
        let metadata = self.context.metadata(&principal, listener.as_str(), &names);
        Ok(Response::new(v1::GetMetadataResponse {
            metadata: Some(metadata),
        }))
    }

    type WatchMetadataStream = BoxStream<'static, Result<v1::WatchMetadataResponse, Status>>;

    async fn watch_metadata(
        &self,
        request: Request<v1::WatchMetadataRequest>,
    ) -> Result<Response<Self::WatchMetadataStream>, Status> {
        let principal = Principal::Anonymous;
        authorize(&principal, Operation::Describe, Resource::Cluster)?;
        let listener = listener_of(&request);
        let names = request.into_inner().topics;
        self.context.check_names(&names)?;
        let place = Arc::clone(&self.context.watches)
            .try_acquire_owned()
            .map_err(|_| {
                ApiError::new(
                    Reason::Throttled,
                    "as many metadata watches are open as may be (admin.max_watches): try again later",
                )
                .with("limit", "admin.max_watches")
            })?;
        let watch = MetadataWatch {
            context: Arc::clone(&self.context),
            principal,
            listener,
            names,
            sent: None,
            sent_at: Instant::now(),
            _place: place,
        };
        Ok(Response::new(watch.into_stream()))
    }

    async fn describe_cluster(
        &self,
        request: Request<v1::DescribeClusterRequest>,
    ) -> Result<Response<v1::DescribeClusterResponse>, Status> {
        authorize(
            &Principal::Anonymous,
            Operation::Describe,
            Resource::Cluster,
        )?;
        let context = &self.context;
        let mut findings = context.health.findings();
        findings.extend(under_replicated(context));
        let health = findings
            .iter()
            .map(|finding| finding.state)
            .max()
            .unwrap_or(v1::HealthState::Ok.into());
        let hosted = context.hosted.load();
        let log_bytes = hosted
            .iter()
            .flat_map(|partition| partition.reader.segments())
            .map(|segment| segment.bytes)
            .sum();
        let image = context.cluster.image();
        let budget = &context.budget;
        let listener = listener_of(&request);
        let response = context.with_sources(|sources| v1::DescribeClusterResponse {
            cluster_id: sources.cluster_id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            feature_level: image.feature_level(),
            brokers: sources.brokers(listener.as_str()),
            controller_broker_id: sources.controller(),
            topic_count: u32::try_from(image.client_topics().count()).unwrap_or(u32::MAX),
            partition_count: u32::try_from(image.client_partition_count()).unwrap_or(u32::MAX),
            health,
            findings,
            broker_id: context.broker.0,
            log_bytes,
            free_bytes: context.health.free_bytes(),
            request_memory_bytes: budget.total_bytes().saturating_sub(budget.free_bytes()),
            request_memory_limit_bytes: budget.total_bytes(),
        });
        Ok(Response::new(response))
    }
}

/// That replicas of partitions which are led here do not keep up, where that is so.
fn under_replicated(context: &Context) -> Option<v1::HealthFinding> {
    let found = context.under_replicated();
    let first = found.first()?;
    let behind: Vec<_> = first.behind.iter().map(ToString::to_string).collect();
    Some(finding(
        v1::HealthState::Warning,
        "UNDER_REPLICATED",
        format!(
            "{} of the partitions that are led here have replicas that are not in sync, such as {}-{} on broker {}. Those on brokers \
             that are up catch up by themselves",
            found.len(),
            first.partition.topic.name,
            first.partition.index,
            behind.join(", "),
        ),
    ))
}

/// The listener that a request came in by.
fn listener_of<T>(request: &Request<T>) -> ListenerName {
    let origin = request.extensions().get::<Origin>();
    origin.map_or_else(ListenerName::default, |origin| origin.listener.clone())
}

/// A client that wants to know of changes.
struct MetadataWatch {
    context: Arc<Context>,
    principal: Principal,
    listener: ListenerName,
    names: Vec<String>,
    sent: Option<v1::ClusterMetadata>,
    sent_at: Instant,
    _place: OwnedSemaphorePermit,
}

impl MetadataWatch {
    fn into_stream(self) -> BoxStream<'static, Result<v1::WatchMetadataResponse, Status>> {
        let messages = futures::stream::unfold(Some(self), |watch| async move {
            let mut watch = watch?;
            match watch.next().await {
                Ok(metadata) => {
                    let metadata = Some(metadata);
                    Some((Ok(v1::WatchMetadataResponse { metadata }), Some(watch)))
                }
                Err(error) => Some((Err(error.into_status()), None)),
            }
        });
        Box::pin(messages)
    }

    /// The metadata once it differs from what was sent last.
    async fn next(&mut self) -> Result<v1::ClusterMetadata, ApiError> {
        // Subscribed before the look, so that no change falls between.
        let mut reconciled = self.context.reconciled.clone();
        let mut role = self.context.cluster.watch_role();
        let mut leaderships = self.context.hosted.leaderships().watch();
        let mut up = self.context.leaders.up.clone();
        loop {
            reconciled.mark_unchanged();
            role.mark_unchanged();
            leaderships.mark_unchanged();
            up.mark_unchanged();
            let now = self
                .context
                .metadata(&self.principal, self.listener.as_str(), &self.names);
            if self.sent.as_ref().is_none_or(|sent| concerns(sent, &now)) {
                self.sent = Some(now.clone());
                self.sent_at = Instant::now();
                return Ok(now);
            }
            let stop = self.context.stop.clone();
            // What operators did is told at once, and the first change of a leader. More leaders may change at a time.
            let gathered_at = self.sent_at + GATHER;
            let changed = async {
                tokio::select! {
                    changed = reconciled.changed() => changed.is_ok(),
                    changed = role.changed() => changed.is_ok(),
                    changed = leaderships.changed() => {
                        tokio::time::sleep_until(gathered_at).await;
                        changed.is_ok()
                    }
                    changed = up.changed() => changed.is_ok(),
                }
            };
            let alive = tokio::select! {
                alive = changed => alive,
                () = stop.cancelled() => false,
            };
            if !alive {
                return Err(refusals::shutting_down());
            }
        }
    }
}

/// Whether a watcher that was sent `sent` must hear of `now`. A new version alone, for topics it did not ask for, is
/// nothing to it.
fn concerns(sent: &v1::ClusterMetadata, now: &v1::ClusterMetadata) -> bool {
    (&sent.cluster_id, &sent.brokers, &sent.topics) != (&now.cluster_id, &now.brokers, &now.topics)
        || sent.controller_broker_id != now.controller_broker_id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_other_topics_does_not_concern() {
        let sent = v1::ClusterMetadata {
            version: 1,
            ..Default::default()
        };
        let mut now = v1::ClusterMetadata {
            version: 2,
            ..Default::default()
        };
        assert!(!concerns(&sent, &now));
        now.topics.push(v1::TopicMetadata::default());
        assert!(concerns(&sent, &now));
    }
}
