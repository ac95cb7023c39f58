//! A produce stream: batches in, coalesced acks out.
//!
//! The stream is one state machine that the transport polls; it has no task and no queue of its own between client and
//! shard. Shards put outcomes into its [`AckQueue`] from their threads. It reads no further while too much is
//! unanswered or the client does not read its answers: that is the back-pressure.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use futures::task::AtomicWaker;
use highwater_proto::{ApiError, Reason, v1};
use tokio::time::{Instant, Sleep};
use tokio_stream::Stream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Status, Streaming};

use super::in_flight::{Entry, InFlight};
use super::produce::{self, outcome_of};
use super::{Context, refusals};
use crate::authorize::Principal;
use crate::budget::Charge;
use crate::hosted::HostedPartition;
use crate::raft::{GroupId, Outcome, Reply, ReplySink};
use crate::replica::Replica;
use crate::server::{MessageCharges, explain};

/// Messages read in one go before other streams of the thread get their turn.
const MESSAGES_PER_POLL: usize = 32;

/// The method's name in metrics.
const METHOD: &str = "ProduceStream";

/// Where shards put the outcomes of a stream's batches.
#[derive(Debug, Default)]
struct AckQueue {
    outcomes: Mutex<Vec<(u64, v1::ProduceOutcome)>>,
    waker: AtomicWaker,
}

