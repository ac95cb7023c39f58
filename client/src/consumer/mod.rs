//! Reading records.

mod by_key;
mod core;
mod feed;
mod partition;
mod plan;
mod prefetched;
mod share;
mod subscription;
mod task;

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use futures::task::AtomicWaker;
use highwater_proto::batch::{Headers, Records};
use highwater_proto::{Offset, TopicId};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

pub(crate) use self::by_key::Crew;
pub use self::by_key::{ByKey, Processed, ProcessingError};
pub use self::core::OffsetReset;
use self::core::{Core, Rules};
use self::plan::Cursor;
use self::prefetched::Item;
use self::task::Task;
use crate::cluster::Cluster;
use crate::group::GroupConsumerBuilder;
use crate::metadata::{Metadata, Topic};
use crate::{Error, Start};

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumedRecord {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: u32,
    /// Offset in the partition.
    pub offset: u64,
    /// Milliseconds since 1970: of its creation, or of its append where the topic is configured so.
    pub timestamp_ms: i64,
    /// `None` and empty are different.
    pub key: Option<Bytes>,
    /// `None` and empty are different.
    pub value: Option<Bytes>,
    /// Decoded when asked for.
    pub headers: Headers,
}

/// A partition to read, and where to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: u32,
    /// Where to start.
    pub start: Start,
}

/// Makes a [`Consumer`].
#[derive(Clone)]
#[must_use]
pub struct ConsumerBuilder {
    cluster: Arc<Cluster>,
    assignments: Vec<Assignment>,
    rules: Rules,
    rack: Option<Arc<str>>,
    max_decompressed_bytes: usize,
}

impl std::fmt::Debug for ConsumerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConsumerBuilder")
            .field("assignments", &self.assignments)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

impl ConsumerBuilder {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        let rules = Rules {
            buffer_bytes: 32 << 20,
            partition_buffer_bytes: 16 << 20,
            partition_fetch_bytes: 1 << 20,
            reset: OffsetReset::default(),
            backoff: cluster.settings.backoff,
        };
        Self {
            cluster,
            assignments: Vec::new(),
            rules,
            rack: None,
            max_decompressed_bytes: 64 << 20,
        }
    }

    /// Reads a partition. May be called for several.
    pub fn assign(mut self, topic: &str, partition: u32, start: Start) -> Self {
        self.assignments.push(Assignment {
            topic: topic.to_owned(),
            partition,
            start,
        });
        self
    }

    /// Reads as a member of a consumer group, which shares partitions out and keeps offsets. Partitions that are assigned here
    /// are not read then.
    pub fn group(mut self, id: &str) -> GroupConsumerBuilder {
        self.assignments.clear();
        let (cluster, reset) = (Arc::clone(&self.cluster), self.rules.reset);
        let rack = self.rack.clone();
        GroupConsumerBuilder::new(self, cluster, id, rack.as_deref(), reset)
    }

    /// Where a group begins in a partition of which it has committed nothing, and whether to go on where a partition does not hold
    /// the offset to read next; [`OffsetReset::Earliest`] unless set.
    pub fn offset_reset(mut self, reset: OffsetReset) -> Self {
        self.rules.reset = reset;
        self
    }

    /// Reads from a replica in this rack where there is one, and from the leader otherwise: nearer, cheaper, and a little later.
    /// A follower serves what it knows to be committed. Unless set, leaders are read.
    pub fn rack(mut self, rack: &str) -> Self {
        self.rack = Some(rack.into());
        self
    }

    /// Bytes of batches that brokers may push ahead of what was received; 32 MiB unless set. One batch may go beyond. While
    /// [`Consumer::process_by_key`] holds partitions up, others are pushed beside what is here of those: that is as much as this at
    /// most, and [`ConsumerBuilder::partition_fetch_bytes`] of each.
    pub fn buffer_bytes(mut self, bytes: u32) -> Self {
        self.rules.buffer_bytes = bytes;
        self
    }

    /// Bytes of those that may be of one partition; 16 MiB unless set. One batch may go beyond. A partition that is busier than
    /// the others, or whose records are handled slowly, waits at its broker with what is beyond this, while the others go on. A
    /// broker may have half of this on its way.
    pub fn partition_buffer_bytes(mut self, bytes: u32) -> Self {
        self.rules.partition_buffer_bytes = bytes;
        self
    }

    /// Bytes of one partition in one message of a broker, which is what Kafka calls `max.partition.fetch.bytes`; 1 MiB unless
    /// set. One batch may go beyond. Smaller ones let partitions take turns more often.
    pub fn partition_fetch_bytes(mut self, bytes: u32) -> Self {
        self.rules.partition_fetch_bytes = bytes;
        self
    }

    /// Bytes that one batch may take when decompressed; 64 MiB unless set. A larger one is reported as damage.
    pub fn max_decompressed_bytes(mut self, bytes: usize) -> Self {
        self.max_decompressed_bytes = bytes;
        self
    }

    /// Makes the consumer and begins to read. Must be called inside a Tokio runtime, on which it runs.
    ///
    /// # Errors
    /// [`Error::Config`] naming the setting that is out of range; `UNKNOWN_TOPIC_OR_PARTITION`.
    pub async fn build(self) -> Result<Consumer, Error> {
        for (name, bytes) in [
            ("buffer_bytes", self.rules.buffer_bytes),
            ("partition_buffer_bytes", self.rules.partition_buffer_bytes),
            ("partition_fetch_bytes", self.rules.partition_fetch_bytes),
        ] {
            if bytes == 0 {
                return Err(Error::config(name, "must not be 0"));
            }
        }
        let mut core = Core::new(self.rules, Box::new(rand::random));
        if let Some(rack) = self.rack {
            core.stand_in(rack);
        }
        let shared = Arc::new(Shared {
            core: Mutex::new(core),
            wake: Notify::new(),
            arrived: AtomicWaker::new(),
        });
        let task = Task::new(Arc::clone(&shared), Arc::clone(&self.cluster));
        let mut consumer = Consumer {
            shared,
            cluster: self.cluster,
            assigned: Vec::new(),
            begun: Vec::new(),
            max_decompressed_bytes: self.max_decompressed_bytes,
            _task: AbortOnDropHandle::new(tokio::spawn(task.run())),
        };
        consumer.assign(self.assignments).await?;
        Ok(consumer)
    }
}

