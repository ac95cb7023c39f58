//! The rules of a consumer: what is fetched from whom, how much of it, and what a failure means.
//!
//! A pure state machine between the consumer, which takes batches out, and the task that talks to brokers, which asks
//! [`Core::poll`] what to do and reports what came of it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use highwater_proto::batch::BatchHeader;
use highwater_proto::{ApiError, BrokerId, Offset, Reason, TopicId};

use crate::metadata::Metadata;
use crate::retry::{Backoff, wants_metadata};
use crate::{Error, Start};

/// What to do when a partition no longer holds, or does not yet hold, the offset to read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OffsetReset {
    /// Go on at the first record held: nothing that is there is skipped.
    #[default]
    Earliest,
    /// Go on behind the last record.
    Latest,
    /// Report the error, and stop reading the partition until it is sought elsewhere.
    Fail,
}

/// Limits of a consumer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Bytes of batches fetched and not yet taken out, or asked for. One batch may go beyond.
    pub(crate) buffer_bytes: u32,
    /// Bytes asked for in one request.
    pub(crate) fetch_bytes: u32,
    /// Bytes asked for of one partition.
    pub(crate) partition_fetch_bytes: u32,
    pub(crate) reset: OffsetReset,
    pub(crate) backoff: Backoff,
}

/// How often a partition may be reported as not existing before that is believed: metadata reaches brokers one after
/// the other.
const MAX_NOT_FOUND: u32 = 6;

/// A partition as of one assignment or seek: results that name another are too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cursor {
    /// Place among the assigned partitions.
    pub(crate) place: usize,
    generation: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Its offset is to be looked up.
    ToLocate(Start),
    /// Its offset is being looked up.
    Locating(Start),
    Reading,
    /// It failed; only a seek helps.
    Halted,
}

#[derive(Debug)]
struct Partition {
    topic: Arc<str>,
    topic_id: TopicId,
    partition: u32,
    generation: u64,
    state: State,
    /// Next offset to fetch.
    offset: Offset,
    /// Where reading began, once that is known.
    started_at: Option<Offset>,
    failures: u32,
    retry_at: Option<Instant>,
    /// Part of a fetch that is under way.
    fetching: bool,
}

/// One partition in a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FetchItem {
    pub(crate) cursor: Cursor,
    pub(crate) topic: Arc<str>,
    pub(crate) topic_id: TopicId,
    pub(crate) partition: u32,
    pub(crate) offset: Offset,
    pub(crate) max_bytes: u32,
    pub(crate) leader_epoch: u64,
}

/// A fetch to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fetch {
    pub(crate) broker: BrokerId,
    pub(crate) address: String,
    pub(crate) max_bytes: u32,
    pub(crate) items: Vec<FetchItem>,
}

/// An offset to look up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Locate {
    pub(crate) cursor: Cursor,
    pub(crate) topic: Arc<str>,
    pub(crate) partition: u32,
    pub(crate) start: Start,
}

/// What to do now.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Forget what is under way: it was asked for an earlier assignment.
    pub(crate) restart: bool,
    pub(crate) fetches: Vec<Fetch>,
    pub(crate) locates: Vec<Locate>,
    pub(crate) wants_metadata: bool,
    /// When to ask again, if nothing happens before.
    pub(crate) wake_at: Option<Instant>,
}

/// What was read of one partition.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) batches: Vec<Bytes>,
    pub(crate) next_offset: Offset,
}

/// Something for the consumer: a batch, or the failure that ends the reading of its partition.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) cursor: Cursor,
    pub(crate) content: Result<Batch, Error>,
}

/// A batch that was fetched.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: u32,
    /// The first offset wanted: a batch may begin below it.
    pub(crate) from: Offset,
    pub(crate) bytes: Bytes,
}

impl Item {
    fn bytes(&self) -> u64 {
        self.content
            .as_ref()
            .map_or(0, |batch| batch.bytes.len() as u64)
    }
}

