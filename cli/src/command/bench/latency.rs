//! `highwater bench latency`: how long a record takes.
//!
//! First alone: one record in flight, from `send` to its acknowledgement. Then end to end: at a steady rate, from when a
//! record was due to be sent until a consumer of the same process has it, so that one clock sees both.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use highwater_client::{Client, Consumer, Producer, Record, Start};
use serde::Serialize;
use tokio::task::JoinSet;

use super::generator::{Generator, Pace};
use super::latencies::Percentiles;
use super::observer::{Counter, observe};
use super::payload::Payload;
use super::records;
use super::report::{Bound, Parameters, Report};
use super::schedule::Schedule;
use super::session::with_topic;
use super::tally::Tally;
use super::target::{self, Target};
use super::timer::Timer;
use super::topic::{self, Topic};
use super::window::Window;
use crate::context::Context;
use crate::explain::explain;
use crate::failure::Failure;
use crate::table::section;

/// How long a consumer may need for the last record after it was acknowledged.
const LAST_RECORD_TIMEOUT: Duration = Duration::from_secs(10);

/// Options of `highwater bench latency`.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct Options {
    #[command(flatten)]
    #[serde(flatten)]
    records: records::Options,

    /// Records per second in the end-to-end part
    #[arg(long, value_name = "RECORDS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000), help_heading = "Load")]
    rate: u64,

    #[command(flatten)]
    #[serde(flatten)]
    topic: topic::Options,

    #[command(flatten)]
    #[serde(flatten)]
    target: target::Options,
}

/// The second part of the answer and what was run, as JSON.
#[derive(Debug, Serialize)]
struct WithEndToEnd<'a> {
    end_to_end: EndToEnd,
    #[serde(flatten)]
    parameters: Parameters<'a, Options>,
}

/// From producer to consumer, as JSON.
#[derive(Debug, Serialize)]
struct EndToEnd {
    records_per_second: f64,
    latency_us: Option<Percentiles>,
    broker_cpu_seconds_per_gb: Option<f64>,
    errors: u64,
    unsent: u64,
}

/// Measures and prints.
pub(crate) async fn run(options: Options, context: &Context) -> Result<(), Failure> {
    with_topic(
        &options.target,
        &options.topic,
        context,
        async |target, topic| {
            let end_to_end_title = format!("End to end at {} records/s", options.rate);
            let alone = measure_alone(&options, target, topic).await?;
            let end_to_end = measure_end_to_end(&options, target, topic).await?;
            let text = format!(
                "{}\n{}\n{}\n{}",
                section("One record in flight, until it is acknowledged"),
                alone.text(),
                section(&end_to_end_title),
                end_to_end.text(),
            );
            let checks = [alone.check(), end_to_end.check()];
            let report = alone.with(WithEndToEnd {
                end_to_end: EndToEnd {
                    records_per_second: end_to_end.records_per_second,
                    latency_us: end_to_end.latency_us,
                    broker_cpu_seconds_per_gb: end_to_end.broker_cpu_seconds_per_gb,
                    errors: end_to_end.errors,
                    unsent: end_to_end.unsent,
                },
                parameters: Parameters::new("latency", topic, &options),
            });
            context.answer(|| text, || report)?;
            checks.into_iter().collect()
        },
    )
    .await
}

/// A producer that sends each record at once.
fn producer(options: &Options, client: &Client) -> Result<Producer, Failure> {
    let batch_bytes = options.records.batch_size.as_usize();
    client
        .producer()
        .linger(Duration::ZERO)
        .batch_bytes(batch_bytes)
        .max_batch_bytes(batch_bytes.max(8 << 20))
        .compression(options.records.compression)
        .build()
        .map_err(|error| explain("cannot make a producer", &error))
}

async fn measure_alone(
    options: &Options,
    target: &Target,
    topic: &Topic,
) -> Result<Report<()>, Failure> {
    let counter = Arc::new(Counter::default());
    let window = options.records.window();
    let alone = Alone {
        producer: producer(options, &target.client)?,
        topic: topic.name.clone(),
        payload: Payload::new(options.records.record_size.as_usize()),
        window,
        counter: Arc::clone(&counter),
    };
    let mut generators = JoinSet::new();
    generators.spawn(alone.run());
    let (tally, observed) = observe(window, &target.meter, &counter, generators).await?;
    let bound = match options.topic.write_caching {
        true => Bound::None,
        false => Bound::SyncAndRoundTrip,
    };
    Ok(Report::new(
        window,
        tally,
        observed,
        target.limits,
        bound,
        (),
    ))
}

/// One record after the other.
struct Alone {
    producer: Producer,
    topic: String,
    payload: Payload,
    window: Window,
    counter: Arc<Counter>,
}

