//! The rules of a producer: which batch is sent when, on what connection, and what its outcome means.
//!
//! A pure state machine between the callers of `send`, who append, and the task that talks to brokers, which asks
//! [`Core::poll`] what to do and reports what came of it. Time and randomness come in as arguments.

mod sending;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use highwater_proto::batch::{BatchBuilder, NewRecord};
use highwater_proto::{ApiError, BrokerId, Reason, TopicId};

use super::accumulator::{Accumulator, Appended, Gathered, Gathering, Lane, Refused};
use super::outcome::{Outcome, Stored};
use super::partitioner::{Sticky, partition_of_key};
use super::pipeline::{ConnectionId, Finished, Identity, Numbering, Pipeline};
use super::plan::{NotAppended, Resolutions};
use crate::Error;
use crate::doubt::{ANSWER_PATIENCE, Doubt};
use crate::metadata::{Leader, Metadata};
use crate::retry::{Backoff, wants_metadata};

/// Limits and times of a producer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) gathering: Gathering,
    pub(crate) max_in_flight: usize,
    pub(crate) numbering: Numbering,
    /// After this a record has failed, whatever is under way.
    pub(crate) delivery_timeout: Duration,
    /// After this without an answer a connection is given up.
    pub(crate) request_timeout: Duration,
    pub(crate) backoff: Backoff,
}

#[derive(Debug)]
struct Topic {
    name: Arc<str>,
    id: TopicId,
    /// 0 once it was deleted.
    partitions: u32,
    sticky: Sticky,
    /// By partition. A topic made again may have fewer partitions than there are pipelines.
    pipelines: Vec<Pipeline>,
}

/// See the module.
///
/// Invariants: `active` holds every lane with a batch in the accumulator or its pipeline; `correlations` names exactly
/// the batches in pipelines.
pub(crate) struct Core {
    rules: Rules,
    accumulator: Accumulator,
    names: HashMap<Arc<str>, usize>,
    topics: Vec<Topic>,
    /// Place of the topic of the last record: most often that of the next one too.
    last_topic: usize,
    active: BTreeSet<Lane>,
    correlations: HashMap<u64, Lane>,
    next_correlation: u64,
    /// To whom connections lead.
    brokers: HashMap<ConnectionId, BrokerId>,
    identity: Option<Identity>,
    /// A failure suggests that the metadata is out of date.
    metadata_is_stale: bool,
    /// Of the brokers that do not answer.
    doubt: Doubt,
    /// Others are in use than when this was last told.
    topics_changed: bool,
    closed: Option<Error>,
    /// The first failure since the last flush.
    failure: Option<Error>,
    random: Box<dyn FnMut() -> u64 + Send>,
}

impl Core {
    pub(crate) fn new(rules: Rules, random: Box<dyn FnMut() -> u64 + Send>) -> Self {
        Self {
            rules,
            accumulator: Accumulator::new(rules.gathering),
            names: HashMap::new(),
            topics: Vec::new(),
            last_topic: 0,
            active: BTreeSet::new(),
            correlations: HashMap::new(),
            next_correlation: 0,
            brokers: HashMap::new(),
            identity: None,
            metadata_is_stale: false,
            doubt: Doubt::new(ANSWER_PATIENCE),
            topics_changed: false,
            closed: None,
            failure: None,
            random,
        }
    }

