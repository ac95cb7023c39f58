//! Consensus: many Raft groups, each with one machine, driven by few threads.

mod checkpoint;
mod config;
mod counters;
mod effects;
mod election;
mod entry;
mod error;
mod event;
mod group;
mod journal;
mod logger;
pub mod machine;
mod mailbox;
mod membership;
mod message;
mod registry;
mod replica;
mod reply;
mod request;
mod shard;
mod shards;
mod storage;
#[cfg(test)]
mod testing;
mod thread;
mod waiters;

pub use config::{Config, TERM_LIMIT};
pub use counters::ShardCounters;
pub use error::Error;
pub use mailbox::Inbox;
pub use membership::{MemberChange, Members};
pub use message::{NoPeers, PeerMessage, PeerTransport};
pub use reply::{Outcome, Reply, ReplySink};
pub use request::{Answer, BuildMachine, Operation, Origin, ReplicaStatus, Request, Started};

pub use shard::{Shard, TurnReport};
pub use shards::{ShardThreads, Shards, ShardsSpec};

/// A replica's identity: given once by the controller, never reused. It is the Raft id and the storage's log id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplicaId(pub u64);

/// A Raft group's identity: 0 is the controller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(pub u64);
