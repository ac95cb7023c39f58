//! Why the controller refuses a command.

use highwater_proto::{BrokerId, PartitionIndex, Reason, TopicId};
use uuid::Uuid;

use crate::raft::machine::Refusal;
use crate::topic::config_keys::ConfigError;

/// Why the controller refused a command. All but [`Refusal::Indefinite`] are definite: the command wrote nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The cluster is not founded yet.
    #[error("the cluster is not founded yet")]
    NotFounded,
    /// This controller belongs to another cluster.
    #[error("this is cluster {actual}, not {asked}")]
    OtherCluster {
        /// The cluster asked for.
        asked: Uuid,
        /// The cluster that it is.
        actual: Uuid,
    },
    /// The feature level may only rise.
    #[error("the cluster runs at feature level {current} and cannot go back to {asked}")]
    FeatureLevelLowered {
        /// Asked for.
        asked: u32,
        /// In force.
        current: u32,
    },
    /// The broker id belongs to another data directory.
    #[error(
        "broker id {id} belongs to the data directory {registered}, and this is another one. Where that directory is lost \
         for good, `highwater cluster replace {id}` lets this one take its place; otherwise start it with an id that no \
         broker of the cluster ever had"
    )]
    BrokerIdTaken {
        /// The id.
        id: BrokerId,
        /// UUID of the data directory that has it.
        registered: Uuid,
    },
    /// The broker is not registered.
    #[error("broker {id} is not registered")]
    UnknownBroker {
        /// The id.
        id: BrokerId,
    },
    /// The data directory is that of a broker that was removed or replaced.
    #[error(
        "this data directory was that of broker {id}, which was removed from the cluster or replaced: what it holds is of \
         no use any more. Start with an empty data directory"
    )]
    DirectoryRetired {
        /// The id that the broker had.
        id: BrokerId,
    },
    /// The broker is up, and must not be for this.
    #[error("broker {id} is up: its data directory is not lost. Stop it first")]
    BrokerIsUp {
        /// The id.
        id: BrokerId,
    },
    /// The broker is not being decommissioned.
    #[error("broker {id} is not being decommissioned")]
    NotDraining {
        /// The id.
        id: BrokerId,
    },
    /// The broker still holds replicas.
    #[error("broker {id} still holds replicas")]
    StillHolds {
        /// The id.
        id: BrokerId,
    },
    /// The cluster cannot do without the broker.
    #[error("broker {id} cannot be decommissioned: {problem}")]
    CannotDrain {
        /// The id.
        id: BrokerId,
        /// Why.
        problem: String,
    },
    /// No partition has this number.
    #[error("topic `{topic}` has no partition {partition}")]
    UnknownPartition {
        /// Name of the topic.
        topic: String,
        /// The number.
        partition: PartitionIndex,
    },
    /// The replicas cannot be changed so.
    #[error("partition {partition} of topic `{topic}` cannot be moved so: {problem}")]
    InvalidReplicas {
        /// Name of the topic.
        topic: String,
        /// The partition.
        partition: PartitionIndex,
        /// The rule.
        problem: String,
    },
    /// The replicas are being changed already.
    #[error(
        "the replicas of partition {partition} of topic `{topic}` are being changed already: wait until that is over, or \
         cancel it"
    )]
    AlreadyMoving {
        /// Name of the topic.
        topic: String,
        /// The partition.
        partition: PartitionIndex,
    },
    /// The partition cannot begin again so.
    #[error("partition {partition} of topic `{topic}` cannot be recovered so: {problem}")]
    CannotRecover {
        /// Name of the topic.
        topic: String,
        /// The partition.
        partition: PartitionIndex,
        /// The rule.
        problem: String,
    },
    /// There is no change of replicas to undo.
    #[error("no change of replicas is under way that could be cancelled")]
    NothingToCancel,
    /// The change of replicas is part of the decommissioning of a broker.
    #[error(
        "partition {partition} of topic `{topic}` is moved because broker {broker} is being decommissioned: cancel that"
    )]
    MovedByDraining {
        /// Name of the topic.
        topic: String,
        /// The partition.
        partition: PartitionIndex,
        /// The broker.
        broker: BrokerId,
    },
    /// The change of replicas puts one in place of another that is of no use.
    #[error(
        "partition {partition} of topic `{topic}` gets a new replica on broker {broker} in place of one that is damaged or lost: \
         undone, that would only begin again. Let it end, or take the broker out: highwater cluster decommission {broker}"
    )]
    Rebuilt {
        /// Name of the topic.
        topic: String,
        /// The partition.
        partition: PartitionIndex,
        /// The broker.
        broker: BrokerId,
    },
    /// The name breaks a rule.
    #[error("`{name}` cannot be the name of a topic: {problem}")]
    InvalidName {
        /// The name, cut to 64 characters.
        name: String,
        /// The rule.
        problem: &'static str,
    },
    /// A topic of this name, or of one that differs in `.` and `_` only, exists.
    #[error("{}", describe_existing(.name, .existing))]
    TopicAlreadyExists {
        /// The name asked for.
        name: String,
        /// The name of the topic that exists.
        existing: String,
    },
    /// The id for a new topic was used before.
    #[error("topic id {id} cannot be used")]
    TopicIdUsed {
        /// The id.
        id: TopicId,
    },
    /// No topic has this name.
    #[error("there is no topic `{name}`")]
    UnknownTopic {
        /// The name, cut to 64 characters.
        name: String,
    },
    /// The topic of this name has another id: it was deleted and created again.
    #[error("topic `{name}` has the id {actual}, not {asked}: it was deleted and created again")]
    OtherTopicId {
        /// The name.
        name: String,
        /// The id asked for.
        asked: TopicId,
        /// The id that it has.
        actual: TopicId,
    },
    /// The number of partitions is out of bounds.
    #[error("the number of partitions cannot be {asked}: {problem}")]
    InvalidPartitions {
        /// Asked for.
        asked: u32,
        /// The rule.
        problem: String,
    },
    /// The cluster holds as many partitions as it may.
    #[error(
        "{asked} more partitions would exceed the cluster's limit of {limit} (cluster.max.partitions)"
    )]
    TooManyPartitions {
        /// More partitions asked for.
        asked: u32,
        /// The limit.
        limit: usize,
    },
    /// There are not so many brokers.
    #[error(
        "replication factor {asked} needs as many brokers and the cluster has {brokers}: ask for at most {brokers}, or \
         add brokers"
    )]
    InvalidReplicationFactor {
        /// Asked for.
        asked: u32,
        /// Brokers registered.
        brokers: usize,
    },
    /// A config is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// More in-sync replicas are asked for than there are replicas.
    #[error(
        "min.insync.replicas={min_insync_replicas} can never be met with replication factor {replication_factor}"
    )]
    MinInsyncReplicas {
        /// Asked for.
        min_insync_replicas: u32,
        /// Replicas of each partition.
        replication_factor: u32,
    },
    /// A config is to be set and unset at once.
    #[error("topic config `{name}` is both set and unset")]
    SetAndUnset {
        /// The config.
        name: String,
    },
    /// Every producer id was given out.
    #[error("producer ids are exhausted")]
    ProducerIdsExhausted,
    /// The Raft layer turned the command away.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