    /// Takes up what is known of a topic, and has it watched. More partitions become usable; batches for a topic that was
    /// deleted and made again under its name fail.
    pub(crate) fn learn(&mut self, name: &str, id: TopicId, partitions: u32) -> Resolutions {
        let mut resolutions = Resolutions::default();
        let place = match self.names.get(name) {
            Some(place) => *place,
            None => {
                let name: Arc<str> = name.into();
                let place = self.topics.len();
                self.names.insert(Arc::clone(&name), place);
                self.topics.push(Topic {
                    name,
                    id,
                    partitions: 0,
                    sticky: Sticky::default(),
                    pipelines: Vec::new(),
                });
                place
            }
        };
        if self.topics[place].id != id {
            self.topics[place].id = id;
            self.topics[place].partitions = 0;
            let error = ApiError::new(
                Reason::UnknownTopicId,
                format!("topic {name} was deleted and made again"),
            );
            self.abandon_topic(place, &Error::Api(error), &mut resolutions);
        }
        let topic = &mut self.topics[place];
        self.topics_changed |= topic.partitions == 0;
        topic.partitions = topic.partitions.max(partitions);
        if topic.pipelines.len() < partitions as usize {
            topic
                .pipelines
                .resize_with(partitions as usize, || Pipeline::new(self.rules.numbering));
        }
        self.accumulator.set_partitions(place, partitions);
        resolutions
    }

    /// The names of all topics in use.
    pub(crate) fn topics(&self) -> Vec<String> {
        self.topics
            .iter()
            .filter(|topic| topic.partitions > 0)
            .map(|topic| topic.name.to_string())
            .collect()
    }

    /// Takes up the metadata of the topics in use. Batches for one that was deleted fail, and it must be looked up before
    /// it can be used again.
    pub(crate) fn learn_all(&mut self, metadata: &Metadata) -> Resolutions {
        let mut resolutions = Resolutions::default();
        self.metadata_is_stale = false;
        for name in self.topics() {
            match metadata.topic(&name) {
                Some(topic) => {
                    let learnt = self.learn(&name, topic.id, topic.partitions());
                    resolutions.extend(learnt);
                    let led = topic.leaders.iter().zip(0..);
                    for (leader, partition) in led.filter_map(|(l, p)| Some(((*l)?, p))) {
                        self.led(&name, partition, leader);
                    }
                }
                None => self.forget(&name, &mut resolutions),
            }
        }
        resolutions
    }

    /// Takes up who leads a partition.
    pub(crate) fn led(&mut self, topic: &str, partition: u32, leader: Leader) {
        let place = self.names.get(topic).copied();
        let topic = place.and_then(|place| self.topics.get_mut(place));
        if let Some(pipeline) = topic.and_then(|topic| topic.pipelines.get_mut(partition as usize))
        {
            pipeline.led_in(leader.epoch);
        }
    }

    /// Where a batch that was sent goes to.
    pub(crate) fn place_of(&self, correlation: u64) -> Option<(Arc<str>, u32)> {
        let lane = self.correlations.get(&correlation)?;
        Some((Arc::clone(&self.topics[lane.topic].name), lane.partition))
    }

    fn forget(&mut self, name: &str, resolutions: &mut Resolutions) {
        let Some(place) = self.names.get(name).copied() else {
            return;
        };
        self.topics[place].partitions = 0;
        self.topics_changed = true;
        let problem = format!("topic {name} was deleted");
        let error = ApiError::new(Reason::UnknownTopicOrPartition, problem);
        self.abandon_topic(place, &Error::Api(error), resolutions);
    }

    /// Takes a record in for a partition of its topic: the one given, that of its key, or any. `clock` tells the time if it
    /// is needed.
    pub(crate) fn append(
        &mut self,
        clock: impl FnOnce() -> Instant,
        topic: &str,
        partition: Option<u32>,
        record: &NewRecord<'_>,
    ) -> Result<Appended, NotAppended> {
        if let Some(error) = &self.closed {
            return Err(NotAppended::Failed(Box::new(error.clone())));
        }
        let place = self.place(topic).ok_or(NotAppended::UnknownTopic)?;
        let entry = &mut self.topics[place];
        let partitions = entry.partitions;
        let partition = match (partition, record.key) {
            _ if partitions == 0 => return Err(NotAppended::UnknownTopic),
            (Some(partition), _) if partition >= partitions => {
                let error = no_such_partition(topic, partition, partitions);
                return Err(NotAppended::Failed(Box::new(error)));
            }
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_of_key(key, partitions),
            (None, None) => entry.sticky.partition(partitions, &mut self.random),
        };
        let lane = Lane {
            topic: place,
            partition,
        };
        let name = &entry.name;
        let outcome = || Outcome::new(Arc::clone(name), partition);
        let appended = self.accumulator.append(clock, lane, record, outcome);
        let completed = match &appended {
            Ok(appended) => appended.completed,
            Err(Refused::Full { completed }) => *completed,
            Err(Refused::Record(_)) => false,
        };
        if completed {
            let random = (self.random)();
            entry.sticky.batch_completed(partition, partitions, random);
        }
        match appended {
            Ok(appended) => {
                if appended.opened {
                    self.active.insert(lane);
                }
                Ok(appended)
            }
            Err(Refused::Full { completed }) => Err(NotAppended::Full { completed }),
            Err(Refused::Record(error)) => Err(NotAppended::Failed(Box::new(Error::Record(
                Arc::new(error),
            )))),
        }
    }

