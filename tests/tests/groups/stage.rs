//! A broker in memory, and what the tests do to it.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use highwater_broker::{Broker, BrokerBuilder, Config};
use highwater_client::{
    Client, Commits, ConsumedRecord, GroupConsumer, GroupConsumerBuilder, NewTopic, Rebalance,
    Record,
};

pub(crate) const TOPIC: &str = "orders";
pub(crate) const GROUP: &str = "billing";
/// The shortest session that a member may ask for.
pub(crate) const SESSION: Duration = Duration::from_secs(1);
/// A rebalance timeout that a test can wait for.
pub(crate) const SHORT: Duration = Duration::from_millis(500);
/// Bytes of a batch.
const BATCH: usize = 1 << 10;
/// What is waited for takes less than this, or never comes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A broker and a client of it.
pub(crate) struct Stage {
    pub(crate) client: Client,
    _broker: Broker,
}

impl Stage {
    pub(crate) async fn new(partitions: u32) -> Self {
        Self::of(Broker::builder(), partitions).await
    }

    /// One whose members send a heartbeat so seldom that no test waits for the next.
    pub(crate) async fn with_rare_heartbeats(partitions: u32) -> Self {
        let rare = |config: &mut Config| {
            config.groups.session_timeout_ms = config.groups.max_session_timeout_ms;
            config.groups.heartbeat_interval_ms = config.groups.session_timeout_ms;
        };
        Self::of(Broker::builder().configure(rare), partitions).await
    }

    async fn of(broker: BrokerBuilder, partitions: u32) -> Self {
        let broker = broker.in_memory().without_ports();
        let broker = broker.start().await.unwrap();
        let client = Client::builder().connector(broker.connector());
        let client = client.connect(broker.address()).await.unwrap();
        let stage = Self {
            client,
            _broker: broker,
        };
        stage.topic(TOPIC, partitions).await;
        stage
    }

    /// One whose topic has records with these keys in each of its partitions.
    pub(crate) async fn filled(partitions: u32, keys: &[&str]) -> Self {
        let stage = Self::new(partitions).await;
        for partition in 0..partitions {
            stage.produce(partition, keys).await;
        }
        stage
    }

    pub(crate) async fn topic(&self, name: &str, partitions: u32) {
        let topic = NewTopic::new(name).partitions(partitions);
        self.client.admin().create_topic(topic).await.unwrap();
    }

    /// Puts records with these keys into a partition, in batches that are small.
    pub(crate) async fn produce(&self, partition: u32, keys: &[&str]) {
        let producer = self.client.producer().batch_bytes(BATCH).build().unwrap();
        for key in keys {
            let record = Record::to(TOPIC).partition(partition).key(*key).value("x");
            drop(producer.send(record).await.unwrap());
        }
        producer.close().await.unwrap();
    }

    pub(crate) fn group(&self) -> GroupConsumerBuilder {
        self.client.consumer().group(GROUP).topics([TOPIC])
    }

    /// The same for a member whose share of the partitions is noted.
    pub(crate) fn group_noted(&self, diary: &Diary, member: &'static str) -> GroupConsumerBuilder {
        self.group().on_rebalance(diary.listener(member))
    }

    pub(crate) async fn member(&self) -> GroupConsumer {
        self.group().build().await.unwrap()
    }

    /// The committed offset of each partition that has one.
    pub(crate) async fn committed(&self) -> Vec<(u32, u64)> {
        let offsets = self.client.admin().group_offsets(GROUP).await.unwrap();
        let offsets = offsets.into_iter().map(|committed| {
            let partition = committed.partition.unwrap().partition;
            (partition, committed.offset.unwrap())
        });
        offsets.collect()
    }

    /// How many members the group has.
    pub(crate) async fn members(&self) -> usize {
        let admin = self.client.admin();
        admin.describe_group(GROUP).await.unwrap().members.len()
    }
}

/// What happened, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    pub(crate) fn note(&self, what: impl Into<String>) {
        self.pages().push(what.into());
    }

    pub(crate) fn pages(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap()
    }

    /// Where something stands, if it happened.
    pub(crate) fn place(&self, what: &str) -> Option<usize> {
        self.pages().iter().position(|page| page == what)
    }

    /// A listener that notes what happens to each partition of a member.
    fn listener(
        &self,
        member: &'static str,
    ) -> impl FnMut(&Rebalance, &mut Commits<'_>) + Send + use<> {
        let diary = self.clone();
        move |rebalance, _| {
            let (what, partitions) = match rebalance {
                Rebalance::Assigned(partitions) => ("assigned", partitions),
                Rebalance::Revoked(partitions) => ("revoked", partitions),
                Rebalance::Lost(partitions) => ("lost", partitions),
            };
            for each in partitions {
                diary.note(format!("{member} {what} {}", each.partition));
            }
        }
    }
}

/// Receives so many records.
pub(crate) async fn receive(consumer: &mut GroupConsumer, count: usize) -> Vec<ConsumedRecord> {
    let mut records = Vec::new();
    for _ in 0..count {
        records.push(in_time("a record", consumer.recv()).await.unwrap());
    }
    records
}

/// Partitions and offsets of records.
pub(crate) fn places(records: &[ConsumedRecord]) -> Vec<(u32, u64)> {
    let places = records
        .iter()
        .map(|record| (record.partition, record.offset));
    places.collect()
}

pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, future).await;
    waited.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Looks until something is so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let give_up_at = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < give_up_at, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Lets a member do what it has to until something is so. It gets no record.
pub(crate) async fn turn_until(
    consumer: &mut GroupConsumer,
    what: &str,
    is_so: impl AsyncFnMut() -> bool,
) {
    tokio::select! {
        () = until(what, is_so) => {}
        record = consumer.recv() => panic!("there is nothing to receive: {record:?}"),
    }
}