fn describe_existing(name: &str, existing: &str) -> String {
    if name == existing {
        return format!("topic `{name}` exists already");
    }
    format!("topic `{name}` differs from the existing `{existing}` in `.` and `_` only")
}

impl Error {
    /// The reason that clients are told.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotFounded => Reason::BrokerNotAvailable,
            Self::OtherCluster { .. }
            | Self::FeatureLevelLowered { .. }
            | Self::BrokerIdTaken { .. }
            | Self::UnknownBroker { .. }
            | Self::DirectoryRetired { .. }
            | Self::SetAndUnset { .. } => Reason::InvalidRequest,
            Self::BrokerIsUp { .. }
            | Self::NotDraining { .. }
            | Self::StillHolds { .. }
            | Self::CannotDrain { .. }
            | Self::CannotRecover { .. }
            | Self::MovedByDraining { .. }
            | Self::Rebuilt { .. } => Reason::PolicyViolation,
            Self::UnknownPartition { .. } => Reason::UnknownTopicOrPartition,
            Self::InvalidReplicas { .. } => Reason::InvalidReplicaAssignment,
            Self::AlreadyMoving { .. } => Reason::ReassignmentInProgress,
            Self::NothingToCancel => Reason::NoReassignmentInProgress,
            Self::InvalidName { .. } => Reason::InvalidTopic,
            Self::TopicAlreadyExists { .. } => Reason::TopicAlreadyExists,
            Self::TopicIdUsed { .. } | Self::ProducerIdsExhausted => Reason::UnknownServerError,
            Self::UnknownTopic { .. } => Reason::UnknownTopicOrPartition,
            Self::OtherTopicId { .. } => Reason::UnknownTopicId,
            Self::InvalidPartitions { .. } => Reason::InvalidPartitions,
            Self::TooManyPartitions { .. } => Reason::LimitExceeded,
            Self::InvalidReplicationFactor { .. } => Reason::InvalidReplicationFactor,
            Self::Config(ConfigError::Unsupported { .. }) => Reason::Unsupported,
            Self::Config(_) | Self::MinInsyncReplicas { .. } => Reason::InvalidConfig,
            Self::Refused(refusal) => refusal.reason(Reason::NotController, Reason::NotController),
        }
    }
}
