//! Consumer groups: joining, leaving, committed offsets.
//!
//! Any broker is asked; the one whose replica leads the group's coordinator answers, the others say which that is. What a
//! coordinator answers it has decided while it led, and offsets are read only after a majority has confirmed that it still
//! does, so that nobody is told of an older offset than one that was committed.

mod answer;
mod intake;
mod lag;
mod place;
mod watermarks;

use std::sync::Arc;
use std::time::Duration;

use highwater_proto::{ApiError, Reason, v1};
use tokio::time::Instant;
use tonic::{Request, Response, Status};
use v1::groups_service_server::GroupsService;

use super::Context;
use crate::authorize::{Operation, Principal, Resource, authorize};
use crate::coordinator::{self, Command, DeleteOffsets, FetchOffsets, Presence};
use crate::server::CallDeadline;
pub(crate) use lag::GroupLags;
use place::Place;

/// Time kept back from a call's deadline, so that the answer still gets out.
const ANSWER_TIME: Duration = Duration::from_millis(100);

/// The groups service.
#[derive(Clone)]
pub(crate) struct Groups {
    context: Arc<Context>,
}

impl Groups {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// The place of a group, which the caller may do this with.
    async fn place(
        &self,
        group: &str,
        operation: Operation,
    ) -> Result<(Arc<str>, Place), ApiError> {
        let group = self.allowed(group, operation)?;
        let place = self.context.place_of(&group).await?;
        Ok((group, place))
    }

    fn allowed(&self, group: &str, operation: Operation) -> Result<Arc<str>, ApiError> {
        let group = intake::group_id(group)?;
        authorize(&Principal::Anonymous, operation, Resource::Group(&group))?;
        Ok(group)
    }

    async fn beat(
        &self,
        request: v1::HeartbeatRequest,
        deadline: Option<Instant>,
    ) -> Result<v1::HeartbeatResponse, ApiError> {
        let context = &self.context;
        let group = self.allowed(&request.group_id, Operation::Read)?;
        let config = &context.config.groups;
        let mut heartbeat = intake::heartbeat(&request, &group, config)?;
        for topic in request
            .subscription
            .iter()
            .flat_map(|subscription| &subscription.topics)
        {
            authorize(
                &Principal::Anonymous,
                Operation::Read,
                Resource::Topic(topic),
            )?;
        }
        let interval_ms = config
            .heartbeat_interval_ms
            .min(heartbeat.session_timeout_ms / 3)
            .max(1);
        let wait = Duration::from_millis(u64::from(request.max_wait_ms.min(interval_ms)));
        let mut answer_by = Instant::now() + wait;
        if let Some(deadline) = deadline {
            answer_by = answer_by.min(deadline.checked_sub(ANSWER_TIME).unwrap_or(deadline));
        }
        let place = context.place_of(&group).await?;
        let watch = place.coordinator.view.watch(&group);
        loop {
            heartbeat.catalog = context.coordination.catalog();
            heartbeat.at = context.coordination.now();
            let command = Command::Heartbeat(Box::new(heartbeat.clone()));
            let response = context
                .ask(&place, command, intake::bytes_of(&request))
                .await?;
            let coordinator::Response::Member {
                epoch,
                assignment,
                session_timeout_ms,
                ..
            } = response
            else {
                return Ok(answer::left(request.member_epoch));
            };
            let is_news = assignment.is_some() || !matches!(heartbeat.presence, Presence::Stay(_));
            // What it said to want is known by now.
            heartbeat.subscription = None;
            let is_over = is_news
                || tokio::select! {
                    () = watch.changed() => false,
                    () = tokio::time::sleep_until(answer_by) => true,
                    () = context.stop.cancelled() => true,
                };
            if is_over {
                let assignment = assignment.map(|partitions| context.name_partitions(&partitions));
                return Ok(v1::HeartbeatResponse {
                    member_epoch: answer::epoch(epoch),
                    heartbeat_interval_ms: interval_ms,
                    assignment: assignment.map(|partitions| v1::Assignment { partitions }),
                    session_timeout_ms,
                });
            }
        }
    }

