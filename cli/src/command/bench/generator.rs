//! One producer, and what feeds it: by the clock, or as fast as acknowledgements come.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use highwater_client::{Delivery, Error, Producer, Receipt, Record};
use tokio::sync::{Semaphore, mpsc};

use super::observer::Counter;
use super::payload::Payload;
use super::schedule::Schedule;
use super::tally::Tally;
use super::timer::Timer;
use super::window::Window;

/// Records that are sent at a stretch: acknowledgements are looked at between.
const MAX_GROUP_RECORDS: u64 = 256;

/// Groups that are sent and not yet watched; more make the generator wait.
const UNWATCHED_GROUPS: usize = 1024;

/// How long after the window's end records that were due before it are still sent: a late wake-up is no lack of capacity.
const PATIENCE: Duration = Duration::from_millis(100);

/// When a generator sends.
#[derive(Debug)]
pub(super) enum Pace {
    /// Whole batches of so many records, as long as there are permits for them.
    Closed { batches: Semaphore, records: u64 },
    /// Each record when it is due.
    Open(Schedule),
}

/// One producer and what feeds it.
#[derive(Debug)]
pub(super) struct Generator {
    pub(super) producer: Producer,
    pub(super) pace: Pace,
    pub(super) topic: Arc<str>,
    pub(super) payload: Arc<Payload>,
    /// Each record's key is its number, 8 bytes, big end first, so that whoever reads it knows when it was due.
    pub(super) is_numbered: bool,
    pub(super) window: Window,
    pub(super) counter: Arc<Counter>,
    pub(super) timer: Timer,
}

/// Records that were sent at a stretch, and the acknowledgement of the last of them: those before have theirs by then,
/// or a moment later where the group fell into two batches for two partitions.
struct Group {
    begin: Begin,
    records: u64,
    delivery: Delivery,
}

/// From when on the latency of a group counts.
#[derive(Debug, Clone, Copy)]
enum Begin {
    /// Since it was sent.
    Sent(Instant),
    /// Since each record was due, the first of which has this number.
    Due { schedule: Schedule, first: u64 },
}

/// Why a generator stopped before its time.
type Stopped = Box<dyn std::error::Error + Send + Sync>;

impl Generator {
    /// Sends until the window ends, and waits for what was sent.
    pub(super) async fn run(self) -> Tally {
        let (groups, sent) = mpsc::channel(UNWATCHED_GROUPS);
        // Both run on one task, so that neither hands over to another thread.
        let (mut tally, watched) = tokio::join!(self.send(groups), self.watch(sent));
        tally.add(watched);
        if let Err(error) = self.producer.close().await
            && tally.errors == 0
        {
            tally.failed(1, error);
        }
        tally
    }

    async fn send(&self, groups: mpsc::Sender<Group>) -> Tally {
        let mut tally = Tally::new(self.window);
        let sent = match &self.pace {
            Pace::Closed { batches, records } => self.send_freely(batches, *records, &groups).await,
            Pace::Open(schedule) => self.send_scheduled(*schedule, &groups, &mut tally).await,
        };
        if let Err(error) = sent {
            tally.failed(1, error);
        }
        tally
    }

    /// Sends a batch whenever one is acknowledged.
    async fn send_freely(
        &self,
        batches: &Semaphore,
        records: u64,
        groups: &mpsc::Sender<Group>,
    ) -> Result<(), Stopped> {
        let mut first = 0;
        loop {
            batches.acquire().await?.forget();
            let now = Instant::now();
            if now >= self.window.to {
                return Ok(());
            }
            // With one timestamp a batch of so many records always has the size that the producer was told.
            let delivery = self.send_records(first, records, Some(now_ms())).await?;
            let group = Group {
                begin: Begin::Sent(now),
                records,
                delivery,
            };
            groups.send(group).await?;
            first += records;
        }
    }

    /// Sends each record when it is due.
    async fn send_scheduled(
        &self,
        schedule: Schedule,
        groups: &mpsc::Sender<Group>,
        tally: &mut Tally,
    ) -> Result<(), Stopped> {
        let Window { start, to, .. } = self.window;
        let end = schedule.due_by(to - start);
        let mut first = 0;
        while first < end {
            let now = Instant::now();
            if now >= to + PATIENCE {
                (first..end).for_each(|record| tally.unsent(start + schedule.due_at(record)));
                break;
            }
            let due = schedule.due_by(now - start).min(end) - first;
            if due == 0 {
                let next = start + schedule.due_at(first);
                self.timer.sleep_until(next).await?;
                continue;
            }
            let records = due.min(MAX_GROUP_RECORDS);
            let delivery = self.send_records(first, records, None).await?;
            let group = Group {
                begin: Begin::Due { schedule, first },
                records,
                delivery,
            };
            groups.send(group).await?;
            first += records;
            if records < due {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// Sends records one after the other; returns the acknowledgement of the last.
    async fn send_records(
        &self,
        first: u64,
        records: u64,
        timestamp_ms: Option<i64>,
    ) -> Result<Delivery, Error> {
        let mut number = first;
        loop {
            let key = number.to_be_bytes();
            let mut record = Record::to(&self.topic).value(self.payload.record(number));
            if self.is_numbered {
                record = record.key(&key);
            }
            if let Some(timestamp_ms) = timestamp_ms {
                record = record.timestamp_ms(timestamp_ms);
            }
            let delivery = self.producer.send(record).await?;
            number += 1;
            if number >= first + records {
                return Ok(delivery);
            }
        }
    }

    /// Waits for acknowledgements, in whatever order they come.
    async fn watch(&self, mut sent: mpsc::Receiver<Group>) -> Tally {
        let mut tally = Tally::new(self.window);
        let mut waiting = FuturesUnordered::new();
        let mut is_sending = true;
        while is_sending || !waiting.is_empty() {
            tokio::select! {
                biased;
                Some((begin, records, receipt)) = waiting.next(), if !waiting.is_empty() => {
                    self.count(&mut tally, begin, records, receipt);
                }
                group = sent.recv(), if is_sending => match group {
                    None => is_sending = false,
                    Some(Group { begin, records, delivery }) => {
                        waiting.push(async move { (begin, records, delivery.await) });
                    }
                }
            }
        }
        tally
    }

    fn count(
        &self,
        tally: &mut Tally,
        begin: Begin,
        records: u64,
        receipt: Result<Receipt, Error>,
    ) {
        if let Pace::Closed { batches, .. } = &self.pace {
            batches.add_permits(1);
        }
        if let Err(error) = receipt {
            return tally.failed(records, error);
        }
        let now = Instant::now();
        let bytes = records * self.payload.record_bytes();
        self.counter.add(records, bytes);
        tally.done(now, records, bytes);
        match begin {
            Begin::Sent(at) => tally.took(at, now, records),
            Begin::Due { schedule, first } => (first..first + records).for_each(|record| {
                tally.took(self.window.start + schedule.due_at(record), now, 1);
            }),
        }
    }
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    since_1970.map_or(0, |elapsed| {
        i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
    })
}
