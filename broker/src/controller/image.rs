//! The cluster as one immutable value.
//!
//! A new image is made by cloning the old one, which copies a few pointers, and applying events to the clone; maps and
//! topics are copied only when they change while an older image still holds them.

mod moves;
mod recovery;
mod succession;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use highwater_proto::{BrokerId, PartitionIndex, ProducerId, TopicId};
use highwater_storage::RaftIndex;
use uuid::Uuid;

use super::event::Event;
use super::name::folded;
use super::partition::{Partition, RemovedReplica, Replica};
use crate::raft::{GroupId, ReplicaId};
use crate::topic::TopicConfig;
use crate::topic::config_keys::{self, Overrides};

/// The first group id that partitions get. Group 0 is the controller's; the numbers between are kept for coordinators.
pub const FIRST_PARTITION_GROUP: GroupId = GroupId(100);
/// The controller group's first replica, on the broker that founds the cluster.
pub const FOUNDING_REPLICA: ReplicaId = ReplicaId(1);

/// An address of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Name of the listener.
    pub name: String,
    /// Host that it is reached at.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// A broker of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its number, given by its operator.
    pub id: BrokerId,
    /// UUID of its data directory.
    pub incarnation_id: Uuid,
    /// Its replica of the controller group, never used again.
    pub controller_replica: ReplicaId,
    /// Where it is reached.
    pub listeners: Vec<Listener>,
    /// Where it stands, if said.
    pub rack: Option<String>,
    /// Whether it stays.
    pub state: BrokerState,
    /// Its last start.
    pub start: Start,
}

/// A start of a broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// Its number: the data directory counts them, so that an old copy of it is told from the directory. 0: not known.
    pub number: u64,
    /// Drawn at the start.
    pub run_id: u64,
}

/// What an operator wants to become of a broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BrokerState {
    /// It stays.
    #[default]
    Active,
    /// It is being decommissioned: it gets no replicas, those that it has go to others, and then it is removed.
    Draining,
    /// Its data directory is lost for good: the next one that comes with its id takes its place.
    Replaceable,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its identity.
    pub id: TopicId,
    /// Its name.
    pub name: String,
    /// Replicas of each partition.
    pub replication_factor: u32,
    /// Its partitions, by number.
    pub partitions: Vec<Partition>,
    /// The configs that it sets itself.
    pub overrides: Overrides,
    /// The configuration in force.
    pub config: Arc<TopicConfig>,
}

impl Topic {
    /// The partition of this number.
    pub fn partition(&self, index: PartitionIndex) -> Option<&Partition> {
        self.partitions.get(usize::try_from(index.0).ok()?)
    }

    /// The partitions with their numbers.
    pub fn numbered(&self) -> impl Iterator<Item = (PartitionIndex, &Partition)> {
        (0..).map(PartitionIndex).zip(&self.partitions)
    }
}

/// A topic that is deleted while some broker may still hold records of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedTopic {
    /// The topic as it was.
    pub topic: Arc<Topic>,
    /// Brokers that have not reported the deletion of their replicas yet.
    pub waiting: BTreeSet<BrokerId>,
}

/// Ids that come next. They never go back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NextIds {
    pub(super) group: GroupId,
    pub(super) replica: ReplicaId,
    pub(super) producer: ProducerId,
}

/// Live topics. Both maps hold the same topics; no two share a folded name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Topics {
    by_folded_name: BTreeMap<String, Arc<Topic>>,
    by_id: BTreeMap<TopicId, Arc<Topic>>,
}

/// The cluster at one index of the controller's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterImage {
    pub(super) metadata_version: RaftIndex,
    pub(super) cluster_id: Option<Uuid>,
    pub(super) feature_level: u32,
    pub(super) next: NextIds,
    partition_count: usize,
    brokers: Arc<BTreeMap<BrokerId, Arc<Broker>>>,
    topics: Arc<Topics>,
    deleted: Arc<BTreeMap<TopicId, Arc<DeletedTopic>>>,
    removed: Arc<BTreeMap<ReplicaId, RemovedReplica>>,
    reassigned: Arc<BTreeSet<(TopicId, PartitionIndex)>>,
    retired: Arc<BTreeMap<Uuid, BrokerId>>,
}