    fn place(&mut self, topic: &str) -> Option<usize> {
        let last = self.topics.get(self.last_topic);
        if last.is_none_or(|last| *last.name != *topic) {
            self.last_topic = *self.names.get(topic)?;
        }
        Some(self.last_topic)
    }

    /// Makes everything gathered due at once; the slots of all unacknowledged batches.
    pub(crate) fn flush(&mut self) -> Vec<Arc<Outcome>> {
        let mut outcomes = Vec::new();
        for lane in &self.active {
            outcomes.extend(self.topics[lane.topic].pipelines[lane.partition as usize].outcomes());
            self.accumulator.complete(*lane);
            outcomes.extend(self.accumulator.outcomes(*lane));
        }
        outcomes
    }

    /// The first failure since this was last asked.
    pub(crate) fn take_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// Bytes buffered: gathered, or sent and not acknowledged.
    pub(crate) fn buffered_bytes(&self) -> usize {
        self.accumulator.buffered_bytes()
    }

    /// Refuses records from now on, and gives up all that is not acknowledged.
    pub(crate) fn close(&mut self, error: Error) -> Resolutions {
        let mut resolutions = Resolutions::default();
        for place in 0..self.topics.len() {
            self.abandon_topic(place, &error, &mut resolutions);
        }
        self.closed.get_or_insert(error);
        resolutions
    }

    /// A fresh identity from the broker.
    pub(crate) fn identify(&mut self, identity: Identity) {
        self.identity = Some(identity);
    }

    /// The bytes of a batch whose body had to be made; `builder` is what it was made with.
    pub(crate) fn encoded(
        &mut self,
        correlation: u64,
        payload: Bytes,
        builder: Option<BatchBuilder>,
    ) {
        if let Some(pipeline) = self.pipeline_of(correlation) {
            pipeline.encoded(correlation, payload);
        }
        if let Some(builder) = builder {
            self.accumulator.recycle(builder);
        }
    }

    /// The broker stored a batch.
    pub(crate) fn acknowledged(&mut self, correlation: u64, stored: Stored) -> Resolutions {
        let mut resolutions = Resolutions::default();
        if let Some(pipeline) = self.pipeline_of(correlation) {
            let finished = pipeline.acknowledged(correlation);
            self.finish(finished, Some(stored), &mut resolutions);
        }
        resolutions
    }

    /// The broker refused a batch that was sent on `connection`.
    pub(crate) fn refused(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        correlation: u64,
        error: ApiError,
    ) -> Resolutions {
        let mut resolutions = Resolutions::default();
        self.metadata_is_stale |= wants_metadata(&error);
        let random = (self.random)();
        let backoff = self.rules.backoff;
        if let Some(pipeline) = self.pipeline_of(correlation) {
            let wait = backoff.wait_after(&error, pipeline.failures() + 1, random);
            let finished = pipeline.refused(connection, correlation, error, now + wait);
            self.finish(finished, None, &mut resolutions);
        }
        resolutions
    }

