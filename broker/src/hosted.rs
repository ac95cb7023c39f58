//! The partitions that this broker holds, for those who serve requests: found by name or by id, without a lock.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use highwater_proto::{ApiError, PartitionIndex, Reason, TopicId, v1};
use highwater_storage::LogReader;
use tracing::debug;

use crate::coordinator::{self, CoordinatorView};
use crate::partition::{self, Leaderships, PartitionShared, Standing};
use crate::raft::{Acks, GroupId, Operation, Reply, Request, Shards};
use crate::replica::{Command, Replica};

/// One partition on this broker.
pub(crate) struct HostedPartition {
    /// Its topic.
    pub(crate) topic: Arc<HostedTopic>,
    /// Its number.
    pub(crate) index: PartitionIndex,
    /// Its Raft group.
    pub(crate) group: GroupId,
    /// Whether nobody else holds the partition: its reads go on when its log takes no more records.
    pub(crate) is_sole_replica: bool,
    /// What readers see of it.
    pub(crate) shared: Arc<PartitionShared>,
    /// Reads its log.
    pub(crate) reader: LogReader,
    /// The way to the shard that owns it.
    pub(crate) shards: Shards<Replica>,
}

impl std::fmt::Debug for HostedPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.topic.name, self.index)
    }
}

impl HostedPartition {
    /// Hands a command of `bytes` bytes to the shard, which will answer `reply` once what it writes is safe.
    pub(crate) fn send(&self, command: partition::Command, bytes: usize, reply: Reply<Replica>) {
        self.send_with(command, bytes, Acks::default(), reply);
    }

    /// The same with another time of the answer.
    pub(crate) fn send_with(
        &self,
        command: partition::Command,
        bytes: usize,
        acks: Acks,
        reply: Reply<Replica>,
    ) {
        self.shards.send(Request {
            group: self.group,
            command: Command::Partition(command),
            bytes,
            acks,
            reply,
        });
    }

    /// Whether it has no leader here yet but may get one: it elects, or has not needed a leader since the start.
    pub(crate) fn is_opening(&self) -> bool {
        matches!(
            self.shared.standing(),
            Standing::Opening { .. } | Standing::Following { leader: None, .. }
        )
    }

    /// Has it elect its leader if it has not needed one since the start.
    pub(crate) fn wake_if_cold(&self) {
        if matches!(
            self.shared.standing(),
            Standing::Following { leader: None, .. }
        ) {
            let operation = Operation::CampaignIfCold { group: self.group };
            if let Err(error) = self.shards.operate(self.group, operation) {
                debug!(group = self.group.0, %error, "a cold partition could not be woken");
            }
        }
    }
}

/// A coordinator of consumer groups on this broker.
#[derive(Clone, Debug)]
pub(crate) struct HostedCoordinator {
    /// Its replica, as that of a partition.
    pub(crate) partition: Arc<HostedPartition>,
    /// What is seen of its groups.
    pub(crate) view: Arc<CoordinatorView>,
}

impl HostedCoordinator {
    /// Hands a command of `bytes` bytes to the shard, which will answer `reply` once what it writes is safe.
    pub(crate) fn send(&self, command: coordinator::Command, bytes: usize, reply: Reply<Replica>) {
        self.partition.shards.send(Request {
            group: self.partition.group,
            command: Command::Coordinator(command),
            bytes,
            acks: Acks::default(),
            reply,
        });
    }
}

/// Identity of a topic.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HostedTopic {
    pub(crate) id: TopicId,
    pub(crate) name: String,
}

/// All partitions on this broker. The node replaces the map when replicas start or stop; readers keep what they have.
#[derive(Debug)]
pub(crate) struct Hosted {
    current: ArcSwap<HostedPartitions>,
    leaderships: Arc<Leaderships>,
}

/// The partitions at one time.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostedPartitions {
    by_name: HashMap<String, TopicId>,
    topics: HashMap<TopicId, HostedEntry>,
    coordinators: HashMap<PartitionIndex, HostedCoordinator>,
}

