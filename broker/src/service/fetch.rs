//! Fetch requests: a long poll over several partitions. Subscriptions are in [`subscribe`](super::subscribe).

use std::sync::Arc;
use std::time::Duration;

use highwater_proto::{ApiError, Reason, v1};
use highwater_storage::Offset;
use tokio::sync::Notify;
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};
use v1::RecordFormat;
use v1::fetch_service_server::FetchService;

use super::Context;
use super::answer::{self, Answered};
use super::fetch_plan::{self, PlannedRead};
use super::partition_read::{self, Position, View};
use super::subscribe::{Subscription, SubscriptionStream};
use crate::authorize::Principal;
use crate::budget::Charge;
use crate::config::FetchConfig;
use crate::hosted::HostedPartition;
use crate::partition::Watch;
use crate::server::{AnswerCharges, out_of_memory};

/// The fetch service.
#[derive(Clone)]
pub(crate) struct Fetch {
    context: Arc<Context>,
}

impl Fetch {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl FetchService for Fetch {
    async fn fetch(
        &self,
        request: Request<v1::FetchRequest>,
    ) -> Result<Response<v1::FetchResponse>, Status> {
        let request = request.into_inner();
        let config = &self.context.config.fetch;
        check(config, &request)?;
        let format = fetch_plan::format(request.format)?;
        let planned = fetch_plan::plan(
            &self.context,
            &Principal::Anonymous,
            request.allow_follower,
            request.partitions,
        )?;
        let poll = LongPoll {
            context: &self.context,
            planned,
            min_bytes: u64::from(request.min_bytes),
            max_bytes: u64::from(request.max_bytes),
            format,
        };
        let wait = Duration::from_millis(u64::from(request.max_wait_ms));
        let (partitions, charge) = poll.run(Instant::now() + wait).await?;
        count_errors(&self.context, "Fetch", &partitions);
        let mut response = Response::new(v1::FetchResponse { partitions });
        let charges = AnswerCharges::default();
        charges.add(charge);
        response.extensions_mut().insert(charges);
        Ok(response)
    }

    type SubscribeStream = SubscriptionStream;

    async fn subscribe(
        &self,
        request: Request<Streaming<v1::SubscribeRequest>>,
    ) -> Result<Response<SubscriptionStream>, Status> {
        let subscription = Subscription::new(
            Arc::clone(&self.context),
            Principal::Anonymous,
            request.into_inner(),
        );
        let charges = subscription.charges();
        let mut response = Response::new(subscription.into_stream());
        response.extensions_mut().insert(charges);
        Ok(response)
    }
}

/// Counts the errors of partitions in an answer.
pub(super) fn count_errors(context: &Context, method: &str, partitions: &[v1::FetchedPartition]) {
    for error in partitions.iter().filter_map(|one| one.error.as_ref()) {
        let requests = &context.metrics.requests;
        requests.failed_with(method, &error.reason);
    }
}

fn check(config: &FetchConfig, request: &v1::FetchRequest) -> Result<(), ApiError> {
    let out_of_range = |field: &str, value: u32, limit: &'static str, most: u32| {
        ApiError::new(
            Reason::InvalidRequest,
            format!("`{field}` is {value}, {limit} allows {most}"),
        )
        .with("limit", limit)
        .with("most", most)
    };
    if request.max_bytes == 0 {
        return Err(ApiError::new(
            Reason::InvalidRequest,
            "`max_bytes` is 0: say how many bytes the answer may have",
        ));
    }
    if request.max_bytes > config.max_bytes {
        return Err(out_of_range(
            "max_bytes",
            request.max_bytes,
            "fetch.max_bytes",
            config.max_bytes,
        ));
    }
    if request.min_bytes > request.max_bytes {
        return Err(ApiError::new(
            Reason::InvalidRequest,
            "`min_bytes` is more than `max_bytes`: it could never be reached",
        ));
    }
    if request.max_wait_ms > config.max_wait_ms {
        return Err(out_of_range(
            "max_wait_ms",
            request.max_wait_ms,
            "fetch.max_wait_ms",
            config.max_wait_ms,
        ));
    }
    Ok(())
}

/// One fetch request on its way.
struct LongPoll<'a> {
    context: &'a Arc<Context>,
    planned: Vec<PlannedRead>,
    min_bytes: u64,
    max_bytes: u64,
    format: RecordFormat,
}

/// What one look at all partitions gave.
struct Look {
    partitions: Vec<v1::FetchedPartition>,
    bytes: u64,
    records: u64,
    has_error: bool,
    charge: Charge,
}