/// See the module.
///
/// Invariants: `buffered_bytes` is the sum of the batches in `items`; `reserved` holds what each fetch under way may
/// bring; batches of a partition stand in `items` in offset order.
pub(crate) struct Core {
    rules: Rules,
    partitions: Vec<Partition>,
    next_generation: u64,
    items: VecDeque<Item>,
    buffered_bytes: u64,
    reserved: HashMap<BrokerId, u64>,
    restart: bool,
    metadata_is_stale: bool,
    /// Where the next fetch begins to list partitions, so that none is always last.
    turn: usize,
    random: Box<dyn FnMut() -> u64 + Send>,
}

impl Core {
    pub(crate) fn new(rules: Rules, random: Box<dyn FnMut() -> u64 + Send>) -> Self {
        Self {
            rules,
            partitions: Vec::new(),
            next_generation: 0,
            items: VecDeque::new(),
            buffered_bytes: 0,
            reserved: HashMap::new(),
            restart: false,
            metadata_is_stale: false,
            turn: 0,
            random,
        }
    }

    /// Replaces what is read; returns the cursors, in the order given.
    pub(crate) fn assign(&mut self, assigned: Vec<(Arc<str>, TopicId, u32, Start)>) -> Vec<Cursor> {
        self.items.clear();
        self.buffered_bytes = 0;
        let starts: Vec<Start> = assigned.iter().map(|(_, _, _, start)| *start).collect();
        self.partitions = assigned
            .into_iter()
            .map(|(topic, topic_id, partition, _)| Partition {
                topic,
                topic_id,
                partition,
                generation: 0,
                state: State::Halted,
                offset: Offset(0),
                started_at: None,
                failures: 0,
                retry_at: None,
                fetching: false,
            })
            .collect();
        self.restart = true;
        let places = starts.into_iter().enumerate();
        places
            .map(|(place, start)| self.start(place, start))
            .collect()
    }

    /// Reads a partition from elsewhere; results asked for before no longer count.
    pub(crate) fn start(&mut self, place: usize, start: Start) -> Cursor {
        self.restart = true;
        let generation = self.renew(place);
        let partition = &mut self.partitions[place];
        partition.failures = 0;
        partition.retry_at = None;
        partition.started_at = None;
        match start {
            Start::Offset(offset) => partition.read_from(offset),
            start => partition.state = State::ToLocate(start),
        }
        Cursor { place, generation }
    }

    /// Where the reading of a partition began, once that is known.
    pub(crate) fn started_at(&self, place: usize) -> Option<Offset> {
        self.partitions[place].started_at
    }

    /// Takes the next batch or failure out.
    pub(crate) fn take(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        self.buffered_bytes -= item.bytes();
        Some(item)
    }

    /// Stops reading a partition because of a batch that cannot be read.
    pub(crate) fn halt(&mut self, cursor: Cursor) {
        if let Some(partition) = self.partition(cursor) {
            partition.state = State::Halted;
            self.renew(cursor.place);
        }
    }

    /// The names of all topics read.
    pub(crate) fn topics(&self) -> Vec<String> {
        let mut topics: Vec<String> = self
            .partitions
            .iter()
            .map(|partition| partition.topic.to_string())
            .collect();
        topics.sort();
        topics.dedup();
        topics
    }

    /// The metadata is fresh. A partition that it lacks has failed once more.
    pub(crate) fn refreshed(&mut self, now: Instant, metadata: &Metadata) {
        self.metadata_is_stale = false;
        for place in 0..self.partitions.len() {
            let partition = &self.partitions[place];
            let known = metadata.topic(&partition.topic);
            let exists = known.is_some_and(|topic| partition.partition < topic.partitions());
            if partition.state == State::Halted || exists {
                continue;
            }
            let cursor = Cursor {
                place,
                generation: partition.generation,
            };
            let problem = format!("topic {} has no such partition any more", partition.topic);
            let error = ApiError::new(Reason::UnknownTopicOrPartition, problem);
            self.failed(now, cursor, error);
        }
    }

