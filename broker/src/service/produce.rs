//! Appending records: producer ids, and batches by request. Streams are in [`produce_stream`](super::produce_stream).

use std::sync::Arc;
use std::time::Duration;

use highwater_proto::{ApiError, Reason, v1};
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};
use v1::produce_outcome::Outcome as Known;
use v1::produce_service_server::ProduceService;

use super::batch_intake::{self, CheckedBatch};
use super::produce_stream::ProduceStream;
use super::{Context, refusals};
use crate::authorize::{Operation, Principal, Resource, authorize};
use crate::config::ProduceConfig;
use crate::hosted::HostedPartition;
use crate::partition;
use crate::raft::{Acks, Outcome, Reply};
use crate::replica::{self, Replica};
use crate::server::MessageCharges;
use crate::wall_clock;

/// The produce service.
#[derive(Clone)]
pub(crate) struct Produce {
    context: Arc<Context>,
}

impl Produce {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl ProduceService for Produce {
    async fn init_producer_id(
        &self,
        request: Request<v1::InitProducerIdRequest>,
    ) -> Result<Response<v1::InitProducerIdResponse>, Status> {
        authorize(&Principal::Anonymous, Operation::Write, Resource::Cluster)?;
        if !request.get_ref().transactional_id.is_empty() {
            return Err(ApiError::new(
                Reason::Unsupported,
                "transactions are not supported yet: leave `transactional_id` empty",
            )
            .into());
        }
        let producer_id = self.context.producer_ids.next().await?;
        Ok(Response::new(v1::InitProducerIdResponse {
            producer_id: producer_id.0,
            producer_epoch: 0,
        }))
    }

    async fn produce(
        &self,
        request: Request<v1::ProduceRequest>,
    ) -> Result<Response<v1::ProduceResponse>, Status> {
        let request = request.into_inner();
        let config = &self.context.config.produce;
        let acks = acks(request.acks)?;
        check_item_count(config, request.items.len())?;
        let arrived = Instant::now();
        let deadline = arrived + timeout(config, request.timeout_ms)?;

        let principal = Principal::Anonymous;
        let mut waiting = Vec::with_capacity(request.items.len());
        for item in request.items {
            let found = find(&self.context, &principal, Some(&item));
            let sent = found.and_then(|partition| {
                let checked = check(&self.context, item.payload)?;
                let (reply, answer) = Reply::once();
                send(&self.context, &partition, checked, acks, reply);
                Ok((partition, answer))
            });
            waiting.push(sent);
        }
        let mut outcomes = Vec::with_capacity(waiting.len());
        for answer in waiting {
            let outcome = match answer {
                Err(error) => failed(error),
                Ok((partition, answer)) => match tokio::time::timeout_at(deadline, answer).await {
                    Ok(Ok(outcome)) => with_leader(&self.context, &partition, outcome_of(outcome)),
                    // The shard dropped the request unanswered, or the time is up.
                    Ok(Err(_)) | Err(_) => failed(ApiError::new(
                        Reason::RequestTimedOut,
                        "the batch was not acknowledged in time: it may have been stored, or may yet be",
                    )),
                },
            };
            concluded(&self.context, "Produce", &outcome, arrived.elapsed());
            outcomes.push(outcome);
        }
        Ok(Response::new(v1::ProduceResponse { outcomes }))
    }

    type ProduceStreamStream = ProduceStream;

    async fn produce_stream(
        &self,
        request: Request<Streaming<v1::ProduceStreamRequest>>,
    ) -> Result<Response<ProduceStream>, Status> {
        let charges = request
            .extensions()
            .get::<MessageCharges>()
            .cloned()
            .unwrap_or_default();
        let stream = ProduceStream::new(
            Arc::clone(&self.context),
            Principal::Anonymous,
            request.into_inner(),
            charges,
        );
        Ok(Response::new(stream))
    }
}

/// The partition that an item names, if `principal` may write to it.
pub(super) fn find(
    context: &Context,
    principal: &Principal,
    item: Option<&v1::ProduceItem>,
) -> Result<Arc<HostedPartition>, ApiError> {
    let item = item.ok_or_else(|| {
        ApiError::new(
            Reason::InvalidRequest,
            "the item is missing: name partition and payload",
        )
    })?;
    let partition = context.find(item.partition.as_ref())?;
    authorize(
        principal,
        Operation::Write,
        Resource::Topic(&partition.topic.name),
    )?;
    Ok(partition)
}

/// Checks the payload of an item.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check(
    context: &Context,
    payload: Option<v1::produce_item::Payload>,
) -> Result<CheckedBatch, ApiError> {
    batch_intake::check(payload, &context.batch_limits, wall_clock::now_ms())
}

