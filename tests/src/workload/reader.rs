//! Readers that follow partitions from the first offset on.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use highwater_proto::{Offset, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::api::Failure;
use super::page::{fetch_partition, outcome_of, read_page};
use super::router::Router;
use super::{RETRY_PAUSE, Shared};
use crate::history::{Moment, ReadOutcome};
use crate::stamp::Place;

/// How long one poll waits for records, in milliseconds.
const POLL_MS: u32 = 50;
/// Bytes that a subscription may be ahead: few, so that credit runs out all the time.
const CREDIT_BYTES: u64 = 32 << 10;

/// How a reader reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReaderKind {
    /// Long polls for record batches.
    FetchBatches,
    /// Long polls for plain records.
    FetchRecords,
    /// A subscription.
    Subscribe,
}

impl ReaderKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::FetchBatches, Self::FetchRecords, Self::Subscribe];
}

/// Follows all partitions of the load until it stops.
pub(super) async fn run(shared: Arc<Shared>, number: u32, kind: ReaderKind) {
    let router = Router::new(&shared.addresses);
    let readers = shared.groups().into_iter().map(|places| {
        let reader = Reader {
            router: router.clone(),
            positions: places.into_iter().map(|place| (place, Offset(0))).collect(),
            shared: Arc::clone(&shared),
            number,
        };
        async move {
            match kind {
                ReaderKind::FetchBatches => reader.poll(v1::RecordFormat::Batches).await,
                ReaderKind::FetchRecords => reader.poll(v1::RecordFormat::Records).await,
                ReaderKind::Subscribe => reader.subscribe().await,
            }
        }
    });
    join_all(readers).await;
}

/// Reads partitions that have one leader.
struct Reader {
    shared: Arc<Shared>,
    router: Router,
    number: u32,
    /// Where to go on.
    positions: BTreeMap<Place, Offset>,
}

impl Reader {
    async fn poll(mut self, format: v1::RecordFormat) {
        while !self.shared.is_stopped() {
            for place in self.positions.keys().copied().collect::<Vec<_>>() {
                let (from, number) = (self.positions[&place], self.number);
                let history = &self.shared.history;
                let id = history.note(|ledger| ledger.begin_read(place, number, from));
                let outcome = read_page(&mut self.router, place, from, format, POLL_MS).await;
                history.note(|ledger| ledger.end_read(id, outcome.clone()));
                self.go_on_after(place, &outcome).await;
            }
        }
    }

    /// Sets the next position; after a failure, waits a little.
    async fn go_on_after(&mut self, place: Place, outcome: &ReadOutcome) {
        match outcome {
            ReadOutcome::Records(page) => {
                self.positions.insert(place, page.next_offset);
            }
            ReadOutcome::OutOfRange => match self.router.earliest(place).await {
                Ok(offset) => {
                    self.positions.insert(place, offset);
                }
                Err(failure) => self.pause(&failure).await,
            },
            ReadOutcome::Failed { .. } => {
                self.router.failed(place);
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }

    async fn pause(&self, failure: &Failure) {
        self.shared.failed(failure);
        tokio::time::sleep(RETRY_PAUSE).await;
    }

    async fn subscribe(mut self) {
        let mut assignment_id = 0;
        while !self.shared.is_stopped() {
            assignment_id += 1;
            if let Err(failure) = self.follow_subscription(assignment_id).await {
                for place in self.positions.keys() {
                    self.router.failed(*place);
                }
                self.pause(&failure).await;
            }
        }
    }

    /// Reads what one subscription pushes, until it ends, a partition of it fails, or the load stops.
    async fn follow_subscription(&mut self, assignment_id: u64) -> Result<(), Failure> {
        let Some(place) = self.positions.keys().next().copied() else {
            return Ok(());
        };
        let api = self.router.leader(place).await;
        let (requests, outgoing) = mpsc::channel(16);
        let partitions = self.positions.iter();
        let assign = v1::SubscribeAssign {
            assignment_id,
            partitions: partitions
                .map(|(place, from)| fetch_partition(*place, *from, self.router.epoch(*place)))
                .collect(),
            format: v1::RecordFormat::Batches.into(),
            allow_follower: false,
        };
        let began = self.shared.history.note(|ledger| ledger.now());
        for request in [
            v1::subscribe_request::Request::Assign(assign),
            credit(CREDIT_BYTES),
        ] {
            let request = v1::SubscribeRequest {
                request: Some(request),
            };
            requests.try_send(request).expect("room for the first two");
        }
        let mut pushed = api.subscribe(ReceiverStream::new(outgoing)).await?;
        loop {
            let message = tokio::select! {
                () = self.shared.stopped() => return Ok(()),
                message = pushed.message() => message?,
            };
            let Some(message) = message else {
                return Ok(());
            };
            if message.assignment_id != assignment_id {
                self.shared.surprise(format!(
                    "a push for assignment {} of {assignment_id}",
                    message.assignment_id
                ));
            }
            let used = message.credit_used_bytes;
            if !self.take(began, message).await {
                return Ok(());
            }
            let request = v1::SubscribeRequest {
                request: Some(credit(used)),
            };
            if used > 0 && requests.send(request).await.is_err() {
                return Ok(());
            }
        }
    }

    /// Takes note of a pushed message. Whether the subscription can go on.
    async fn take(&mut self, began: Moment, message: v1::SubscribeResponse) -> bool {
        let mut all_well = true;
        for fetched in message.partitions {
            let Some(place) = self.place_of(&fetched) else {
                self.shared
                    .surprise("a push for a partition that was not assigned".to_owned());
                continue;
            };
            let (from, number) = (self.positions[&place], self.number);
            let outcome = outcome_of(fetched, from);
            self.shared.history.note(|ledger| {
                let id = ledger.begin_read_at(began, place, number, from);
                ledger.end_read(id, outcome.clone());
            });
            match &outcome {
                ReadOutcome::Records(page) => self.router.heard(place, page.leader_epoch),
                ReadOutcome::OutOfRange | ReadOutcome::Failed { .. } => all_well = false,
            }
            self.go_on_after(place, &outcome).await;
        }
        all_well
    }

    fn place_of(&self, fetched: &v1::FetchedPartition) -> Option<Place> {
        let named = fetched.partition.as_ref()?;
        self.shared.places.iter().copied().find(|place| {
            named.topic_id == place.topic.as_bytes()[..] && named.partition == place.partition.0
        })
    }
}

fn credit(bytes: u64) -> v1::subscribe_request::Request {
    v1::subscribe_request::Request::Credit(v1::SubscribeCredit { bytes })
}