impl Default for ClusterImage {
    /// The image before the first event.
    fn default() -> Self {
        Self {
            metadata_version: RaftIndex(0),
            cluster_id: None,
            feature_level: 0,
            next: NextIds {
                group: FIRST_PARTITION_GROUP,
                replica: ReplicaId(FOUNDING_REPLICA.0 + 1),
                producer: ProducerId(0),
            },
            partition_count: 0,
            brokers: Arc::default(),
            topics: Arc::default(),
            deleted: Arc::default(),
            removed: Arc::default(),
            reassigned: Arc::default(),
            retired: Arc::default(),
        }
    }
}

impl ClusterImage {
    /// Grows with each change of brokers, topics, cluster id or feature level; equal versions are equal metadata.
    pub fn version(&self) -> u64 {
        self.metadata_version.0
    }

    /// The cluster; `None` before it is founded.
    pub fn cluster_id(&self) -> Option<Uuid> {
        self.cluster_id
    }

    /// The feature level that the cluster runs at; 0 before it is set.
    pub fn feature_level(&self) -> u32 {
        self.feature_level
    }

    /// The brokers, by id.
    pub fn brokers(&self) -> impl ExactSizeIterator<Item = &Arc<Broker>> {
        self.brokers.values()
    }

    /// The broker of this id.
    pub fn broker(&self, id: BrokerId) -> Option<&Arc<Broker>> {
        self.brokers.get(&id)
    }

    /// The replicas of the controller group, one on each broker.
    pub fn controller_replicas(&self) -> impl ExactSizeIterator<Item = Replica> {
        self.brokers.values().map(|broker| Replica {
            id: broker.controller_replica,
            broker: broker.id,
        })
    }

