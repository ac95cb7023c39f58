//! Brokers in one process that meet over loopback.

mod lanes;
mod strangers;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use highwater_proto::{BrokerId, TopicId};
use highwater_storage::{Offset, RaftIndex, StagedFrom, Staging, Term};
use raft::eraftpb::{Message, MessageType};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::liveness::Pulse;
use super::shared::Asked;
use super::{Address, Groups, Me, PEER_LISTENER, Peers, PeersSpec, serve};
use crate::config::Config;
use crate::controller::{
    ClusterImage, ClusterView, Command, ControllerReplica, CreateTopic, Limits, Listener as Named,
    Registration,
};
use crate::metrics;
use crate::partition::Leaderships;
use crate::raft::machine::{CommittedEntry, Decision, EntryKind, Machine as _, Timestamp};
use crate::raft::{
    Error as RaftError, GroupId, Leadership, PeerMessage, Pulled, ReplicaId, SeedingProgress,
    Source, SourceRefusal,
};
use crate::server::Listener;

/// Only what never happens takes so long.
const PATIENCE: Duration = Duration::from_secs(20);
const CLUSTER: Uuid = Uuid::from_u128(99);
const TOPIC: TopicId = TopicId(Uuid::from_u128(7));
const PARTITIONS: u32 = 500;

/// Stands for the shards of a broker.
#[derive(Debug, Default)]
struct Recorder {
    delivered: watch::Sender<Vec<PeerMessage>>,
    lost: watch::Sender<Vec<HashSet<ReplicaId>>>,
    pulse: Mutex<Pulse>,
}

impl Groups for Arc<Recorder> {
    fn deliver(&self, message: PeerMessage) {
        self.delivered.send_modify(|all| all.push(message));
    }

    fn lose_leaders(&self, replicas: HashSet<ReplicaId>) {
        self.lost.send_modify(|all| all.push(replicas));
    }

    fn greet_members(&self, _replicas: HashSet<ReplicaId>) {}

    fn pulse(&self) -> Pulse {
        self.pulse.lock().unwrap().clone()
    }

    fn source(
        &self,
        _group: GroupId,
        _replica: ReplicaId,
        _to: ReplicaId,
        _upto: RaftIndex,
    ) -> Asked<Result<Source, SourceRefusal>> {
        nobody_answers()
    }

    fn stage(
        &self,
        _group: GroupId,
        _replica: ReplicaId,
        _from: StagedFrom,
    ) -> Asked<Result<Staging, RaftError>> {
        nobody_answers()
    }

    fn pulled(&self, _pulled: Pulled) {}

    fn written_bytes(&self) -> u64 {
        0
    }

    fn seeding_goes_on(&self, _group: GroupId, _to: ReplicaId, _progress: SeedingProgress) {}

    fn seeding_failed(&self, _group: GroupId, _to: ReplicaId) {}
}

fn nobody_answers<T>() -> Asked<T> {
    tokio::sync::oneshot::channel().1
}

/// A broker without anything but its way to the others.
struct TestBroker {
    peers: Peers,
    groups: Arc<Recorder>,
    leaderships: Arc<Leaderships>,
    replica: ControllerReplica,
    view: Arc<ClusterView>,
    applied: u64,
    address: Address,
    tasks: Vec<JoinHandle<()>>,
    /// Cuts connections and ends tasks.
    stop: DropGuard,
}

/// How a test broker is.
#[derive(Clone, Debug)]
struct Spec {
    id: u32,
    run_id: u64,
    cluster_id: Option<Uuid>,
    /// Where it listens.
    address: String,
    config: Config,
}

impl Spec {
    fn of(id: u32) -> Self {
        let mut config = Config::default();
        // Short intervals, and as much patience as before: other tests use the processors, too.
        config.cluster.heartbeat_interval_ms = 20;
        config.cluster.missed_heartbeats = 100;
        Self {
            id,
            run_id: u64::from(id),
            cluster_id: Some(CLUSTER),
            address: "127.0.0.1:0".to_owned(),
            config,
        }
    }
}

impl TestBroker {
    async fn start(spec: Spec) -> Self {
        let stop = CancellationToken::new();
        let listener = Listener::new("peer", 64, stop.clone());
        let listener = listener.bind(spec.address.parse().unwrap()).await.unwrap();
        let bound = listener.address().unwrap().unwrap();
        let leaderships = Arc::<Leaderships>::default();
        let peers = Peers::new(PeersSpec {
            config: &spec.config,
            me: Me {
                broker: BrokerId(spec.id),
                incarnation_id: incarnation(spec.id),
                run_id: spec.run_id,
                feature_level: 1,
                seeds: String::new(),
                was_empty: false,
            },
            cluster_id: spec.cluster_id,
            is_reachable: true,
            tls: None,
            leaderships: Arc::clone(&leaderships),
            metrics: metrics::Peers::default(),
        });
        let groups = Arc::<Recorder>::default();
        let view = Arc::new(ClusterView::default());
        let services = peers.services(Arc::clone(&groups));
        let running = peers
            .clone()
            .run(Arc::clone(&groups), Arc::clone(&view), stop.clone());
        let tasks = vec![
            tokio::spawn(serve(listener, services, peers.counting(), stop.clone())),
            tokio::spawn(running),
        ];
        Self {
            peers,
            groups,
            leaderships,
            replica: ControllerReplica::new(&[], Limits::default(), Arc::clone(&view)).unwrap(),
            view,
            applied: 0,
            address: Address {
                host: bound.ip().to_string(),
                port: bound.port(),
            },
            tasks,
            stop: stop.drop_guard(),
        }
    }

