//! Which broker holds a replica, and where each broker is reached.
//!
//! The cluster's image says both. Before a broker has one it knows the addresses that it was given, and of the
//! controller group it learns from each message where its sender is.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use highwater_proto::BrokerId;
use tokio::sync::watch;
use uuid::Uuid;

use crate::config::Seed;
use crate::controller::{Broker, ClusterImage, Delta, Topic};
use crate::raft::{GroupId, ReplicaId};

/// Name of the listener that brokers use.
pub(crate) const PEER_LISTENER: &str = "peer";

/// Replicas of the controller group that are learned from messages and not known by an image. More come only from somebody
/// who is no broker.
const MAX_LEARNED: usize = 1024;

/// Where a broker listens for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// A name or an IP address.
    pub(crate) host: String,
    /// Port.
    pub(crate) port: u16,
}

/// Replicas and brokers, as far as they are known here.
#[derive(Debug)]
pub(crate) struct Routes {
    me: BrokerId,
    table: RwLock<Table>,
    /// Counts the changes of addresses.
    addresses_changed: watch::Sender<u64>,
}

/// See [`Routes`].
#[derive(Debug, Default)]
pub(super) struct Table {
    replicas: HashMap<ReplicaId, BrokerId>,
    /// Replicas of the controller group.
    controllers: HashMap<ReplicaId, BrokerId>,
    learned: HashMap<ReplicaId, BrokerId>,
    registered: HashMap<BrokerId, Registered>,
    given: HashMap<BrokerId, Address>,
    /// Numbers of the last starts of brokers that were ever heard of.
    starts: HashMap<BrokerId, u64>,
    /// Data directories of brokers that were removed from the cluster or replaced.
    retired: HashSet<Uuid>,
}

/// What the image says of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Registered {
    incarnation_id: Uuid,
    address: Option<Address>,
}

impl Address {
    /// Where a broker says that it listens for others.
    pub(crate) fn of(broker: &Broker) -> Option<Self> {
        let listener = broker
            .listeners
            .iter()
            .find(|listener| listener.name == PEER_LISTENER)?;
        Some(Self {
            host: listener.host.clone(),
            port: listener.port,
        })
    }
}