    /// What to do now.
    pub(crate) fn poll(&mut self, now: Instant, metadata: &Metadata) -> Plan {
        let mut plan = Plan {
            wants_metadata: self.metadata_is_stale,
            restart: std::mem::take(&mut self.restart),
            ..Plan::default()
        };
        if plan.restart {
            self.reserved.clear();
            for partition in &mut self.partitions {
                partition.fetching = false;
                if let State::Locating(start) = partition.state {
                    partition.state = State::ToLocate(start);
                }
            }
        }
        let mut per_broker: BTreeMap<BrokerId, (String, Vec<FetchItem>)> = BTreeMap::new();
        for turn in 0..self.partitions.len() {
            let place = (self.turn + turn) % self.partitions.len();
            if let Some((broker, address, item)) =
                self.poll_partition(now, place, metadata, &mut plan)
            {
                let items = per_broker
                    .entry(broker)
                    .or_insert_with(|| (address, Vec::new()));
                items.1.push(item);
            }
        }
        for (broker, (address, items)) in per_broker {
            self.plan_fetch(broker, address, items, &mut plan);
        }
        plan
    }

    /// What one partition wants: to be looked up, or a place in a fetch.
    fn poll_partition(
        &mut self,
        now: Instant,
        place: usize,
        metadata: &Metadata,
        plan: &mut Plan,
    ) -> Option<(BrokerId, String, FetchItem)> {
        let partition = &mut self.partitions[place];
        let cursor = Cursor {
            place,
            generation: partition.generation,
        };
        if let Some(at) = partition.retry_at.filter(|at| *at > now) {
            plan.wake_at = Some(plan.wake_at.map_or(at, |wake_at| wake_at.min(at)));
            return None;
        }
        if let State::ToLocate(start) = partition.state {
            partition.state = State::Locating(start);
            plan.locates.push(Locate {
                cursor,
                topic: Arc::clone(&partition.topic),
                partition: partition.partition,
                start,
            });
        }
        if partition.state != State::Reading || partition.fetching {
            return None;
        }
        let leader = metadata.leader(&partition.topic, partition.partition);
        let Some((leader, address)) = leader else {
            plan.wants_metadata = true;
            return None;
        };
        let item = FetchItem {
            cursor,
            topic: Arc::clone(&partition.topic),
            topic_id: partition.topic_id,
            partition: partition.partition,
            offset: partition.offset,
            max_bytes: self.rules.partition_fetch_bytes,
            leader_epoch: leader.epoch,
        };
        Some((leader.broker, address.to_owned(), item))
    }

    /// One fetch per broker at a time, and only as much as there is room for.
    fn plan_fetch(
        &mut self,
        broker: BrokerId,
        address: String,
        mut items: Vec<FetchItem>,
        plan: &mut Plan,
    ) {
        if self.reserved.contains_key(&broker) {
            return;
        }
        let used = self.buffered_bytes + self.reserved.values().sum::<u64>();
        let room = u64::from(self.rules.buffer_bytes).saturating_sub(used);
        let wanted = u64::from(self.rules.fetch_bytes.min(self.rules.buffer_bytes));
        // Half of a full request is worth the way; less only when there is nothing else to wait for.
        if room == 0 || room < wanted / 2 && used > 0 {
            return;
        }
        let max_bytes = u32::try_from(room.min(wanted)).expect("no more than fetch_bytes");
        for item in &mut items {
            item.max_bytes = item.max_bytes.min(max_bytes);
            self.partitions[item.cursor.place].fetching = true;
        }
        self.turn = (items[0].cursor.place + 1) % self.partitions.len();
        self.reserved.insert(broker, u64::from(max_bytes));
        plan.fetches.push(Fetch {
            broker,
            address,
            max_bytes,
            items,
        });
    }

    /// A fetch has ended: a result per partition, in any order.
    pub(crate) fn fetched(
        &mut self,
        now: Instant,
        broker: BrokerId,
        results: Vec<(Cursor, Result<Fetched, ApiError>)>,
    ) {
        self.reserved.remove(&broker);
        for (cursor, result) in results {
            let Some(partition) = self.partition(cursor) else {
                continue;
            };
            partition.fetching = false;
            match result {
                Ok(fetched) => self.take_up(cursor, fetched),
                Err(error) => self.failed(now, cursor, error),
            }
        }
    }

