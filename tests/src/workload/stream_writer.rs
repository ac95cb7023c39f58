//! Writers that keep many batches in flight on a produce stream.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use highwater_proto::{ProducerEpoch, ProducerId, Reason, v1};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::api::{CALL_TIMEOUT, Failure};
use super::router::{Router, ack_of};
use super::unary_writer::{acked, failed, init_producer};
use super::{RESOLVE_TIMEOUT, RETRY_PAUSE, Shared, batch};
use crate::history::{SendId, SendOutcome, Session};
use crate::stamp::Place;

/// Batches of one partition in flight: as many as a broker remembers of an idempotent producer.
const WINDOW: usize = 5;

/// Writes until the load stops.
pub(super) async fn run(shared: Arc<Shared>, number: u32, idempotent: bool) {
    let mut router = Router::new(&shared.addresses);
    let producer = if idempotent {
        let Some(producer) = init_producer(&shared, &mut router).await else {
            return;
        };
        Some(producer)
    } else {
        None
    };
    let streams = shared.groups().into_iter().zip(0..).map(|(places, seed)| {
        let writer = Writer {
            router: router.clone(),
            random: StdRng::seed_from_u64(u64::from(number) << 32 | seed),
            in_flight: places
                .into_iter()
                .map(|place| (place, VecDeque::new()))
                .collect(),
            sequences: BTreeMap::new(),
            shared: Arc::clone(&shared),
            number,
            producer,
            session: 0,
            correlation: 0,
        };
        writer.write()
    });
    join_all(streams).await;
}

/// Writes to partitions that have one leader, on one stream at a time.
struct Writer {
    shared: Arc<Shared>,
    router: Router,
    random: StdRng,
    number: u32,
    /// Present in an idempotent writer.
    producer: Option<(ProducerId, ProducerEpoch)>,
    /// Grows with each stream of a plain writer: only within one stream are its batches in order.
    session: u64,
    correlation: u64,
    sequences: BTreeMap<Place, u64>,
    /// Batches whose fate is not known, in the order in which they were first sent.
    in_flight: BTreeMap<Place, VecDeque<InFlight>>,
}

struct InFlight {
    id: SendId,
    correlation: u64,
    bytes: Bytes,
}

/// What to do after a message.
#[derive(PartialEq, Eq)]
enum Next {
    GoOn,
    /// Send everything in flight again, on another stream.
    StartOver,
}

