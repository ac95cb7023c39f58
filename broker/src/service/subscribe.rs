//! A subscription: the server pushes batches as long as the client's byte credit lasts.
//!
//! The stream is driven by the transport alone. That asks for one message more than it has room for, so a slow client costs
//! little more memory than its window; all of it is paid for until it is sent.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use highwater_proto::{ApiError, Reason, v1};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_stream::StreamExt as _;
use tonic::{Status, Streaming};
use v1::RecordFormat;
use v1::subscribe_request::Request as Asked;

use super::fetch::{count_errors, failed, read, watch_all};
use super::fetch_plan::{self, PlannedRead};
use super::partition_read::{self, Position, View};
use super::{Context, answer, refusals};
use crate::authorize::Principal;
use crate::partition::Watch;
use crate::server::{AnswerCharges, explain, out_of_memory};

/// What a subscriber receives.
pub(super) type SubscriptionStream = BoxStream<'static, Result<v1::SubscribeResponse, Status>>;

/// The partitions being read.
struct Assignment {
    id: u64,
    /// In the order in which they are looked at next; those that ended with an error are gone.
    reads: Vec<PlannedRead>,
    /// Where the next look begins, so that each partition gets its turn.
    next: usize,
    /// Keep `changed` of the subscription informed.
    _watches: Vec<Watch>,
}

/// One subscription.
pub(super) struct Subscription {
    context: Arc<Context>,
    principal: Principal,
    requests: Streaming<v1::SubscribeRequest>,
    requests_ended: bool,
    assignment: Option<Assignment>,
    format: RecordFormat,
    /// Bytes that may be sent; below 0 after a batch that was larger than the credit left.
    credit: i64,
    changed: Arc<Notify>,
    /// Memory of the messages that are handed out.
    charges: AnswerCharges,
}

/// What the subscription does next.
enum Step {
    Push(v1::SubscribeResponse),
    Wait,
}

impl Subscription {
    pub(super) fn new(
        context: Arc<Context>,
        principal: Principal,
        requests: Streaming<v1::SubscribeRequest>,
    ) -> Self {
        Self {
            context,
            principal,
            requests,
            requests_ended: false,
            assignment: None,
            format: RecordFormat::Batches,
            credit: 0,
            changed: Arc::new(Notify::new()),
            charges: AnswerCharges::default(),
        }
    }

    /// What holds the memory of its messages on their way.
    pub(super) fn charges(&self) -> AnswerCharges {
        self.charges.clone()
    }

    /// The messages for the client. Ends after an error.
    pub(super) fn into_stream(self) -> SubscriptionStream {
        let messages = futures::stream::unfold(Some(self), |subscription| async move {
            let mut subscription = subscription?;
            match subscription.next().await {
                Ok(Some(message)) => Some((Ok(message), Some(subscription))),
                Ok(None) => None,
                Err(error) => Some((Err(error.into_status()), None)),
            }
        });
        Box::pin(messages)
    }

    /// The next message; `None` when the client has ended the subscription.
    async fn next(&mut self) -> Result<Option<v1::SubscribeResponse>, ApiError> {
        loop {
            self.take_requests()?;
            if let Step::Push(message) = self.look().await? {
                return Ok(Some(message));
            }
            if self.requests_ended && (self.credit <= 0 || self.is_idle()) {
                return Ok(None);
            }
            let stop = self.context.stop.clone();
            let give_up_at = self.gives_up_at();
            tokio::select! {
                () = tokio::time::sleep_until(give_up_at.unwrap_or_else(Instant::now)), if give_up_at.is_some() => {}
                request = self.requests.next(), if !self.requests_ended => self.take(request)?,
                () = self.changed.notified() => {}
                () = stop.cancelled() => return Err(refusals::shutting_down()),
            }
        }
    }

    /// When a partition that has no leader is given up.
    fn gives_up_at(&self) -> Option<Instant> {
        let reads = self
            .assignment
            .iter()
            .flat_map(|assignment| &assignment.reads);
        let first = reads.filter_map(|read| read.opening_since).min()?;
        Some(first + leader_wait(&self.context))
    }

    fn is_idle(&self) -> bool {
        self.assignment
            .as_ref()
            .is_none_or(|assignment| assignment.reads.is_empty())
    }

    /// Takes the requests that have arrived, so that pushing does not keep a new assignment waiting.
    fn take_requests(&mut self) -> Result<(), ApiError> {
        use futures::FutureExt as _;
        while !self.requests_ended
            && let Some(request) = self.requests.next().now_or_never()
        {
            self.take(request)?;
        }
        Ok(())
    }

    fn take(
        &mut self,
        request: Option<Result<v1::SubscribeRequest, Status>>,
    ) -> Result<(), ApiError> {
        let request = match request {
            None => {
                self.requests_ended = true;
                return Ok(());
            }
            Some(request) => request.map_err(|status| explain(&status))?,
        };
        match request.request {
            Some(Asked::Assign(assign)) => self.assign(assign),
            Some(Asked::Credit(_)) if self.assignment.is_none() => Err(ApiError::new(
                Reason::InvalidRequest,
                "the first message of a subscription must be an assignment",
            )),
            Some(Asked::Credit(credit)) => self.add_credit(credit.bytes),
            None => Err(ApiError::new(
                Reason::InvalidRequest,
                "the message is neither an assignment nor a credit",
            )),
        }
    }