    /// A connection is gone. `carried` says whether it ever carried anything.
    pub(crate) fn disconnected(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        error: &ApiError,
        carried: bool,
    ) -> Resolutions {
        let mut resolutions = Resolutions::default();
        self.metadata_is_stale = true;
        self.brokers.remove(&connection);
        let lanes: Vec<Lane> = self.active.iter().copied().collect();
        for lane in lanes {
            let random = (self.random)();
            let backoff = self.rules.backoff;
            let pipeline = self.pipeline(lane);
            let wait = backoff.wait_after(error, pipeline.failures() + 1, random);
            let finished = pipeline.disconnected(connection, error, carried, now + wait);
            self.finish(finished, None, &mut resolutions);
        }
        resolutions
    }

    fn finish(
        &mut self,
        finished: Vec<Finished>,
        stored: Option<Stored>,
        resolutions: &mut Resolutions,
    ) {
        for batch in finished {
            self.correlations.remove(&batch.correlation);
            self.accumulator.release(batch.buffered_bytes);
            let result = match (batch.error, stored) {
                (None, Some(stored)) => Ok(stored),
                (error, _) => Err(error.unwrap_or(Error::Closed)),
            };
            if let Err(error) = &result {
                self.failure.get_or_insert_with(|| error.clone());
            }
            resolutions.add(batch.outcome, result);
        }
    }

    fn fail_gathered(&mut self, batch: Gathered, error: Error, resolutions: &mut Resolutions) {
        self.accumulator.release(batch.buffered_bytes);
        self.failure.get_or_insert_with(|| error.clone());
        resolutions.add(batch.outcome, Err(error));
    }

    fn abandon_topic(&mut self, place: usize, error: &Error, resolutions: &mut Resolutions) {
        for partition in (0..).take(self.topics[place].pipelines.len()) {
            let lane = Lane {
                topic: place,
                partition,
            };
            let finished = self.pipeline(lane).abandon(error);
            self.finish(finished, None, resolutions);
            self.accumulator.complete(lane);
            while let Some(batch) = self.accumulator.take_complete(lane) {
                self.fail_gathered(batch, error.clone(), resolutions);
            }
        }
    }

    fn pipeline(&mut self, lane: Lane) -> &mut Pipeline {
        &mut self.topics[lane.topic].pipelines[lane.partition as usize]
    }

    fn pipeline_of(&mut self, correlation: u64) -> Option<&mut Pipeline> {
        let lane = *self.correlations.get(&correlation)?;
        Some(self.pipeline(lane))
    }
}