impl From<&Seed> for Address {
    fn from(seed: &Seed) -> Self {
        Self {
            host: seed.host.clone(),
            port: seed.port,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Routes {
    /// The routes of broker `me`, which knows nobody.
    pub(super) fn new(me: BrokerId) -> Self {
        Self {
            me,
            table: RwLock::default(),
            addresses_changed: watch::Sender::new(0),
        }
    }

    /// Where `broker` is reached as long as no image says it.
    pub(crate) fn set_address(&self, broker: BrokerId, address: Address) {
        self.write().given.insert(broker, address);
        self.addresses_changed.send_modify(|count| *count += 1);
    }

    /// Notes that a start of `broker` with this number, or a later one, has happened.
    pub(crate) fn note_start(&self, broker: BrokerId, number: u64) {
        self.write().note_start(broker, number);
    }

    /// Number of the last start of `broker` that was ever heard of; 0: none was.
    pub(super) fn known_start(&self, broker: BrokerId) -> u64 {
        self.read().starts.get(&broker).copied().unwrap_or_default()
    }

    /// Whether this data directory was that of a broker which was removed from the cluster or replaced.
    pub(super) fn is_retired(&self, incarnation_id: Uuid) -> bool {
        self.read().retired.contains(&incarnation_id)
    }

    /// Where `broker` is reached.
    pub(crate) fn address(&self, broker: BrokerId) -> Option<Address> {
        self.read().address(broker).cloned()
    }

    /// The broker that holds `replica`.
    pub(crate) fn broker_of(&self, replica: ReplicaId) -> Option<BrokerId> {
        self.read().broker_of(replica)
    }

    /// Takes over what changed from one image to the next, and says which groups are no more.
    pub(super) fn follow(&self, old: &ClusterImage, new: &ClusterImage) -> Vec<GroupId> {
        let delta = Delta::between(old, new);
        let mut table = self.write();
        let changed = delta.changed.iter().map(|topic| topic.id);
        for topic in changed.filter_map(|id| old.topic(id)) {
            table.remove(topic);
        }
        let mut gone = Vec::new();
        for topic in delta.gone.iter().filter_map(|id| old.topic(*id)) {
            table.remove(topic);
            gone.extend(topic.partitions.iter().map(|partition| partition.group));
        }
        for topic in &delta.changed {
            table.insert(topic);
        }
        if delta.brokers_changed {
            table.register(new);
            drop(table);
            self.addresses_changed.send_modify(|count| *count += 1);
        }
        gone
    }

    /// The changes of addresses from now on.
    pub(super) fn addresses_changed(&self) -> watch::Receiver<u64> {
        self.addresses_changed.subscribe()
    }

    /// All other brokers that can be reached.
    pub(crate) fn others(&self) -> BTreeMap<BrokerId, Address> {
        let table = self.read();
        let known = table.registered.keys().chain(table.given.keys());
        known
            .filter(|broker| **broker != self.me)
            .filter_map(|broker| Some((*broker, table.address(*broker)?.clone())))
            .collect()
    }

    /// The replicas that `broker` holds.
    pub(super) fn replicas_on(&self, broker: BrokerId) -> HashSet<ReplicaId> {
        let table = self.read();
        let all = table
            .replicas
            .iter()
            .chain(&table.controllers)
            .chain(&table.learned);
        all.filter(|(_, holder)| **holder == broker)
            .map(|(replica, _)| *replica)
            .collect()
    }

    /// Notes that replica `from` of the controller group is on `broker`, which sent a message of it. False when it is
    /// known to be elsewhere.
    pub(super) fn learn(&self, from: ReplicaId, broker: BrokerId) -> bool {
        let known = self.read().broker_of(from);
        if let Some(known) = known {
            return known == broker;
        }
        let mut table = self.write();
        if table.learned.len() >= MAX_LEARNED {
            table.learned.clear();
        }
        table.learned.insert(from, broker);
        true
    }

    /// The table, for many questions at once.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A panic while the lock was held leaves the maps whole.
    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// The broker that holds `replica`.
    pub(super) fn broker_of(&self, replica: ReplicaId) -> Option<BrokerId> {
        [&self.replicas, &self.controllers, &self.learned]
            .into_iter()
            .find_map(|table| table.get(&replica).copied())
    }

    /// Whether `broker` with this data directory is the one that the image knows.
    pub(super) fn is_registered(&self, broker: BrokerId, incarnation_id: Uuid) -> bool {
        let registered = self.registered.get(&broker);
        registered.is_some_and(|registered| registered.incarnation_id == incarnation_id)
    }

    fn address(&self, broker: BrokerId) -> Option<&Address> {
        let registered = self.registered.get(&broker);
        let registered = registered.and_then(|registered| registered.address.as_ref());
        registered.or_else(|| self.given.get(&broker))
    }

    fn note_start(&mut self, broker: BrokerId, number: u64) {
        let known = self.starts.entry(broker).or_default();
        *known = number.max(*known);
    }

    fn register(&mut self, image: &ClusterImage) {
        for broker in image.brokers() {
            self.note_start(broker.id, broker.start.number);
        }
        let registered = image.brokers().map(|broker| {
            let registered = Registered {
                incarnation_id: broker.incarnation_id,
                address: Address::of(broker),
            };
            (broker.id, registered)
        });
        self.registered = registered.collect();
        self.retired = image.retired().map(|(directory, _)| directory).collect();
        let controllers = image.controller_replicas();
        self.controllers = controllers
            .map(|replica| (replica.id, replica.broker))
            .collect();
        self.learned.clear();
    }

    fn insert(&mut self, topic: &Topic) {
        for partition in &topic.partitions {
            for replica in partition.everybody() {
                self.replicas.insert(replica.id, replica.broker);
            }
        }
    }

    fn remove(&mut self, topic: &Topic) {
        for partition in &topic.partitions {
            for replica in partition.everybody() {
                self.replicas.remove(&replica.id);
            }
        }
    }
}