    /// A lookup has ended.
    pub(crate) fn located(
        &mut self,
        now: Instant,
        cursor: Cursor,
        result: Result<Offset, ApiError>,
    ) {
        let Some(partition) = self.partition(cursor) else {
            return;
        };
        let State::Locating(start) = partition.state else {
            return;
        };
        match result {
            Ok(offset) => {
                partition.failures = 0;
                partition.read_from(offset);
            }
            Err(error) => {
                partition.state = State::ToLocate(start);
                self.failed(now, cursor, error);
            }
        }
    }

    fn take_up(&mut self, cursor: Cursor, fetched: Fetched) {
        let Some(partition) = self.partitions.get_mut(cursor.place) else {
            return;
        };
        partition.failures = 0;
        let before = self.items.len();
        for bytes in fetched.batches {
            let from = partition.offset;
            let content = match BatchHeader::parse(&bytes) {
                // A batch read before: the broker answered from an earlier place than asked for.
                Ok(header) if header.next_offset() <= from => continue,
                Ok(header) => {
                    partition.offset = header.next_offset();
                    self.buffered_bytes += bytes.len() as u64;
                    Ok(Batch {
                        topic: Arc::clone(&partition.topic),
                        partition: partition.partition,
                        from,
                        bytes,
                    })
                }
                Err(problem) => {
                    partition.state = State::Halted;
                    Err(Error::BadBatch {
                        topic: Arc::clone(&partition.topic),
                        partition: partition.partition,
                        offset: from,
                        problem: Arc::new(problem),
                    })
                }
            };
            let halted = content.is_err();
            self.items.push_back(Item { cursor, content });
            if halted {
                return;
            }
        }
        if self.items.len() == before {
            partition.offset = partition.offset.max(fetched.next_offset);
        }
    }

    fn failed(&mut self, now: Instant, cursor: Cursor, error: ApiError) {
        let random = (self.random)();
        let Rules { backoff, reset, .. } = self.rules;
        let Some(partition) = self.partition(cursor) else {
            return;
        };
        partition.failures += 1;
        if error.reason == Reason::OffsetOutOfRange && partition.state == State::Reading {
            let start = match reset {
                OffsetReset::Earliest => Some(Start::Earliest),
                OffsetReset::Latest => Some(Start::Latest),
                OffsetReset::Fail => None,
            };
            if let Some(start) = start {
                tracing::warn!(
                    topic = &*partition.topic,
                    partition = partition.partition,
                    offset = partition.offset.0,
                    "the partition does not hold the offset; going on at {start:?}"
                );
                partition.state = State::ToLocate(start);
                return;
            }
        }
        let absent = error.code() == tonic::Code::NotFound && partition.failures >= MAX_NOT_FOUND;
        if error.is_retriable() && !absent {
            let wait = backoff.wait_after(&error, partition.failures, random);
            partition.retry_at = Some(now + wait);
            self.metadata_is_stale |= wants_metadata(&error);
            return;
        }
        partition.state = State::Halted;
        let content = Err(Error::Partition {
            topic: Arc::clone(&partition.topic),
            partition: partition.partition,
            source: error,
        });
        self.items.push_back(Item { cursor, content });
    }

    /// The partition, if the cursor is still the present one.
    fn partition(&mut self, cursor: Cursor) -> Option<&mut Partition> {
        self.partitions
            .get_mut(cursor.place)
            .filter(|partition| partition.generation == cursor.generation)
    }

    /// Gives the partition a new generation and drops what was fetched in the old one.
    fn renew(&mut self, place: usize) -> u64 {
        let generation = self.next_generation;
        self.next_generation += 1;
        self.partitions[place].generation = generation;
        self.items.retain(|item| item.cursor.place != place);
        self.buffered_bytes = self.items.iter().map(Item::bytes).sum();
        generation
    }
}