impl Alone {
    async fn run(self) -> Tally {
        let mut tally = Tally::new(self.window);
        let bytes = self.payload.record_bytes();
        for number in 0.. {
            let sent = Instant::now();
            if sent >= self.window.to {
                break;
            }
            let record = Record::to(&self.topic).value(self.payload.record(number));
            let acknowledged = match self.producer.send(record).await {
                Ok(delivery) => delivery.await.map(drop),
                Err(error) => Err(error),
            };
            if let Err(error) = acknowledged {
                tally.failed(1, error);
                break;
            }
            let now = Instant::now();
            self.counter.add(1, bytes);
            tally.done(now, 1, bytes);
            tally.took(sent, now, 1);
        }
        tally
    }
}

async fn measure_end_to_end(
    options: &Options,
    target: &Target,
    topic: &Topic,
) -> Result<Report<()>, Failure> {
    let consumer = consumer(&target.client, topic).await?;
    let counter = Arc::new(Counter::default());
    let window = options.records.window();
    let schedule = Schedule::new(options.rate, 0, 1);
    let timer = Timer::new().map_err(|error| Failure::new("cannot start a producer", error))?;
    let generator = Generator {
        producer: producer(options, &target.client)?,
        pace: Pace::Open(schedule),
        topic: topic.name.as_str().into(),
        payload: Arc::new(Payload::new(options.records.record_size.as_usize())),
        is_numbered: true,
        window,
        counter: Arc::clone(&counter),
        timer,
    };
    let mut generators = JoinSet::new();
    let acknowledged = Arc::clone(&counter);
    generators.spawn(async move {
        let sending = tokio::spawn(generator.run());
        receive(consumer, schedule, window, sending, &acknowledged).await
    });
    let (tally, observed) = observe(window, &target.meter, &counter, generators).await?;
    Ok(Report::new(window, tally, observed, None, Bound::None, ()))
}

/// A consumer that reads what comes from now on. Its ends are looked up before, so that it misses no record.
async fn consumer(client: &Client, topic: &Topic) -> Result<Consumer, Failure> {
    let failure = |error| explain("cannot make a consumer", &error);
    let admin = client.admin();
    let mut builder = client.consumer();
    for partition in 0..topic.partitions {
        let end = admin
            .find_offset(&topic.name, partition, Start::Latest)
            .await;
        let end = end.map_err(failure)?.offset;
        builder = builder.assign(&topic.name, partition, Start::Offset(end));
    }
    builder.build().await.map_err(failure)
}

/// Receives records until all that were acknowledged are there; their numbers say when they were due.
async fn receive(
    mut consumer: Consumer,
    schedule: Schedule,
    window: Window,
    sending: tokio::task::JoinHandle<Tally>,
    acknowledged: &Counter,
) -> Tally {
    let mut tally = Tally::new(window);
    let mut received = 0;
    let mut sending = std::pin::pin!(sending);
    let sent = loop {
        tokio::select! {
            biased;
            record = consumer.recv() => match record {
                Ok(record) => {
                    received += 1;
                    count(&mut tally, schedule, window, &record);
                }
                Err(error) => {
                    tally.failed(1, error);
                    break (&mut sending).await;
                }
            },
            sent = &mut sending => break sent,
        }
    };
    match sent {
        Ok(sent) => {
            // The producer's latencies are those of acknowledgements: only what went wrong is taken over.
            tally.add_failures(&sent);
            let end = schedule.due_by(window.to - window.start);
            for number in end - sent.unsent..end {
                tally.unsent(window.start + schedule.due_at(number));
            }
        }
        Err(error) => tally.failed(1, error),
    }
    let rest = async {
        while received < acknowledged.records() && tally.errors == 0 {
            match consumer.recv().await {
                Ok(record) => {
                    received += 1;
                    count(&mut tally, schedule, window, &record);
                }
                Err(error) => tally.failed(1, error),
            }
        }
    };
    if tokio::time::timeout(LAST_RECORD_TIMEOUT, rest)
        .await
        .is_err()
    {
        let missing = acknowledged.records().saturating_sub(received);
        tally.failed(missing, "acknowledged records did not reach the consumer");
    }
    tally
}

fn count(
    tally: &mut Tally,
    schedule: Schedule,
    window: Window,
    record: &highwater_client::ConsumedRecord,
) {
    let now = Instant::now();
    let number = record.key.as_ref().and_then(|key| key[..].try_into().ok());
    let Some(number) = number.map(u64::from_be_bytes) else {
        return tally.failed(1, "somebody else writes to the topic");
    };
    let bytes = record.value.as_ref().map_or(0, |value| value.len() as u64);
    tally.done(now, 1, bytes);
    tally.took(window.start + schedule.due_at(number), now, 1);
}
