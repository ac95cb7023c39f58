//! The rules of a consumer: what is read from whom, how much of it, and what a failure means.
//!
//! A pure state machine between the consumer, which takes batches out, and the shell that talks to brokers, which asks
//! [`Core::poll`] what to do and reports what came of it.
//!
//! Each broker that leads an assigned partition is read through one subscription, a [`Feed`]. The broker pushes batches
//! as long as it has credit; credit is what the buffer has room for. A change of what is read there is a new assignment
//! of all its partitions, each from behind the last batch that came: what still comes of an older one is dropped.
//!
//! Credit says nothing of partitions, so one that is much busier than the others of its broker would take it all. What one
//! may take is its [`Share`]: credit ends where it does, and a partition that keeps the others from going on is left out of
//! the assignment until most of what was fetched of it is taken out.
//!
//! The consumer may want nothing of some partitions for as long as it likes, which are *held back*: what was fetched of them
//! stays. Whenever the consumer finds nothing else here, brokers may push beside that, however much it is; and each partition
//! may have a small share only, so that what is beside it is bounded by how many are held back.

mod sharing;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use highwater_proto::batch::BatchHeader;
use highwater_proto::{ApiError, BrokerId, Offset, Reason, TopicId};

use super::feed::{Feed, FeedId};
use super::partition::{Partition, State};
use super::plan::{Ask, Cursor, Fetched, Locate, Open, Plan, Pushed, Read};
use super::prefetched::{Batch, Item, Prefetched};
use crate::doubt::{Doubt, FEED_PATIENCE};
use crate::metadata::Metadata;
use crate::retry::{Backoff, wants_metadata};
use crate::{Error, Start};

/// Where to begin in a partition of which a consumer group has committed nothing, and whether to go on by itself where a
/// partition does not hold the offset to read next.
///
/// An offset that is not held is replaced by the *closest* one that is, whichever of these is set but [`OffsetReset::Fail`]: below
/// the log start reading goes on at the log start, so that of what retention left nothing is skipped; above the end, which
/// only a recovery that lost records leads to, it goes on at the end, so that nothing is read twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OffsetReset {
    /// Begin at the first record held.
    #[default]
    Earliest,
    /// Begin behind the last record. Where that was is committed by a consumer that commits by itself, so that what comes later is
    /// not missed.
    Latest,
    /// Begin at the first record that is no older than this, by its timestamp; behind the last record where all are older.
    Ago(Duration),
    /// Begin at the first record whose timestamp is this or later, in milliseconds since 1970; behind the last record where
    /// there is none.
    Timestamp(i64),
    /// Report the error, and stop reading the partition until it is sought elsewhere.
    Fail,
}

/// Limits of a consumer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Bytes of batches fetched and not yet taken out, or allowed to come; each broker has an equal share. One batch
    /// may go beyond.
    pub(crate) buffer_bytes: u32,
    /// How much of that one partition may take.
    pub(crate) partition_buffer_bytes: u32,
    /// Bytes of one partition in one message.
    pub(crate) partition_fetch_bytes: u32,
    pub(crate) reset: OffsetReset,
    pub(crate) backoff: Backoff,
}

/// How often in a row a broker may say that a partition which the metadata names does not exist before that is believed:
/// metadata reaches brokers one after the other.
const MAX_NOT_FOUND: u32 = 6;
/// A partition that was read for this long without a failure is well: the next failure counts as the first.
const WELL_AFTER: Duration = Duration::from_secs(5);

/// See the module.
///
/// Invariants: `places` names every partition; each feed that a partition is read through is in `feeds`; a partition's
/// batches in `prefetched` end where its `offset` is.
pub(crate) struct Core {
    rules: Rules,
    partitions: Vec<Partition>,
    places: HashMap<(TopicId, u32), usize>,
    next_generation: u64,
    feeds: Vec<Feed>,
    next_feed: u64,
    prefetched: Prefetched,
    metadata_is_stale: bool,
    /// Of the brokers that send nothing.
    doubt: Doubt,
    /// Others are read than when this was last told.
    topics_changed: bool,
    /// Where the consumer stands, if it reads from followers there.
    rack: Option<Arc<str>>,
    random: Box<dyn FnMut() -> u64 + Send>,
}

impl Core {
    pub(crate) fn new(rules: Rules, random: Box<dyn FnMut() -> u64 + Send>) -> Self {
        Self {
            rules,
            partitions: Vec::new(),
            places: HashMap::new(),
            next_generation: 0,
            feeds: Vec::new(),
            next_feed: 0,
            prefetched: Prefetched::default(),
            metadata_is_stale: false,
            doubt: Doubt::new(FEED_PATIENCE),
            topics_changed: false,
            rack: None,
            random,
        }
    }

    /// Reads from followers in this rack, where there are some.
    pub(crate) fn stand_in(&mut self, rack: Arc<str>) {
        self.rack = Some(rack);
    }

    /// Replaces what is read; returns the cursors, in the order given.
    pub(crate) fn assign(&mut self, assigned: Vec<(Arc<str>, TopicId, u32, Start)>) -> Vec<Cursor> {
        self.prefetched.clear();
        self.topics_changed = true;
        self.feeds.iter_mut().for_each(Feed::set_stale);
        let starts: Vec<Start> = assigned.iter().map(|(_, _, _, start)| *start).collect();
        self.partitions = assigned
            .into_iter()
            .map(|(topic, topic_id, partition, _)| Partition::new(topic, topic_id, partition))
            .collect();
        let named = self.partitions.iter().enumerate();
        self.places = named
            .map(|(place, p)| ((p.topic_id, p.partition), place))
            .collect();
        let places = starts.into_iter().enumerate();
        places
            .map(|(place, start)| self.start(place, start))
            .collect()
    }

