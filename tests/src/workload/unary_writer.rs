//! Writers that send one request at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use highwater_proto::{Offset, ProducerEpoch, ProducerId, v1};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::Instant;

use super::api::Failure;
use super::router::Router;
use super::{RESOLVE_TIMEOUT, RETRY_PAUSE, Shared, batch};
use crate::history::{SendId, SendOutcome, Session};
use crate::stamp::Place;

/// Most partitions in one request.
const MAX_ITEMS: usize = 3;

/// Writes until the load stops.
pub(super) async fn run(shared: Arc<Shared>, number: u32, idempotent: bool) {
    let mut writer = Writer {
        router: Router::new(&shared.addresses),
        random: StdRng::seed_from_u64(u64::from(number)),
        shared,
        number,
        sequences: BTreeMap::new(),
        requests: 0,
    };
    if idempotent {
        writer.write_idempotent().await;
    } else {
        writer.write_plain().await;
    }
}

struct Writer {
    shared: Arc<Shared>,
    router: Router,
    random: StdRng,
    number: u32,
    /// The next sequence of each partition.
    sequences: BTreeMap<Place, u64>,
    requests: u64,
}

/// A batch whose fate is not known yet.
struct Pending {
    id: SendId,
    place: Place,
    bytes: Bytes,
    /// Reason of the first attempt that may have had an effect.
    doubt: Option<String>,
}

impl Writer {
    async fn write_plain(&mut self) {
        while !self.shared.is_stopped() {
            let (ids, batches): (Vec<_>, Vec<_>) = self
                .some_places()
                .into_iter()
                .map(|place| {
                    let (id, item) = self.next_plain(place);
                    (id, (place, item))
                })
                .unzip();
            let outcomes = self.router.produce(batches).await;
            self.requests += 1;
            let all_failed = outcomes.iter().all(Result::is_err);
            for (id, outcome) in ids.into_iter().zip(outcomes) {
                let outcome = match outcome {
                    Ok(ack) => acked(&ack),
                    Err(failure) => self.final_failure(&failure),
                };
                self.end(id, outcome);
            }
            if all_failed {
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }

    /// The next batch for a partition, in one of the two forms that a client may send.
    fn next_plain(&mut self, place: Place) -> (SendId, v1::ProduceItem) {
        // Requests of one writer follow each other, but one that timed out may be overtaken by the next.
        let session = Session(self.requests);
        let (id, range) = self.begin(place, session);
        let sizes = self.shared.sizes;
        let records = batch::records(place, self.number, range, sizes, &mut self.random);
        let item = if self.random.random_bool(0.5) {
            batch::plain_item(place, records)
        } else {
            batch::item(place, batch::encoded(&records, None, &mut self.random))
        };
        (id, item)
    }

    async fn write_idempotent(&mut self) {
        let Some(producer) = self.init_producer().await else {
            return;
        };
        let mut pending: Vec<Pending> = Vec::new();
        let mut give_up = None;
        loop {
            if self.shared.is_stopped() {
                let give_up = *give_up.get_or_insert_with(|| Instant::now() + RESOLVE_TIMEOUT);
                if pending.is_empty() || Instant::now() > give_up {
                    break;
                }
            } else {
                for place in self.some_places() {
                    if pending.iter().all(|batch| batch.place != place) {
                        pending.push(self.next_idempotent(place, producer));
                    }
                }
            }
            let batches = pending
                .iter()
                .map(|batch| {
                    let item = batch::item(batch.place, batch.bytes.clone());
                    (batch.place, item)
                })
                .collect();
            let outcomes = self.router.produce(batches).await;
            pending = self.settle(pending, outcomes);
            if !pending.is_empty() {
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
        for batch in pending {
            let reason = batch.doubt.unwrap_or_else(|| "never settled".to_owned());
            self.end(batch.id, SendOutcome::Unknown { reason });
        }
    }

    /// Writes down the fates that are known now and returns the batches to send again.
    fn settle(
        &mut self,
        sent: Vec<Pending>,
        outcomes: Vec<Result<v1::ProduceAck, Failure>>,
    ) -> Vec<Pending> {
        let mut again = Vec::new();
        for (mut batch, outcome) in sent.into_iter().zip(outcomes) {
            match outcome {
                Ok(ack) => self.end(batch.id, acked(&ack)),
                Err(failure) => {
                    self.shared.failed(&failure);
                    if !failure.retriable {
                        self.shared.surprise(format!(
                            "writer {}: {}: {}",
                            self.number, failure.reason, failure.message
                        ));
                    }
                    batch.failed(&failure);
                    again.push(batch);
                }
            }
        }
        again
    }

    fn next_idempotent(&mut self, place: Place, producer: (ProducerId, ProducerEpoch)) -> Pending {
        let (id, range) = self.begin(place, Session(0));
        let stamp = batch::producer_stamp(producer, range.start);
        let sizes = self.shared.sizes;
        let records = batch::records(place, self.number, range, sizes, &mut self.random);
        Pending {
            id,
            place,
            bytes: batch::encoded(&records, Some(stamp), &mut self.random),
            doubt: None,
        }
    }

    async fn init_producer(&mut self) -> Option<(ProducerId, ProducerEpoch)> {
        init_producer(&self.shared, &mut self.router).await
    }

    fn some_places(&mut self) -> Vec<Place> {
        let count = self.random.random_range(1..=MAX_ITEMS);
        let places = &self.shared.places;
        places
            .choose_multiple(&mut self.random, count)
            .copied()
            .collect()
    }

    fn begin(&mut self, place: Place, session: Session) -> (SendId, std::ops::Range<u64>) {
        let records = self
            .random
            .random_range(1..=self.shared.sizes.max_batch_records);
        let next = self.sequences.entry(place).or_default();
        let range = *next..*next + records;
        *next = range.end;
        let (number, sequences) = (self.number, range.clone());
        let id = self
            .shared
            .history
            .note(|ledger| ledger.begin_send(place, number, session, sequences));
        (id, range)
    }

    fn end(&self, id: SendId, outcome: SendOutcome) {
        self.shared
            .history
            .note(|ledger| ledger.end_send(id, outcome));
    }

    /// The outcome of a batch that is sent no more.
    fn final_failure(&self, failure: &Failure) -> SendOutcome {
        self.shared.failed(failure);
        failed(failure)
    }
}

impl Pending {
    fn failed(&mut self, failure: &Failure) {
        if !failure.definite && self.doubt.is_none() {
            self.doubt = Some(failure.reason.clone());
        }
    }
}

/// Asks for a producer identity until there is one or the load stops.
pub(super) async fn init_producer(
    shared: &Shared,
    router: &mut Router,
) -> Option<(ProducerId, ProducerEpoch)> {
    while !shared.is_stopped() {
        match router.any().init_producer().await {
            Ok(producer) => return Some(producer),
            Err(failure) => {
                shared.failed(&failure);
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
    None
}

/// The outcome of a batch that failed and is sent no more.
pub(super) fn failed(failure: &Failure) -> SendOutcome {
    let reason = failure.reason.clone();
    if failure.definite {
        SendOutcome::Refused { reason }
    } else {
        SendOutcome::Unknown { reason }
    }
}

/// The outcome of a batch that was acknowledged.
pub(super) fn acked(ack: &v1::ProduceAck) -> SendOutcome {
    SendOutcome::Acked {
        base_offset: Offset(ack.base_offset),
        log_start: Offset(ack.log_start_offset),
    }
}
