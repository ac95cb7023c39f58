//! A partition: the rules by which records get offsets, and what its readers see of it.
//!
//! The core is pure and has one subject per file: [`State`] is what the log says, `pending` what this
//! term's leader has proposed beyond it, `producers` what is remembered of idempotent producers, and
//! [`PartitionMachine`] decides on all three. [`retention`] says what may leave and when a segment ends.
//! [`PartitionReplica`] is the shell around them: it is the [`Machine`](crate::raft::machine::Machine) that a shard
//! runs, and it publishes into [`PartitionShared`], from which readers are served without asking the shard.
//!
//! Left out: transactions and compaction.

mod error;
mod leaderships;
mod machine;
mod pending;
mod producers;
pub(crate) mod record_time;
mod replica;
pub mod retention;
mod shared;
mod state;
#[cfg(test)]
pub(crate) mod testing;

pub use error::Error;
pub use leaderships::Leaderships;
pub use machine::{Command, Limits, PartitionMachine, Response, TrimTo};
pub use producers::ProducerTable;
pub use replica::PartitionReplica;
pub use shared::{PartitionShared, Standing, Watch};
pub use state::{BadSnapshot, State};
