//! `highwater bench produce`: how fast records are acknowledged, and after how long.
//!
//! Without `--rate` the loop is closed: each producer keeps a number of batches on their way, and the latency of a
//! record counts from its `send`. With `--rate` it is open: records are sent when they are due, and their latency counts
//! from then.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use highwater_client::{Client, Producer};
use highwater_proto::REMEMBERED_BATCHES;
use highwater_proto::batch::{BatchBuilder, NewRecord};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::amount::Time;
use super::generator::{Generator, Pace};
use super::observer::{Counter, observe};
use super::payload::Payload;
use super::report::{Bound, Parameters, Report};
use super::schedule::Schedule;
use super::session::{answer, with_topic};
use super::tally::Tally;
use super::target::{self, Target};
use super::timer::Timer;
use super::topic::{self, Topic};
use super::window::Window;
use super::{raw, records};
use crate::context::Context;
use crate::explain::explain;
use crate::failure::Failure;

/// How long a record may take before it counts as failed.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);

/// Most batches of one partition that a producer without idempotence has on their way.
const MAX_IN_FLIGHT: usize = 64;

/// The least that a producer may buffer, in bytes.
const MIN_BUFFER_BYTES: usize = 64 << 20;

/// Options of `highwater bench produce`.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct Options {
    #[command(flatten)]
    #[serde(flatten)]
    records: records::Options,

    /// Number of producers, each with a connection of its own
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Load")]
    producers: u32,

    /// Batches that each producer keeps unacknowledged; at most 16 of one partition are on their way at a time
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Load")]
    in_flight: u32,

    /// Let 64 batches of a partition be on their way, by producers whose repetitions brokers do not recognise
    #[arg(long, help_heading = "Load")]
    no_idempotence: bool,

    /// Send so many records per second altogether, by the clock [default: as fast as --in-flight allows]
    #[arg(long, value_name = "RECORDS", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000), help_heading = "Load")]
    rate: Option<u64>,

    /// With --rate: how long a batch waits for more records
    #[arg(
        long,
        value_name = "TIME",
        default_value = "0ms",
        requires = "rate",
        help_heading = "Load"
    )]
    #[serde(rename = "linger_seconds")]
    linger: Time,

    /// Send batches that were made before, without the client's producer: what the broker can do at most
    #[arg(long, conflicts_with = "rate", help_heading = "Load")]
    raw: bool,

    #[command(flatten)]
    #[serde(flatten)]
    topic: topic::Options,

    #[command(flatten)]
    #[serde(flatten)]
    target: target::Options,
}

/// Measures and prints.
pub(crate) async fn run(options: Options, context: &Context) -> Result<(), Failure> {
    with_topic(
        &options.target,
        &options.topic,
        context,
        async |target, topic| {
            let report = measure(&options, target, topic).await?;
            answer(&title(&options, topic), &report, context)
        },
    )
    .await
}

fn title(options: &Options, topic: &Topic) -> String {
    let promise = match options.topic.write_caching {
        true => "memory",
        false => "disk",
    };
    let pace = match options.rate {
        Some(rate) => format!("{rate} records/s"),
        None => format!("{} batches in flight each", options.in_flight),
    };
    format!(
        "Produce: records of {} bytes, batches of {} bytes, partitions: {}, producers: {}{}, {pace}, acknowledged from {promise}",
        options.records.record_size.0,
        options.records.batch_size.0,
        topic.partitions,
        options.producers,
        if options.raw { " (raw)" } else { "" },
    )
}

async fn measure<'a>(
    options: &'a Options,
    target: &Target,
    topic: &'a Topic,
) -> Result<Report<Parameters<'a, Options>>, Failure> {
    let counter = Arc::new(Counter::default());
    let window = options.records.window();
    let generators = match options.raw {
        true => {
            let load = raw::Load {
                topic,
                records: &options.records,
                streams: options.producers,
                in_flight: options.in_flight,
                window,
            };
            raw::start(load, &target.client, &counter).await?
        }
        false => start(options, &target.client, topic, window, &counter)?,
    };
    let (tally, observed) = observe(window, &target.meter, &counter, generators).await?;
    let bound = match options.topic.write_caching {
        true => Bound::SequentialWrite,
        false => Bound::OverwriteSync,
    };
    let parameters = Parameters::new("produce", topic, options);
    Ok(Report::new(
        window,
        tally,
        observed,
        target.limits,
        bound,
        parameters,
    ))
}

