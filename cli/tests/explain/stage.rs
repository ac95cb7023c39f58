//! Brokers in this process, members that do what the test wants, and the command line asked about them.

use std::net::TcpListener;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use highwater_broker::{Broker, BrokerBuilder, Config};
use highwater_client::{Admin, Client, NewTopic, Record};
use highwater_proto::v1;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use v1::groups_service_client::GroupsServiceClient;

/// What is waited for takes less than this, or never comes.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the command prints as JSON.
pub(crate) async fn run(address: &str, arguments: &[&str]) -> Value {
    let output = attempt(address, arguments).await;
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What the command prints, whether it succeeds or not.
pub(crate) async fn attempt(address: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    command.args(["--brokers", address, "--format", "json"]);
    command.args(arguments).env_remove("HIGHWATER_LOG");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    output.await.unwrap()
}

/// The line that `arguments` print of a topic's partition, or of no topic, or of a member.
fn find<'a>(lines: &'a Value, topic: Option<&str>, partition: Option<u64>) -> Option<&'a Value> {
    lines
        .as_array()
        .unwrap()
        .iter()
        .find(|line| line["topic"].as_str() == topic && line["partition"].as_u64() == partition)
}

/// Asks again and again until the line has this cause; its explanation.
pub(crate) async fn until(
    address: &str,
    arguments: &[&str],
    place: (Option<&str>, Option<u64>),
    cause: &str,
) -> String {
    until_says(address, arguments, place, cause, &[]).await
}

/// The same, until the explanation holds these words, too.
pub(crate) async fn until_says(
    address: &str,
    arguments: &[&str],
    (topic, partition): (Option<&str>, Option<u64>),
    cause: &str,
    words: &[&str],
) -> String {
    let give_up_at = Instant::now() + PATIENCE;
    loop {
        let lines = run(address, arguments).await;
        let line = find(&lines, topic, partition);
        if let Some(line) = line.filter(|line| line["cause"] == cause) {
            let said = line["explanation"].as_str().unwrap();
            if words.iter().all(|words| said.contains(words)) {
                return said.to_owned();
            }
        }
        assert!(
            Instant::now() < give_up_at,
            "no {cause} {words:?} in {lines:#}"
        );
    }
}

/// Looks again and again until something is found.
pub(crate) async fn seek<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let give_up_at = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < give_up_at, "it is not found");
    }
}

/// What is said of the partitions of a group's topic once this is the cause.
pub(crate) async fn of_group(address: &str, group: &str, partition: u64, cause: &str) -> String {
    let place = (Some("t"), Some(partition));
    until(address, &["group", "explain", group], place, cause).await
}

/// The same of a topic.
pub(crate) async fn of_topic(address: &str, partition: u64, cause: &str) -> String {
    let place = (Some("t"), Some(partition));
    until(address, &["topic", "explain", "t"], place, cause).await
}

/// One broker in memory.
pub(crate) struct Stage {
    pub(crate) broker: Broker,
    pub(crate) admin: Admin,
    pub(crate) client: Client,
}

impl Stage {
    pub(crate) async fn start(builder: BrokerBuilder) -> Self {
        let builder = builder.configure(|config| {
            config.shards.threads = 1;
            config.groups.coordinators = 1;
            config.groups.heartbeat_interval_ms = 200;
        });
        let broker = builder.start().await.unwrap();
        let client = Client::connect(broker.address()).await.unwrap();
        Self {
            admin: client.admin(),
            broker,
            client,
        }
    }

    /// With the topic `t` of so many partitions and these records in the first.
    pub(crate) async fn with_topic(partitions: u32, values: &[&str]) -> Self {
        let stage = Self::start(Broker::builder().in_memory()).await;
        stage.create(partitions).await;
        stage.produce(values).await;
        stage
    }

    pub(crate) async fn create(&self, partitions: u32) {
        let topic = NewTopic::new("t").partitions(partitions);
        self.admin.create_topic(topic).await.unwrap();
    }

    pub(crate) fn address(&self) -> String {
        self.broker.address().to_owned()
    }

    /// Appends to the first partition of `t`.
    pub(crate) async fn produce(&self, values: &[&str]) {
        let producer = self.client.producer().build().unwrap();
        for value in values {
            let record = Record::to("t").partition(0).value(*value);
            drop(producer.send(record).await.unwrap());
        }
        producer.close().await.unwrap();
    }

    pub(crate) async fn channel(&self) -> Channel {
        let address = format!("http://{}", self.address());
        Endpoint::from_shared(address).unwrap().connect_lazy()
    }
}

/// A member that sends the heartbeats it is told to, and no others.
pub(crate) struct Member {
    channel: Channel,
    request: v1::HeartbeatRequest,
}

impl Member {
    /// Joins, and takes what it is given.
    pub(crate) async fn join(stage: &Stage, id: &str, wanted: v1::Subscription) -> Self {
        Self::join_as(stage, id, wanted, |_| ()).await
    }

    pub(crate) async fn join_as(
        stage: &Stage,
        id: &str,
        wanted: v1::Subscription,
        change: impl FnOnce(&mut v1::HeartbeatRequest),
    ) -> Self {
        let mut member = Self {
            channel: stage.channel().await,
            request: v1::HeartbeatRequest {
                group_id: "g".to_owned(),
                member_id: id.to_owned(),
                client_id: "program".to_owned(),
                subscription: Some(wanted),
                ..Default::default()
            },
        };
        change(&mut member.request);
        member.follow().await;
        member.request.subscription = None;
        member
    }

    /// Sends a heartbeat, and owns what is answered.
    pub(crate) async fn follow(&mut self) {
        if let Some(assignment) = self.beat().await {
            self.request.owned = assignment.partitions;
        }
    }