impl Partition {
    fn read_from(&mut self, offset: Offset) {
        self.state = State::Reading;
        self.offset = offset;
        self.started_at = Some(offset);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use highwater_proto::batch::{BatchBuilder, Compression, NewRecord, set_position};
    use highwater_proto::v1;

    use super::*;

    const BROKER: BrokerId = BrokerId(1);

    fn metadata() -> Metadata {
        let mut metadata = Metadata::default();
        metadata.update(
            &[],
            v1::ClusterMetadata {
                brokers: vec![v1::Broker {
                    broker_id: 1,
                    host: "b".into(),
                    port: 1,
                    ..v1::Broker::default()
                }],
                topics: vec![v1::TopicMetadata {
                    name: "t".into(),
                    topic_id: Bytes::from(vec![1; 16]),
                    partitions: (0..3)
                        .map(|partition| v1::PartitionMetadata {
                            partition,
                            leader_broker_id: Some(1),
                            leader_epoch: 4,
                            replica_broker_ids: vec![1],
                        })
                        .collect(),
                }],
                ..v1::ClusterMetadata::default()
            },
        );
        metadata
    }

    fn core_with(reset: OffsetReset, starts: &[Start]) -> (Core, Vec<Cursor>) {
        let rules = Rules {
            buffer_bytes: 1_000,
            fetch_bytes: 400,
            partition_fetch_bytes: 300,
            reset,
            backoff: Backoff::default(),
        };
        let mut core = Core::new(rules, Box::new(|| 0));
        let assigned = starts.iter().zip(0..);
        let cursors = core.assign(
            assigned
                .map(|(start, partition)| ("t".into(), TopicId::default(), partition, *start))
                .collect(),
        );
        (core, cursors)
    }

    fn core(starts: &[Start]) -> (Core, Vec<Cursor>) {
        core_with(OffsetReset::Earliest, starts)
    }

    /// A batch of `records` records at `base_offset`, about `bytes` long.
    fn batch(base_offset: u64, records: u32, bytes: usize) -> Bytes {
        let mut builder = BatchBuilder::new();
        let value = vec![0; bytes / records as usize];
        for _ in 0..records {
            let record = NewRecord {
                value: Some(&value),
                ..NewRecord::default()
            };
            builder.append(&record).unwrap();
        }
        let mut batch = builder.finish(Compression::None, None).unwrap().to_vec();
        set_position(&mut batch, Offset(base_offset), 4).unwrap();
        Bytes::from(batch)
    }

    fn fetched(batches: Vec<Bytes>) -> Result<Fetched, ApiError> {
        Ok(Fetched {
            batches,
            next_offset: Offset(0),
        })
    }

    fn offsets(plan: &Plan) -> Vec<(u32, u64)> {
        let items = plan.fetches.iter().flat_map(|fetch| &fetch.items);
        items.map(|item| (item.partition, item.offset.0)).collect()
    }

    fn error(reason: Reason) -> ApiError {
        ApiError::new(reason, "because")
    }

    #[test]
    fn reading_goes_on_after_the_last_batch_fetched() {
        let (mut core, cursors) = core(&[Start::Offset(Offset(5))]);
        let now = Instant::now();
        let plan = core.poll(now, &metadata());
        assert!(plan.restart);
        assert_eq!(offsets(&plan), [(0, 5)]);
        assert_eq!(plan.fetches[0].items[0].leader_epoch, 4);
        assert!(core.poll(now, &metadata()).fetches.is_empty());
        core.fetched(
            now,
            BROKER,
            vec![(cursors[0], fetched(vec![batch(3, 4, 10)]))],
        );
        assert_eq!(offsets(&core.poll(now, &metadata())), [(0, 7)]);
        let batch = core.take().unwrap().content.unwrap();
        assert_eq!((batch.from, batch.partition), (Offset(5), 0));
        assert!(core.take().is_none());
    }

    #[test]
    fn an_offset_is_looked_up_before_reading_where_none_is_given() {
        let (mut core, _) = core(&[Start::Latest]);
        let now = Instant::now();
        let plan = core.poll(now, &metadata());
        assert!(plan.fetches.is_empty());
        assert_eq!(plan.locates[0].start, Start::Latest);
        assert_eq!(core.started_at(0), None);
        assert!(core.poll(now, &metadata()).locates.is_empty());
        core.located(now, plan.locates[0].cursor, Ok(Offset(9)));
        assert_eq!(core.started_at(0), Some(Offset(9)));
        assert_eq!(offsets(&core.poll(now, &metadata())), [(0, 9)]);
    }

    #[test]
    fn results_from_before_a_seek_are_dropped() {
        let (mut core, cursors) = core(&[Start::Offset(Offset(0))]);
        let now = Instant::now();
        core.poll(now, &metadata());
        core.fetched(
            now,
            BROKER,
            vec![(cursors[0], fetched(vec![batch(0, 2, 10)]))],
        );
        core.poll(now, &metadata());
        core.start(0, Start::Offset(Offset(100)));
        assert!(core.take().is_none());
        core.fetched(
            now,
            BROKER,
            vec![(cursors[0], fetched(vec![batch(2, 2, 10)]))],
        );
        assert!(core.take().is_none());
        let plan = core.poll(now, &metadata());
        assert!(plan.restart);
        assert_eq!(offsets(&plan), [(0, 100)]);
    }

    #[test]
    fn a_full_buffer_stops_fetching_until_batches_are_taken() {
        let (mut core, cursors) = core(&[Start::Offset(Offset(0))]);
        let now = Instant::now();
        for turn in 0..3 {
            assert_eq!(core.poll(now, &metadata()).fetches.len(), 1, "{turn}");
            let result = fetched(vec![batch(turn, 1, 300)]);
            core.fetched(now, BROKER, vec![(cursors[0], result)]);
        }
        assert!(core.poll(now, &metadata()).fetches.is_empty());
        core.take().unwrap();
        let plan = core.poll(now, &metadata());
        assert!(plan.fetches[0].max_bytes >= 200);
    }

    #[test]
    fn a_batch_larger_than_the_buffer_is_still_read() {
        let (mut core, cursors) = core(&[Start::Offset(Offset(0))]);
        let now = Instant::now();
        core.poll(now, &metadata());
        core.fetched(
            now,
            BROKER,
            vec![(cursors[0], fetched(vec![batch(0, 1, 5_000)]))],
        );
        assert!(core.poll(now, &metadata()).fetches.is_empty());
        core.take().unwrap();
        assert_eq!(core.poll(now, &metadata()).fetches.len(), 1);
    }

    #[test]
    fn partitions_take_turns_at_the_head_of_a_fetch() {
        let starts = [Start::Offset(Offset(0)); 3];
        let (mut core, cursors) = core(&starts);
        let now = Instant::now();
        let mut heads = Vec::new();
        for _ in 0..3 {
            let plan = core.poll(now, &metadata());
            heads.push(plan.fetches[0].items[0].partition);
            let results = cursors.iter().map(|cursor| (*cursor, fetched(vec![])));
            core.fetched(now, BROKER, results.collect());
        }
        assert_eq!(heads, [0, 1, 2]);
    }

    #[test]
    fn a_lost_connection_is_retried_from_the_same_offset() {
        let (mut core, cursors) = core(&[Start::Offset(Offset(5))]);
        let now = Instant::now();
        core.poll(now, &metadata());
        let lost = Err(error(Reason::NetworkException));
        core.fetched(now, BROKER, vec![(cursors[0], lost)]);
        let plan = core.poll(now, &metadata());
        assert!(plan.fetches.is_empty() && plan.wants_metadata);
        core.refreshed(now, &metadata());
        let later = plan.wake_at.unwrap();
        let plan = core.poll(later, &metadata());
        assert!(!plan.wants_metadata);
        assert_eq!(offsets(&plan), [(0, 5)]);
        assert!(core.take().is_none());
    }

    #[test]
    fn only_the_leaders_out_of_range_resets_the_offset() {
        for (reset, start) in [
            (OffsetReset::Earliest, Some(Start::Earliest)),
            (OffsetReset::Latest, Some(Start::Latest)),
            (OffsetReset::Fail, None),
        ] {
            let (mut core, cursors) = core_with(reset, &[Start::Offset(Offset(5))]);
            let now = Instant::now();
            core.poll(now, &metadata());
            let not_yet = Err(error(Reason::OffsetNotAvailable));
            core.fetched(now, BROKER, vec![(cursors[0], not_yet)]);
            let later = now + Duration::from_secs(2);
            assert_eq!(offsets(&core.poll(later, &metadata())), [(0, 5)]);
            let out = Err(error(Reason::OffsetOutOfRange));
            core.fetched(later, BROKER, vec![(cursors[0], out)]);
            let plan = core.poll(later, &metadata());
            assert_eq!(plan.locates.first().map(|locate| locate.start), start);
            assert_eq!(core.take().is_some(), start.is_none());
        }
    }

    #[test]
    fn a_partition_that_stays_unknown_is_reported_and_left() {
        let (mut core, cursors) = core(&[Start::Offset(Offset(5))]);
        let mut now = Instant::now();
        for _ in 0..MAX_NOT_FOUND {
            assert!(core.take().is_none());
            assert_eq!(core.poll(now, &metadata()).fetches.len(), 1);
            let unknown = Err(error(Reason::UnknownTopicId));
            core.fetched(now, BROKER, vec![(cursors[0], unknown)]);
            now += Duration::from_secs(2);
        }
        let failed = core.take().unwrap().content.unwrap_err();
        assert_eq!(failed.reason(), Reason::UnknownTopicId);
        assert!(core.poll(now, &metadata()).fetches.is_empty());
    }

    #[test]
    fn a_partition_that_vanishes_from_the_metadata_is_reported() {
        let (mut core, _) = core(&[Start::Offset(Offset(5))]);
        let now = Instant::now();
        for _ in 0..MAX_NOT_FOUND {
            assert!(core.take().is_none());
            core.refreshed(now, &Metadata::default());
        }
        let failed = core.take().unwrap().content.unwrap_err();
        assert_eq!(failed.reason(), Reason::UnknownTopicOrPartition);
    }

    #[test]
    fn a_failed_partition_reads_again_after_a_seek_and_others_never_stop() {
        let starts = [Start::Offset(Offset(5)); 2];
        let (mut core, cursors) = core(&starts);
        let now = Instant::now();
        core.poll(now, &metadata());
        let damaged = Err(error(Reason::DataLoss));
        core.fetched(
            now,
            BROKER,
            vec![(cursors[0], damaged), (cursors[1], fetched(vec![]))],
        );
        assert_eq!(
            core.take().unwrap().content.unwrap_err().reason(),
            Reason::DataLoss
        );
        assert_eq!(offsets(&core.poll(now, &metadata())), [(1, 5)]);
        core.start(0, Start::Offset(Offset(8)));
        let mut plan = core.poll(now, &metadata());
        plan.fetches[0].items.sort_by_key(|item| item.partition);
        assert_eq!(offsets(&plan), [(0, 8), (1, 5)]);
    }

    #[test]
    fn a_batch_that_is_none_halts_its_partition() {
        let (mut core, cursors) = core(&[Start::Offset(Offset(0))]);
        let now = Instant::now();
        core.poll(now, &metadata());
        let garbage = Bytes::from_static(&[9; 80]);
        let batches = vec![batch(0, 1, 10), garbage];
        core.fetched(now, BROKER, vec![(cursors[0], fetched(batches))]);
        assert!(core.take().unwrap().content.is_ok());
        let error = core.take().unwrap().content.unwrap_err();
        assert!(matches!(
            error,
            Error::BadBatch {
                offset: Offset(1),
                ..
            }
        ));
        assert!(core.poll(now, &metadata()).fetches.is_empty());
    }

    #[test]
    fn a_batch_the_consumer_cannot_read_halts_its_partition() {
        let (mut core, cursors) = core(&[Start::Offset(Offset(0))]);
        let now = Instant::now();
        core.poll(now, &metadata());
        let batches = vec![batch(0, 1, 10), batch(1, 1, 10)];
        core.fetched(now, BROKER, vec![(cursors[0], fetched(batches))]);
        core.take().unwrap();
        core.halt(cursors[0]);
        assert!(core.take().is_none());
        assert!(core.poll(now, &metadata()).fetches.is_empty());
    }
}
