//! What coordinators on other brokers ask about partitions that are led here.

use std::sync::Arc;
use std::time::Duration;

use highwater_proto::internal::v1 as wire;
use highwater_proto::{ApiError, PartitionIndex, Reason, TopicId};
use highwater_storage::Offset;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tonic::{Request, Response, Status};
use wire::watermark_service_server::WatermarkService;

use crate::controller::ClusterView;
use crate::hosted::{Hosted, HostedPartition};
use crate::partition::Standing;
use crate::raft::Operation;

/// Questions in one request: each is looked up, and may wait for a majority.
const MAX_QUESTIONS: usize = 10_000;
/// How long a leader may take to hear from a majority that it leads.
const READ_INDEX_LIMIT: Duration = Duration::from_secs(5);
/// How long an election may take that begins with the question.
const LEADER_LIMIT: Duration = Duration::from_secs(2);

/// Answers other brokers for the partitions that are led here.
pub(super) struct Watermarks {
    pub(super) hosted: Arc<Hosted>,
    pub(super) cluster: Arc<ClusterView>,
}

#[tonic::async_trait]
impl WatermarkService for Watermarks {
    async fn get_high_watermarks(
        &self,
        request: Request<wire::GetHighWatermarksRequest>,
    ) -> Result<Response<wire::GetHighWatermarksResponse>, Status> {
        let request = request.into_inner();
        let own = self.cluster.image().cluster_id();
        if own.is_none_or(|own| request.cluster_id != own.as_bytes()[..]) {
            let message = "this broker does not belong to the cluster of the one that asks";
            return Err(ApiError::new(Reason::ClusterAuthorizationFailed, message).into());
        }
        if request.partitions.len() > MAX_QUESTIONS {
            let message = format!("at most {MAX_QUESTIONS} partitions may be asked about at once");
            return Err(ApiError::new(Reason::LimitExceeded, message).into());
        }
        let hosted = self.hosted.load();
        let answers = request.partitions.iter().map(|question| {
            let partition = TopicId::from_slice(&question.topic_id)
                .and_then(|topic| hosted.get(topic, PartitionIndex(question.partition)))
                .cloned();
            async move {
                let partition = partition?;
                high_watermark(&partition, Offset(question.expected)).await
            }
        });
        let answers = futures::future::join_all(answers).await;
        let answer = |offset: Option<Offset>| wire::WatermarkAnswer {
            high_watermark: offset.map(|offset| offset.0),
        };
        let partitions = answers.into_iter().map(answer).collect();
        Ok(Response::new(wire::GetHighWatermarksResponse {
            partitions,
        }))
    }
}

/// The high watermark of a partition that is led here. One below `expected` is answered only if nobody else can have led it
/// further meanwhile; `None` where that cannot be said.
pub(crate) async fn high_watermark(
    partition: &HostedPartition,
    expected: Offset,
) -> Option<Offset> {
    let seen = partition.shared.high_watermark();
    if seen >= expected {
        // What is committed stays so, whoever leads.
        return Some(seen);
    }
    await_leadership(partition).await;
    let (answer, answered) = oneshot::channel();
    let group = partition.group;
    partition
        .shards
        .operate(group, Operation::ReadIndex { group, answer })
        .ok()?;
    match tokio::time::timeout(READ_INDEX_LIMIT, answered).await {
        Ok(Ok(Ok(_))) => {
            let leads = matches!(partition.shared.standing(), Standing::Serving { .. });
            leads.then(|| partition.shared.high_watermark())
        }
        Ok(Ok(Err(_)) | Err(_)) | Err(_) => None,
    }
}

/// Waits for a leadership that is about to begin here, for a while.
async fn await_leadership(partition: &HostedPartition) {
    let changed = Arc::new(Notify::new());
    let _watch = partition.shared.watch(Arc::clone(&changed));
    partition.wake_if_cold();
    let deadline = Instant::now() + LEADER_LIMIT;
    while partition.is_opening() {
        if tokio::time::timeout_at(deadline, changed.notified())
            .await
            .is_err()
        {
            return;
        }
    }
}