    async fn commit(
        &self,
        request: v1::CommitOffsetsRequest,
    ) -> Result<v1::CommitOffsetsResponse, ApiError> {
        let context = &self.context;
        let group = self.allowed(&request.group_id, Operation::Read)?;
        let member = intake::asker(&request.member_id, request.member_epoch)?;
        intake::check_items(request.offsets.len(), &context.config.groups)?;
        let mut items = intake::Items::new(&request.offsets);
        for (at, offset) in request.offsets.iter().enumerate() {
            items.set(at, context.offset_to_commit(offset));
        }
        items.refuse_repeated()?;
        let place = context.place_of(&group).await?;
        context.check_watermarks(&mut items).await;
        let (positions, lawful) = items.lawful();
        let command = Command::Commit(coordinator::Commit {
            group,
            member,
            items: lawful,
        });
        let response = context
            .ask(&place, command, intake::bytes_of(&request))
            .await?;
        let coordinator::Response::Items(refusals) = response else {
            return Err(answer::unexpected());
        };
        for (at, refusal) in positions.into_iter().zip(refusals) {
            if let Some(refusal) = refusal {
                items.set(at, Err(super::refusals::of_coordinator(&refusal)));
            }
        }
        let results = request.offsets.into_iter().zip(items.into_errors());
        let results =
            results.map(|(offset, error)| context.result("CommitOffsets", offset.partition, error));
        Ok(v1::CommitOffsetsResponse {
            results: results.collect(),
        })
    }

    async fn fetch(
        &self,
        request: v1::FetchOffsetsRequest,
    ) -> Result<v1::FetchOffsetsResponse, ApiError> {
        let context = &self.context;
        intake::check_items(request.partitions.len(), &context.config.groups)?;
        let member = intake::asker(&request.member_id, request.member_epoch)?;
        let (group, place) = self.place(&request.group_id, Operation::Describe).await?;
        let resolved: Vec<_> = request
            .partitions
            .iter()
            .map(|named| context.topic_partition(Some(named)))
            .collect();
        let wanted = resolved
            .iter()
            .filter_map(|resolved| resolved.as_ref().ok())
            .copied();
        let fetch = FetchOffsets {
            group,
            member,
            partitions: (!resolved.is_empty()).then(|| wanted.collect()),
        };
        // What others were told before this call is in what is read now.
        context.confirm_leadership(&place).await?;
        let response = context
            .ask(
                &place,
                Command::FetchOffsets(fetch),
                intake::bytes_of(&request),
            )
            .await?;
        let coordinator::Response::Offsets(found) = response else {
            return Err(answer::unexpected());
        };
        let offsets = if resolved.is_empty() {
            let named = found.into_iter().map(|(partition, offset)| {
                answer::offset(context.name_partition(partition), offset)
            });
            named.collect()
        } else {
            let mut found = found.into_iter();
            let answers =
                request.partitions.into_iter().zip(resolved).map(
                    |(named, resolved)| match resolved {
                        Ok(_) => answer::offset(named, found.next().and_then(|(_, offset)| offset)),
                        Err(error) => context.offset_error(named, error),
                    },
                );
            answers.collect()
        };
        Ok(v1::FetchOffsetsResponse { offsets })
    }

    async fn delete(
        &self,
        request: v1::DeleteOffsetsRequest,
    ) -> Result<v1::DeleteOffsetsResponse, ApiError> {
        let context = &self.context;
        intake::check_items(request.partitions.len(), &context.config.groups)?;
        let (group, place) = self.place(&request.group_id, Operation::Delete).await?;
        let resolved: Vec<_> = request
            .partitions
            .iter()
            .map(|named| context.topic_partition(Some(named)))
            .collect();
        let partitions = resolved
            .iter()
            .filter_map(|resolved| resolved.as_ref().ok())
            .copied();
        let command = Command::DeleteOffsets(DeleteOffsets {
            group,
            partitions: partitions.collect(),
        });
        let response = context
            .ask(&place, command, intake::bytes_of(&request))
            .await?;
        let coordinator::Response::Items(refusals) = response else {
            return Err(answer::unexpected());
        };
        let mut refusals = refusals.into_iter();
        let results = request
            .partitions
            .into_iter()
            .zip(resolved)
            .map(|(named, resolved)| {
                let error = match resolved {
                    Ok(_) => refusals
                        .next()
                        .flatten()
                        .map(|error| super::refusals::of_coordinator(&error)),
                    Err(error) => Some(error),
                };
                context.result("DeleteOffsets", Some(named), error)
            });
        Ok(v1::DeleteOffsetsResponse {
            results: results.collect(),
        })
    }

    async fn describe_one(&self, group: &str) -> Result<v1::DescribedGroup, ApiError> {
        let (group, place) = self.place(group, Operation::Describe).await?;
        self.context.confirm_leadership(&place).await?;
        let bytes = group.len();
        let at = self.context.coordination.now();
        let response = self
            .context
            .ask(&place, Command::Describe { group, at }, bytes)
            .await?;
        match response {
            coordinator::Response::Group(group) => Ok(self.context.describe(*group)),
            _ => Err(answer::unexpected()),
        }
    }

