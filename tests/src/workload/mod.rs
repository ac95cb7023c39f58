//! Load: writers and readers that go on whatever happens to the broker, and write down what they see.
//!
//! Writers are of four kinds, unary or streaming, plain or idempotent. A plain writer sends each batch once and takes
//! any failure as final; an idempotent one sends the same batch, with the same sequences, until it knows what became of
//! it. Readers follow from the first offset on, by long polls or by subscription.
//!
//! [`api`] speaks the protocol without the client crate, so that a bug of the client cannot hide one of the broker.

pub mod api;
mod batch;
pub mod client_run;
#[cfg(test)]
mod model_broker;
mod page;
mod reader;
pub mod router;
mod stream_writer;
mod unary_writer;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use highwater_proto::{Offset, PartitionIndex, TopicId, v1};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::checker::FinalLog;
use crate::history::{History, Ledger, ReadOutcome};
use crate::stamp::Place;
use api::Failure;
pub use batch::now_ms;
use page::read_page;
pub use reader::ReaderKind;
use router::Router;

/// Pause of a client whose request failed.
const RETRY_PAUSE: Duration = Duration::from_millis(10);
/// How long writers go on, after they were told to stop, to learn what became of what they sent.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a test waits for something that a healthy broker does at once.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Number of the reader that reads everything at the end.
const AUDITOR: u32 = u32::MAX;

/// How a writer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriterKind {
    /// A request at a time, each batch once.
    UnaryPlain,
    /// A request at a time, each batch until its fate is known.
    UnaryIdempotent,
    /// Many batches in flight on a stream, each once.
    StreamPlain,
    /// Up to five batches per partition in flight on a stream, each until its fate is known.
    StreamIdempotent,
}

impl WriterKind {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::UnaryPlain,
        Self::UnaryIdempotent,
        Self::StreamPlain,
        Self::StreamIdempotent,
    ];
}

/// What writers send.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Most records in a batch.
    pub max_batch_records: u64,
    /// Most bytes of filler in a record.
    pub max_filler_bytes: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            max_batch_records: 8,
            max_filler_bytes: 300,
        }
    }
}

/// What all clients of a load share.
#[derive(Debug)]
struct Shared {
    addresses: Vec<SocketAddr>,
    places: Vec<Place>,
    sizes: Sizes,
    history: Arc<History>,
    stop: watch::Receiver<bool>,
    notes: Mutex<Notes>,
}

/// What clients met besides what the history says.
#[derive(Debug, Default)]
struct Notes {
    /// How often each reason was given.
    failures: BTreeMap<String, u64>,
    /// Things that no broker may do and the history cannot show.
    surprises: Vec<String>,
}

impl Shared {
    fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// The partitions in groups that have one leader each whatever happens: with one broker it is that, with several each
    /// partition may be led by another.
    fn groups(&self) -> Vec<Vec<Place>> {
        match self.addresses.len() {
            1 => vec![self.places.clone()],
            _ => self.places.iter().map(|place| vec![*place]).collect(),
        }
    }

    async fn stopped(&self) {
        let mut stop = self.stop.clone();
        // An error means that the load itself is gone, which stops its clients as well.
        let _ = stop.wait_for(|stopped| *stopped).await;
    }

    fn failed(&self, failure: &Failure) {
        let mut notes = self.notes.lock().expect("nobody panics with the lock");
        *notes.failures.entry(failure.reason.clone()).or_default() += 1;
    }

    fn surprise(&self, what: String) {
        let mut notes = self.notes.lock().expect("nobody panics with the lock");
        notes.surprises.push(what);
    }
}

/// Running writers and readers.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    runtime: Handle,
    writers: Vec<JoinHandle<()>>,
    readers: Vec<JoinHandle<()>>,
    numbers: u32,
}

