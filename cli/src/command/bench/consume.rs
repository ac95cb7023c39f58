//! `highwater bench consume`: how fast records are read and decoded.
//!
//! A topic is filled first, or is there already. It is read again and again from its start until the time is over, so
//! after the warm-up what is read comes from the page cache where the topic fits into it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use highwater_client::{Client, Consumer, Offset, Record, Start};
use serde::Serialize;
use tokio::task::JoinSet;

use super::amount::Size;
use super::observer::{Counter, observe};
use super::payload::Payload;
use super::records;
use super::report::{Bound, Parameters, Report};
use super::session::{answer, with_topic};
use super::tally::Tally;
use super::target::{self, Target};
use super::topic::{self, Topic};
use super::window::Window;
use crate::context::Context;
use crate::explain::explain;
use crate::failure::Failure;
use crate::progress::Progress;

/// Records that are counted at a time: looking at the clock for each would cost more than decoding it.
const GROUP_RECORDS: u64 = 256;

/// Records that are filled in between two looks at the progress bar.
const RECORDS_BETWEEN_DRAWS: u64 = 4096;

/// How long a group of records is waited for.
const GROUP_TIMEOUT: Duration = Duration::from_secs(30);

/// Options of `highwater bench consume`.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct Options {
    #[command(flatten)]
    #[serde(flatten)]
    records: records::Options,

    /// Fill a topic that is new with so many bytes of values
    #[arg(
        long,
        value_name = "BYTES",
        default_value = "1GiB",
        help_heading = "Load"
    )]
    fill_size: Size,

    /// Number of consumers; partitions are dealt out to them
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Load")]
    consumers: u32,

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
            if topic.is_new {
                fill(&options, &target.client, topic).await?;
            }
            let report = measure(&options, target, topic).await?;
            answer(&title(&options, topic), &report, context)
        },
    )
    .await
}

fn title(options: &Options, topic: &Topic) -> String {
    format!(
        "Consume: partitions: {}, consumers: {}, read again and again from the start",
        topic.partitions, options.consumers,
    )
}

/// Produces what is read afterwards, evenly over the partitions.
async fn fill(options: &Options, client: &Client, topic: &Topic) -> Result<(), Failure> {
    let failure = |error| explain(format!("cannot fill topic \"{}\"", topic.name), &error);
    let records = &options.records;
    let producer = client
        .producer()
        .batch_bytes(records.batch_size.as_usize())
        .max_batch_bytes(records.batch_size.as_usize().max(8 << 20))
        .compression(records.compression)
        .build()
        .map_err(failure)?;
    let payload = Payload::new(records.record_size.as_usize());
    let count = options.fill_size.0.div_ceil(records.record_size.0);
    let progress = Progress::of_items(count);
    for number in 0..count {
        let record = Record::to(&topic.name).value(payload.record(number));
        // What becomes of it is told by the close below.
        drop(producer.send(record).await.map_err(failure)?);
        progress.advance(1);
        if number % RECORDS_BETWEEN_DRAWS == 0 {
            progress.draw("records to fill the topic");
        }
    }
    producer.close().await.map_err(failure)
}

async fn measure<'a>(
    options: &'a Options,
    target: &Target,
    topic: &'a Topic,
) -> Result<Report<Parameters<'a, Options>>, Failure> {
    let (firsts, shares) = shares(options, &target.client, topic).await?;
    let counter = Arc::new(Counter::default());
    let window = options.records.window();
    let mut readers = JoinSet::new();
    for share in shares {
        let reader = Reader::new(
            &target.client,
            topic,
            (share, Arc::clone(&firsts)),
            window,
            &counter,
        )
        .await?;
        readers.spawn(reader.run());
    }
    let (tally, observed) = observe(window, &target.meter, &counter, readers).await?;
    let parameters = Parameters::new("consume", topic, options);
    let limits = target.limits;
    Ok(Report::new(
        window,
        tally,
        observed,
        limits,
        Bound::None,
        parameters,
    ))
}

/// What one consumer reads: partitions, and how many records these hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Share {
    partitions: Vec<u32>,
    records: u64,
}

