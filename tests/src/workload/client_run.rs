//! The client crate's producer and consumer as load: each record must be delivered once and in order, whatever happens.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use highwater_client::{Client, Compression, ConsumedRecord, Producer, Record, Start};
use highwater_proto::Offset;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::router::Router;
use super::{PATIENCE, now_ms, read_all};
use crate::checker::FinalLog;
use crate::history::{History, ReadRecord, SendOutcome, Session};
use crate::stamp::{Parts, Place, Stamp};

const WRITER: u32 = 1;
/// Records that the producer may have on their way.
const MAX_ON_THEIR_WAY: usize = 2_000;

/// A producer and a consumer at work on all partitions of a topic.
#[derive(Debug)]
pub struct ClientRun<'a> {
    runtime: &'a Runtime,
    addresses: Vec<SocketAddr>,
    places: Vec<Place>,
    history: Arc<History>,
    stop: Arc<AtomicBool>,
    producing: JoinHandle<Result<(), highwater_client::Error>>,
    consuming: JoinHandle<Result<(), highwater_client::Error>>,
    consumed: mpsc::UnboundedReceiver<ConsumedRecord>,
}

impl<'a> ClientRun<'a> {
    /// Starts them.
    ///
    /// # Errors
    /// When no broker can be reached.
    pub fn start(
        runtime: &'a Runtime,
        addresses: Vec<SocketAddr>,
        topic: &str,
        places: Vec<Place>,
    ) -> Result<Self> {
        let bootstrap: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        let client = runtime.block_on(Client::connect(&bootstrap.join(",")))?;
        let history = Arc::<History>::default();
        let stop = Arc::<AtomicBool>::default();
        let (sender, consumed) = mpsc::unbounded_channel();
        let consuming = consume(client.clone(), topic.to_owned(), places.clone(), sender);
        let consuming = runtime.spawn(consuming);
        let _context = runtime.enter();
        let producer = client
            .producer()
            .linger(Duration::from_millis(2))
            .batch_bytes(2_000)
            .compression(Compression::Lz4)
            .build()?;
        let writing = Writing {
            topic: topic.to_owned(),
            places: places.clone(),
            history: Arc::clone(&history),
            stop: Arc::clone(&stop),
        };
        Ok(Self {
            producing: runtime.spawn(writing.produce(producer)),
            runtime,
            addresses,
            places,
            history,
            stop,
            consuming,
            consumed,
        })
    }

    /// What the producer saw.
    #[must_use]
    pub fn history(&self) -> &Arc<History> {
        &self.history
    }

    /// Waits until so many more records are acknowledged. Blocks.
    ///
    /// # Errors
    /// When they are not within [`PATIENCE`].
    pub fn wait_for_acks(&self, records: u64) -> Result<()> {
        let wanted = self.history.note(|ledger| ledger.acked_records()) + records;
        let deadline = Instant::now() + PATIENCE;
        self.history
            .wait_for("acknowledged records", deadline, |ledger| {
                ledger.acked_records() >= wanted
            })
    }

    /// Ends the producer, reads every partition, and compares with what the consumer got, which went on all the time. Blocks.
    ///
    /// # Errors
    /// When a delivery failed, or the consumer got anything but exactly the logs.
    pub fn finish(mut self) -> Result<(Arc<History>, Vec<FinalLog>)> {
        self.stop.store(true, Ordering::Relaxed);
        self.runtime.block_on(self.producing)??;
        let mut router = {
            let _context = self.runtime.enter();
            Router::new(&self.addresses)
        };
        self.runtime.block_on(router.ask_everybody());
        let finals = self
            .places
            .iter()
            .map(|place| {
                let reading = read_all(&mut router, *place, &self.history);
                self.runtime.block_on(reading)
            })
            .collect::<Result<Vec<_>>>()?;
        let total: usize = finals.iter().map(|log| log.records.len()).sum();
        let mut got: BTreeMap<u32, Vec<ReadRecord>> = BTreeMap::new();
        self.runtime.block_on(async {
            for at in 0..total {
                let next = tokio::time::timeout(PATIENCE, self.consumed.recv()).await;
                let next =
                    next.with_context(|| format!("{at} of {total} records were consumed"))?;
                let record = next.context("the consumer ended")?;
                let of_partition = got.entry(record.partition).or_default();
                of_partition.push(read_record(record));
            }
            anyhow::Ok(())
        })?;
        self.consuming.abort();
        for log in &finals {
            let got = got.remove(&log.place.partition.0).unwrap_or_default();
            let got = got.iter().map(|record| (record.offset, record.stamp));
            let held = log
                .records
                .iter()
                .map(|record| (record.offset, record.stamp));
            ensure!(
                got.eq(held),
                "the consumer got something else than {} holds",
                log.place
            );
        }
        Ok((self.history, finals))
    }
}