    async fn list(&self) -> Result<v1::ListGroupsResponse, ApiError> {
        authorize(
            &Principal::Anonymous,
            Operation::Describe,
            Resource::Cluster,
        )?;
        let mut groups = Vec::new();
        let mut elsewhere = Vec::new();
        for (index, place) in self.context.places().await? {
            let broker_id = match place {
                Ok(place) => {
                    let confirmed = self.context.confirm_leadership(&place).await;
                    let listed = match confirmed {
                        Ok(()) => self.context.ask(&place, Command::List, 0).await,
                        Err(error) => Err(error),
                    };
                    match listed {
                        Ok(coordinator::Response::Groups(found)) => {
                            groups.extend(found.into_iter().map(answer::listed));
                            continue;
                        }
                        Ok(_) => return Err(answer::unexpected()),
                        Err(error) => place::hint_of(&error),
                    }
                }
                Err(error) => place::hint_of(&error),
            };
            elsewhere.push(v1::ElsewhereCoordinated {
                coordinator: index.0,
                broker_id,
            });
        }
        groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
        Ok(v1::ListGroupsResponse {
            groups,
            broker_id: self.context.broker.0,
            elsewhere,
        })
    }
}

#[tonic::async_trait]
impl GroupsService for Groups {
    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        let deadline = request
            .extensions()
            .get::<CallDeadline>()
            .map(|deadline| deadline.0);
        Ok(Response::new(
            self.beat(request.into_inner(), deadline).await?,
        ))
    }

    async fn commit_offsets(
        &self,
        request: Request<v1::CommitOffsetsRequest>,
    ) -> Result<Response<v1::CommitOffsetsResponse>, Status> {
        Ok(Response::new(self.commit(request.into_inner()).await?))
    }

    async fn fetch_offsets(
        &self,
        request: Request<v1::FetchOffsetsRequest>,
    ) -> Result<Response<v1::FetchOffsetsResponse>, Status> {
        Ok(Response::new(self.fetch(request.into_inner()).await?))
    }

    async fn delete_offsets(
        &self,
        request: Request<v1::DeleteOffsetsRequest>,
    ) -> Result<Response<v1::DeleteOffsetsResponse>, Status> {
        Ok(Response::new(self.delete(request.into_inner()).await?))
    }

    async fn describe_groups(
        &self,
        request: Request<v1::DescribeGroupsRequest>,
    ) -> Result<Response<v1::DescribeGroupsResponse>, Status> {
        let group_ids = request.into_inner().group_ids;
        intake::check_items(group_ids.len(), &self.context.config.groups)?;
        let mut groups = Vec::with_capacity(group_ids.len());
        for group_id in group_ids {
            groups.push(match self.describe_one(&group_id).await {
                Ok(described) => described,
                Err(error) => {
                    let requests = &self.context.metrics.requests;
                    requests.failed_with("DescribeGroups", error.reason_name());
                    v1::DescribedGroup {
                        group_id,
                        error: Some(error.into()),
                        ..v1::DescribedGroup::default()
                    }
                }
            });
        }
        Ok(Response::new(v1::DescribeGroupsResponse { groups }))
    }

    async fn list_groups(
        &self,
        _request: Request<v1::ListGroupsRequest>,
    ) -> Result<Response<v1::ListGroupsResponse>, Status> {
        Ok(Response::new(self.list().await?))
    }

    async fn delete_group(
        &self,
        request: Request<v1::DeleteGroupRequest>,
    ) -> Result<Response<v1::DeleteGroupResponse>, Status> {
        let request = request.into_inner();
        let (group, place) = self.place(&request.group_id, Operation::Delete).await?;
        let bytes = group.len();
        match self
            .context
            .ask(&place, Command::DeleteGroup { group }, bytes)
            .await?
        {
            coordinator::Response::Done => Ok(Response::new(v1::DeleteGroupResponse {})),
            _ => Err(answer::unexpected().into()),
        }
    }
}

impl Context {
    /// The result of one item, counted where it failed.
    fn result(
        &self,
        method: &str,
        partition: Option<v1::TopicPartition>,
        error: Option<ApiError>,
    ) -> v1::CommittedOffsetResult {
        if let Some(error) = &error {
            self.metrics
                .requests
                .failed_with(method, error.reason_name());
        }
        v1::CommittedOffsetResult {
            partition,
            error: error.map(Into::into),
        }
    }

    fn offset_error(&self, named: v1::TopicPartition, error: ApiError) -> v1::CommittedOffset {
        self.metrics
            .requests
            .failed_with("FetchOffsets", error.reason_name());
        v1::CommittedOffset {
            error: Some(error.into()),
            ..answer::offset(named, None)
        }
    }
}

/// A partition that is no lawful one.
fn unknown_partition(topic: &str, index: u32) -> ApiError {
    ApiError::new(
        Reason::UnknownTopicOrPartition,
        format!("topic {topic} has no partition {index}"),
    )
}
