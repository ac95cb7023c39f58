//! Consensus: many Raft groups, each with one machine, driven by few threads.
//!
//! From the inside out, each knowing only what stands before it:
//!
//! - [`machine`]: the rules of one group, without time, chance or disk.
//! - `group`: the driver of one replica's Raft state. Events in, effects out; it writes and sends nothing.
//! - `replica`: a driver, its machine, and the callers who wait. It carries the effects out against the log.
//! - [`Shard`]: many replicas, one turn at a time. All they write in a turn becomes one piece of the journal.
//! - [`Shards`]: the threads: one per shard, one that syncs the journal, one that makes checkpoints.
//!
//! A command's way: [`Shards::send`] puts it into the mailbox of its group's shard. The next turn has the machine
//! decide it, together with all others of the group, against the indexes that their entries will get; the entries go
//! into the log (page cache) and into Raft as one proposal, and to the followers. When a majority has synced them they
//! are committed; the machine applies them, its readers see it, and then the caller is answered.
//!
//! What holds whatever happens: an answer is given once, and with success only for what is applied in the term in
//! which it was proposed. Nothing is said to a peer that could be forgotten in a crash. What fails in one replica, a
//! panic too, ends that replica and no other; a failed sync ends all, for good.
//!
//! A replica that lacks what no log has any more takes a snapshot; where the log is the data, `seeding` says how.
//! The network between brokers stands behind [`PeerTransport`].

mod ailment;
mod catching_up;
mod checkpoint;
mod cold_read;
mod config;
mod counters;
mod effects;
mod election;
mod entry;
mod error;
mod event;
mod group;
mod instruments;
mod journal;
mod logger;
pub mod machine;
mod mailbox;
mod membership;
mod message;
mod pace;
mod registry;
mod replica;
mod reply;
mod request;
mod seeding;
mod shard;
mod shards;
mod snapshot;
mod storage;
#[cfg(test)]
pub(crate) mod testing;
mod thread;
mod waiters;

pub use ailment::Ailment;
pub use cold_read::{ColdRead, FinishedRead};
pub use config::{Config, TERM_LIMIT};
pub use counters::ShardCounters;
pub(crate) use entry::{from_peer as entry_from_peer, kind_of as kind_of_entry};
pub use error::Error;
pub use instruments::Instruments;
pub use mailbox::{Inbox, MailboxLevel};
pub use membership::{MemberChange, Members};
pub use message::{Leadership, NoPeers, PeerMessage, PeerTransport};
pub use reply::{Outcome, Reply, ReplySink};
pub use request::{
    Acks, Answer, BuildMachine, Failure, FollowerStatus, FoundLog, Operation, Origin,
    ReplicaStatus, Request, Started,
};

pub use seeding::{
    BadPiece, Pull, Pulled, ReceiveError, Receiving, SeedingProgress, Source, SourceRefusal,
};
pub use shard::{Shard, TurnReport};
pub use shards::{ShardThreads, Shards, ShardsSpec};

/// A replica's identity: given once by the controller, never reused. It is the Raft id and the storage's log id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplicaId(pub u64);

/// A Raft group's identity: 0 is the controller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(pub u64);
