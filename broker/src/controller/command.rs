//! What can be asked of the controller, and what it answers.

use std::collections::BTreeSet;

use highwater_proto::{BrokerId, PartitionIndex, ProducerId, TopicId};
use uuid::Uuid;

use super::image::{Broker, BrokerState, Listener, Start};
use crate::raft::{GroupId, ReplicaId};
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
    /// The controller's majority is lost for good: go on as another cluster. Only by the broker that the controller begins again with.
    Succeed {
        /// UUID of the cluster from now on.
        cluster_id: Uuid,
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
    /// Give partitions other replicas.
    MoveReplicas(MoveReplicas),
    /// Give the partitions of a topic more replicas, or fewer.
    SetReplicationFactor(SetReplicationFactor),
    /// Give a partition a new replica in place of one that is of no use, on the same broker.
    ReplaceReplica {
        /// The topic.
        topic_id: TopicId,
        /// The partition.
        partition: PartitionIndex,
        /// The replica that is of no use.
        replica: ReplicaId,
    },
    /// Undo changes of replicas that are under way.
    CancelMoves(CancelMoves),
    /// What a leader's group consists of, by a leader that surely led when it looked.
    ReportMembers(MembersReport),
    /// A broker holds nothing of a removed replica any more.
    ReportRemoval {
        /// The replica.
        replica: ReplicaId,
        /// The broker.
        broker: BrokerId,
    },
    /// The majority of a partition's replicas is gone for good: let it begin again with one that is left.
    RecoverPartition(RecoverPartition),
    /// A partition has begun again, durably.
    ReportRecovery(RecoveryReport),
    /// Move everything off a broker, so that it can be removed.
    Decommission(Decommission),
    /// Let a broker stay that is being decommissioned.
    CancelDecommission {
        /// The broker.
        broker: BrokerId,
    },
    /// The data directory of a broker is lost: let the next one that comes with its id take its place.
    AllowReplacement {
        /// The broker.
        broker: BrokerId,
        /// As [`CreateTopic::avoid`]: it must be down.
        avoid: BTreeSet<BrokerId>,
        /// Check only.
        validate_only: bool,
    },
    /// Start the changes of replicas that draining brokers and lost replicas call for, as many as may be under way at once.
    ContinueMoves {
        /// As [`CreateTopic::avoid`].
        avoid: BTreeSet<BrokerId>,
    },
    /// Remove a broker that is being decommissioned and holds nothing any more.
    RemoveBroker {
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
    /// This start of it.
    pub start: Start,
    /// The replica of the controller group that it has lost and needs another one for; 0: it does not know which.
    pub lost_controller_replica: Option<ReplicaId>,
    /// Whether its data directory was set back to an old copy.
    pub is_set_back: bool,
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
            state: BrokerState::Active,
            start: self.start,
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

/// Other replicas for partitions; all of it or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveReplicas {
    /// Each partition once.
    pub moves: Vec<PartitionMove>,
    /// Check only.
    pub validate_only: bool,
}

/// Other replicas for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionMove {
    /// Name of the topic.
    pub topic: String,
    /// The id that the name must have; `None`: any.
    pub topic_id: Option<TopicId>,
    /// The partition.
    pub partition: PartitionIndex,
    /// The brokers that hold its replicas afterwards, the preferred leader first.
    pub brokers: Vec<BrokerId>,
}

/// Another number of replicas for a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetReplicationFactor {
    /// Its name.
    pub topic: String,
    /// The id that the name must have; `None`: any.
    pub topic_id: Option<TopicId>,
    /// Replicas of each partition afterwards.
    pub replication_factor: u32,
    /// As [`CreateTopic::avoid`].
    pub avoid: BTreeSet<BrokerId>,
    /// Check only.
    pub validate_only: bool,
}

/// Changes of replicas to be undone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CancelMoves {
    /// Of this topic; `None`: of all.
    pub topic: Option<String>,
    /// Of this partition of it; `None`: of all.
    pub partition: Option<PartitionIndex>,
    /// Brokers that are down: what is rebuilt on them does not come to an end.
    pub down: BTreeSet<BrokerId>,
}

/// What the group of a partition consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembersReport {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition.
    pub partition: PartitionIndex,
    /// The partition's epoch that the leader knew when it looked.
    pub epoch: u64,
    /// The voters, out of any joint configuration, which each of them knows.
    pub voters: BTreeSet<ReplicaId>,
    /// The learners.
    pub learners: BTreeSet<ReplicaId>,
}

/// A partition that is to begin again with one of its replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoverPartition {
    /// Name of the topic.
    pub topic: String,
    /// The id that the name must have; `None`: any.
    pub topic_id: Option<TopicId>,
    /// The partition.
    pub partition: PartitionIndex,
    /// The partition's epoch when it was looked at.
    pub epoch: u64,
    /// The replica that it begins again with.
    pub survivor: ReplicaId,
    /// The brokers whose replicas are given up.
    pub lost: BTreeSet<BrokerId>,
    /// Where the survivor's log ended when it was looked at.
    pub log_end_offset: u64,
}

/// A partition that has begun again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition.
    pub partition: PartitionIndex,
    /// The new group.
    pub group: GroupId,
}

/// A broker that is to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decommission {
    /// The broker.
    pub broker: BrokerId,
    /// As [`CreateTopic::avoid`].
    pub avoid: BTreeSet<BrokerId>,
    /// Check only.
    pub validate_only: bool,
}

/// A change of a partition's replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedMove {
    /// Name of the topic.
    pub topic: String,
    /// The partition.
    pub partition: PartitionIndex,
    /// The brokers that hold its replicas, the preferred leader first.
    pub from: Vec<BrokerId>,
    /// Those that will, or that would have where it is undone.
    pub to: Vec<BrokerId>,
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
    /// The broker is not registered: its data directory has begun fewer starts than are known of it. Either a later start is
    /// registered already, or the directory was set back to an old copy.
    Superseded {
        /// Number of the last start that is known.
        start_number: u64,
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
    /// These changes of replicas begin, or are undone, or would be where that was only checked.
    Moves(Vec<PlannedMove>),
}
