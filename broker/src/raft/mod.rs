//! Consensus: many Raft groups, each with one machine, driven by few threads.

pub mod machine;

/// A replica's identity: given once by the controller, never reused. It is the Raft id and the storage's log id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplicaId(pub u64);

/// A Raft group's identity: 0 is the controller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(pub u64);