    /// Reads one more partition, or one that was released before; its place. What else is read goes on.
    pub(crate) fn add(
        &mut self,
        topic: Arc<str>,
        topic_id: TopicId,
        partition: u32,
        start: Start,
    ) -> usize {
        self.topics_changed = true;
        let place = match self.places.get(&(topic_id, partition)) {
            Some(place) => *place,
            None => {
                self.partitions
                    .push(Partition::new(topic, topic_id, partition));
                let place = self.partitions.len() - 1;
                self.places.insert((topic_id, partition), place);
                place
            }
        };
        self.partitions[place].state = State::Halted;
        self.start(place, start);
        place
    }

    /// Reads a partition no longer. What was fetched of it is dropped; what else is read goes on.
    pub(crate) fn release(&mut self, place: usize) {
        self.renew(place);
        self.partitions[place].state = State::Halted;
    }

    /// Reads a partition from elsewhere; what was asked for before no longer counts. A paused one stays paused.
    pub(crate) fn start(&mut self, place: usize, start: Start) -> Cursor {
        let generation = self.renew(place);
        let partition = &mut self.partitions[place];
        partition.is_well();
        partition.retry_at = None;
        partition.started_at = None;
        partition.state = match (partition.state, start) {
            (State::Paused(_), start) => State::Paused(start),
            (_, start) => partition.started(start),
        };
        Cursor { place, generation }
    }

    /// Stops reading a partition until it is resumed, then from `position`: behind the last record given out, if one
    /// was. What was fetched is dropped.
    pub(crate) fn pause(&mut self, place: usize, position: Option<Offset>) {
        let partition = &self.partitions[place];
        let start = match (partition.state, position, partition.started_at) {
            (State::Halted | State::Paused(_), _, _) => return,
            (_, Some(offset), _) | (_, None, Some(offset)) => Start::Offset(offset),
            (State::ToLocate(start) | State::Locating(start), None, None) => start,
            (State::ToRead | State::Reading { .. }, None, None) => Start::Offset(partition.offset),
        };
        self.renew(place);
        self.partitions[place].state = State::Paused(start);
    }

    /// Reads a paused partition again.
    pub(crate) fn resume(&mut self, place: usize) {
        let partition = &mut self.partitions[place];
        if let State::Paused(start) = partition.state {
            partition.state = partition.started(start);
        }
    }

    /// Where the reading of a partition began, once that is known, or begins when it is resumed.
    pub(crate) fn started_at(&self, place: usize) -> Option<Offset> {
        let partition = &self.partitions[place];
        match partition.state {
            State::Paused(Start::Offset(offset)) => Some(offset),
            _ => partition.started_at,
        }
    }

    /// Takes the next batch or failure out, of the places that are wanted.
    pub(crate) fn take(&mut self, wants: impl Fn(usize) -> bool) -> Option<Item> {
        self.prefetched.take(wants)
    }

    /// The consumer wants something of which nothing is here.
    pub(crate) fn want(&mut self) {
        self.prefetched.want();
    }

    /// Whether the consumer wants something of which nothing is here, and not what is.
    pub(crate) fn is_wanting(&self) -> bool {
        self.prefetched.is_wanting()
    }