/// What a producer's task works with.
struct Writing {
    topic: String,
    places: Vec<Place>,
    history: Arc<History>,
    stop: Arc<AtomicBool>,
}

impl Writing {
    /// Sends stamped records until it is told to stop, and waits until each is delivered.
    async fn produce(self, producer: Producer) -> Result<(), highwater_client::Error> {
        let room = Arc::new(Semaphore::new(MAX_ON_THEIR_WAY));
        let mut random = StdRng::seed_from_u64(4);
        let mut sequences = BTreeMap::<Place, u64>::new();
        while !self.stop.load(Ordering::Relaxed) {
            let place = self.places[random.random_range(0..self.places.len())];
            let sequence = sequences.entry(place).or_default();
            let stamp = Stamp {
                writer: WRITER,
                sequence: *sequence,
                place,
            };
            *sequence += 1;
            let parts = stamp.to_parts(now_ms(), random.random_range(0..200));
            let permit = room.clone().acquire_owned().await.expect("never closed");
            let id = self.history.note(|ledger| {
                let sequences = stamp.sequence..stamp.sequence + 1;
                ledger.begin_send(place, WRITER, Session(0), sequences)
            });
            let delivery = producer.send(record(&self.topic, &parts, place)).await?;
            let history = Arc::clone(&self.history);
            tokio::spawn(async move {
                let outcome = match delivery.await {
                    Ok(receipt) => SendOutcome::Acked {
                        base_offset: Offset(receipt.offset),
                        log_start: Offset(0),
                    },
                    Err(error) => SendOutcome::Unknown {
                        reason: error.to_string(),
                    },
                };
                history.note(|ledger| ledger.end_send(id, outcome));
                drop(permit);
            });
        }
        producer.close().await
    }
}

fn record<'a>(topic: &'a str, parts: &'a Parts, place: Place) -> Record<'a> {
    let mut record = Record::to(topic)
        .partition(place.partition.0)
        .headers(&parts.headers)
        .timestamp_ms(parts.timestamp_ms);
    if let Some(key) = &parts.key {
        record = record.key(key);
    }
    if let Some(value) = &parts.value {
        record = record.value(value);
    }
    record
}

/// Passes on everything that the topic holds, from the beginning on.
async fn consume(
    client: Client,
    topic: String,
    places: Vec<Place>,
    consumed: mpsc::UnboundedSender<ConsumedRecord>,
) -> Result<(), highwater_client::Error> {
    let mut builder = client.consumer();
    for place in places {
        builder = builder.assign(&topic, place.partition.0, Start::Earliest);
    }
    let mut consumer = builder.build().await?;
    loop {
        if consumed.send(consumer.recv().await?).is_err() {
            return Ok(());
        }
    }
}

fn read_record(record: ConsumedRecord) -> ReadRecord {
    ReadRecord {
        offset: Offset(record.offset),
        stamp: Stamp::of(&Parts {
            timestamp_ms: record.timestamp_ms,
            key: record.key,
            value: record.value,
            headers: record.headers.collect(),
        }),
        producer: None,
    }
}