/// Hands a batch to its shard, which will answer `reply`.
pub(super) fn send(
    context: &Context,
    partition: &HostedPartition,
    checked: CheckedBatch,
    acks: v1::Acks,
    reply: Reply<Replica>,
) {
    let bytes = checked.batch.len();
    let records = &context.metrics.records;
    records.produced(checked.header.record_count, bytes);
    let command = partition::Command::Produce {
        batch: checked.batch,
        header: checked.header,
    };
    let acks = match acks {
        v1::Acks::None => Acks::None,
        v1::Acks::Leader => Acks::Leader,
        v1::Acks::Quorum | v1::Acks::Unspecified => Acks::Quorum {
            min_in_sync: partition.shared.config().min_insync_replicas as usize,
        },
    };
    partition.send_with(command, bytes, acks, reply);
}

/// Counts what became of a batch, `after` its arrival by `method`.
pub(super) fn concluded(
    context: &Context,
    method: &str,
    outcome: &v1::ProduceOutcome,
    after: Duration,
) {
    context.metrics.records.acknowledged(after);
    if let Some(Known::Error(error)) = &outcome.outcome {
        let requests = &context.metrics.requests;
        requests.failed_with(method, &error.reason);
    }
}

/// Bytes of an item's payload, about as it was sent.
pub(super) fn payload_bytes(item: &v1::ProduceItem) -> u64 {
    use prost::Message as _;
    use v1::produce_item::Payload;
    match &item.payload {
        None => 0,
        Some(Payload::RecordBatch(batch)) => batch.len() as u64,
        Some(Payload::Records(records)) => records.encoded_len() as u64,
    }
}

/// When batches are acknowledged.
///
/// # Errors
/// `INVALID_REQUEST` for an unknown value.
pub(super) fn acks(acks: i32) -> Result<v1::Acks, ApiError> {
    v1::Acks::try_from(acks).map_err(|_| {
        ApiError::new(
            Reason::InvalidRequest,
            format!("`acks` is {acks}, which is no known value"),
        )
    })
}

/// How long to wait for acknowledgements.
pub(super) fn timeout(config: &ProduceConfig, asked_ms: u32) -> Result<Duration, ApiError> {
    let most = config.max_timeout_ms;
    if asked_ms > most {
        return Err(ApiError::new(
            Reason::InvalidRequest,
            format!("`timeout_ms` is {asked_ms}, produce.max_timeout_ms allows {most}"),
        )
        .with("limit", "produce.max_timeout_ms")
        .with("most", most));
    }
    let timeout_ms = if asked_ms == 0 {
        config.default_timeout_ms
    } else {
        asked_ms
    };
    Ok(Duration::from_millis(u64::from(timeout_ms)))
}

/// Refuses too many batches in one message.
pub(super) fn check_item_count(config: &ProduceConfig, count: usize) -> Result<(), ApiError> {
    let most = config.max_items;
    if count > most {
        return Err(ApiError::new(
            Reason::LimitExceeded,
            format!("the message holds {count} batches, produce.max_items allows {most}"),
        )
        .with("limit", "produce.max_items")
        .with("most", most));
    }
    Ok(())
}

/// The API's form of what a shard answered.
pub(super) fn outcome_of(outcome: Outcome<Replica>) -> v1::ProduceOutcome {
    match outcome {
        Ok(replica::Response::Partition(partition::Response::Produced {
            base_offset,
            log_append_time,
            log_start,
        })) => v1::ProduceOutcome {
            outcome: Some(Known::Ack(v1::ProduceAck {
                base_offset: base_offset.0,
                log_append_time_ms: log_append_time.map_or(-1, |time| time.0),
                log_start_offset: log_start.0,
            })),
        },
        Ok(_) => failed(ApiError::new(
            Reason::UnknownServerError,
            "the partition answered another question",
        )),
        Err(error) => failed(refusals::of_replica(error)),
    }
}

/// The outcome with the partition's leader, where it says that this broker is not the one to ask.
pub(super) fn with_leader(
    context: &Context,
    partition: &HostedPartition,
    outcome: v1::ProduceOutcome,
) -> v1::ProduceOutcome {
    match outcome.outcome {
        Some(Known::Error(error)) if error.reason == Reason::NotLeaderOrFollower.name() => {
            failed(context.with_leader_of(partition, error.into()))
        }
        outcome => v1::ProduceOutcome { outcome },
    }
}

/// The outcome of a batch that was not acknowledged.
pub(super) fn failed(error: ApiError) -> v1::ProduceOutcome {
    v1::ProduceOutcome {
        outcome: Some(Known::Error(error.into())),
    }
}