#[derive(Clone, Debug)]
struct HostedEntry {
    topic: Arc<HostedTopic>,
    /// Number of partitions that the topic has, here or elsewhere.
    partition_count: u32,
    partitions: HashMap<PartitionIndex, Arc<HostedPartition>>,
    /// Why partitions that have their replica here have lost it.
    lost: HashMap<PartitionIndex, String>,
}

impl Hosted {
    /// No partition yet. Changes of who leads them are counted on from `leaderships`.
    pub(crate) fn new(leaderships: Arc<Leaderships>) -> Self {
        Self {
            current: ArcSwap::default(),
            leaderships,
        }
    }

    /// Changes of who leads the partitions here, or of which are here.
    pub(crate) fn leaderships(&self) -> &Arc<Leaderships> {
        &self.leaderships
    }

    /// The partitions now.
    pub(crate) fn load(&self) -> Arc<HostedPartitions> {
        self.current.load_full()
    }

    /// Puts other partitions in place.
    pub(crate) fn store(&self, partitions: HostedPartitions) {
        self.current.store(Arc::new(partitions));
        self.leaderships.changed();
    }

    /// The partition that a request names.
    ///
    /// # Errors
    /// As [`HostedPartitions::find`].
    pub(crate) fn find(
        &self,
        named: Option<&v1::TopicPartition>,
    ) -> Result<Arc<HostedPartition>, ApiError> {
        self.current.load().find(named)
    }
}

impl HostedPartitions {
    /// Adds a topic, or sets its partition count.
    pub(crate) fn set_topic(&mut self, topic: &Arc<HostedTopic>, partition_count: u32) {
        self.by_name.insert(topic.name.clone(), topic.id);
        self.topics
            .entry(topic.id)
            .or_insert_with(|| HostedEntry {
                topic: Arc::clone(topic),
                partition_count,
                partitions: HashMap::new(),
                lost: HashMap::new(),
            })
            .partition_count = partition_count;
    }

    /// Adds a partition of a topic that was set.
    pub(crate) fn insert(&mut self, partition: Arc<HostedPartition>) {
        if let Some(entry) = self.topics.get_mut(&partition.topic.id) {
            entry.partitions.insert(partition.index, partition);
        }
    }

    /// Adds a coordinator.
    pub(crate) fn insert_coordinator(&mut self, coordinator: HostedCoordinator) {
        let index = coordinator.partition.index;
        self.coordinators.insert(index, coordinator);
    }

    /// The coordinator of this number.
    pub(crate) fn coordinator(&self, index: PartitionIndex) -> Option<&HostedCoordinator> {
        self.coordinators.get(&index)
    }

    /// A partition by its identity, also one that is a coordinator.
    pub(crate) fn replica(
        &self,
        topic: TopicId,
        index: PartitionIndex,
    ) -> Option<&Arc<HostedPartition>> {
        let coordinator = || {
            let coordinator = self.coordinator(index)?;
            Some(&coordinator.partition).filter(|partition| partition.topic.id == topic)
        };
        self.get(topic, index).or_else(coordinator)
    }

    /// Every coordinator, in no order.
    pub(crate) fn coordinators(&self) -> impl Iterator<Item = &HostedCoordinator> {
        self.coordinators.values()
    }

    /// Notes that a partition of a topic that was set has lost its replica here.
    pub(crate) fn set_lost(&mut self, topic: TopicId, index: PartitionIndex, reason: String) {
        if let Some(entry) = self.topics.get_mut(&topic) {
            entry.lost.insert(index, reason);
        }
    }