impl Writer {
    async fn write(mut self) {
        let mut give_up = None;
        loop {
            if self.shared.is_stopped() {
                let give_up = *give_up.get_or_insert_with(|| Instant::now() + RESOLVE_TIMEOUT);
                if self.is_idle() || Instant::now() > give_up {
                    break;
                }
            }
            if let Err(failure) = self.use_stream().await {
                self.shared.failed(&failure);
                self.forget_leader();
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            if self.producer.is_none() {
                self.abandon("the stream ended");
                self.session += 1;
            }
        }
        self.abandon("never settled");
    }

    /// Writes on one stream until it breaks, everything is to be sent again, or the load stops and nothing is in flight.
    async fn use_stream(&mut self) -> Result<(), Failure> {
        let (requests, outgoing) = mpsc::channel(WINDOW);
        if let Some(again) = self.everything_in_flight() {
            requests.try_send(again).expect("room for the first");
        }
        let Some(place) = self.in_flight.keys().next().copied() else {
            return Ok(());
        };
        let api = self.router.leader(place).await;
        let mut answers = api.produce_stream(ReceiverStream::new(outgoing)).await?;
        let stopping = self.shared.clone();
        loop {
            let stopped = stopping.is_stopped();
            if stopped && self.is_idle() {
                return Ok(());
            }
            let open = self.open_places();
            tokio::select! {
                biased;
                answer = timeout(CALL_TIMEOUT, answers.message()), if !self.is_idle() => {
                    let late = |_| Status::deadline_exceeded("no outcome in time");
                    let ended = || Status::unavailable("the stream ended");
                    let answer = answer.map_err(late)??.ok_or_else(ended)?;
                    if self.take(answer) == Next::StartOver {
                        self.forget_leader();
                        tokio::time::sleep(RETRY_PAUSE).await;
                        return Ok(());
                    }
                }
                permit = requests.reserve(), if !stopped && !open.is_empty() => match permit {
                    Ok(permit) => permit.send(self.next_request(&open)),
                    Err(_) => return Err(Status::unavailable("the stream broke").into()),
                },
                () = stopping.stopped(), if !stopped => {}
            }
        }
    }

    /// Takes note of outcomes.
    fn take(&mut self, answer: v1::ProduceStreamResponse) -> Next {
        let mut over = false;
        for outcome in answer.outcomes {
            let Some((place, at)) = self.find(outcome.correlation_id) else {
                self.surprise(format!("an outcome for {}", outcome.correlation_id));
                continue;
            };
            if at > 0 {
                self.surprise(format!("an outcome for {place} overtook {at} others"));
            }
            let result = ack_of(outcome.outcome.expect("an outcome"));
            let settled = match result {
                Ok(ack) => acked(&ack),
                Err(failure) => {
                    self.shared.failed(&failure);
                    if self.producer.is_some() {
                        if !failure.retriable {
                            self.surprise(format!("{}: {}", failure.reason, failure.message));
                        }
                        return Next::StartOver;
                    }
                    over |= failure.is(Reason::NotLeaderOrFollower);
                    failed(&failure)
                }
            };
            let queue = self.in_flight.get_mut(&place).expect("just found");
            let batch = queue.remove(at).expect("just found");
            self.end(batch.id, settled);
        }
        if over { Next::StartOver } else { Next::GoOn }
    }

    /// The stream's broker may lead its partitions no more.
    fn forget_leader(&mut self) {
        for place in self.in_flight.keys() {
            self.router.failed(*place);
        }
    }

    fn find(&self, correlation: u64) -> Option<(Place, usize)> {
        self.in_flight.iter().find_map(|(place, queue)| {
            let at = queue
                .iter()
                .position(|batch| batch.correlation == correlation)?;
            Some((*place, at))
        })
    }

    /// New batches for some of the partitions with room.
    fn next_request(&mut self, open: &[Place]) -> v1::ProduceStreamRequest {
        let count = self.random.random_range(1..=open.len());
        let places: Vec<_> = open
            .choose_multiple(&mut self.random, count)
            .copied()
            .collect();
        let items = places
            .into_iter()
            .map(|place| self.next_item(place))
            .collect();
        request(items)
    }

    fn next_item(&mut self, place: Place) -> v1::ProduceStreamItem {
        let sizes = self.shared.sizes;
        let records = self.random.random_range(1..=sizes.max_batch_records);
        let next = self.sequences.entry(place).or_default();
        let range = *next..*next + records;
        *next = range.end;
        let (number, session, sequences) = (self.number, Session(self.session), range.clone());
        let id = self
            .shared
            .history
            .note(|ledger| ledger.begin_send(place, number, session, sequences));
        let stamp = self
            .producer
            .map(|producer| batch::producer_stamp(producer, range.start));
        let records = batch::records(place, number, range, sizes, &mut self.random);
        self.correlation += 1;
        let batch = InFlight {
            id,
            correlation: self.correlation,
            bytes: batch::encoded(&records, stamp, &mut self.random),
        };
        let item = batch.item(place);
        self.in_flight.entry(place).or_default().push_back(batch);
        item
    }

    fn everything_in_flight(&self) -> Option<v1::ProduceStreamRequest> {
        let items: Vec<_> = self
            .in_flight
            .iter()
            .flat_map(|(place, queue)| queue.iter().map(|batch| batch.item(*place)))
            .collect();
        (!items.is_empty()).then(|| request(items))
    }

    /// Gives up on what is in flight.
    fn abandon(&mut self, reason: &str) {
        for batch in self.in_flight.values_mut().flat_map(std::mem::take) {
            let reason = reason.to_owned();
            self.shared
                .history
                .note(|ledger| ledger.end_send(batch.id, SendOutcome::Unknown { reason }));
        }
    }

    fn open_places(&self) -> Vec<Place> {
        self.in_flight
            .iter()
            .filter(|(_, queue)| queue.len() < WINDOW)
            .map(|(place, _)| *place)
            .collect()
    }

    fn is_idle(&self) -> bool {
        self.in_flight.values().all(VecDeque::is_empty)
    }

    fn end(&self, id: SendId, outcome: SendOutcome) {
        self.shared
            .history
            .note(|ledger| ledger.end_send(id, outcome));
    }

    fn surprise(&self, what: String) {
        self.shared
            .surprise(format!("writer {}: {what}", self.number));
    }
}

impl InFlight {
    fn item(&self, place: Place) -> v1::ProduceStreamItem {
        v1::ProduceStreamItem {
            correlation_id: self.correlation,
            item: Some(batch::item(place, self.bytes.clone())),
        }
    }
}

fn request(items: Vec<v1::ProduceStreamItem>) -> v1::ProduceStreamRequest {
    v1::ProduceStreamRequest {
        acks: v1::Acks::Quorum.into(),
        timeout_ms: 0,
        items,
    }
}