fn start(
    options: &Options,
    client: &Client,
    topic: &Topic,
    window: Window,
    counter: &Arc<Counter>,
) -> Result<JoinSet<Tally>, Failure> {
    let failure = |error: std::io::Error| Failure::new("cannot start a producer", error);
    let payload = Arc::new(Payload::new(options.records.record_size.as_usize()));
    let mut generators = JoinSet::new();
    for number in 0..options.producers {
        let (producer, pace) = producer(options, client, number)?;
        let generator = Generator {
            producer,
            pace,
            topic: topic.name.as_str().into(),
            payload: Arc::clone(&payload),
            is_numbered: false,
            window,
            counter: Arc::clone(counter),
            timer: Timer::new().map_err(failure)?,
        };
        generators.spawn(generator.run());
    }
    Ok(generators)
}

/// The producer of the generator with this number, and how that one is paced.
fn producer(options: &Options, client: &Client, number: u32) -> Result<(Producer, Pace), Failure> {
    let in_flight = options.in_flight as usize;
    let batch_bytes = options.records.batch_size.as_usize();
    let batch = BatchShape::new(options.records.record_size.as_usize(), batch_bytes);
    let (batch_bytes, pace) = match options.rate {
        None => (
            // A batch is complete with its last record, so that none waits for the linger.
            batch.bytes,
            Pace::Closed {
                batches: Semaphore::new(in_flight),
                records: batch.records,
            },
        ),
        Some(rate) => {
            let (number, producers) = (u64::from(number), u64::from(options.producers));
            (
                batch_bytes.max(batch.bytes),
                Pace::Open(Schedule::new(rate, number, producers)),
            )
        }
    };
    let linger = match options.rate {
        None => Duration::from_millis(5),
        Some(_) => options.linger.0,
    };
    let most_in_flight = match options.no_idempotence {
        true => MAX_IN_FLIGHT,
        false => REMEMBERED_BATCHES,
    };
    let producer = client
        .producer()
        .enable_idempotence(!options.no_idempotence)
        .batch_bytes(batch_bytes)
        .max_batch_bytes(batch_bytes.max(8 << 20))
        .buffer_bytes((2 * in_flight * batch_bytes).max(MIN_BUFFER_BYTES))
        .max_in_flight(in_flight.min(most_in_flight))
        .compression(options.records.compression)
        .linger(linger)
        .delivery_timeout(DELIVERY_TIMEOUT)
        .build()
        .map_err(|error| explain("cannot make a producer", &error))?;
    Ok((producer, pace))
}

/// How many records a batch holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchShape {
    /// Records of one size and one timestamp; at least one.
    pub(super) records: u64,
    /// Bytes of the batch with them, before compression.
    pub(super) bytes: usize,
}

impl BatchShape {
    /// The fullest batch of no more than `batch_bytes`, or one record where that is more.
    pub(super) fn new(record_bytes: usize, batch_bytes: usize) -> Self {
        let value = vec![0; record_bytes];
        let record = NewRecord {
            value: Some(&value),
            ..NewRecord::default()
        };
        let mut builder = BatchBuilder::new();
        let mut shape = Self {
            records: 1,
            bytes: builder.batch_bytes_with(&record),
        };
        while builder.batch_bytes_with(&record) <= batch_bytes && builder.append(&record).is_ok() {
            shape = Self {
                records: u64::from(builder.record_count()),
                bytes: builder.batch_bytes(),
            };
        }
        shape
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_as_full_as_its_size_allows() {
        let shape = BatchShape::new(1024, 64 << 10);
        assert_eq!(shape.records, 63);
        assert!(shape.bytes <= 64 << 10, "{shape:?}");
        assert!(shape.bytes + 1024 > 64 << 10, "{shape:?}");
    }

    #[test]
    fn a_record_larger_than_the_batch_size_has_a_batch_of_its_own() {
        let shape = BatchShape::new(4096, 100);
        assert_eq!(shape.records, 1);
        assert!(shape.bytes > 4096, "{shape:?}");
    }
}