/// What the consumer and the task that talks to brokers share.
struct Shared {
    core: Mutex<Core>,
    /// There may be something new to do for the task.
    wake: Notify,
    /// There may be something to receive.
    arrived: AtomicWaker,
}

impl Shared {
    fn core(&self) -> MutexGuard<'_, Core> {
        // The core is left consistent between its methods; one that panicked may have lost a batch at worst.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up fresh metadata.
    fn learn(&self, metadata: &Metadata) {
        self.core().refreshed(metadata);
        self.arrived.wake();
    }
}

struct Assigned {
    topic: Arc<str>,
    partition: u32,
    /// Next offset to receive; `None` until something was received.
    position: Option<Offset>,
    /// It is read no longer. Its place stays, since places number what the core reads.
    is_released: bool,
}

/// A batch whose records are being received.
struct Begun {
    cursor: Cursor,
    topic: Arc<str>,
    partition: u32,
    from: Offset,
    records: Records,
}

/// Reads the committed records of assigned partitions, each partition in order.
///
/// Brokers push batches ahead in the background, up to a limit. When a broker restarts or a leader moves, reading goes on
/// exactly behind the last record received. A failure that does not pass (a damaged batch, a deleted topic) is returned
/// once and ends the reading of its partition, until [`Consumer::seek`] or [`Consumer::assign`]; other partitions go on.
///
/// It is also a [`Stream`] of records.
pub struct Consumer {
    shared: Arc<Shared>,
    cluster: Arc<Cluster>,
    assigned: Vec<Assigned>,
    /// At most one of a partition. There are several where some are not wanted at the moment.
    begun: Vec<Begun>,
    max_decompressed_bytes: usize,
    _task: AbortOnDropHandle<()>,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").finish_non_exhaustive()
    }
}

impl Consumer {
    /// Replaces what is read. Records fetched and not received are dropped.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`; [`Error::Config`] when a partition stands there twice. Nothing changes then.
    pub async fn assign(&mut self, assignments: Vec<Assignment>) -> Result<(), Error> {
        let mut resolved: Vec<(Arc<str>, TopicId, u32, Start)> = Vec::new();
        for assignment in assignments {
            let id = self.find(&assignment).await?;
            let topic: Arc<str> = assignment.topic.into();
            let twice = |(t, _, p, _): &(Arc<str>, TopicId, u32, Start)| {
                *t == topic && *p == assignment.partition
            };
            if resolved.iter().any(twice) {
                let problem = format!("{topic} {} stands there twice", assignment.partition);
                return Err(Error::config("assignments", problem));
            }
            resolved.push((topic, id, assignment.partition, assignment.start));
        }
        self.begun.clear();
        self.assigned = resolved
            .iter()
            .map(|(topic, _, partition, _)| Assigned {
                topic: Arc::clone(topic),
                partition: *partition,
                position: None,
                is_released: false,
            })
            .collect();
        self.shared.core().assign(resolved);
        self.shared.wake.notify_one();
        Ok(())
    }