    /// Stops reading a partition because of a batch that cannot be read.
    pub(crate) fn halt(&mut self, cursor: Cursor) {
        if self.partition(cursor).is_some() {
            self.renew(cursor.place);
            self.partitions[cursor.place].state = State::Halted;
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

    /// The metadata is fresh. A partition that it does not name any more was deleted.
    pub(crate) fn refreshed(&mut self, metadata: &Metadata) {
        self.metadata_is_stale = false;
        for place in 0..self.partitions.len() {
            let partition = &self.partitions[place];
            if partition.state == State::Halted {
                continue;
            }
            let name = &partition.topic;
            let error = match metadata.topic(name) {
                Some(topic) if topic.id != partition.topic_id => ApiError::new(
                    Reason::UnknownTopicId,
                    format!("topic {name} was deleted and made again"),
                ),
                Some(topic) if partition.partition < topic.partitions() => continue,
                _ => ApiError::new(
                    Reason::UnknownTopicOrPartition,
                    format!("topic {name} or this partition of it was deleted"),
                ),
            };
            self.give_up(self.cursor(place), error);
        }
    }

    /// What to do now.
    pub(crate) fn poll(&mut self, now: Instant, metadata: &Metadata) -> Plan {
        let mut plan = Plan {
            wants_metadata: self.metadata_is_stale,
            ..Plan::default()
        };
        if std::mem::take(&mut self.topics_changed) {
            plan.watch = Some(self.topics());
        }
        for place in 0..self.partitions.len() {
            self.poll_partition(now, place, metadata, &mut plan);
        }
        self.close_feeds(&mut plan);
        self.share_out();
        self.doubt_the_silent(now, &mut plan);
        let feeds = self.feeds.iter();
        plan.asks = feeds
            .filter(|feed| feed.is_stale() || self.credit_due(feed).is_some())
            .map(|feed| feed.id)
            .collect();
        plan
    }

    /// What one partition wants: to be looked up, or to be read through the feed of its leader.
    fn poll_partition(&mut self, now: Instant, place: usize, metadata: &Metadata, plan: &mut Plan) {
        let cursor = self.cursor(place);
        let partition = &mut self.partitions[place];
        let leader = metadata.leader(&partition.topic, partition.partition);
        if let Some((leader, _)) = leader
            && leader.epoch > partition.epoch
        {
            // A leader that is new has refused nothing yet.
            partition.epoch = leader.epoch;
            partition.avoids_near = false;
            partition.retry_at = None;
        }
        if let Some(at) = partition.retry_at.filter(|at| *at > now) {
            plan.wake_by(at);
            return;
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
        if let State::Reading { leader: old, .. } = partition.state
            && leader.is_some_and(|(new, _)| new.epoch > old.epoch)
        {
            self.leave_feed(place);
        }
        if self.partitions[place].state != State::ToRead {
            return;
        }
        let Some((leader, address)) = leader else {
            plan.wants_metadata = true;
            return;
        };
        let near = self.near(place, metadata);
        let (broker, address) = near.unwrap_or((leader.broker, address));
        let feed = self.feed_of(now, broker, address, plan);
        // The credit of the feed was given without regard to it.
        let is_full = self.share().is_full(self.prefetched.bytes_at(place));
        self.partitions[place].state = State::Reading {
            feed,
            assignment_id: None,
            leader,
            is_near: near.is_some(),
            is_full,
            since: now,
        };
    }

    /// The follower to read a partition from, if there is a better one than the leader.
    fn near<'a>(&self, place: usize, metadata: &'a Metadata) -> Option<(BrokerId, &'a str)> {
        let partition = &self.partitions[place];
        let rack = self.rack.as_ref().filter(|_| !partition.avoids_near)?;
        metadata.near(&partition.topic, partition.partition, rack)
    }

    /// The feed of a broker, told that there is more to read of it.
    fn feed_of(
        &mut self,
        now: Instant,
        broker: BrokerId,
        address: &str,
        plan: &mut Plan,
    ) -> FeedId {
        let at = |feed: &&mut Feed| feed.broker == broker && feed.address == address;
        if let Some(feed) = self.feeds.iter_mut().find(at) {
            feed.set_stale();
            return feed.id;
        }
        let id = FeedId(self.next_feed);
        self.next_feed += 1;
        self.feeds
            .push(Feed::new(id, broker, address.to_owned(), now));
        plan.opens.push(Open {
            feed: id,
            address: address.to_owned(),
        });
        id
    }

    fn close_feeds(&mut self, plan: &mut Plan) {
        let partitions = &self.partitions;
        self.feeds.retain(|feed| {
            let is_used = partitions.iter().any(|partition| partition.is_in(feed.id));
            if !is_used {
                plan.closes.push(feed.id);
            }
            is_used
        });
    }

    /// Asks for the metadata when a broker sends nothing: it may be frozen, and the watch kept open by the same one.
    fn doubt_the_silent(&mut self, now: Instant, plan: &mut Plan) {
        let Some(heard_at) = self.feeds.iter().map(|feed| feed.heard_at).min() else {
            return;
        };
        match self.doubt.weigh(now, heard_at) {
            Some(at) => plan.wake_by(at),
            None => plan.doubts = true,
        }
    }

    /// The next thing to tell the broker of a feed. An assignment comes before credit.
    pub(crate) fn ask(&mut self, id: FeedId) -> Option<Ask> {
        let place = self.feeds.iter().position(|feed| feed.id == id)?;
        if self.feeds[place].is_stale() {
            let id = self.feeds[place].assign();
            let reads = self.assign_to(self.feeds[place].id, id);
            return Some(Ask::Assign {
                id,
                allow_follower: self.rack.is_some(),
                reads,
            });
        }
        let bytes = self.credit_due(&self.feeds[place])?;
        self.feeds[place].add_credit(bytes);
        Some(Ask::Credit { bytes })
    }

    fn assign_to(&mut self, feed: FeedId, id: u64) -> Vec<Read> {
        let max_bytes = self.rules.partition_fetch_bytes;
        let mut reads = Vec::new();
        for partition in &mut self.partitions {
            let State::Reading {
                feed: of,
                assignment_id,
                leader,
                is_full,
                ..
            } = &mut partition.state
            else {
                continue;
            };
            // What is on its way of one that is full stays welcome: its number is not changed.
            if *of == feed && !*is_full {
                *assignment_id = Some(id);
                reads.push(Read {
                    topic: Arc::clone(&partition.topic),
                    topic_id: partition.topic_id,
                    partition: partition.partition,
                    offset: partition.offset,
                    max_bytes,
                    leader_epoch: leader.epoch,
                });
            }
        }
        reads
    }

    /// A broker has sent a message.
    pub(crate) fn pushed(&mut self, now: Instant, id: FeedId, pushed: Pushed) {
        let Some(feed) = self.feeds.iter_mut().find(|feed| feed.id == id) else {
            return;
        };
        feed.heard_at = now;
        feed.spend(pushed.credit_used_bytes);
        let broker = feed.broker;
        for of_partition in pushed.partitions {
            let named = (of_partition.topic_id, of_partition.partition);
            let Some(place) = self.places.get(&named).copied() else {
                continue;
            };
            if !self.partitions[place].follows(id, pushed.assignment_id) {
                continue;
            }
            match of_partition.result {
                Ok(fetched) => self.take_up(place, broker, fetched),
                Err(error) => self.refused(now, place, error),
            }
        }
    }

    /// A feed has ended: what was read through it goes on through another, from behind the last batch that came.
    pub(crate) fn ended(&mut self, now: Instant, id: FeedId, error: &ApiError) {
        self.feeds.retain(|feed| feed.id != id);
        // One wait for all, so that they are assigned together.
        let random = (self.random)();
        for place in 0..self.partitions.len() {
            if self.partitions[place].is_in(id) {
                self.failed(now, self.cursor(place), error.clone(), random);
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
        let State::Locating(_) = partition.state else {
            return;
        };
        match result {
            Ok(offset) => {
                partition.is_well();
                partition.state = partition.started(Start::Offset(offset));
            }
            Err(error) => {
                let random = (self.random)();
                self.failed(now, cursor, error, random);
            }
        }
    }

    fn take_up(&mut self, place: usize, broker: BrokerId, fetched: Fetched) {
        let cursor = self.cursor(place);
        let partition = &mut self.partitions[place];
        partition.is_well();
        let mut is_new = false;
        for bytes in fetched.batches {
            let from = partition.offset;
            match BatchHeader::parse(&bytes) {
                // A batch read before: the broker answered from an earlier place than asked for.
                Ok(header) if header.next_offset() <= from => {}
                Ok(header) => {
                    is_new = true;
                    partition.offset = header.next_offset();
                    let batch = Batch {
                        topic: Arc::clone(&partition.topic),
                        partition: partition.partition,
                        from,
                        bytes,
                        broker,
                    };
                    let content = Ok(batch);
                    self.prefetched.push(Item { cursor, content });
                }
                Err(problem) => {
                    let content = Err(Error::BadBatch {
                        topic: Arc::clone(&partition.topic),
                        partition: partition.partition,
                        offset: from,
                        problem: Arc::new(problem),
                    });
                    self.leave_feed(place);
                    self.partitions[place].state = State::Halted;
                    self.prefetched.push(Item { cursor, content });
                    return;
                }
            }
        }
        if !is_new {
            partition.offset = partition.offset.max(fetched.next_offset);
        }
    }

    /// The leader has ended the reading of a partition.
    fn refused(&mut self, now: Instant, place: usize, error: ApiError) {
        let partition = &mut self.partitions[place];
        if let State::Reading { is_near: true, .. } = partition.state {
            // Only a leader's word counts.
            partition.avoids_near = true;
            return self.leave_feed(place);
        }
        let start = match (error.reason, self.rules.reset) {
            (_, OffsetReset::Fail) => None,
            (Reason::OffsetOutOfRange, _) => Some(closest(partition.offset, &error)),
            _ => None,
        };
        match start {
            Some(start) => {
                tracing::warn!(
                    topic = &*partition.topic,
                    partition = partition.partition,
                    offset = partition.offset.0,
                    "the partition does not hold the offset; going on at {start:?}"
                );
                partition.state = State::ToLocate(start);
            }
            None => {
                let random = (self.random)();
                self.failed(now, self.cursor(place), error, random);
            }
        }
    }

    /// Tries again what a partition was at, after a wait, or gives it up.
    fn failed(&mut self, now: Instant, cursor: Cursor, error: ApiError, random: u64) {
        let backoff = self.rules.backoff;
        let Some(partition) = self.partition(cursor) else {
            return;
        };
        partition.state = match partition.state {
            State::Reading { since, is_near, .. } => {
                partition.avoids_near |= is_near;
                if now >= since + WELL_AFTER {
                    partition.is_well();
                }
                State::ToRead
            }
            State::Locating(start) => State::ToLocate(start),
            state => state,
        };
        partition.failures += 1;
        partition.not_found = match error.code() {
            tonic::Code::NotFound => partition.not_found + 1,
            _ => 0,
        };
        if !error.is_retriable() || partition.not_found >= MAX_NOT_FOUND {
            return self.give_up(cursor, error);
        }
        let wait = backoff.wait_after(&error, partition.failures, random);
        partition.retry_at = Some(now + wait);
        self.metadata_is_stale |= wants_metadata(&error);
    }

    /// Ends the reading of a partition, and says so behind what was fetched of it.
    fn give_up(&mut self, cursor: Cursor, error: ApiError) {
        self.leave_feed(cursor.place);
        let partition = &mut self.partitions[cursor.place];
        partition.state = State::Halted;
        let content = Err(Error::Partition {
            topic: Arc::clone(&partition.topic),
            partition: partition.partition,
            source: error,
        });
        self.prefetched.push(Item { cursor, content });
    }

    fn cursor(&self, place: usize) -> Cursor {
        Cursor {
            place,
            generation: self.partitions[place].generation,
        }
    }

    /// The partition, if the cursor is still the present one.
    fn partition(&mut self, cursor: Cursor) -> Option<&mut Partition> {
        self.partitions
            .get_mut(cursor.place)
            .filter(|partition| partition.generation == cursor.generation)
    }

    /// Gives the partition a new generation and drops what was fetched in the old one.
    fn renew(&mut self, place: usize) -> u64 {
        self.leave_feed(place);
        let generation = self.next_generation;
        self.next_generation += 1;
        self.partitions[place].generation = generation;
        self.prefetched.drop_place(place);
        generation
    }

    /// Takes a partition out of the feed it is read through: its broker is to push it no longer.
    fn leave_feed(&mut self, place: usize) {
        let partition = &mut self.partitions[place];
        if let State::Reading { feed, .. } = partition.state {
            partition.state = State::ToRead;
            if let Some(feed) = self.feeds.iter_mut().find(|f| f.id == feed) {
                feed.set_stale();
            }
        }
    }
}

/// The end of what a partition holds that is closer to an offset which the leader refused.
fn closest(offset: Offset, error: &ApiError) -> Start {
    let log_start = error.metadata.get("log_start_offset");
    match log_start.and_then(|text| text.parse().ok()) {
        Some(log_start) if offset >= Offset(log_start) => Start::Latest,
        // Where the leader does not say, nothing is skipped.
        _ => Start::Earliest,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use highwater_proto::batch::{BatchBuilder, Compression, NewRecord, set_position};
    use highwater_proto::v1;

    use super::*;
    use crate::consumer::plan::PushedPartition;

    pub(super) fn metadata() -> Metadata {
        metadata_led_by([1, 1, 1], 4)
    }

    /// A topic of three partitions, and who leads them.
    pub(super) fn metadata_led_by(leaders: [u32; 3], leader_epoch: u64) -> Metadata {
        let broker = |broker_id, host: &str| v1::Broker {
            broker_id,
            host: host.into(),
            port: 1,
            rack: format!("rack of {host}"),
            alive: true,
            state: v1::BrokerState::Active.into(),
        };
        let mut metadata = Metadata::default();
        metadata.update(
            &[],
            v1::ClusterMetadata {
                brokers: vec![broker(1, "b"), broker(2, "c")],
                topics: vec![v1::TopicMetadata {
                    name: "t".into(),
                    topic_id: Bytes::from(vec![1; 16]),
                    partitions: (0..)
                        .zip(leaders)
                        .map(|(partition, leader)| v1::PartitionMetadata {
                            partition,
                            leader_broker_id: Some(leader),
                            leader_epoch,
                            replica_broker_ids: vec![1],
                        })
                        .collect(),
                }],
                ..v1::ClusterMetadata::default()
            },
        );
        metadata
    }

    fn core_with(reset: OffsetReset, starts: &[Start]) -> Core {
        let rules = Rules {
            buffer_bytes: 1_000,
            partition_buffer_bytes: 2_000,
            partition_fetch_bytes: 300,
            reset,
            backoff: Backoff::default(),
        };
        let mut core = Core::new(rules, Box::new(|| 0));
        let assigned = starts.iter().zip(0..);
        core.assign(
            assigned
                .map(|(start, partition)| ("t".into(), topic_id(), partition, *start))
                .collect(),
        );
        core
    }

    pub(super) fn topic_id() -> TopicId {
        TopicId::from_slice(&[1; 16]).unwrap()
    }

    fn core(starts: &[Start]) -> Core {
        core_with(OffsetReset::Earliest, starts)
    }

    /// A batch of `records` records at `base_offset`, about `bytes` long.
    pub(super) fn batch(base_offset: u64, records: u32, bytes: usize) -> Bytes {
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

    pub(super) fn fetched(batches: Vec<Bytes>) -> Result<Fetched, ApiError> {
        Ok(Fetched {
            batches,
            next_offset: Offset(0),
        })
    }

    fn error(reason: Reason) -> ApiError {
        ApiError::new(reason, "because")
    }

    /// The number of an assignment, its partitions and their offsets.
    type Assigned = (u64, Vec<(u32, u64)>);

    /// Polls, and takes what there is to tell brokers: the last assignment, and the credit.
    fn poll(core: &mut Core, now: Instant) -> (Plan, Option<Assigned>, u64) {
        let plan = core.poll(now, &metadata());
        let (mut assigned, mut credit) = (None, 0);
        for feed in &plan.asks {
            while let Some(ask) = core.ask(*feed) {
                match ask {
                    Ask::Assign { id, reads, .. } => {
                        let offsets = reads.iter().map(|r| (r.partition, r.offset.0));
                        assigned = Some((id, offsets.collect()));
                    }
                    Ask::Credit { bytes } => credit += bytes,
                }
            }
        }
        (plan, assigned, credit)
    }

    fn assigned(core: &mut Core, now: Instant) -> Option<Assigned> {
        poll(core, now).1
    }

    /// What the broker of the only feed sends in an assignment.
    fn push(
        core: &mut Core,
        now: Instant,
        assignment_id: u64,
        partition: u32,
        result: Result<Fetched, ApiError>,
    ) {
        let batches = result.iter().flat_map(|fetched| &fetched.batches);
        let pushed = Pushed {
            assignment_id,
            credit_used_bytes: batches.map(|batch| batch.len() as u64).sum(),
            partitions: vec![PushedPartition {
                topic_id: topic_id(),
                partition,
                result,
            }],
        };
        let feed = FeedId(core.next_feed - 1);
        core.pushed(now, feed, pushed);
    }

    fn at(offset: u64) -> Start {
        Start::Offset(Offset(offset))
    }

    #[test]
    fn reading_goes_on_after_the_last_batch_when_the_feed_ends() {
        let mut core = core(&[at(5)]);
        let now = Instant::now();
        let (plan, assignment, credit) = poll(&mut core, now);
        assert_eq!(plan.opens[0].address, "b:1");
        assert_eq!((assignment, credit), (Some((1, vec![(0, 5)])), 1_000));
        assert_eq!(assigned(&mut core, now), None);
        push(&mut core, now, 1, 0, fetched(vec![batch(3, 4, 10)]));
        core.ended(now, FeedId(0), &error(Reason::NetworkException));
        let (plan, assignment, _) = poll(&mut core, now);
        assert!(plan.wants_metadata && plan.opens.is_empty() && assignment.is_none());
        core.refreshed(&metadata());
        let (plan, assignment, credit) = poll(&mut core, plan.wake_at.unwrap());
        assert!(!plan.wants_metadata);
        assert_eq!(plan.opens[0].feed, FeedId(1));
        assert_eq!(assignment, Some((1, vec![(0, 7)])));
        assert!(credit < 1_000);
        let batch = core.take(|_| true).unwrap().content.unwrap();
        assert_eq!((batch.from, batch.partition), (Offset(5), 0));
        assert!(core.take(|_| true).is_none());
    }

    #[test]
    fn an_offset_is_looked_up_before_reading_where_none_is_given() {
        let mut core = core(&[Start::Latest]);
        let now = Instant::now();
        let plan = core.poll(now, &metadata());
        assert!(plan.opens.is_empty());
        assert_eq!(plan.locates[0].start, Start::Latest);
        assert_eq!(core.started_at(0), None);
        assert!(core.poll(now, &metadata()).locates.is_empty());
        core.located(now, plan.locates[0].cursor, Ok(Offset(9)));
        assert_eq!(core.started_at(0), Some(Offset(9)));
        assert_eq!(assigned(&mut core, now), Some((1, vec![(0, 9)])));
    }

    #[test]
    fn what_follows_from_before_a_seek_is_dropped() {
        let mut core = core(&[at(0), at(0)]);
        let now = Instant::now();
        assigned(&mut core, now);
        push(&mut core, now, 1, 0, fetched(vec![batch(0, 2, 10)]));
        core.start(0, at(100));
        assert!(core.take(|_| true).is_none());
        // The broker does not know yet, nor has the shell even asked what to do.
        push(&mut core, now, 1, 0, fetched(vec![batch(2, 2, 10)]));
        let plan = core.poll(now, &metadata());
        // It will be told, but was not: what comes is still of the old position. The other partition is not concerned.
        push(&mut core, now, 1, 0, fetched(vec![batch(4, 2, 10)]));
        push(&mut core, now, 1, 1, fetched(vec![batch(0, 3, 10)]));
        assert_eq!(core.take(|_| true).unwrap().cursor.place, 1);
        assert!(core.take(|_| true).is_none());
        let Some(Ask::Assign { id, reads, .. }) = core.ask(plan.asks[0]) else {
            panic!("{plan:?}");
        };
        let mut offsets: Vec<_> = reads.iter().map(|r| (r.partition, r.offset.0)).collect();
        offsets.sort_unstable();
        assert_eq!((id, offsets), (2, vec![(0, 100), (1, 3)]));
        // Now it was told, and these were on their way.
        push(&mut core, now, 1, 0, fetched(vec![batch(6, 2, 10)]));
        push(&mut core, now, 1, 1, fetched(vec![batch(3, 2, 10)]));
        assert!(core.take(|_| true).is_none());
        push(&mut core, now, 2, 1, fetched(vec![batch(3, 2, 10)]));
        push(&mut core, now, 2, 0, fetched(vec![batch(100, 2, 10)]));
        assert_eq!(
            core.take(|_| true).unwrap().content.unwrap().from,
            Offset(3)
        );
        assert_eq!(
            core.take(|_| true).unwrap().content.unwrap().from,
            Offset(100)
        );
    }

    #[test]
    fn a_paused_partition_is_read_no_longer_and_goes_on_where_it_was() {
        let mut core = core(&[at(0), at(0)]);
        let now = Instant::now();
        assigned(&mut core, now);
        push(&mut core, now, 1, 0, fetched(vec![batch(0, 5, 10)]));
        core.pause(0, Some(Offset(3)));
        assert!(core.take(|_| true).is_none());
        assert_eq!(assigned(&mut core, now), Some((2, vec![(1, 0)])));
        push(&mut core, now, 2, 0, fetched(vec![batch(5, 5, 10)]));
        assert!(core.take(|_| true).is_none());
        core.resume(0);
        assert_eq!(assigned(&mut core, now), Some((3, vec![(0, 3), (1, 0)])));
        core.pause(0, None);
        core.start(0, at(40));
        assert_eq!(core.started_at(0), Some(Offset(40)));
        assert_eq!(assigned(&mut core, now), Some((4, vec![(1, 0)])));
        core.resume(0);
        assert_eq!(assigned(&mut core, now), Some((5, vec![(0, 40), (1, 0)])));
    }

    #[test]
    fn a_partition_paused_before_its_offset_is_known_looks_it_up_when_resumed() {
        let mut core = core(&[Start::Latest]);
        let now = Instant::now();
        let late = core.poll(now, &metadata()).locates.remove(0).cursor;
        core.pause(0, None);
        core.located(now, late, Ok(Offset(9)));
        assert!(core.poll(now, &metadata()).locates.is_empty());
        core.resume(0);
        let plan = core.poll(now, &metadata());
        assert_eq!(plan.locates[0].start, Start::Latest);
    }

    #[test]
    fn a_feed_that_nothing_is_read_through_is_closed() {
        let mut core = core(&[at(0)]);
        let now = Instant::now();
        assigned(&mut core, now);
        core.pause(0, None);
        assert_eq!(core.poll(now, &metadata()).closes, [FeedId(0)]);
        core.resume(0);
        assert_eq!(core.poll(now, &metadata()).opens[0].feed, FeedId(1));
        core.assign(Vec::new());
        assert_eq!(core.poll(now, &metadata()).closes, [FeedId(1)]);
    }

    #[test]
    fn credit_is_what_the_buffer_has_room_for() {
        let mut core = core(&[at(0)]);
        let now = Instant::now();
        assert_eq!(poll(&mut core, now).2, 1_000);
        let mut granted = 1_000;
        for turn in 0..2 {
            let pushed = batch(turn, 1, 300);
            granted -= pushed.len() as u64;
            push(&mut core, now, 1, 0, fetched(vec![pushed]));
            assert!(!core.has_room());
            assert_eq!(poll(&mut core, now).2, 0);
        }
        core.take(|_| true).unwrap();
        assert!(core.has_room());
        granted += poll(&mut core, now).2;
        assert_eq!(granted + core.prefetched.bytes(), 1_000);
    }

    #[test]
    fn credit_used_for_what_is_dropped_is_given_again() {
        let mut core = core(&[at(0)]);
        let now = Instant::now();
        poll(&mut core, now);
        core.start(0, at(100));
        let late = batch(0, 1, 800);
        let bytes = late.len() as u64;
        push(&mut core, now, 1, 0, fetched(vec![late]));
        assert!(core.take(|_| true).is_none() && core.has_room());
        assert_eq!(poll(&mut core, now).2, bytes);
    }

    #[test]
    fn a_batch_larger_than_the_buffer_is_still_read() {
        let mut core = core(&[at(0)]);
        let now = Instant::now();
        poll(&mut core, now);
        let huge = batch(0, 1, 5_000);
        let bytes = huge.len() as u64;
        push(&mut core, now, 1, 0, fetched(vec![huge]));
        assert_eq!(poll(&mut core, now).2, 0);
        core.take(|_| true).unwrap();
        assert_eq!(poll(&mut core, now).2, bytes);
    }

    #[test]
    fn brokers_share_the_buffer_and_none_is_left_without() {
        let mut core = core(&[at(0), at(0)]);
        let now = Instant::now();
        let mut split = metadata_led_by([1, 1, 1], 4);
        let plan = core.poll(now, &split);
        let asks = std::iter::from_fn(|| core.ask(plan.opens[0].feed)).count();
        assert_eq!(asks, 2);
        // The first broker has all the credit when the second comes.
        split = metadata_led_by([1, 2, 1], 5);
        let plan = core.poll(now, &split);
        let second = plan.opens[0].feed;
        assert!(matches!(core.ask(second), Some(Ask::Assign { .. })));
        assert_eq!(core.ask(second), Some(Ask::Credit { bytes: 500 }));
    }

    #[test]
    fn a_moved_leader_is_followed_without_an_error() {
        let mut core = core(&[at(7)]);
        let now = Instant::now();
        assigned(&mut core, now);
        // An older view changes nothing.
        let plan = core.poll(now, &metadata_led_by([2, 2, 2], 3));
        assert!(plan.opens.is_empty() && plan.asks.is_empty());
        let plan = core.poll(now, &metadata_led_by([2, 2, 2], 5));
        assert_eq!(plan.closes, [FeedId(0)]);
        assert_eq!(plan.opens[0].address, "c:1");
        let Some(Ask::Assign { reads, .. }) = core.ask(plan.opens[0].feed) else {
            panic!("{plan:?}");
        };
        assert_eq!((reads[0].offset, reads[0].leader_epoch), (Offset(7), 5));
    }

    #[test]
    fn a_broker_that_sends_nothing_makes_the_consumer_ask_who_leads() {
        let mut core = core(&[at(7)]);
        let now = Instant::now();
        let (plan, _, _) = poll(&mut core, now);
        assert!(!plan.doubts);
        assert_eq!(plan.wake_at, Some(now + FEED_PATIENCE));
        let heard_at = now + FEED_PATIENCE / 2;
        push(&mut core, heard_at, 1, 0, fetched(vec![batch(7, 1, 10)]));
        let (plan, _, _) = poll(&mut core, now + FEED_PATIENCE);
        assert!(!plan.doubts);
        assert_eq!(plan.wake_at, Some(heard_at + FEED_PATIENCE));
        let (plan, _, _) = poll(&mut core, heard_at + FEED_PATIENCE);
        assert!(plan.doubts);
        // The question is under way.
        let (plan, _, _) = poll(&mut core, heard_at + FEED_PATIENCE);
        assert!(!plan.doubts);
        assert_eq!(plan.wake_at, Some(heard_at + 2 * FEED_PATIENCE));
    }

    #[test]
    fn a_follower_nearby_is_read_until_it_cannot_serve() {
        let mut core = core(&[at(7)]);
        core.stand_in("rack of b".into());
        let now = Instant::now();
        let led_elsewhere = metadata_led_by([2, 2, 2], 4);
        let plan = core.poll(now, &led_elsewhere);
        assert_eq!(plan.opens[0].address, "b:1");
        let allowed = |ask| {
            matches!(
                ask,
                Some(Ask::Assign {
                    allow_follower: true,
                    ..
                })
            )
        };
        assert!(allowed(core.ask(plan.opens[0].feed)));
        // It lies to nobody: whether the offset is there, the leader says.
        push(&mut core, now, 1, 0, Err(error(Reason::OffsetOutOfRange)));
        assert!(core.take(|_| true).is_none());
        let plan = core.poll(now, &led_elsewhere);
        assert_eq!(plan.opens[0].address, "c:1");
        // With another leader it has another chance.
        core.ask(plan.opens[0].feed);
        let plan = core.poll(now, &metadata_led_by([2, 2, 2], 5));
        assert_eq!(plan.opens[0].address, "b:1");
    }

    #[test]
    fn the_leaders_out_of_range_and_nothing_else_leads_to_the_closest_offset() {
        use OffsetReset::{Ago, Earliest, Fail, Latest};
        for (reset, log_start, start) in [
            (Earliest, None, Some(Start::Earliest)),
            (Earliest, Some(6), Some(Start::Earliest)),
            (Earliest, Some(1), Some(Start::Latest)),
            (Latest, Some(6), Some(Start::Earliest)),
            (Latest, Some(1), Some(Start::Latest)),
            (Ago(Duration::from_secs(1)), Some(6), Some(Start::Earliest)),
            (Fail, Some(6), None),
        ] {
            let mut core = core_with(reset, &[at(5)]);
            let now = Instant::now();
            assigned(&mut core, now);
            let not_yet = Err(error(Reason::NotLeaderOrFollower));
            push(&mut core, now, 1, 0, not_yet);
            let later = now + Duration::from_secs(2);
            let (id, offsets) = assigned(&mut core, later).unwrap();
            assert_eq!(offsets, [(0, 5)]);
            let out = || {
                let refused = error(Reason::OffsetOutOfRange);
                Err(match log_start {
                    Some(log_start) => refused.with("log_start_offset", log_start),
                    None => refused,
                })
            };
            push(&mut core, later, id - 1, 0, out());
            assert!(core.poll(later, &metadata()).locates.is_empty());
            push(&mut core, later, id, 0, out());
            let plan = core.poll(later, &metadata());
            assert_eq!(plan.locates.first().map(|locate| locate.start), start);
            assert_eq!(core.take(|_| true).is_some(), start.is_none());
        }
    }

    #[test]
    fn a_partition_that_stays_unknown_is_reported_and_left() {
        let mut core = core(&[at(5)]);
        let mut now = Instant::now();
        for _ in 0..MAX_NOT_FOUND {
            assert!(core.take(|_| true).is_none());
            let (id, _) = assigned(&mut core, now).unwrap();
            let unknown = Err(error(Reason::UnknownTopicId));
            push(&mut core, now, id, 0, unknown);
            now += Duration::from_secs(2);
        }
        let failed = core.take(|_| true).unwrap().content.unwrap_err();
        assert_eq!(failed.reason(), Reason::UnknownTopicId);
        assert_eq!(assigned(&mut core, now), None);
    }

    #[test]
    fn failures_long_ago_do_not_count() {
        let mut core = core(&[at(5)]);
        let mut now = Instant::now();
        for _ in 0..MAX_NOT_FOUND * 2 {
            let (id, _) = assigned(&mut core, now).unwrap();
            now += WELL_AFTER;
            push(&mut core, now, id, 0, Err(error(Reason::UnknownTopicId)));
            now += Duration::from_secs(2);
        }
        assert!(core.take(|_| true).is_none());
    }

    #[test]
    fn a_partition_that_vanishes_from_the_metadata_is_reported() {
        let mut core = core(&[at(5)]);
        let now = Instant::now();
        assigned(&mut core, now);
        push(&mut core, now, 1, 0, fetched(vec![batch(5, 1, 10)]));
        core.refreshed(&Metadata::default());
        assert!(core.take(|_| true).unwrap().content.is_ok());
        let failed = core.take(|_| true).unwrap().content.unwrap_err();
        assert_eq!(failed.reason(), Reason::UnknownTopicOrPartition);
        core.refreshed(&Metadata::default());
        assert!(core.take(|_| true).is_none());
    }

    #[test]
    fn a_failed_partition_reads_again_after_a_seek_and_others_never_stop() {
        let mut core = core(&[at(5), at(5)]);
        let now = Instant::now();
        assigned(&mut core, now);
        push(&mut core, now, 1, 0, Err(error(Reason::DataLoss)));
        let failed = core.take(|_| true).unwrap().content.unwrap_err();
        assert_eq!(failed.reason(), Reason::DataLoss);
        assert_eq!(assigned(&mut core, now), None);
        push(&mut core, now, 1, 1, fetched(vec![batch(5, 1, 10)]));
        assert!(core.take(|_| true).is_some());
        core.start(0, at(8));
        assert_eq!(assigned(&mut core, now), Some((2, vec![(0, 8), (1, 6)])));
    }

    #[test]
    fn a_batch_that_is_none_halts_its_partition() {
        let mut core = core(&[at(0)]);
        let now = Instant::now();
        assigned(&mut core, now);
        let garbage = Bytes::from_static(&[9; 80]);
        let batches = vec![batch(0, 1, 10), garbage];
        push(&mut core, now, 1, 0, fetched(batches));
        assert!(core.take(|_| true).unwrap().content.is_ok());
        let error = core.take(|_| true).unwrap().content.unwrap_err();
        assert!(matches!(
            error,
            Error::BadBatch {
                offset: Offset(1),
                ..
            }
        ));
        assert_eq!(core.poll(now, &metadata()).closes, [FeedId(0)]);
    }

    #[test]
    fn a_batch_the_consumer_cannot_read_halts_its_partition() {
        let mut core = core(&[at(0)]);
        let now = Instant::now();
        assigned(&mut core, now);
        let batches = vec![batch(0, 1, 10), batch(1, 1, 10)];
        push(&mut core, now, 1, 0, fetched(batches));
        let cursor = core.take(|_| true).unwrap().cursor;
        core.halt(cursor);
        assert!(core.take(|_| true).is_none());
        assert_eq!(core.poll(now, &metadata()).closes, [FeedId(0)]);
    }
}
