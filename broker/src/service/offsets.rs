//! Finding offsets: the first, the next, or that of a time.

use std::sync::Arc;
use std::time::Duration;

use highwater_proto::batch;
use highwater_proto::{ApiError, Reason, v1};
use highwater_storage::Offset;
use tokio::sync::Notify;
use tokio::time::Instant;
use tonic::{Request, Response, Status};
use v1::offset_spec::Spec;
use v1::offsets_service_server::OffsetsService;

use super::answer::bad_batch;
use super::{Context, partition_read, refusals};
use crate::authorize::{Operation, Principal, Resource, authorize};
use crate::hosted::HostedPartition;
use crate::partition::record_time::{self, RecordTime, record_time};

/// The least timestamp that can be asked for: records without a time carry -1.
const LEAST_TIMESTAMP_MS: i64 = -1;

/// The offsets service.
#[derive(Clone)]
pub(crate) struct Offsets {
    context: Arc<Context>,
}

impl Offsets {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    async fn answer(&self, item: &v1::ListOffsetsItem) -> Result<v1::ListedOffset, ApiError> {
        let partition = self.context.find(item.partition.as_ref())?;
        authorize(
            &Principal::Anonymous,
            Operation::Describe,
            Resource::Topic(&partition.topic.name),
        )?;
        let spec = item
            .spec
            .as_ref()
            .and_then(|spec| spec.spec)
            .ok_or_else(|| {
                ApiError::new(
                    Reason::InvalidRequest,
                    "`spec` is missing: ask for `earliest`, `latest`, `timestamp_ms` or `at_offset`",
                )
            })?;
        if let Spec::TimestampMs(timestamp_ms) = spec
            && timestamp_ms < LEAST_TIMESTAMP_MS
        {
            return Err(ApiError::new(
                Reason::InvalidRequest,
                format!("`timestamp_ms` is {timestamp_ms}: times are milliseconds since 1970"),
            ));
        }
        let term = self.leader_term(&partition).await?;
        let (offset, timestamp_ms) = match spec {
            Spec::Earliest(_) => (Some(partition.shared.log_start()), -1),
            Spec::Latest(_) => (Some(partition.shared.high_watermark()), -1),
            Spec::TimestampMs(timestamp_ms) => {
                match self.at_time(&partition, timestamp_ms).await? {
                    Some((offset, timestamp_ms)) => (Some(offset), timestamp_ms),
                    None => (None, -1),
                }
            }
            Spec::AtOffset(offset) => match self.time_at(&partition, Offset(offset)).await? {
                Some((offset, timestamp_ms)) => (Some(offset), timestamp_ms),
                None => (None, -1),
            },
        };
        Ok(v1::ListedOffset {
            partition: item.partition.clone(),
            error: None,
            offset: offset.map(|offset| offset.0),
            timestamp_ms,
            leader_epoch: term,
        })
    }

    /// The term in which this broker leads the partition; waits a moment for one that is about to.
    async fn leader_term(&self, partition: &HostedPartition) -> Result<u64, ApiError> {
        let changed = Arc::new(Notify::new());
        let _watch = partition.shared.watch(Arc::clone(&changed));
        partition.wake_if_cold();
        let wait_ms = u64::from(self.context.config.fetch.leader_wait_ms);
        let deadline = Instant::now() + Duration::from_millis(wait_ms);
        loop {
            let standing = partition.shared.standing();
            let term = partition_read::leader_term(partition, standing, None)
                .map_err(|error| self.context.with_leader_of(partition, error))?;
            if let Some(term) = term {
                return Ok(term.0);
            }
            if tokio::time::timeout_at(deadline, changed.notified())
                .await
                .is_err()
            {
                return Err(partition_read::still_opening());
            }
        }
    }