    /// Every partition, in no order, without the coordinators.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<HostedPartition>> {
        self.topics
            .values()
            .flat_map(|entry| entry.partitions.values())
    }

    /// The partitions that have lost their replica here, and why.
    pub(crate) fn lost(&self) -> impl Iterator<Item = (TopicId, PartitionIndex, &str)> {
        self.topics.values().flat_map(|entry| {
            let lost = entry.lost.iter();
            lost.map(|(index, reason)| (entry.topic.id, *index, &**reason))
        })
    }

    /// The partitions of one topic, in no order.
    pub(crate) fn of_topic(&self, topic: TopicId) -> Vec<Arc<HostedPartition>> {
        let entry = self.topics.get(&topic);
        entry.map_or_else(Vec::new, |entry| {
            entry.partitions.values().cloned().collect()
        })
    }

    /// A partition by its identity.
    pub(crate) fn get(
        &self,
        topic: TopicId,
        index: PartitionIndex,
    ) -> Option<&Arc<HostedPartition>> {
        self.topics.get(&topic)?.partitions.get(&index)
    }

    /// The partition that a request names by topic name, topic id, or both.
    ///
    /// # Errors
    /// `INVALID_REQUEST` where nothing is named or the id is none; `UNKNOWN_TOPIC_ID`, also where name and id are of two
    /// topics; `UNKNOWN_TOPIC_OR_PARTITION`; `LEADER_NOT_AVAILABLE` for a partition that exists and has no replica here yet,
    /// `DATA_LOSS` for one that has lost it.
    pub(crate) fn find(
        &self,
        named: Option<&v1::TopicPartition>,
    ) -> Result<Arc<HostedPartition>, ApiError> {
        let named = named.ok_or_else(|| {
            ApiError::new(
                Reason::InvalidRequest,
                "`partition` is missing: name topic and partition",
            )
        })?;
        let entry = self.find_topic(&named.topic, &named.topic_id)?;
        let index = PartitionIndex(named.partition);
        if let Some(partition) = entry.partitions.get(&index) {
            return Ok(Arc::clone(partition));
        }
        let name = &entry.topic.name;
        if let Some(reason) = entry.lost.get(&index) {
            let message = format!(
                "partition {index} of topic {name} has lost its log on this broker: {reason}"
            );
            return Err(ApiError::new(Reason::DataLoss, message));
        }
        Err(if named.partition < entry.partition_count {
            ApiError::new(
                Reason::LeaderNotAvailable,
                format!(
                    "partition {index} of topic {name} has no leader on this broker yet: try again shortly"
                ),
            )
        } else {
            ApiError::new(
                Reason::UnknownTopicOrPartition,
                format!(
                    "topic {name} has no partition {index}: its partitions are 0 to {}",
                    entry.partition_count.saturating_sub(1)
                ),
            )
        })
    }

    fn find_topic(&self, name: &str, id: &[u8]) -> Result<&HostedEntry, ApiError> {
        let by_id = if id.is_empty() {
            None
        } else {
            Some(parse_topic_id(id)?)
        };
        let unknown_id = |id: TopicId| {
            ApiError::new(
                Reason::UnknownTopicId,
                format!("no topic has the id {id}: it was deleted, or is not known here yet"),
            )
        };
        match by_id {
            Some(id) => {
                let entry = self.topics.get(&id).ok_or_else(|| unknown_id(id))?;
                if !name.is_empty() && entry.topic.name != name {
                    return Err(ApiError::new(
                        Reason::UnknownTopicId,
                        format!("the topic with the id {id} is not the one that was named"),
                    ));
                }
                Ok(entry)
            }
            None if name.is_empty() => Err(ApiError::new(
                Reason::InvalidRequest,
                "neither topic name nor topic id is given: name the topic",
            )),
            None => self
                .by_name
                .get(name)
                .and_then(|id| self.topics.get(id))
                .ok_or_else(|| unknown_topic(name)),
        }
    }
}

/// A topic id as it stands in a request.
///
/// # Errors
/// `INVALID_REQUEST` where it is not 16 bytes.
pub(crate) fn parse_topic_id(bytes: &[u8]) -> Result<TopicId, ApiError> {
    TopicId::from_slice(bytes).ok_or_else(|| {
        ApiError::new(
            Reason::InvalidRequest,
            format!("a topic id has 16 bytes, this one has {}", bytes.len()),
        )
    })
}

/// The answer for a name that no topic has. A name that could be none is not repeated.
pub(crate) fn unknown_topic(name: &str) -> ApiError {
    let lawful = name.len() <= 249
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    let message = if lawful {
        format!("there is no topic {name}: check the name, or create it")
    } else {
        "there is no topic of the given name, which is no lawful one".to_owned()
    };
    ApiError::new(Reason::UnknownTopicOrPartition, message)
}