    /// The topics, by id, those that belong to the broker among them.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Arc<Topic>> {
        self.topics.by_id.values()
    }

    /// The topic of this id.
    pub fn topic(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.by_id.get(&id)
    }

    /// The topic of exactly this name, unless it belongs to the broker.
    pub fn topic_named(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topic_colliding(name)
            .filter(|topic| topic.name == name && !topic.is_internal())
    }

    /// The topic of this name or of one that differs in `.` and `_` only.
    pub(super) fn topic_colliding(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.by_folded_name.get(&folded(name))
    }

    /// Deleted topics of which some broker may still hold records, by id.
    pub fn deleted_topics(&self) -> impl ExactSizeIterator<Item = &Arc<DeletedTopic>> {
        self.deleted.values()
    }

    /// The deleted topic of this id, while some broker may still hold records of it.
    pub fn deleted_topic(&self, id: TopicId) -> Option<&Arc<DeletedTopic>> {
        self.deleted.get(&id)
    }

    /// Partitions of all live topics.
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// Whether the topics of the two images are surely the same, without a look at them.
    pub(super) fn shares_topics(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.topics, &other.topics)
    }

    /// Whether the brokers of the two images are surely the same, without a look at them.
    pub(super) fn shares_brokers(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.brokers, &other.brokers)
    }

    /// Applies the events of the entry at `index`. The error says why no correct controller wrote them; the image is
    /// then good for nothing.
    pub(super) fn apply(&mut self, index: RaftIndex, events: &[Event]) -> Result<(), String> {
        for event in events {
            self.apply_one(event)?;
            if event.changes_metadata() {
                self.metadata_version = index;
            }
        }
        Ok(())
    }

    fn apply_one(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::ClusterFounded { cluster_id } => {
                if let Some(founded) = self.cluster_id {
                    return Err(format!("cluster {founded} is founded a second time"));
                }
                self.cluster_id = Some(*cluster_id);
            }
            Event::FeatureLevelSet { level } => {
                if *level < self.feature_level {
                    return Err(format!(
                        "feature level {level} is below {}",
                        self.feature_level
                    ));
                }
                self.feature_level = *level;
            }
            Event::BrokerRegistered(broker) => self.register_broker(broker)?,
            Event::TopicCreated(topic) => self.create_topic(topic)?,
            Event::TopicConfigsAltered {
                topic_id,
                overrides,
            } => {
                self.change_topic(*topic_id, |topic| {
                    topic.overrides.clone_from(overrides);
                    topic.config = Arc::new(config_keys::resolve(overrides));
                })?;
            }
            Event::PartitionsAdded {
                topic_id,
                partitions,
            } => {
                self.use_ids(partitions)?;
                self.partition_count += partitions.len();
                self.change_topic(*topic_id, |topic| {
                    topic.partitions.extend_from_slice(partitions)
                })?;
            }
            Event::TopicDeleted { topic_id } => self.delete_topic(*topic_id)?,
            Event::TopicDeletionReported { topic_id, broker } => {
                self.report_deletion(*topic_id, *broker)?;
            }
            Event::ProducerIdsGranted { first, count, .. } => {
                self.grant_producers(*first, *count)?
            }
            Event::ReassignmentStarted {
                topic_id,
                partition,
                target,
            } => self.start_reassignment(*topic_id, *partition, target)?,
            Event::ReassignmentCancelled {
                topic_id,
                partition,
            } => self.cancel_reassignment(*topic_id, *partition)?,
            Event::ReassignmentEnded {
                topic_id,
                partition,
                is_done,
            } => self.end_reassignment(*topic_id, *partition, *is_done)?,
            Event::ReplicaRemovalReported { replica } => self.report_removal(*replica)?,
            Event::ReplicationFactorSet {
                topic_id,
                replication_factor,
            } => {
                self.change_topic(*topic_id, |topic| {
                    topic.replication_factor = *replication_factor;
                })?;
                self.settle_recoveries(*topic_id)?;
            }
            Event::PartitionRecovered {
                topic_id,
                partition,
                group,
                survivor,
                recovery,
            } => self.recover_partition(*topic_id, *partition, *group, *survivor, recovery)?,
            Event::RecoveryReported {
                topic_id,
                partition,
            } => self.report_recovery(*topic_id, *partition)?,
            Event::BrokerStateSet { broker, state } => self.set_broker_state(*broker, *state)?,
            Event::BrokerRemoved { broker } => self.remove_broker(*broker)?,
            Event::BrokerSetBack { broker } => self.set_back_broker(*broker)?,
            Event::ClusterSucceeded { cluster_id } => self.succeed(*cluster_id)?,
        }
        Ok(())
    }

    fn register_broker(&mut self, broker: &Broker) -> Result<(), String> {
        let replica = broker.controller_replica;
        let known = self.broker(broker.id).cloned();
        if known
            .as_ref()
            .is_none_or(|known| known.controller_replica != replica)
        {
            let is_founding = replica == FOUNDING_REPLICA && self.brokers.is_empty();
            if !is_founding {
                self.use_replica(replica)?;
            }
        }
        Arc::make_mut(&mut self.brokers).insert(broker.id, Arc::new(broker.clone()));
        let replaced = known.filter(|known| known.incarnation_id != broker.incarnation_id);
        if let Some(replaced) = replaced {
            Arc::make_mut(&mut self.retired).insert(replaced.incarnation_id, broker.id);
            self.lose_replicas(broker.id);
        }
        Ok(())
    }

    fn create_topic(&mut self, topic: &Arc<Topic>) -> Result<(), String> {
        if let Some(other) = self.topic_colliding(&topic.name) {
            return Err(format!("topic {} collides with {}", topic.id, other.id));
        }
        if self.topic(topic.id).is_some() || self.deleted.contains_key(&topic.id) {
            return Err(format!("topic {} is created a second time", topic.id));
        }
        self.use_ids(&topic.partitions)?;
        self.partition_count += topic.partitions.len();
        let topics = Arc::make_mut(&mut self.topics);
        topics
            .by_folded_name
            .insert(folded(&topic.name), Arc::clone(topic));
        topics.by_id.insert(topic.id, Arc::clone(topic));
        Ok(())
    }

    fn change_topic(&mut self, id: TopicId, change: impl FnOnce(&mut Topic)) -> Result<(), String> {
        let topics = Arc::make_mut(&mut self.topics);
        let mut topic = topics.by_id.remove(&id).ok_or_else(|| no_topic(id))?;
        topics.by_folded_name.remove(&folded(&topic.name));
        // Both maps gave it up, so that it is copied only where an older image holds it.
        change(Arc::make_mut(&mut topic));
        topics
            .by_folded_name
            .insert(folded(&topic.name), Arc::clone(&topic));
        topics.by_id.insert(id, topic);
        Ok(())
    }

    fn delete_topic(&mut self, id: TopicId) -> Result<(), String> {
        let topics = Arc::make_mut(&mut self.topics);
        let topic = topics.by_id.remove(&id).ok_or_else(|| no_topic(id))?;
        topics.by_folded_name.remove(&folded(&topic.name));
        self.partition_count -= topic.partitions.len();
        let replicas = topic.partitions.iter().flat_map(Partition::everybody);
        let waiting = replicas.map(|replica| replica.broker).collect();
        if !self.reassigned.is_empty() {
            Arc::make_mut(&mut self.reassigned).retain(|(topic, _)| *topic != id);
        }
        let deleted = Arc::new(DeletedTopic { topic, waiting });
        Arc::make_mut(&mut self.deleted).insert(id, deleted);
        Ok(())
    }

    fn report_deletion(&mut self, id: TopicId, broker: BrokerId) -> Result<(), String> {
        let all = Arc::make_mut(&mut self.deleted);
        let entry = all.get_mut(&id).ok_or_else(|| no_topic(id))?;
        let deleted = Arc::make_mut(entry);
        if !deleted.waiting.remove(&broker) {
            return Err(format!(
                "broker {broker} reports the deletion of {id} a second time"
            ));
        }
        if deleted.waiting.is_empty() {
            all.remove(&id);
        }
        Ok(())
    }

    fn grant_producers(&mut self, first: ProducerId, count: u32) -> Result<(), String> {
        if first != self.next.producer {
            return Err(format!(
                "producer id {first} is granted, {} is next",
                self.next.producer
            ));
        }
        let next = first.0.checked_add(i64::from(count));
        self.next.producer = ProducerId(next.ok_or("producer ids are exhausted")?);
        Ok(())
    }

    /// Takes the ids of new partitions; they must not have been used before.
    fn use_ids(&mut self, partitions: &[Partition]) -> Result<(), String> {
        for partition in partitions {
            if partition.group < self.next.group {
                return Err(format!("group id {} is used again", partition.group.0));
            }
            self.next.group = GroupId(after(partition.group.0)?);
            for replica in &partition.replicas {
                self.use_replica(replica.id)?;
            }
        }
        Ok(())
    }

    /// Takes the id of a new replica.
    fn use_replica(&mut self, id: ReplicaId) -> Result<(), String> {
        if id < self.next.replica {
            return Err(format!("replica id {} is used again", id.0));
        }
        self.next.replica = ReplicaId(after(id.0)?);
        Ok(())
    }

    /// The image with these parts: how a snapshot is read.
    pub(super) fn from_parts(parts: Parts) -> Result<Self, String> {
        let mut topics = Topics::default();
        let mut partition_count = 0;
        for topic in parts.topics {
            partition_count += topic.partitions.len();
            let name = folded(&topic.name);
            if topics
                .by_folded_name
                .insert(name, Arc::clone(&topic))
                .is_some()
                || topics.by_id.insert(topic.id, Arc::clone(&topic)).is_some()
            {
                return Err(format!("topic {} stands twice", topic.id));
            }
        }
        let mut reassigned = BTreeSet::new();
        for topic in topics.by_id.values() {
            let moving = topic.numbered().filter(|(_, at)| at.reassignment.is_some());
            reassigned.extend(moving.map(|(index, _)| (topic.id, index)));
        }
        let by_id = |deleted: DeletedTopic| (deleted.topic.id, Arc::new(deleted));
        let mut brokers = BTreeMap::new();
        let mut controller_replicas = BTreeSet::new();
        for broker in parts.brokers {
            if !controller_replicas.insert(broker.controller_replica) {
                let id = broker.controller_replica.0;
                return Err(format!("two brokers have controller replica {id}"));
            }
            if let Some(twice) = brokers.insert(broker.id, Arc::new(broker)) {
                return Err(format!("broker {} stands twice", twice.id));
            }
        }
        Ok(Self {
            metadata_version: parts.metadata_version,
            cluster_id: parts.cluster_id,
            feature_level: parts.feature_level,
            next: parts.next,
            partition_count,
            brokers: Arc::new(brokers),
            topics: Arc::new(topics),
            deleted: Arc::new(parts.deleted.into_iter().map(by_id).collect()),
            removed: Arc::new(parts.removed),
            reassigned: Arc::new(reassigned),
            retired: Arc::new(parts.retired),
        })
    }
}

/// What an image is made of.
pub(super) struct Parts {
    pub(super) metadata_version: RaftIndex,
    pub(super) cluster_id: Option<Uuid>,
    pub(super) feature_level: u32,
    pub(super) next: NextIds,
    pub(super) brokers: Vec<Broker>,
    pub(super) topics: Vec<Arc<Topic>>,
    pub(super) deleted: Vec<DeletedTopic>,
    pub(super) removed: BTreeMap<ReplicaId, RemovedReplica>,
    pub(super) retired: BTreeMap<Uuid, BrokerId>,
}

fn no_topic(id: TopicId) -> String {
    format!("there is no topic {id}")
}

fn after(id: u64) -> Result<u64, String> {
    id.checked_add(1)
        .ok_or_else(|| "ids are exhausted".to_owned())
}
