//! The client crate's producer and consumer while the broker is killed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use highwater_client::{Client, Compression, ConsumedRecord, Producer, Record, Start};
use highwater_proto::{Offset, TopicId};
use highwater_tests::history::{History, ReadRecord, SendOutcome, Session};
use highwater_tests::stamp::{Parts, Place, Stamp};
use highwater_tests::workload::{PATIENCE, now_ms, places, read_all};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::{Semaphore, mpsc};

use crate::scene::{Scene, rounds, setup};

const TOPIC: &str = "events";
const WRITER: u32 = 1;
const PARTITIONS: u32 = 3;
/// Records that the producer may have on their way.
const MAX_ON_THEIR_WAY: usize = 2_000;

/// Sends stamped records until it is told to stop, and waits until each is delivered.
async fn produce(
    producer: Producer,
    topic: TopicId,
    history: Arc<History>,
    stop: Arc<AtomicBool>,
) -> Result<(), highwater_client::Error> {
    let room = Arc::new(Semaphore::new(MAX_ON_THEIR_WAY));
    let mut random = StdRng::seed_from_u64(4);
    let mut sequences = BTreeMap::<Place, u64>::new();
    let places = places(topic, PARTITIONS);
    while !stop.load(Ordering::Relaxed) {
        let place = places[random.random_range(0..places.len())];
        let sequence = sequences.entry(place).or_default();
        let stamp = Stamp {
            writer: WRITER,
            sequence: *sequence,
            place,
        };
        *sequence += 1;
        let parts = stamp.to_parts(now_ms(), random.random_range(0..200));
        let permit = room.clone().acquire_owned().await.expect("never closed");
        let id = history.note(|ledger| {
            let sequences = stamp.sequence..stamp.sequence + 1;
            ledger.begin_send(place, WRITER, Session(0), sequences)
        });
        let delivery = producer.send(record(&parts, place)).await?;
        let history = history.clone();
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

fn record(parts: &Parts, place: Place) -> Record<'_> {
    let mut record = Record::to(TOPIC)
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
    consumed: mpsc::UnboundedSender<ConsumedRecord>,
) -> Result<(), highwater_client::Error> {
    let mut builder = client.consumer();
    for partition in 0..PARTITIONS {
        builder = builder.assign(TOPIC, partition, Start::Earliest);
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

#[test]
fn the_client_crate_delivers_each_record_once_and_in_order_over_kills() {
    let mut scene = Scene::new(setup().tiny());
    let places = scene.topic(TOPIC, PARTITIONS, &[("segment.bytes", "65536")]);
    let address = scene.broker.address().to_string();
    let client = scene.runtime.block_on(Client::connect(&address)).unwrap();
    let history = Arc::new(History::default());
    let stop = Arc::new(AtomicBool::new(false));
    let (sender, mut consumed) = mpsc::unbounded_channel();
    let consuming = scene.runtime.spawn(consume(client.clone(), sender));
    let context = scene.runtime.enter();
    let producer = client
        .producer()
        .linger(Duration::from_millis(2))
        .batch_bytes(2_000)
        .compression(Compression::Lz4)
        .build()
        .unwrap();
    drop(context);
    let topic = places[0].topic;
    let producing = produce(producer, topic, history.clone(), stop.clone());
    let producing = scene.runtime.spawn(producing);

    let mut random = StdRng::seed_from_u64(5);
    let wait_for_acks = |records: u64| {
        let wanted = history.note(|ledger| ledger.acked_records()) + records;
        let deadline = Instant::now() + PATIENCE;
        history
            .wait_for("acknowledged records", deadline, |ledger| {
                ledger.acked_records() >= wanted
            })
            .unwrap();
    };
    for _ in 0..rounds() {
        wait_for_acks(random.random_range(100..2_000));
        scene.broker.kill().unwrap();
        scene.broker.start().unwrap();
    }
    wait_for_acks(500);
    stop.store(true, Ordering::Relaxed);
    scene.runtime.block_on(producing).unwrap().unwrap();

    let mut router = scene.router();
    let finals: Vec<_> = places
        .iter()
        .map(|place| {
            let reading = read_all(&mut router, *place, &history);
            scene.runtime.block_on(reading).unwrap()
        })
        .collect();
    let summary = Scene::verdict(&history, &finals, &[]);
    println!("{summary}");
    assert_eq!(summary.unknown, 0, "every record was delivered: {summary}");
    assert_eq!(summary.acked, summary.final_records, "{summary}");

    // The consumer, which went on over all kills, got exactly the logs.
    let mut got: BTreeMap<u32, Vec<ReadRecord>> = BTreeMap::new();
    let total: usize = finals.iter().map(|log| log.records.len()).sum();
    scene.runtime.block_on(async {
        for _ in 0..total {
            let next = tokio::time::timeout(PATIENCE, consumed.recv());
            let record = next
                .await
                .expect("records keep coming")
                .expect("it consumes");
            got.entry(record.partition)
                .or_default()
                .push(read_record(record));
        }
    });
    consuming.abort();
    for log in &finals {
        let got = &got[&log.place.partition.0];
        assert_eq!(got.len(), log.records.len());
        for (got, held) in got.iter().zip(&log.records) {
            assert_eq!((got.offset, got.stamp), (held.offset, held.stamp));
        }
    }
}
