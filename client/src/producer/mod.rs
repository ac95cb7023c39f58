//! Sending records.

mod accumulator;
mod builder;
mod core;
mod outcome;
mod partitioner;
mod pipeline;
mod plan;
mod task;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use highwater_proto::batch::{Header, NewRecord};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub use self::builder::{Acks, ProducerBuilder};
use self::core::Core;
pub(crate) use self::core::no_such_partition;
pub use self::outcome::{Delivery, Receipt};
use self::plan::{NotAppended, Resolutions};
use crate::Error;
use crate::cluster::Cluster;

/// A record to send, borrowed from the caller: its bytes are copied once, into the batch.
///
/// ```
/// # use highwater_client::Record;
/// let record = Record::to("flights").key("AA").value("EWR,IAH");
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Record<'a> {
    topic: &'a str,
    partition: Option<u32>,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: &'a [Header],
    timestamp_ms: Option<i64>,
}

impl<'a> Record<'a> {
    /// A record for a topic, with neither key nor value yet.
    pub fn to(topic: &'a str) -> Self {
        Self {
            topic,
            partition: None,
            key: None,
            value: None,
            headers: &[],
            timestamp_ms: None,
        }
    }

    /// Sets the partition. Without it, equal keys go to one partition, the one Kafka's clients choose, and records
    /// without a key go where batches fill best.
    pub fn partition(mut self, partition: u32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets the key.
    pub fn key<B: AsRef<[u8]> + ?Sized>(mut self, key: &'a B) -> Self {
        self.key = Some(key.as_ref());
        self
    }

    /// Sets the value.
    pub fn value<B: AsRef<[u8]> + ?Sized>(mut self, value: &'a B) -> Self {
        self.value = Some(value.as_ref());
        self
    }

    /// Sets the headers.
    pub fn headers(mut self, headers: &'a [Header]) -> Self {
        self.headers = headers;
        self
    }

    /// Sets the time of the record, in milliseconds since 1970. Without it, the time of `send` is taken.
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }
}

/// What callers of `send` and the task that talks to brokers share.
struct Shared {
    core: Mutex<Core>,
    /// There may be something new to do for the task.
    wake: Notify,
    /// There may be room in the buffer.
    room: Notify,
}

impl Shared {
    fn core(&self) -> MutexGuard<'_, Core> {
        // A panic inside the core is a defect of ours; what it left is still the best there is to fail batches with.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the core, then resolves what is finished, outside the lock.
    fn settle(&self, change: impl FnOnce(&mut Core) -> Resolutions) {
        let resolutions = change(&mut self.core());
        self.resolve(resolutions);
    }

    fn resolve(&self, resolutions: Resolutions) {
        let freed = !resolutions.is_empty();
        resolutions.resolve();
        if freed {
            self.room.notify_waiters();
        }
    }
}

/// Sends records to topics, in batches, each record once.
///
/// A record is acknowledged when it is on disk on a majority of its partition's replicas. The producer numbers its
/// batches, so brokers recognise one that is sent again: a broken connection, a restarted broker or a moved leader
/// neither loses nor doubles a record, as long as it is over within the delivery timeout. Records of one partition are
/// stored in the order of their `send` calls, except around one that fails for good. Both need idempotence, which can
/// be switched off: see [`ProducerBuilder::enable_idempotence`].
///
/// Dropping a producer gives up what is not acknowledged. Call [`Producer::close`], or [`Producer::flush`] first.
pub struct Producer {
    shared: Arc<Shared>,
    cluster: Arc<Cluster>,
    stop: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").finish_non_exhaustive()
    }
}

impl Producer {
    /// Takes a record in and returns the promise of its acknowledgement.
    ///
    /// Waits while the buffer is full: that is how a producer that is faster than the cluster is slowed down. To send
    /// quickly, do not wait for each delivery before the next `send`.
    ///
    /// # Errors
    /// The topic or partition does not exist, the record is too large, or the producer is closed. Later failures come
    /// from the [`Delivery`] and from [`Producer::flush`].
    pub async fn send(&self, record: Record<'_>) -> Result<Delivery, Error> {
        loop {
            match self.append(&record) {
                Ok(delivery) => return Ok(delivery),
                Err(NotAppended::UnknownTopic) => self.look_up(record.topic).await?,
                Err(NotAppended::Full { .. }) => {
                    // Register for news first, so that room made before the second try is not missed.
                    let mut room = std::pin::pin!(self.shared.room.notified());
                    room.as_mut().enable();
                    match self.append(&record) {
                        Ok(delivery) => return Ok(delivery),
                        Err(NotAppended::Full { .. }) => room.await,
                        Err(NotAppended::UnknownTopic) => self.look_up(record.topic).await?,
                        Err(NotAppended::Failed(error)) => return Err(*error),
                    }
                }
                Err(NotAppended::Failed(error)) => return Err(*error),
            }
        }
    }

    fn append(&self, record: &Record<'_>) -> Result<Delivery, NotAppended> {
        let new_record = NewRecord {
            timestamp_ms: record.timestamp_ms.unwrap_or_else(now_ms),
            key: record.key,
            value: record.value,
            headers: record.headers,
        };
        let appended =
            self.shared
                .core()
                .append(Instant::now, record.topic, record.partition, &new_record);
        let wake = match &appended {
            Ok(appended) => appended.opened || appended.completed,
            Err(NotAppended::Full { completed }) => *completed,
            Err(_) => false,
        };
        if wake {
            self.shared.wake.notify_one();
        }
        let appended = appended?;
        Ok(Delivery::new(
            appended.outcome,
            appended.place,
            new_record.timestamp_ms,
        ))
    }

    async fn look_up(&self, name: &str) -> Result<(), Error> {
        let topic = self.cluster.topic(name).await?;
        self.shared
            .settle(|core| core.learn(name, topic.id, topic.partitions()));
        Ok(())
    }

    /// Sends what has gathered without waiting for the linger, and waits until everything sent so far is acknowledged
    /// or has failed.
    ///
    /// # Errors
    /// The first failure of a record since the last flush, also of one whose [`Delivery`] told it already.
    pub async fn flush(&self) -> Result<(), Error> {
        let outcomes = self.shared.core().flush();
        self.shared.wake.notify_one();
        for outcome in outcomes {
            // Failures are reported once, below, including those of batches that were over before this call.
            let _ = outcome.done().await;
        }
        match self.shared.core().take_failure() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Flushes, then ends the producer.
    ///
    /// # Errors
    /// As [`Producer::flush`].
    pub async fn close(mut self) -> Result<(), Error> {
        let flushed = self.flush().await;
        self.stop.cancel();
        // It ends by itself now; if it has panicked, there is nothing left that it should have done.
        let _ = (&mut self.task).await;
        flushed
    }

    /// Bytes of records that are not acknowledged yet.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.shared.core().buffered_bytes()
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.stop.cancel();
        self.shared.settle(|core| core.close(Error::Closed));
    }
}

fn now_ms() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    since_1970.map_or(0, |elapsed| {
        i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
    })
}