    /// Ends everything, as a process that dies does.
    async fn end(self) {
        drop(self.stop);
        for task in self.tasks {
            task.await.unwrap();
        }
    }

    fn id(&self) -> BrokerId {
        self.peers.me().broker
    }

    fn image(&self) -> Arc<ClusterImage> {
        self.view.image()
    }

    /// Has this broker's image take in what `commands` do.
    fn apply(&mut self, commands: impl IntoIterator<Item = Command>) {
        for command in commands {
            let next = RaftIndex(self.applied + 1);
            let decision = self.replica.decide(command, next, Timestamp(0)).unwrap();
            let Decision::Propose { entries, .. } = decision else {
                continue;
            };
            for entry in entries {
                self.applied += 1;
                let index = RaftIndex(self.applied);
                self.replica.proposed(index, &entry);
                let committed = CommittedEntry {
                    index,
                    term: Term(1),
                    kind: EntryKind::Events,
                    base_offset: Offset(0),
                    record_count: 0,
                    max_timestamp_ms: -1,
                    data: entry.data,
                };
                self.replica.apply(&committed).unwrap();
            }
        }
        self.replica.publish();
    }

    /// Sends one message as a shard would.
    fn send(&self, messages: Vec<PeerMessage>) {
        self.peers.transport().send(messages);
    }

    /// The replicas of the test topic on `broker`, by group.
    fn replicas_on(&self, broker: BrokerId) -> BTreeMap<GroupId, ReplicaId> {
        let image = self.image();
        let partitions = &image.topic(TOPIC).unwrap().partitions;
        partitions
            .iter()
            .filter_map(|partition| Some((partition.group, partition.replica_on(broker)?.id)))
            .collect()
    }

    /// A message of this kind in each group of the test topic, to `broker`.
    fn messages_to(&self, broker: BrokerId, kind: MessageType) -> Vec<PeerMessage> {
        let (own, others) = (self.replicas_on(self.id()), self.replicas_on(broker));
        own.into_iter()
            .map(|(group, from)| message(kind, group, from, others[&group]))
            .collect()
    }

    async fn knows_leader(&self, group: GroupId, replica: ReplicaId) {
        let mut versions = self.leaderships.watch();
        let known = versions.wait_for(|_| {
            let leader = self.peers.leaders().get(group);
            leader.is_some_and(|leader| leader.replica == replica)
        });
        in_time(known).await.unwrap();
    }

    async fn sees_up(&self, expected: &[u32]) {
        let expected: BTreeSet<_> = expected.iter().map(|id| BrokerId(*id)).collect();
        let mut up = self.peers.liveness();
        in_time(up.wait_for(|up| **up == expected)).await.unwrap();
    }

    /// The messages that arrived, once there are `count`.
    async fn receives(&self, count: usize) -> Vec<PeerMessage> {
        let mut delivered = self.groups.delivered.subscribe();
        let all = in_time(delivered.wait_for(|all| all.len() >= count)).await;
        all.unwrap().clone()
    }

    /// What was refused so far for this cause.
    fn refused(&self, cause: &str) -> u64 {
        let counter = &self.peers.shared.metrics.refused;
        counter.with_label_values(&[cause]).get()
    }
}

fn message(kind: MessageType, group: GroupId, from: ReplicaId, to: ReplicaId) -> PeerMessage {
    let mut message = Message {
        from: from.0,
        to: to.0,
        term: 3,
        ..Message::default()
    };
    message.set_msg_type(kind);
    PeerMessage { group, message }
}

fn incarnation(id: u32) -> Uuid {
    Uuid::from_u128(u128::from(id))
}

fn registration(id: u32, address: &Address) -> Registration {
    Registration {
        id: BrokerId(id),
        incarnation_id: incarnation(id),
        listeners: vec![Named {
            name: PEER_LISTENER.to_owned(),
            host: address.host.clone(),
            port: address.port,
        }],
        rack: None,
        start: crate::controller::Start::default(),
        lost_controller_replica: None,
        is_set_back: false,
    }
}

/// What makes a cluster of these brokers, with a topic on all of them.
fn commands(brokers: &[&TestBroker]) -> Vec<Command> {
    let register = |broker: &&TestBroker| registration(broker.id().0, &broker.address);
    let mut registrations = brokers.iter().map(register);
    let founder = registrations.next().unwrap();
    let mut commands = vec![Command::Found {
        cluster_id: CLUSTER,
        feature_level: 1,
        founder,
    }];
    commands.extend(registrations.map(Command::RegisterBroker));
    commands.push(Command::CreateTopic(CreateTopic {
        topic_id: TOPIC,
        name: "t".to_owned(),
        partitions: Some(PARTITIONS),
        replication_factor: Some(u32::try_from(brokers.len()).unwrap()),
        configs: BTreeMap::new(),
        avoid: BTreeSet::new(),
        validate_only: false,
    }));
    commands
}

/// Two brokers of one cluster.
async fn pair() -> (TestBroker, TestBroker) {
    pair_of(Spec::of(1), Spec::of(2)).await
}

async fn pair_of(a: Spec, b: Spec) -> (TestBroker, TestBroker) {
    let (mut a, mut b) = (TestBroker::start(a).await, TestBroker::start(b).await);
    let commands = commands(&[&a, &b]);
    a.apply(commands.clone());
    b.apply(commands);
    (a, b)
}

fn leadership(group: GroupId, term: u64, replica: ReplicaId) -> Leadership {
    Leadership {
        group,
        term: Term(term),
        replica,
        in_sync: vec![replica],
    }
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("in time")
}