impl LongPoll<'_> {
    /// Looks until there is enough, an error, or no more time. Between looks it sleeps until a partition changes.
    async fn run(self, deadline: Instant) -> Result<(Vec<v1::FetchedPartition>, Charge), ApiError> {
        let changed = Arc::new(Notify::new());
        let _watches = watch_all(self.planned.iter(), &changed);
        let leader_wait =
            Duration::from_millis(u64::from(self.context.config.fetch.leader_wait_ms));
        await_leaders(&self.planned, &changed, Instant::now() + leader_wait).await;
        loop {
            let is_last = Instant::now() >= deadline || self.context.stop.is_cancelled();
            let look = self.look(is_last).await?;
            if is_last || look.has_error || look.bytes >= self.min_bytes {
                self.context
                    .metrics
                    .records
                    .fetched(look.records, look.bytes);
                return Ok((look.partitions, look.charge));
            }
            // What changed since the watches began has left a permit: nothing is missed.
            drop(look);
            tokio::select! {
                () = changed.notified() => {}
                () = tokio::time::sleep_until(deadline) => {}
                () = self.context.stop.cancelled() => {}
            }
        }
    }

    async fn look(&self, is_last: bool) -> Result<Look, ApiError> {
        let mut look = Look {
            partitions: Vec::with_capacity(self.planned.len()),
            bytes: 0,
            records: 0,
            has_error: false,
            charge: nothing(self.context),
        };
        for planned in &self.planned {
            let fetched = match &planned.partition {
                Err(error) => Err(error.clone()),
                Ok(partition) => self.look_at(partition, planned, is_last, &mut look).await?,
            };
            look.partitions.push(match fetched {
                Ok(fetched) => fetched,
                Err(error) => {
                    look.has_error = true;
                    failed(planned, error)
                }
            });
        }
        Ok(look)
    }

    /// The inner result is the partition's, the outer one that of the whole request.
    async fn look_at(
        &self,
        partition: &Arc<HostedPartition>,
        planned: &PlannedRead,
        is_last: bool,
        look: &mut Look,
    ) -> Result<Result<v1::FetchedPartition, ApiError>, ApiError> {
        let shared = &partition.shared;
        let view = View::of(shared);
        let mut fetched = answer::empty(planned.name(), &view, planned.offset);
        let offset = planned.offset;
        let position = match partition_read::position(partition, &view, planned) {
            Ok(position) => position,
            Err(error) => return Ok(Err(self.context.with_leader_of(partition, error))),
        };
        match position {
            Position::Data => {}
            Position::Opening if is_last => return Ok(Err(partition_read::still_opening())),
            Position::Uncommitted if is_last => {
                return Ok(Err(partition_read::still_uncommitted(
                    planned.offset,
                    shared,
                )));
            }
            Position::End | Position::Opening | Position::Uncommitted => return Ok(Ok(fetched)),
        }
        let left = self.max_bytes - look.bytes.min(self.max_bytes);
        if left == 0 {
            return Ok(Ok(fetched));
        }
        let answered = read(
            self.context,
            partition,
            offset,
            view.high_watermark,
            planned.max_bytes.min(left),
            self.format,
        )
        .await;
        let answered = match answered {
            Ok(answered) => answered,
            Err(error) => return Ok(Err(error)),
        };
        if look.bytes > 0 && answered.bytes > left {
            // One batch larger than what is left: only the first partition may exceed the limit.
            return Ok(Ok(fetched));
        }
        let budget = &self.context.budget;
        let charge = budget
            .try_charge(answered.bytes)
            .ok_or_else(|| out_of_memory(budget))?;
        look.charge.merge(charge);
        look.bytes += answered.bytes;
        look.records += answered.next_offset.0.saturating_sub(offset.0);
        fetched.data = answered.data;
        fetched.next_offset = answered.next_offset.0;
        Ok(Ok(fetched))
    }
}

/// Reads one partition in the form asked for.
pub(super) async fn read(
    context: &Context,
    partition: &Arc<HostedPartition>,
    offset: Offset,
    high_watermark: Offset,
    max_bytes: u64,
    format: RecordFormat,
) -> Result<Answered, ApiError> {
    let read =
        partition_read::read(partition, &context.reads, offset, high_watermark, max_bytes).await?;
    if format != RecordFormat::Records {
        return Ok(answer::batches(read));
    }
    let most = context.config.fetch.max_decompressed_bytes as usize;
    context
        .reads
        .run(move || answer::records(read, offset, max_bytes, most))
        .await?
}

/// A charge of no bytes, to be added to.
fn nothing(context: &Context) -> Charge {
    context
        .budget
        .try_charge(0)
        .expect("a budget always has no bytes to give")
}

/// Has `changed` notified by each partition of a plan.
pub(super) fn watch_all<'a>(
    planned: impl Iterator<Item = &'a PlannedRead>,
    changed: &Arc<Notify>,
) -> Vec<Watch> {
    planned
        .filter_map(|planned| planned.partition.as_ref().ok())
        .map(|partition| partition.shared.watch(Arc::clone(changed)))
        .collect()
}

/// Has partitions elect their leader that have not needed one since the start, and waits until they have one.
async fn await_leaders(planned: &[PlannedRead], changed: &Notify, deadline: Instant) {
    let partitions = || {
        planned
            .iter()
            .filter_map(|planned| planned.partition.as_ref().ok())
    };
    for partition in partitions() {
        partition.wake_if_cold();
    }
    while partitions().any(|partition| partition.is_opening()) {
        tokio::select! {
            () = changed.notified() => {}
            () = tokio::time::sleep_until(deadline) => return,
        }
    }
}

/// The answer of a partition that could not be read.
pub(super) fn failed(planned: &PlannedRead, error: ApiError) -> v1::FetchedPartition {
    let mut fetched = match &planned.partition {
        Ok(partition) => {
            answer::empty(planned.name(), &View::of(&partition.shared), planned.offset)
        }
        Err(_) => v1::FetchedPartition {
            partition: planned.named.clone(),
            next_offset: planned.offset.0,
            ..v1::FetchedPartition::default()
        },
    };
    fetched.error = Some(error.into());
    fetched
}