    fn assign(&mut self, assign: v1::SubscribeAssign) -> Result<(), ApiError> {
        let format = fetch_plan::format(assign.format)?;
        if self.assignment.is_none() {
            self.format = format;
        } else if format != self.format {
            return Err(ApiError::new(
                Reason::InvalidRequest,
                "`format` is fixed by the first assignment of a subscription",
            ));
        }
        let reads = fetch_plan::plan(
            &self.context,
            &self.principal,
            assign.allow_follower,
            assign.partitions,
        )?;
        let watches = watch_all(reads.iter(), &self.changed);
        for partition in reads.iter().filter_map(|read| read.partition.as_ref().ok()) {
            partition.wake_if_cold();
        }
        self.assignment = Some(Assignment {
            id: assign.assignment_id,
            reads,
            next: 0,
            _watches: watches,
        });
        Ok(())
    }

    fn add_credit(&mut self, bytes: u64) -> Result<(), ApiError> {
        let most = self.context.config.fetch.max_credit_bytes;
        let credit = i64::try_from(bytes)
            .ok()
            .and_then(|bytes| self.credit.checked_add(bytes))
            .filter(|credit| u64::try_from(*credit).unwrap_or(0) <= most);
        self.credit = credit.ok_or_else(|| {
            ApiError::new(
                Reason::LimitExceeded,
                format!("the credit would exceed fetch.max_credit_bytes ({most})"),
            )
            .with("limit", "fetch.max_credit_bytes")
            .with("most", most)
        })?;
        Ok(())
    }

    /// Gathers one message of what the partitions have, each in its turn, and of their errors.
    async fn look(&mut self) -> Result<Step, ApiError> {
        let Some(assignment) = &mut self.assignment else {
            return Ok(Step::Wait);
        };
        let most = u64::from(self.context.config.fetch.push_bytes)
            .min(u64::try_from(self.credit).unwrap_or(0));
        let mut partitions = Vec::new();
        let mut ended = Vec::new();
        let mut used = 0;
        let count = assignment.reads.len();
        let first = assignment.next;
        let mut records = 0;
        for at in (0..count).map(|step| (first + step) % count) {
            let planned = &mut assignment.reads[at];
            let left = most.saturating_sub(used);
            let from = planned.offset;
            match push(&self.context, planned, left, self.format).await {
                Ok(None) => {}
                Ok(Some((fetched, bytes))) => {
                    used += bytes;
                    records += planned.offset.0.saturating_sub(from.0);
                    assignment.next = (at + 1) % count;
                    partitions.push(fetched);
                }
                Err(error) => {
                    partitions.push(failed(planned, error));
                    ended.push(at);
                }
            }
        }
        ended.sort_unstable();
        for at in ended.into_iter().rev() {
            assignment.reads.remove(at);
            assignment.next = 0;
        }
        if partitions.is_empty() {
            return Ok(Step::Wait);
        }
        self.credit = self
            .credit
            .saturating_sub(i64::try_from(used).unwrap_or(i64::MAX));
        let assignment_id = assignment.id;
        self.context.metrics.records.fetched(records, used);
        count_errors(&self.context, "Subscribe", &partitions);
        self.pay(used).await?;
        Ok(Step::Push(v1::SubscribeResponse {
            assignment_id,
            partitions,
            credit_used_bytes: used,
        }))
    }

    /// Takes the memory of the message that is handed out right after; waits for it as long as other streams may.
    async fn pay(&self, bytes: u64) -> Result<(), ApiError> {
        let budget = &self.context.budget;
        let wait = Duration::from_millis(u64::from(self.context.config.requests.memory_wait_ms));
        let paid = tokio::time::timeout(wait, budget.clone().charge(bytes)).await;
        let charge = paid.ok().flatten().ok_or_else(|| out_of_memory(budget))?;
        self.charges.add(charge);
        Ok(())
    }
}

/// How long a subscriber waits for a partition to have a leader before it is told to look elsewhere.
fn leader_wait(context: &Context) -> Duration {
    Duration::from_millis(u64::from(context.config.fetch.leader_wait_ms))
}

/// Reads what one partition has for its subscriber, and moves on behind it. `None`: nothing, or no bytes left for it.
async fn push(
    context: &Context,
    planned: &mut PlannedRead,
    left: u64,
    format: RecordFormat,
) -> Result<Option<(v1::FetchedPartition, u64)>, ApiError> {
    let partition = planned.partition.clone()?;
    let view = View::of(&partition.shared);
    let position = partition_read::position(&partition, &view, planned)
        .map_err(|error| context.with_leader_of(&partition, error))?;
    if position == Position::Opening {
        let since = *planned.opening_since.get_or_insert_with(Instant::now);
        return match since.elapsed() >= leader_wait(context) {
            true => Err(partition_read::still_opening()),
            false => Ok(None),
        };
    }
    planned.opening_since = None;
    if position != Position::Data || left == 0 {
        return Ok(None);
    }
    let mut fetched = answer::empty(planned.name(), &view, planned.offset);
    let max_bytes = planned.max_bytes.min(left);
    let answered = read(
        context,
        &partition,
        planned.offset,
        view.high_watermark,
        max_bytes,
        format,
    )
    .await?;
    planned.offset = answered.next_offset;
    fetched.data = answered.data;
    fetched.next_offset = answered.next_offset.0;
    Ok(Some((fetched, answered.bytes)))
}