    /// The id of the topic, if it has the partition.
    async fn find(&self, assignment: &Assignment) -> Result<TopicId, Error> {
        let topic = self.cluster.topic(&assignment.topic).await?;
        if assignment.partition < topic.partitions() {
            return Ok(topic.id);
        }
        let metadata = self
            .cluster
            .refresh(std::slice::from_ref(&assignment.topic))
            .await?;
        match metadata.topic(&assignment.topic) {
            Some(topic) if assignment.partition < topic.partitions() => Ok(topic.id),
            topic => Err(crate::producer::no_such_partition(
                &assignment.topic,
                assignment.partition,
                topic.map_or(0, Topic::partitions),
            )),
        }
    }

    /// Reads a partition from elsewhere. Records of it that were fetched and not received are dropped. A paused one stays
    /// paused.
    ///
    /// # Errors
    /// [`Error::NotAssigned`].
    pub fn seek(&mut self, topic: &str, partition: u32, start: Start) -> Result<(), Error> {
        let place = self.assigned_place(topic, partition)?;
        self.drop_begun_of(place);
        self.assigned[place].position = None;
        self.shared.core().start(place, start);
        self.shared.wake.notify_one();
        Ok(())
    }

    /// Reads one more partition, or one that was released before, from there. What else is read goes on.
    pub(crate) fn add(&mut self, topic: &Arc<str>, id: TopicId, partition: u32, start: Start) {
        let place = self
            .shared
            .core()
            .add(Arc::clone(topic), id, partition, start);
        self.drop_begun_of(place);
        let assigned = Assigned {
            topic: Arc::clone(topic),
            partition,
            position: None,
            is_released: false,
        };
        if place == self.assigned.len() {
            self.assigned.push(assigned);
        } else {
            self.assigned[place] = assigned;
        }
        self.shared.wake.notify_one();
    }

    /// Reads a partition no longer. What else is read goes on.
    pub(crate) fn release(&mut self, topic: &str, partition: u32) {
        let Some(place) = self.place(topic, partition) else {
            return;
        };
        self.drop_begun_of(place);
        self.assigned[place].position = None;
        self.assigned[place].is_released = true;
        self.shared.core().release(place);
        self.shared.wake.notify_one();
    }

    /// Pauses a partition, if it is read at all.
    pub(crate) fn stop(&mut self, topic: &str, partition: u32) {
        if let Some(place) = self.place(topic, partition) {
            self.stop_place(place);
        }
    }

    /// Whether a record of a partition was received since its start.
    pub(crate) fn has_received(&self, topic: &str, partition: u32) -> bool {
        let place = self.place(topic, partition);
        place.is_some_and(|place| self.assigned[place].position.is_some())
    }

    /// Stops reading a partition until [`Consumer::resume`]. Records of it that were fetched and not received come then;
    /// they are fetched again.
    ///
    /// # Errors
    /// [`Error::NotAssigned`].
    pub fn pause(&mut self, topic: &str, partition: u32) -> Result<(), Error> {
        let place = self.assigned_place(topic, partition)?;
        self.stop_place(place);
        Ok(())
    }

    fn stop_place(&mut self, place: usize) {
        self.drop_begun_of(place);
        let position = self.assigned[place].position;
        self.shared.core().pause(place, position);
        self.shared.wake.notify_one();
    }

    /// Reads a paused partition again, from behind the last record received of it, or where it was sought since.
    ///
    /// # Errors
    /// [`Error::NotAssigned`].
    pub fn resume(&mut self, topic: &str, partition: u32) -> Result<(), Error> {
        let place = self.assigned_place(topic, partition)?;
        self.shared.core().resume(place);
        self.shared.wake.notify_one();
        Ok(())
    }

    /// The offset of the next record to receive. `None` when the partition is not assigned, or its start is still being
    /// looked up.
    #[must_use]
    pub fn position(&self, topic: &str, partition: u32) -> Option<Offset> {
        let place = self.place(topic, partition)?;
        let received = self.assigned[place].position;
        received.or_else(|| self.shared.core().started_at(place))
    }

