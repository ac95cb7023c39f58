//! Processes the records of a topic by key, and compares that with one after the other.
//!
//! `cargo run --release -p highwater-client --example process_by_key -- 127.0.0.1:7410`

use std::collections::HashMap;
use std::convert::Infallible;
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use highwater_client::{Client, NewTopic, Offset, Record, Start};

const RECORDS: u64 = 20_000;
const SERIAL_RECORDS: u64 = 500;
const KEYS: u64 = 1_000;
const HANDLERS: usize = 50;
/// What the work on one record takes.
const WORK: Duration = Duration::from_millis(1);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1);
    let client = Client::connect(address.as_deref().unwrap_or("127.0.0.1:7410")).await?;
    let topic = "process-by-key";
    client
        .admin()
        .create_topic(NewTopic::new(topic).partitions(1))
        .await?;
    let producer = client.producer().build()?;
    for number in 0..RECORDS {
        let key = (number % KEYS).to_string();
        drop(
            producer
                .send(Record::to(topic).key(&key).value(&number.to_string()))
                .await?,
        );
    }
    producer.close().await?;
    let consumer = || client.consumer().assign(topic, 0, Start::Earliest).build();

    let mut one_by_one = consumer().await?;
    let began = Instant::now();
    for _ in 0..SERIAL_RECORDS {
        drop(one_by_one.recv().await?);
        tokio::time::sleep(WORK).await;
    }
    let serial = SERIAL_RECORDS as f64 / began.elapsed().as_secs_f64();

    let seen: Arc<Mutex<HashMap<_, Vec<u64>>>> = Arc::default();
    let mut by_key = consumer().await?;
    let began = Instant::now();
    let mut work = by_key.process_by_key(HANDLERS, |record| {
        let seen = Arc::clone(&seen);
        async move {
            tokio::time::sleep(WORK).await;
            let mut seen = seen.lock().expect("no handler panics");
            seen.entry(record.key).or_default().push(record.offset);
            Ok::<(), Infallible>(())
        }
    });
    while work.next().await?.offset < Offset(RECORDS) {}
    let parallel = RECORDS as f64 / began.elapsed().as_secs_f64();
    let is_ordered = {
        let seen = seen.lock().expect("no handler panics");
        seen.len() as u64 == KEYS && seen.values().all(|offsets| offsets.is_sorted())
    };
    println!(
        "one by one: {serial:.0} records/s; {HANDLERS} handlers by key: {parallel:.0} records/s, {:.1} times as many",
        parallel / serial
    );
    println!("each key in order: {is_ordered}");
    client.admin().delete_topic(topic, None).await?;
    Ok(())
}
