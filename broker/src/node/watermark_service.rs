//! What coordinators on other brokers ask about partitions that are led here.

use std::sync::Arc;
use std::time::Duration;

use highwater_proto::internal::v1 as wire;
use highwater_proto::{ApiError, PartitionIndex, Reason, TopicId};
use highwater_storage::Offset;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tonic::{Request, Response, Status};
use tracing::debug;
use wire::watermark_service_server::WatermarkService;

use crate::controller::ClusterView;
use crate::hosted::{Hosted, HostedPartition, HostedPartitions};
use crate::partition::record_time::record_time;
use crate::raft::Operation;

/// Questions in one request: each is looked up, and may wait for a majority.
pub(crate) const MAX_QUESTIONS: usize = 10_000;
/// Of a batch in whose middle a group stands, so that its records are to be decompressed.
const MAX_DECOMPRESSED_BYTES: usize = 64 << 20;
/// How long a leader may take to hear from a majority that it leads.
const READ_INDEX_LIMIT: Duration = Duration::from_secs(5);
/// How long an election may take that begins with the question.
const LEADER_LIMIT: Duration = Duration::from_secs(2);

/// Answers other brokers for the partitions that are led here.
pub(super) struct Watermarks {
    pub(super) hosted: Arc<Hosted>,
    pub(super) cluster: Arc<ClusterView>,
}

impl Watermarks {
    /// Whether a request is from a broker of the same cluster, and not too large.
    fn check(&self, cluster_id: &[u8], questions: usize) -> Result<(), ApiError> {
        let own = self.cluster.image().cluster_id();
        if own.is_none_or(|own| *cluster_id != own.as_bytes()[..]) {
            let message = "this broker does not belong to the cluster of the one that asks";
            return Err(ApiError::new(Reason::ClusterAuthorizationFailed, message));
        }
        if questions > MAX_QUESTIONS {
            let message = format!("at most {MAX_QUESTIONS} partitions may be asked about at once");
            return Err(ApiError::new(Reason::LimitExceeded, message));
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl WatermarkService for Watermarks {
    async fn get_high_watermarks(
        &self,
        request: Request<wire::GetHighWatermarksRequest>,
    ) -> Result<Response<wire::GetHighWatermarksResponse>, Status> {
        let request = request.into_inner();
        self.check(&request.cluster_id, request.partitions.len())?;
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

    async fn measure_lag(
        &self,
        request: Request<wire::MeasureLagRequest>,
    ) -> Result<Response<wire::MeasureLagResponse>, Status> {
        let request = request.into_inner();
        self.check(&request.cluster_id, request.partitions.len())?;
        let partitions = measure_lags(self.hosted.load(), request.partitions).await;
        Ok(Response::new(wire::MeasureLagResponse { partitions }))
    }
}

/// Answers how much there is to read, as far as the partitions are led here. Reads records beside the threads of the network.
pub(crate) async fn measure_lags(
    hosted: Arc<HostedPartitions>,
    questions: Vec<wire::LagQuestion>,
) -> Vec<wire::LagAnswer> {
    let measuring = tokio::task::spawn_blocking(move || {
        let answer = |question: &wire::LagQuestion| wire::LagAnswer {
            lag: measure_lag(&hosted, question),
        };
        questions.iter().map(answer).collect()
    });
    // Only a panic, which has been logged, leaves no answers.
    measuring.await.unwrap_or_default()
}

fn measure_lag(
    hosted: &HostedPartitions,
    question: &wire::LagQuestion,
) -> Option<wire::MeasuredLag> {
    let topic = TopicId::from_slice(&question.topic_id)?;
    let partition = hosted.get(topic, PartitionIndex(question.partition))?;
    // A sole replica that has not needed to be elected since the start knows its end all the same.
    let leads = partition.shared.standing().is_serving();
    if !leads && !partition.is_sole_replica {
        return None;
    }
    let from = Offset(question.offset).max(partition.shared.log_start());
    let upto = partition.shared.high_watermark();
    let found = record_time(&partition.reader, from, upto, MAX_DECOMPRESSED_BYTES);
    let next_timestamp_ms = match found {
        Ok(found) => found.map(|(_, timestamp_ms)| timestamp_ms),
        Err(error) => {
            debug!(?partition, %error, "the age of what a group has to read is not known");
            None
        }
    };
    Some(wire::MeasuredLag {
        high_watermark: upto.0,
        next_timestamp_ms: next_timestamp_ms.filter(|timestamp_ms| *timestamp_ms >= 0),
    })
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
            let leads = partition.shared.standing().is_serving();
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