impl Load {
    /// A load without clients on some partitions of the brokers at `addresses`.
    #[must_use]
    pub fn new(
        runtime: &Handle,
        addresses: Vec<SocketAddr>,
        places: Vec<Place>,
        sizes: Sizes,
    ) -> Self {
        Self::with_history(runtime, addresses, places, sizes, Arc::default())
    }

    /// A load that goes on with the history of another one.
    #[must_use]
    pub fn with_history(
        runtime: &Handle,
        addresses: Vec<SocketAddr>,
        places: Vec<Place>,
        sizes: Sizes,
        history: Arc<History>,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let numbers = history.note(next_number);
        Self {
            shared: Arc::new(Shared {
                addresses,
                places,
                sizes,
                history,
                stop: stopped,
                notes: Mutex::default(),
            }),
            stop,
            runtime: runtime.clone(),
            writers: Vec::new(),
            readers: Vec::new(),
            numbers,
        }
    }

    /// Starts a writer on all partitions of the load.
    #[must_use]
    pub fn writer(mut self, kind: WriterKind) -> Self {
        let (number, shared) = (self.next_number(), self.shared.clone());
        self.writers.push(match kind {
            WriterKind::UnaryPlain | WriterKind::UnaryIdempotent => {
                let idempotent = kind == WriterKind::UnaryIdempotent;
                self.runtime
                    .spawn(unary_writer::run(shared, number, idempotent))
            }
            WriterKind::StreamPlain | WriterKind::StreamIdempotent => {
                let idempotent = kind == WriterKind::StreamIdempotent;
                self.runtime
                    .spawn(stream_writer::run(shared, number, idempotent))
            }
        });
        self
    }

    /// Starts a reader that follows all partitions of the load.
    #[must_use]
    pub fn reader(mut self, kind: ReaderKind) -> Self {
        let (number, shared) = (self.next_number(), self.shared.clone());
        self.readers
            .push(self.runtime.spawn(reader::run(shared, number, kind)));
        self
    }

    /// A writer of each kind and a reader of each kind.
    #[must_use]
    pub fn everything(self) -> Self {
        let load = WriterKind::ALL.into_iter().fold(self, Self::writer);
        ReaderKind::ALL.into_iter().fold(load, Self::reader)
    }

    fn next_number(&mut self) -> u32 {
        self.numbers += 1;
        self.numbers
    }

    /// What the clients saw.
    #[must_use]
    pub fn history(&self) -> &Arc<History> {
        &self.shared.history
    }

    /// How often each reason for a failure was given.
    #[must_use]
    pub fn failures(&self) -> BTreeMap<String, u64> {
        let notes = self.shared.notes.lock();
        notes.expect("nobody panics with the lock").failures.clone()
    }

    /// Waits until `records` more records are acknowledged. Blocks.
    ///
    /// # Errors
    /// When they are not within [`PATIENCE`].
    pub fn wait_for_acks(&self, records: u64) -> Result<()> {
        let wanted = self.history().note(|ledger| ledger.acked_records()) + records;
        self.wait_for(&format!("{records} more acknowledged records"), |ledger| {
            ledger.acked_records() >= wanted
        })
    }

    /// Waits until the history fulfils a condition. Blocks.
    ///
    /// # Errors
    /// When it does not within [`PATIENCE`].
    pub fn wait_for(&self, what: &str, condition: impl FnMut(&Ledger) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        self.history()
            .wait_for(what, deadline, condition)
            .map_err(|error| error.context(format!("failures so far: {:?}", self.failures())))
    }

    /// Stops the clients, waits until writers know what became of what they sent, and reads every partition. Blocks.
    ///
    /// # Errors
    /// When a client met something that no broker may do, or a partition cannot be read.
    pub fn finish(self) -> Result<Vec<FinalLog>> {
        self.stop.send_replace(true);
        let mut router = self
            .runtime
            .block_on(async { Router::new(&self.shared.addresses) });
        self.runtime.block_on(async {
            for client in self.writers.into_iter().chain(self.readers) {
                client.await?;
            }
            anyhow::Ok(())
        })?;
        let surprises = {
            let mut notes = self
                .shared
                .notes
                .lock()
                .expect("nobody panics with the lock");
            std::mem::take(&mut notes.surprises)
        };
        ensure!(surprises.is_empty(), "surprises: {surprises:#?}");
        self.runtime.block_on(router.ask_everybody());
        let history = &self.shared.history;
        self.shared
            .places
            .iter()
            .map(|place| {
                self.runtime
                    .block_on(read_all(&mut router, *place, history))
            })
            .collect()
    }
}

