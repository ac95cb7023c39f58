//! What can go wrong in a group or a shard outside a machine's own rules.

use std::sync::Arc;

use super::machine::Refusal;
use super::{GroupId, ReplicaId};

/// Why an operation was not carried out, or why a replica was quarantined.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configuration value breaks a rule.
    #[error("{key} {rule}")]
    Config {
        /// The key.
        key: &'static str,
        /// The rule.
        rule: &'static str,
    },
    /// The group has no replica on this broker.
    #[error("group {} has no replica here", .0.0)]
    UnknownGroup(GroupId),
    /// The group, or the replica id, is in use already.
    #[error("group {} or replica {} is here already", group.0, replica.0)]
    AlreadyStarted {
        /// The group to start.
        group: GroupId,
        /// The replica to start.
        replica: ReplicaId,
    },
    /// Another start has the replica's log.
    #[error("the log of replica {} is in use already", replica.0)]
    LogTaken {
        /// The replica to start.
        replica: ReplicaId,
    },
    /// The members are none that a group can have.
    #[error("{reason}")]
    Members {
        /// The rule.
        reason: &'static str,
    },
    /// The members cannot be changed so.
    #[error("the members cannot be changed so: {reason}")]
    BadChange {
        /// What Raft says of it.
        reason: String,
    },
    /// The replica turned the request away.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The shard's queue of operations is full, or the shard stopped.
    #[error("the shard takes no more operations")]
    ShardBusy,
    /// The replica's log and its checkpointed state do not fit together, or the log is damaged.
    #[error("replica {} is damaged: {reason}", replica.0)]
    Damaged {
        /// The replica.
        replica: ReplicaId,
        /// What does not fit.
        reason: String,
    },
    /// The replica's machine cannot be built from its snapshot, or refused a committed entry.
    #[error("replica {} cannot go on: {reason}", replica.0)]
    Machine {
        /// The replica.
        replica: ReplicaId,
        /// What the machine said.
        reason: String,
    },
    /// The replica is not being seeded, or no longer so.
    #[error("replica {} is not being seeded", replica.0)]
    NotSeeded {
        /// The replica.
        replica: ReplicaId,
    },
    /// Raft failed inside itself.
    #[error("replica {} failed: {reason}", replica.0)]
    Panicked {
        /// The replica.
        replica: ReplicaId,
        /// The panic's message.
        reason: String,
    },
    /// The replica was stopped.
    #[error("the replica was stopped")]
    Stopped,
    /// The replica's log failed outside its own writes.
    #[error("the log of replica {} failed: {reason}", replica.0)]
    LogFailed {
        /// The replica.
        replica: ReplicaId,
        /// What happened.
        reason: String,
    },
    /// The data directory's journal or checkpoint failed.
    #[error("the data directory failed: {reason}")]
    DirectoryFailed {
        /// What happened.
        reason: Arc<str>,
    },
    /// Storage failed.
    #[error(transparent)]
    Storage(#[from] highwater_storage::Error),
    /// A thread could not be started.
    #[error("a thread could not be started: {0}")]
    Thread(#[source] std::io::Error),
}