impl AckQueue {
    fn take(&self) -> Vec<(u64, v1::ProduceOutcome)> {
        std::mem::take(&mut *self.outcomes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ReplySink<Replica> for AckQueue {
    fn answer(&self, tag: u64, outcome: Outcome<Replica>) {
        self.outcomes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((tag, outcome_of(outcome)));
        self.waker.wake();
    }
}

/// What the first message fixed.
#[derive(Clone, Copy, Debug)]
struct Terms {
    acks: v1::Acks,
    timeout: Duration,
}

/// The answers of a produce stream, made while its requests are read.
pub(crate) struct ProduceStream {
    context: Arc<Context>,
    principal: Principal,
    requests: Streaming<v1::ProduceStreamRequest>,
    charges: MessageCharges,
    terms: Option<Terms>,
    in_flight: InFlight,
    /// The partitions that were written to, if they are still there.
    partitions: HashMap<GroupId, Weak<HostedPartition>>,
    acks: Arc<AckQueue>,
    timer: Pin<Box<Sleep>>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Set when no more requests are read: how the stream ends once all is answered.
    end: Option<Result<(), Status>>,
}

impl ProduceStream {
    pub(super) fn new(
        context: Arc<Context>,
        principal: Principal,
        requests: Streaming<v1::ProduceStreamRequest>,
        charges: MessageCharges,
    ) -> Self {
        let stop = Box::pin(context.stop.clone().cancelled_owned());
        Self {
            context,
            principal,
            requests,
            charges,
            terms: None,
            in_flight: InFlight::default(),
            partitions: HashMap::new(),
            acks: Arc::default(),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            stop,
            end: None,
        }
    }

    fn may_read(&self) -> bool {
        let config = &self.context.config.produce;
        self.end.is_none()
            && self.in_flight.bytes() < config.max_stream_bytes
            && self.in_flight.len() < config.max_stream_batches
    }

    /// Takes the outcomes that shards have left.
    fn collect_acks(&mut self) {
        let outcomes = self.acks.take();
        if outcomes.is_empty() {
            return;
        }
        let now = Instant::now();
        for (tag, outcome) in outcomes {
            let group = self.in_flight.group(tag);
            let partition = group.and_then(|group| self.partitions.get(&group)?.upgrade());
            let outcome = match partition {
                Some(partition) => produce::with_leader(&self.context, &partition, outcome),
                None => outcome,
            };
            self.conclude(tag, outcome, now);
        }
    }

    fn conclude(&mut self, tag: u64, outcome: v1::ProduceOutcome, now: Instant) {
        if let (Some(terms), Some(deadline)) = (self.terms, self.in_flight.deadline(tag)) {
            let left = deadline.saturating_duration_since(now);
            let after = terms.timeout.saturating_sub(left);
            produce::concluded(&self.context, METHOD, &outcome, after);
        }
        self.in_flight.complete(tag, outcome);
    }

    /// Answers what is out of time.
    fn expire(&mut self, cx: &mut TaskContext<'_>) {
        while let Some(deadline) = self.in_flight.next_deadline() {
            if self.timer.deadline() != deadline {
                self.timer.as_mut().reset(deadline);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return;
            }
            let now = Instant::now();
            for tag in self.in_flight.expired(now) {
                self.conclude(tag, produce::failed(timed_out()), now);
            }
        }
    }

    /// Reads what has arrived. Whether there may be more to read at once.
    fn read(&mut self, cx: &mut TaskContext<'_>) -> bool {
        for _ in 0..MESSAGES_PER_POLL {
            if !self.may_read() {
                return false;
            }
            match Pin::new(&mut self.requests).poll_next(cx) {
                Poll::Pending => return false,
                Poll::Ready(None) => self.end = Some(Ok(())),
                Poll::Ready(Some(Err(status))) => {
                    self.end = Some(Err(explain(&status).into_status()));
                }
                Poll::Ready(Some(Ok(message))) => {
                    let charge = self.charges.take().map(Arc::new);
                    if let Err(error) = self.accept(message, charge.as_ref()) {
                        self.end = Some(Err(error.into_status()));
                    }
                }
            }
        }
        true
    }

    fn accept(
        &mut self,
        message: v1::ProduceStreamRequest,
        charge: Option<&Arc<Charge>>,
    ) -> Result<(), ApiError> {
        let terms = match self.terms {
            Some(terms) => terms,
            None => {
                let config = &self.context.config.produce;
                let acks = produce::acks(message.acks)?;
                let timeout = produce::timeout(config, message.timeout_ms)?;
                *self.terms.insert(Terms { acks, timeout })
            }
        };
        produce::check_item_count(&self.context.config.produce, message.items.len())?;
        let deadline = Instant::now() + terms.timeout;
        for item in message.items {
            self.append(item, terms.acks, deadline, charge);
        }
        Ok(())
    }

    fn append(
        &mut self,
        item: v1::ProduceStreamItem,
        acks: v1::Acks,
        deadline: Instant,
        charge: Option<&Arc<Charge>>,
    ) {
        let found = produce::find(&self.context, &self.principal, item.item.as_ref());
        let bytes = item.item.as_ref().map_or(0, produce::payload_bytes);
        let group = found.as_ref().ok().map(|partition| partition.group);
        let lane_bytes = group.map_or(0, |group| self.in_flight.lane_bytes(group));
        let tag = self.in_flight.push(Entry {
            correlation_id: item.correlation_id,
            group,
            bytes,
            deadline,
            charge: charge.cloned(),
        });
        let most = self.context.config.produce.max_partition_bytes;
        if let Ok(partition) = &found {
            let known = self.partitions.entry(partition.group);
            known.or_insert_with(|| Arc::downgrade(partition));
        }
        let sent = found.and_then(|partition| {
            if lane_bytes > 0 && lane_bytes + bytes > most {
                return Err(partition_is_behind(most));
            }
            let payload = item.item.and_then(|item| item.payload);
            let checked = produce::check(&self.context, payload)?;
            let queue = Arc::clone(&self.acks) as Arc<dyn ReplySink<Replica>>;
            let reply = Reply::tagged(queue, tag);
            produce::send(&self.context, &partition, checked, acks, reply);
            Ok(())
        });
        if let Err(error) = sent {
            self.conclude(tag, produce::failed(error), Instant::now());
        }
    }
}

impl Stream for ProduceStream {
    type Item = Result<v1::ProduceStreamResponse, Status>;

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<v1::ProduceStreamResponse, Status>>> {
        let this = self.get_mut();
        this.acks.waker.register(cx.waker());
        if this.end.is_none() && this.stop.as_mut().poll(cx).is_ready() {
            this.end = Some(Err(refusals::shutting_down().into_status()));
        }
        this.collect_acks();
        let more = this.read(cx);
        this.expire(cx);
        let outcomes = this.in_flight.take_ready();
        if !outcomes.is_empty() {
            return Poll::Ready(Some(Ok(v1::ProduceStreamResponse { outcomes })));
        }
        if this.in_flight.len() == 0
            && let Some(end) = this.end.take()
        {
            this.end = Some(Ok(()));
            return Poll::Ready(end.err().map(Err));
        }
        if more {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

fn timed_out() -> ApiError {
    ApiError::new(
        Reason::RequestTimedOut,
        "the batch was not acknowledged in time: it may have been stored, or may yet be",
    )
}

fn partition_is_behind(most: u64) -> ApiError {
    ApiError::new(
        Reason::Throttled,
        format!(
            "the stream has {most} bytes for this partition that are not acknowledged \
             (produce.max_partition_bytes): wait for some"
        ),
    )
    .with("limit", "produce.max_partition_bytes")
    .with("most", most)
}