    /// The first record at or after an offset, and its time.
    async fn time_at(
        &self,
        partition: &HostedPartition,
        offset: Offset,
    ) -> Result<Option<RecordTime>, ApiError> {
        let reader = partition.reader.clone();
        let from = offset.max(partition.shared.log_start());
        let upto = partition.shared.high_watermark();
        let most = self.context.config.fetch.max_decompressed_bytes as usize;
        let reading = self
            .context
            .reads
            .run(move || record_time(&reader, from, upto, most));
        let found = reading.await?;
        found.map_err(|error| refuse_record_time(&error))
    }

    /// The first record at or after a time, and its time. The log finds the batch; the record is found inside.
    async fn at_time(
        &self,
        partition: &HostedPartition,
        timestamp_ms: i64,
    ) -> Result<Option<(Offset, i64)>, ApiError> {
        let reader = partition.reader.clone();
        let log_start = partition.shared.log_start();
        let high_watermark = partition.shared.high_watermark();
        let most = self.context.config.fetch.max_decompressed_bytes as usize;
        self.context
            .reads
            .run(move || {
                let found = reader
                    .offset_for_timestamp(timestamp_ms, high_watermark)
                    .map_err(|error| refusals::of_read(&error))?;
                let Some((base_offset, max_timestamp_ms)) = found else {
                    return Ok(None);
                };
                let from = base_offset.max(log_start);
                let batches = reader
                    .read(from, high_watermark, 1)
                    .map_err(|error| refusals::of_read(&error))?;
                for frame in batches.frames {
                    if let Some(found) = record_at_time(frame.payload, timestamp_ms, from, most)? {
                        return Ok(Some(found));
                    }
                }
                // Only records that are trimmed already were so late: what comes next is not earlier.
                Ok(Some((from, max_timestamp_ms)))
            })
            .await?
    }
}

fn refuse_record_time(error: &record_time::Error) -> ApiError {
    match error {
        record_time::Error::Read(error) => refusals::of_read(error),
        record_time::Error::Header(error) => ApiError::new(Reason::DataLoss, error.to_string()),
        record_time::Error::Batch(bad) => bad_batch(bad),
    }
}

fn record_at_time(
    batch: bytes::Bytes,
    timestamp_ms: i64,
    from: Offset,
    max_decompressed_bytes: usize,
) -> Result<Option<(Offset, i64)>, ApiError> {
    let records =
        batch::Records::open(batch, max_decompressed_bytes).map_err(|bad| bad_batch(&bad))?;
    for record in records {
        let record = record.map_err(|bad| bad_batch(&bad))?;
        if record.timestamp_ms >= timestamp_ms && record.offset.0 >= from.0 {
            return Ok(Some((Offset(record.offset.0), record.timestamp_ms)));
        }
    }
    Ok(None)
}

#[tonic::async_trait]
impl OffsetsService for Offsets {
    async fn list_offsets(
        &self,
        request: Request<v1::ListOffsetsRequest>,
    ) -> Result<Response<v1::ListOffsetsResponse>, Status> {
        let items = request.into_inner().items;
        let most = self.context.config.offsets.max_items;
        if items.len() > most {
            return Err(ApiError::new(
                Reason::LimitExceeded,
                format!(
                    "{} offsets are asked for, offsets.max_items allows {most}",
                    items.len()
                ),
            )
            .with("limit", "offsets.max_items")
            .with("most", most)
            .into());
        }
        let mut offsets = Vec::with_capacity(items.len());
        for item in items {
            offsets.push(match self.answer(&item).await {
                Ok(listed) => listed,
                Err(error) => {
                    let requests = &self.context.metrics.requests;
                    requests.failed_with("ListOffsets", error.reason_name());
                    v1::ListedOffset {
                        partition: item.partition,
                        error: Some(error.into()),
                        offset: None,
                        timestamp_ms: -1,
                        leader_epoch: 0,
                    }
                }
            });
        }
        Ok(Response::new(v1::ListOffsetsResponse { offsets }))
    }
}