/// One above the highest number of any client so far.
fn next_number(ledger: &mut Ledger) -> u32 {
    let writers = ledger.sends.iter().map(|send| send.writer);
    let readers = ledger.reads.iter().map(|read| read.reader);
    writers
        .chain(readers)
        .filter(|number| *number != AUDITOR)
        .max()
        .unwrap_or(0)
}

/// The partitions of a topic.
#[must_use]
pub fn places(topic: TopicId, partitions: u32) -> Vec<Place> {
    (0..partitions)
        .map(|partition| Place {
            topic,
            partition: PartitionIndex(partition),
        })
        .collect()
}

/// Makes a call again as long as it fails for a reason that may pass.
///
/// # Errors
/// The call's, when it may not pass or has not within [`PATIENCE`].
pub async fn patiently<T, F>(mut call: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        match call().await {
            Err(failure) if failure.retriable && Instant::now() < deadline => {
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            result => return result,
        }
    }
}

/// Reads a partition from its first to its last record.
///
/// # Errors
/// When an answer stays out for longer than [`PATIENCE`], or says that something is wrong.
pub async fn read_all(router: &mut Router, place: Place, history: &History) -> Result<FinalLog> {
    let deadline = Instant::now() + PATIENCE;
    let mut log: Option<FinalLog> = None;
    let mut from = earliest(router, place).await?;
    loop {
        ensure!(Instant::now() < deadline, "reading {place} takes too long");
        let id = history.note(|ledger| ledger.begin_read(place, AUDITOR, from));
        let outcome = read_page(router, place, from, v1::RecordFormat::Batches, 0).await;
        history.note(|ledger| ledger.end_read(id, outcome.clone()));
        let page = match outcome {
            ReadOutcome::Records(page) => page,
            // Retention overtook the reader: begin again.
            ReadOutcome::OutOfRange => {
                (log, from) = (None, earliest(router, place).await?);
                continue;
            }
            ReadOutcome::Failed { retriable, .. } if retriable => {
                tokio::time::sleep(RETRY_PAUSE).await;
                continue;
            }
            ReadOutcome::Failed { reason, .. } => {
                anyhow::bail!("reading {place} at {from}: {reason}")
            }
        };
        let log = log.get_or_insert_with(|| FinalLog {
            place,
            log_start: from,
            high_watermark: from,
            records: Vec::new(),
        });
        log.high_watermark = page.high_watermark;
        let stuck = page.next_offset == from;
        from = page.next_offset;
        log.records.extend(page.records);
        if from >= log.high_watermark || stuck {
            return Ok(expired_dropped(log.clone(), page.log_start));
        }
    }
}

/// Reads once from a partition, without waiting for anything to be there.
pub async fn read_once(router: &mut Router, place: Place, from: Offset) -> ReadOutcome {
    read_page(router, place, from, v1::RecordFormat::Batches, 0).await
}

/// Asks for the first offset that a partition holds until there is an answer.
async fn earliest(router: &mut Router, place: Place) -> Result<Offset, Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match router.earliest(place).await {
            Err(failure) if failure.retriable && Instant::now() < deadline => {
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            result => return result,
        }
    }
}

/// The log without what expired while it was read.
fn expired_dropped(mut log: FinalLog, log_start: Offset) -> FinalLog {
    log.log_start = log.log_start.max(log_start);
    log.records.retain(|record| record.offset >= log.log_start);
    log
}

#[cfg(test)]
mod tests;
