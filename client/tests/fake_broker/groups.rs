//! The coordinator of a group with one member, which gives it partitions of a topic, takes them back, and removes it.

use std::time::Duration;

use highwater_proto::{ApiError, Reason, v1};
use tonic::{Request, Response, Status};
use v1::groups_service_server::GroupsService;

use super::Service;

const EPOCH: i64 = 1;
/// Heartbeats are sent at once where there is news, and otherwise never as far as a test can tell.
const INTERVAL_MS: u32 = 3_600_000;

/// A group.
#[derive(Default)]
pub(crate) struct Group {
    /// What its member is to read.
    pub(crate) assigned: Vec<v1::TopicPartitions>,
    /// The next commit finds that the member was removed.
    pub(crate) removes_member: bool,
    /// Heartbeats and commits of the member are refused until it joins again.
    is_removed: bool,
}

fn removed() -> Status {
    ApiError::new(Reason::UnknownMemberId, "removed on purpose").into()
}

#[tonic::async_trait]
impl GroupsService for Service {
    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        let request = request.into_inner();
        if request.member_epoch <= 0 {
            self.state().group.is_removed = false;
        }
        let wait = Duration::from_millis(request.max_wait_ms.into());
        let has_news = |state: &mut super::State| {
            let group = &state.group;
            (group.is_removed || group.assigned != request.owned).then_some(())
        };
        self.wait_for(wait, has_news).await;
        let group = &self.state().group;
        if group.is_removed {
            return Err(removed());
        }
        Ok(Response::new(v1::HeartbeatResponse {
            member_epoch: EPOCH,
            heartbeat_interval_ms: INTERVAL_MS,
            assignment: Some(v1::Assignment {
                partitions: group.assigned.clone(),
            }),
            session_timeout_ms: INTERVAL_MS,
        }))
    }

    async fn commit_offsets(
        &self,
        request: Request<v1::CommitOffsetsRequest>,
    ) -> Result<Response<v1::CommitOffsetsResponse>, Status> {
        let mut state = self.state();
        state.group.is_removed |= std::mem::take(&mut state.group.removes_member);
        if state.group.is_removed {
            return Err(removed());
        }
        let committed = |item: v1::OffsetToCommit| v1::CommittedOffsetResult {
            partition: item.partition,
            error: None,
        };
        let offsets = request.into_inner().offsets.into_iter();
        Ok(Response::new(v1::CommitOffsetsResponse {
            results: offsets.map(committed).collect(),
        }))
    }

    async fn fetch_offsets(
        &self,
        request: Request<v1::FetchOffsetsRequest>,
    ) -> Result<Response<v1::FetchOffsetsResponse>, Status> {
        let none = |partition| v1::CommittedOffset {
            partition: Some(partition),
            ..v1::CommittedOffset::default()
        };
        let partitions = request.into_inner().partitions.into_iter();
        Ok(Response::new(v1::FetchOffsetsResponse {
            offsets: partitions.map(none).collect(),
        }))
    }

    async fn delete_offsets(
        &self,
        _: Request<v1::DeleteOffsetsRequest>,
    ) -> Result<Response<v1::DeleteOffsetsResponse>, Status> {
        Err(Status::unimplemented("not in this broker"))
    }

    async fn describe_groups(
        &self,
        _: Request<v1::DescribeGroupsRequest>,
    ) -> Result<Response<v1::DescribeGroupsResponse>, Status> {
        Err(Status::unimplemented("not in this broker"))
    }

    async fn list_groups(
        &self,
        _: Request<v1::ListGroupsRequest>,
    ) -> Result<Response<v1::ListGroupsResponse>, Status> {
        Err(Status::unimplemented("not in this broker"))
    }

    async fn delete_group(
        &self,
        _: Request<v1::DeleteGroupRequest>,
    ) -> Result<Response<v1::DeleteGroupResponse>, Status> {
        Err(Status::unimplemented("not in this broker"))
    }
}