    fn assigned_place(&self, topic: &str, partition: u32) -> Result<usize, Error> {
        let place = self.place(topic, partition);
        place.ok_or_else(|| Error::NotAssigned {
            topic: topic.into(),
            partition,
        })
    }

    fn drop_begun_of(&mut self, place: usize) {
        self.begun.retain(|batch| batch.cursor.place != place);
    }

    fn place(&self, topic: &str, partition: u32) -> Option<usize> {
        self.assigned
            .iter()
            .position(|a| !a.is_released && *a.topic == *topic && a.partition == partition)
    }

    /// Waits for the next record of any assigned partition. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The failure that ended the reading of a partition; see [`Consumer`].
    pub async fn recv(&mut self) -> Result<ConsumedRecord, Error> {
        self.recv_of(|_, _| true).await
    }

    /// The same of the partitions that are wanted. What was fetched of others stays where it is.
    pub(crate) async fn recv_of(
        &mut self,
        wants: impl Fn(&Arc<str>, u32) -> bool,
    ) -> Result<ConsumedRecord, Error> {
        std::future::poll_fn(|context| self.poll_recv(context, &wants)).await
    }

    fn poll_recv(
        &mut self,
        context: &mut Context<'_>,
        wants: &impl Fn(&Arc<str>, u32) -> bool,
    ) -> Poll<Result<ConsumedRecord, Error>> {
        loop {
            if let Some(record) = self.next_begun(wants) {
                return Poll::Ready(record);
            }
            let item = match self.take(wants) {
                Some(item) => item,
                None => {
                    self.shared.arrived.register(context.waker());
                    // What arrived before the registration woke nobody.
                    match self.take(wants) {
                        Some(item) => item,
                        None => return Poll::Pending,
                    }
                }
            };
            if let Err(error) = self.open(item) {
                return Poll::Ready(Err(error));
            }
        }
    }

    /// Takes what was fetched first of what is wanted, and lets the task know when that has made room.
    fn take(&mut self, wants: impl Fn(&Arc<str>, u32) -> bool) -> Option<Item> {
        let mut core = self.shared.core();
        let is_wanted = |assigned: &Assigned| wants(&assigned.topic, assigned.partition);
        let item = core.take(|place| is_wanted(&self.assigned[place]));
        if item.is_none() && self.assigned.iter().any(is_wanted) {
            core.want();
        }
        if (item.is_some() || core.is_wanting()) && core.has_room() {
            self.shared.wake.notify_one();
        }
        item
    }

    /// The next record of a batch that was begun and is wanted.
    fn next_begun(
        &mut self,
        wants: impl Fn(&Arc<str>, u32) -> bool,
    ) -> Option<Result<ConsumedRecord, Error>> {
        let is_wanted = |batch: &Begun| wants(&batch.topic, batch.partition);
        while let Some(at) = self.begun.iter().position(is_wanted) {
            if let Some(record) = self.next_of(at) {
                return Some(record);
            }
            self.begun.remove(at);
        }
        None
    }

    fn next_of(&mut self, at: usize) -> Option<Result<ConsumedRecord, Error>> {
        let batch = &mut self.begun[at];
        for record in batch.records.by_ref() {
            let record = match record {
                Ok(record) if record.offset < batch.from => continue,
                Ok(record) => record,
                Err(bad) => {
                    let batch = self.begun.remove(at);
                    self.shared.core().halt(batch.cursor);
                    let error = Error::bad_batch(batch.topic, batch.partition, bad);
                    return Some(Err(error));
                }
            };
            self.assigned[batch.cursor.place].position = Some(record.offset.plus(1));
            return Some(Ok(ConsumedRecord {
                topic: Arc::clone(&batch.topic),
                partition: batch.partition,
                offset: record.offset.0,
                timestamp_ms: record.timestamp_ms,
                key: record.key,
                value: record.value,
                headers: record.headers,
            }));
        }
        None
    }

    fn open(&mut self, item: Item) -> Result<(), Error> {
        let cursor = item.cursor;
        let batch = item.content?;
        match Records::open(batch.bytes, self.max_decompressed_bytes) {
            Ok(records) => {
                self.begun.push(Begun {
                    cursor,
                    topic: batch.topic,
                    partition: batch.partition,
                    from: batch.from,
                    records,
                });
                Ok(())
            }
            Err(bad) => {
                self.shared.core().halt(cursor);
                Err(Error::bad_batch(batch.topic, batch.partition, bad))
            }
        }
    }
}

impl Stream for Consumer {
    type Item = Result<ConsumedRecord, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_recv(context, &|_, _| true).map(Some)
    }
}