/// The first offset of each partition, and what each consumer reads.
async fn shares(
    options: &Options,
    client: &Client,
    topic: &Topic,
) -> Result<(Arc<[Offset]>, Vec<Share>), Failure> {
    let admin = client.admin();
    let (mut firsts, mut records) = (Vec::new(), Vec::new());
    for partition in 0..topic.partitions {
        let find = async |start| {
            let found = admin.find_offset(&topic.name, partition, start).await;
            found.map_err(|error| explain("cannot see how many records there are", &error))
        };
        let (first, end) = (find(Start::Earliest).await?, find(Start::Latest).await?);
        firsts.push(first.offset);
        records.push(u64::from(end.offset) - u64::from(first.offset));
    }
    let shares = deal(&records, options.consumers as usize);
    match shares.is_empty() {
        true => Err(Failure::new(
            "there is nothing to read",
            format!("topic \"{}\" holds no records", topic.name),
        )),
        false => Ok((firsts.into(), shares)),
    }
}

/// Deals partitions that hold records out to consumers; no consumer is left without.
fn deal(records: &[u64], consumers: usize) -> Vec<Share> {
    let mut shares = vec![Share::default(); consumers];
    let partitions = (0_u32..).zip(records).filter(|(_, records)| **records > 0);
    for (at, (partition, records)) in partitions.enumerate() {
        let share = &mut shares[at % consumers];
        share.partitions.push(partition);
        share.records += records;
    }
    shares.retain(|share| share.records > 0);
    shares
}

/// One consumer.
struct Reader {
    consumer: Consumer,
    topic: String,
    share: Share,
    /// The first offset of each partition: going back there by number asks nobody.
    firsts: Arc<[Offset]>,
    window: Window,
    counter: Arc<Counter>,
    /// Records until the share has been read to its end.
    left: u64,
}

impl Reader {
    async fn new(
        client: &Client,
        topic: &Topic,
        (share, firsts): (Share, Arc<[Offset]>),
        window: Window,
        counter: &Arc<Counter>,
    ) -> Result<Self, Failure> {
        let mut builder = client.consumer();
        for partition in &share.partitions {
            builder = builder.assign(&topic.name, *partition, Start::Earliest);
        }
        let consumer = builder.build().await;
        Ok(Self {
            consumer: consumer.map_err(|error| explain("cannot make a consumer", &error))?,
            topic: topic.name.clone(),
            left: share.records,
            share,
            firsts,
            window,
            counter: Arc::clone(counter),
        })
    }

    async fn run(mut self) -> Tally {
        let mut tally = Tally::new(self.window);
        loop {
            let read = tokio::time::timeout(GROUP_TIMEOUT, self.read_group()).await;
            let now = Instant::now();
            match read {
                Ok(Ok(bytes)) => {
                    self.counter.add(GROUP_RECORDS, bytes);
                    tally.done(now, GROUP_RECORDS, bytes);
                }
                Ok(Err(error)) => tally.failed(1, error),
                Err(_elapsed) => tally.failed(1, "no records came"),
            }
            if now >= self.window.to || tally.errors > 0 {
                return tally;
            }
        }
    }

    /// Reads records; returns the bytes of their values.
    async fn read_group(&mut self) -> Result<u64, highwater_client::Error> {
        let mut bytes = 0;
        for _ in 0..GROUP_RECORDS {
            let record = self.consumer.recv().await?;
            bytes += record.value.map_or(0, |value| value.len() as u64);
            self.left -= 1;
            if self.left == 0 {
                self.rewind();
            }
        }
        Ok(bytes)
    }

    fn rewind(&mut self) {
        for partition in &self.share.partitions {
            let start = Start::Offset(self.firsts[*partition as usize]);
            self.consumer
                .seek(&self.topic, *partition, start)
                .expect("the consumer was made for these partitions");
        }
        self.left = self.share.records;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_with_records_are_dealt_out_evenly() {
        let share = |partitions: &[u32], records| Share {
            partitions: partitions.to_vec(),
            records,
        };
        assert_eq!(deal(&[5, 0, 7, 9], 2), [share(&[0, 3], 14), share(&[2], 7)]);
    }

    #[test]
    fn no_consumer_is_made_for_nothing() {
        assert_eq!(deal(&[5], 3).len(), 1);
        assert!(deal(&[0, 0], 2).is_empty());
    }
}