    /// Sends a heartbeat, and keeps what it owns.
    pub(crate) async fn beat(&mut self) -> Option<v1::Assignment> {
        let give_up_at = Instant::now() + PATIENCE;
        loop {
            let mut groups = GroupsServiceClient::new(self.channel.clone());
            match groups.heartbeat(self.request.clone()).await {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    self.request.member_epoch = answer.member_epoch;
                    return answer.assignment;
                }
                Err(refused) => assert!(Instant::now() < give_up_at, "{refused}"),
            }
        }
    }

    /// Lets everything go but this partition.
    pub(crate) fn keep_only(&mut self, partition: u32) {
        for of_topic in &mut self.request.owned {
            of_topic.partitions.retain(|owned| *owned == partition);
        }
    }

    /// Leaves for a while.
    pub(crate) async fn leave_for_a_while(mut self) {
        self.request.member_epoch = -2;
        self.request.owned.clear();
        self.beat().await;
    }
}

pub(crate) fn topics(names: &[&str]) -> v1::Subscription {
    v1::Subscription {
        topics: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    }
}

/// What brokers reach each other through. Dropping it leaves each of them alone; clients reach them as before.
pub(crate) struct Passages {
    ports: Vec<u16>,
    _serving: JoinSet<()>,
}

impl Passages {
    /// One to each of these ports.
    async fn to(ports: &[u16]) -> Self {
        let mut passages = Self {
            ports: Vec::new(),
            _serving: JoinSet::new(),
        };
        for port in ports.iter().copied() {
            let entrance = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            passages.ports.push(entrance.local_addr().unwrap().port());
            passages._serving.spawn(pass(entrance, port));
        }
        passages
    }
}

/// Passes on to this port what comes in.
async fn pass(entrance: tokio::net::TcpListener, port: u16) {
    let mut connections = JoinSet::new();
    loop {
        let (mut outside, _) = entrance.accept().await.unwrap();
        connections.spawn(async move {
            // Whoever came in is cut off where nobody listens.
            if let Ok(mut inside) = TcpStream::connect(("127.0.0.1", port)).await {
                drop(copy_bidirectional(&mut outside, &mut inside).await);
            }
        });
    }
}

/// Three brokers of one cluster.
pub(crate) struct Cluster {
    /// Where they listen for each other.
    ports: Vec<u16>,
    /// Where they are told to be.
    seeds: Vec<u16>,
    directories: Vec<TempDir>,
    brokers: Vec<Option<Broker>>,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_, _| ()).await
    }

    /// With a configuration that `change` makes of the usual one, by the number of the broker.
    pub(crate) async fn start_with(change: impl Fn(usize, &mut Config)) -> Self {
        let ports = free_ports();
        Self::start_at(ports.clone(), ports, change).await
    }

    /// With passages from each broker to the others.
    pub(crate) async fn start_with_passages() -> (Self, Passages) {
        let ports = free_ports();
        let passages = Passages::to(&ports).await;
        let seeds = passages.ports.clone();
        (Self::start_at(ports, seeds, |_, _| ()).await, passages)
    }

    async fn start_at(
        ports: Vec<u16>,
        seeds: Vec<u16>,
        change: impl Fn(usize, &mut Config),
    ) -> Self {
        let mut cluster = Self {
            ports,
            seeds,
            directories: (0..3).map(|_| tempfile::tempdir().unwrap()).collect(),
            brokers: Vec::new(),
        };
        let starts = (0..3).map(|at| {
            let builder = cluster.builder(at);
            builder.configure(|config| change(at + 1, config)).start()
        });
        let started = futures::future::join_all(starts).await;
        cluster.brokers = started
            .into_iter()
            .map(|broker| Some(broker.unwrap()))
            .collect();
        cluster
    }

    fn builder(&self, at: usize) -> BrokerBuilder {
        let seeds = self.seeds.iter().enumerate();
        let seeds = seeds.map(|(at, port)| format!("{}@127.0.0.1:{port}", at + 1));
        Broker::builder()
            .broker_id(u32::try_from(at + 1).unwrap())
            .data_dir(self.directories[at].path().join("data"))
            .peer_address(format!("127.0.0.1:{}", self.ports[at]))
            .seeds(seeds.collect::<Vec<_>>().join(","))
            .configure(|config| {
                config.server.peer.advertised = format!("127.0.0.1:{}", self.seeds[at]);
                config.shards.threads = 1;
                config.groups.coordinators = 1;
                config.storage.journal_file_bytes = 1 << 20;
                config.storage.reserve_bytes = 0;
                config.storage.min_free_bytes = 0;
            })
    }

    /// Of the brokers that run.
    pub(crate) fn addresses(&self) -> String {
        let running = self.brokers.iter().flatten();
        let addresses: Vec<_> = running.map(Broker::address).collect();
        addresses.join(",")
    }

    /// Of these brokers, which run.
    pub(crate) fn addresses_of(&self, brokers: &[usize]) -> String {
        let running = brokers.iter().map(|broker| &self.brokers[broker - 1]);
        let addresses: Vec<_> = running.flatten().map(Broker::address).collect();
        addresses.join(",")
    }

    pub(crate) async fn stop(&mut self, broker: usize) {
        let broker = self.brokers[broker - 1].take().unwrap();
        broker.shutdown().await;
    }

    pub(crate) async fn restart(&mut self, broker: usize) {
        let started = self.builder(broker - 1).start().await.unwrap();
        self.brokers[broker - 1] = Some(started);
    }
}

/// Three ports that nobody listens at.
fn free_ports() -> Vec<u16> {
    let listeners: Vec<_> = (0..3)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let ports = listeners
        .iter()
        .map(|listener| listener.local_addr().unwrap().port());
    ports.collect()
}