pub(crate) fn no_such_partition(topic: &str, partition: u32, partitions: u32) -> Error {
    Error::Partition {
        topic: topic.into(),
        partition,
        source: ApiError::new(
            Reason::UnknownTopicOrPartition,
            format!("the topic has {partitions} partitions, numbered from 0"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use highwater_proto::batch::{BatchHeader, Compression};
    use highwater_proto::{ProducerEpoch, ProducerId, v1};
    use uuid::Uuid;

    use super::*;
    use crate::producer::plan::{Body, Plan};

    const LINGER: Duration = Duration::from_millis(5);
    const CONNECTION: ConnectionId = ConnectionId(1);
    const IDENTITY: Identity = Identity {
        id: ProducerId(7),
        epoch: ProducerEpoch(0),
    };

    fn topic_id(byte: u8) -> TopicId {
        TopicId(Uuid::from_bytes([byte; 16]))
    }

    fn metadata(id: u8, partitions: u32) -> Metadata {
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
                    topic_id: Bytes::from(vec![id; 16]),
                    partitions: (0..partitions)
                        .map(|partition| v1::PartitionMetadata {
                            partition,
                            leader_broker_id: Some(1),
                            leader_epoch: 1,
                            replica_broker_ids: vec![1],
                        })
                        .collect(),
                }],
                ..v1::ClusterMetadata::default()
            },
        );
        metadata
    }

    fn core(partitions: u32) -> Core {
        let rules = Rules {
            gathering: Gathering {
                batch_bytes: 200,
                max_batch_bytes: 1_000,
                linger: LINGER,
                buffer_bytes: 1_000,
            },
            max_in_flight: 5,
            numbering: Numbering::On,
            delivery_timeout: Duration::from_secs(120),
            request_timeout: Duration::from_secs(30),
            backoff: Backoff::default(),
        };
        let mut core = Core::new(rules, Box::new(|| 0));
        core.learn("t", topic_id(1), partitions).resolve();
        core
    }

    fn append(core: &mut Core, now: Instant, value: &[u8]) -> Arc<Outcome> {
        let record = NewRecord {
            value: Some(value),
            ..NewRecord::default()
        };
        core.append(|| now, "t", None, &record).unwrap().outcome
    }

    fn poll(core: &mut Core, now: Instant) -> Plan {
        core.poll(now, &metadata(1, 4), &mut |_, _| Some(CONNECTION))
    }

    /// Encodes what is sent, as the task does; the correlations and headers.
    fn encode(core: &mut Core, plan: Plan) -> Vec<(u64, BatchHeader)> {
        let mut sent = Vec::new();
        for send in plan.sends {
            let payload = match send.body {
                Body::Gathered(mut builder, stamp) => {
                    let payload = builder.finish(Compression::None, stamp).unwrap();
                    core.encoded(send.correlation, payload.clone(), Some(builder));
                    payload
                }
                Body::Encoded(payload) => payload,
                Body::Restamp(payload, stamp) => {
                    let mut payload = payload.to_vec();
                    highwater_proto::batch::set_producer(&mut payload, Some(stamp)).unwrap();
                    Bytes::from(payload)
                }
            };
            sent.push((send.correlation, BatchHeader::parse(&payload).unwrap()));
        }
        sent
    }

    fn stored(base_offset: u64) -> Stored {
        Stored {
            base_offset,
            log_append_time_ms: None,
        }
    }

    #[tokio::test]
    async fn a_record_is_sent_after_its_linger_and_resolves_when_stored() {
        let mut core = core(1);
        let now = Instant::now();
        core.identify(IDENTITY);
        let outcome = append(&mut core, now, b"x");
        let plan = poll(&mut core, now);
        assert!(plan.sends.is_empty());
        assert_eq!(plan.wake_at, Some(now + LINGER));
        let plan = poll(&mut core, now + LINGER);
        let sent = encode(&mut core, plan);
        assert_eq!(sent[0].1.producer.unwrap().id, IDENTITY.id);
        core.acknowledged(sent[0].0, stored(42)).resolve();
        assert_eq!(outcome.done().await.unwrap(), stored(42));
        assert_eq!(core.buffered_bytes(), 0);
        let plan = poll(&mut core, now + LINGER);
        assert!(plan.wake_at.is_none() && core.active.is_empty());
    }

    #[test]
    fn nothing_is_sent_without_an_identity() {
        let mut core = core(1);
        let now = Instant::now();
        append(&mut core, now, b"x");
        assert!(!poll(&mut core, now).wants_identity);
        let plan = poll(&mut core, now + LINGER);
        assert!(plan.wants_identity && plan.sends.is_empty());
        core.identify(IDENTITY);
        assert_eq!(poll(&mut core, now + LINGER).sends.len(), 1);
    }

    #[test]
    fn a_partition_without_a_leader_asks_for_metadata() {
        let mut core = core(1);
        let now = Instant::now();
        core.identify(IDENTITY);
        append(&mut core, now, b"x");
        let plan = core.poll(now + LINGER, &Metadata::default(), &mut |_, _| {
            panic!("nobody to connect to")
        });
        assert!(plan.wants_metadata && plan.sends.is_empty());
    }

    #[test]
    fn a_busy_connection_keeps_records_gathering() {
        let mut core = core(1);
        let now = Instant::now();
        core.identify(IDENTITY);
        append(&mut core, now, b"x");
        let plan = core.poll(now + LINGER, &metadata(1, 1), &mut |_, _| None);
        assert!(plan.sends.is_empty());
        append(&mut core, now + LINGER, b"y");
        let plan = poll(&mut core, now + LINGER);
        assert_eq!(encode(&mut core, plan)[0].1.record_count, 2);
    }

    #[test]
    fn keys_and_explicit_partitions_decide_and_the_rest_fills_batches() {
        let mut core = core(4);
        let now = Instant::now();
        let mut partition = |partition, key| {
            let record = NewRecord {
                key,
                value: Some(&[0; 90]),
                ..NewRecord::default()
            };
            let appended = core.append(|| now, "t", partition, &record).unwrap();
            crate::producer::Delivery::new(appended.outcome, 0, 0).partition()
        };
        assert_eq!(partition(None, Some(&b"foobar"[..])), 2);
        assert_eq!(partition(Some(3), Some(&b"foobar"[..])), 3);
        assert_eq!(partition(None, None), 0);
        // The second fills no batch of 200 bytes with the first: it completes it, and the next goes elsewhere.
        assert_eq!(partition(None, None), 0);
        assert_eq!(partition(None, None), 1);
    }

    #[test]
    fn a_partition_that_does_not_exist_is_named() {
        let mut core = core(4);
        let error = core.append(Instant::now, "t", Some(4), &NewRecord::default());
        let Err(NotAppended::Failed(error)) = error else {
            panic!("{error:?}");
        };
        assert_eq!(error.reason(), Reason::UnknownTopicOrPartition);
        let unknown = core.append(Instant::now, "u", None, &NewRecord::default());
        assert!(matches!(unknown, Err(NotAppended::UnknownTopic)));
    }

    #[tokio::test]
    async fn a_lost_connection_sends_the_same_batch_again_after_a_wait() {
        let mut core = core(1);
        let now = Instant::now();
        core.identify(IDENTITY);
        let outcome = append(&mut core, now, b"x");
        let now = now + LINGER;
        let plan = poll(&mut core, now);
        let first = encode(&mut core, plan);
        let lost = ApiError::new(Reason::NetworkException, "reset");
        core.disconnected(now, CONNECTION, &lost, true).resolve();
        let plan = poll(&mut core, now);
        assert!(plan.sends.is_empty() && plan.wants_metadata);
        let plan = poll(&mut core, plan.wake_at.unwrap());
        let second = encode(&mut core, plan);
        assert_eq!(first, second);
        core.acknowledged(second[0].0, stored(0)).resolve();
        outcome.done().await.unwrap();
    }

    #[test]
    fn an_overdue_answer_reports_its_connection() {
        let mut core = core(1);
        let now = Instant::now();
        core.identify(IDENTITY);
        append(&mut core, now, b"x");
        let plan = poll(&mut core, now + LINGER);
        encode(&mut core, plan);
        let plan = poll(&mut core, now + LINGER + Duration::from_secs(30));
        assert_eq!(plan.hung, [CONNECTION]);
    }

    #[test]
    fn an_answer_that_takes_long_makes_the_producer_ask_who_leads() {
        let mut core = core(1);
        let now = Instant::now();
        core.identify(IDENTITY);
        append(&mut core, now, b"x");
        let sent_at = now + LINGER;
        let plan = poll(&mut core, sent_at);
        assert!(!plan.wants_metadata);
        assert_eq!(plan.wake_at, Some(sent_at + ANSWER_PATIENCE));
        encode(&mut core, plan);
        assert!(poll(&mut core, sent_at + ANSWER_PATIENCE).wants_metadata);
        let plan = poll(&mut core, sent_at + ANSWER_PATIENCE);
        assert!(!plan.wants_metadata);
        assert_eq!(plan.wake_at, Some(sent_at + 2 * ANSWER_PATIENCE));
    }

    #[tokio::test]
    async fn a_record_that_was_never_sent_expires_definitely() {
        let mut core = core(1);
        let now = Instant::now();
        let outcome = append(&mut core, now, b"x");
        poll(&mut core, now + Duration::from_secs(119))
            .resolutions
            .resolve();
        poll(&mut core, now + Duration::from_secs(120))
            .resolutions
            .resolve();
        let error = outcome.done().await.unwrap_err();
        assert!(error.is_definite() && matches!(error, Error::DeliveryTimeout { .. }));
        assert_eq!(core.buffered_bytes(), 0);
        assert!(core.take_failure().is_some() && core.take_failure().is_none());
    }

    #[test]
    fn the_buffer_is_full_until_batches_are_acknowledged() {
        let mut core = core(1);
        let now = Instant::now();
        core.identify(IDENTITY);
        let record = NewRecord {
            value: Some(&[7; 150]),
            ..NewRecord::default()
        };
        while core.append(|| now, "t", None, &record).is_ok() {}
        let plan = poll(&mut core, now);
        let sent = encode(&mut core, plan);
        assert!(matches!(
            core.append(|| now, "t", None, &record),
            Err(NotAppended::Full { .. })
        ));
        core.acknowledged(sent[0].0, stored(0)).resolve();
        core.append(|| now, "t", None, &record).unwrap();
    }

    #[test]
    fn flushing_sends_at_once() {
        let mut core = core(4);
        let now = Instant::now();
        core.identify(IDENTITY);
        append(&mut core, now, b"x");
        assert_eq!(core.flush().len(), 1);
        assert_eq!(poll(&mut core, now).sends.len(), 1);
        assert_eq!(core.flush().len(), 1);
    }

    #[tokio::test]
    async fn batches_of_a_topic_made_again_fail() {
        let mut core = core(1);
        let now = Instant::now();
        let outcome = append(&mut core, now, b"x");
        core.learn_all(&metadata(2, 4)).resolve();
        let error = outcome.done().await.unwrap_err();
        assert_eq!(error.reason(), Reason::UnknownTopicId);
        append(&mut core, now, b"y");
    }

    #[tokio::test]
    async fn closing_fails_what_is_left_and_refuses_more() {
        let mut core = core(1);
        let outcome = append(&mut core, Instant::now(), b"x");
        core.close(Error::Closed).resolve();
        assert!(outcome.done().await.is_err());
        let refused = core.append(Instant::now, "t", None, &NewRecord::default());
        let Err(NotAppended::Failed(error)) = refused else {
            panic!("{refused:?}");
        };
        assert!(matches!(*error, Error::Closed));
    }

    #[tokio::test]
    async fn batches_behind_a_refused_one_are_renumbered_and_stored() {
        let mut core = core(1);
        let now = Instant::now();
        core.identify(IDENTITY);
        let outcomes = [b"a", b"b"].map(|value| {
            let outcome = append(&mut core, now, value);
            core.flush();
            outcome
        });
        let plan = poll(&mut core, now);
        let sent = encode(&mut core, plan);
        let refuse = |core: &mut Core, correlation, reason| {
            let error = ApiError::new(reason, "");
            core.refused(now, CONNECTION, correlation, error).resolve();
        };
        refuse(&mut core, sent[0].0, Reason::InvalidRecord);
        refuse(&mut core, sent[1].0, Reason::OutOfOrderSequenceNumber);
        assert!(outcomes[0].done().await.is_err());
        let later = now + Duration::from_secs(1);
        let plan = poll(&mut core, later);
        assert!(plan.wants_identity && plan.sends.is_empty());
        core.identify(Identity {
            id: ProducerId(8),
            ..IDENTITY
        });
        let plan = poll(&mut core, later);
        let again = encode(&mut core, plan);
        let stamp = again[0].1.producer.unwrap();
        assert_eq!((stamp.id.0, stamp.sequence.0), (8, 0));
        core.acknowledged(again[0].0, stored(5)).resolve();
        outcomes[1].done().await.unwrap();
    }
}
