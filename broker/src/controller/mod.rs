//! The controller: what the cluster consists of, decided by one Raft group that every broker follows.
//!
//! [`ControllerMachine`] holds the rules and is pure. What it has applied is a [`ClusterImage`], an immutable value
//! that shares with its successor whatever did not change. [`ControllerReplica`] is the shell that a shard runs: it
//! publishes the image through [`ClusterView`], from which metadata is served and from which [`reconcile`] tells a
//! broker what to start and to delete.
//!
//! Everything random (topic ids) and every time comes in with the command. Ids of groups, replicas and producers are
//! counted and never used again, also not after what they named is deleted.
//!
//! Left out so far: access rules, quotas.

mod command;
mod coordinators;
mod delta;
mod encoding;
mod error;
mod event;
mod image;
mod logs;
mod machine;
mod name;
mod partition;
mod placement;
pub mod reconcile;
mod registrations;
mod replica;
mod snapshot;
pub(crate) mod wire;

pub use command::{
    AddPartitions, AlterTopic, CancelMoves, Command, CreateTopic, Decommission, DeleteTopic,
    MembersReport, MoveReplicas, PartitionMove, PlannedMove, RecoverPartition, RecoveryReport,
    Registration, Response, SetReplicationFactor,
};
pub use delta::Delta;
pub use error::Error;
pub use image::{
    Broker, BrokerState, ClusterImage, DeletedTopic, FIRST_PARTITION_GROUP, FOUNDING_REPLICA,
    Listener, Start, Topic,
};
pub(crate) use logs::{ControllerLogs, DIRECTORY, is_controller_log};
pub use machine::{ControllerMachine, Limits, PRODUCER_ID_BLOCK};
pub use partition::{Partition, Reassignment, Recovery, RemovedReplica, Replica};
pub use registrations::Registrations;
pub use replica::{ClusterView, ControllerReplica};
pub use snapshot::BadSnapshot;
