//! What can be asked of the controller, and what it answers.

use std::collections::BTreeSet;

use highwater_proto::{BrokerId, ProducerId, TopicId};
use uuid::Uuid;

use super::image::{Broker, Listener};
use crate::raft::ReplicaId;
use crate::topic::config_keys::Overrides;

/// A request to the active controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Found the cluster, or check that it is this one.
    Found {
        /// UUID of the cluster, random where it is founded.
        cluster_id: Uuid,
        /// What every broker understands.
        feature_level: u32,
        /// The broker that holds the controller group's first replica. It is registered with the founding, so that nobody
        /// else is taken for it.
        founder: Registration,
    },
    /// A broker started, perhaps with new addresses. One that was never here is given a replica of the controller group.
    RegisterBroker(Registration),
    /// Create a topic.
    CreateTopic(CreateTopic),
    /// Change configs of a topic.
    AlterTopic(AlterTopic),
    /// Give a topic more partitions.
    AddPartitions(AddPartitions),
    /// Delete a topic.
    DeleteTopic(DeleteTopic),
    /// Make the coordinators of consumer groups, unless they are there.
    CreateCoordinators {
        /// Identity of the topic that they are, random.
        topic_id: TopicId,
        /// How many.
        count: u32,
        /// As [`CreateTopic::avoid`].
        avoid: BTreeSet<BrokerId>,
    },
    /// A broker holds nothing of a deleted topic any more.
    ReportDeletion {
        /// The deleted topic.
        topic_id: TopicId,
        /// The broker.
        broker: BrokerId,
    },
    /// Grant a block of producer ids to a broker.
    GrantProducerIds {
        /// The broker.
        broker: BrokerId,
    },
}

/// What a broker says of itself when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Its number, given by its operator.
    pub id: BrokerId,
    /// UUID of its data directory.
    pub incarnation_id: Uuid,
    /// Where it is reached.
    pub listeners: Vec<Listener>,
    /// Where it stands, if said.
    pub rack: Option<String>,
}

impl Registration {
    /// The entry of the broker whose replica of the controller group this is.
    pub(super) fn with_replica(self, controller_replica: ReplicaId) -> Broker {
        Broker {
            id: self.id,
            incarnation_id: self.incarnation_id,
            controller_replica,
            listeners: self.listeners,
            rack: self.rack,
        }
    }
}

/// A new topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTopic {
    /// Its identity, random.
    pub topic_id: TopicId,
    /// Its name.
    pub name: String,
    /// Number of partitions; `None`: the default.
    pub partitions: Option<u32>,
    /// Replicas of each partition; `None`: the default.
    pub replication_factor: Option<u32>,
    /// Configs to set.
    pub configs: Overrides,
    /// Brokers that are down as far as the active controller knows: they get replicas only where there are not enough
    /// others. Whoever asks it leaves this empty.
    pub avoid: BTreeSet<BrokerId>,
    /// Check only.
    pub validate_only: bool,
}

/// New configs of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterTopic {
    /// Its name.
    pub name: String,
    /// The id that the name must have; `None`: any.
    pub topic_id: Option<TopicId>,
    /// Configs to set.
    pub set: Overrides,
    /// Configs to return to their default.
    pub unset: Vec<String>,
    /// Check only.
    pub validate_only: bool,
}

/// More partitions for a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddPartitions {
    /// Its name.
    pub name: String,
    /// The id that the name must have; `None`: any.
    pub topic_id: Option<TopicId>,
    /// Number of partitions afterwards.
    pub total: u32,
    /// As [`CreateTopic::avoid`].
    pub avoid: BTreeSet<BrokerId>,
    /// Check only.
    pub validate_only: bool,
}

/// The end of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteTopic {
    /// Its name.
    pub name: String,
    /// The id that the name must have; `None`: any.
    pub topic_id: Option<TopicId>,
}

/// The answer to a command that was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// Nothing more to say.
    Done,
    /// The broker is registered.
    Registered {
        /// Its replica of the controller group.
        controller_replica: ReplicaId,
    },
    /// The topic is created, or could be.
    TopicCreated {
        /// Its identity; `None` when only checked.
        topic_id: Option<TopicId>,
        /// Number of partitions.
        partitions: u32,
        /// Replicas of each partition.
        replication_factor: u32,
    },
    /// The topic is deleted.
    TopicDeleted {
        /// Its identity.
        topic_id: TopicId,
    },
    /// These producer ids belong to the broker.
    ProducerIds {
        /// The first.
        first: ProducerId,
        /// How many.
        count: u32,
    },
}
