//! Consumer groups: who reads which partitions, and how far each group has come.
//!
//! Groups are spread by a hash of their id over a few Raft groups, the *coordinators*. [`CoordinatorMachine`] holds the
//! rules of one and is pure; [`CoordinatorReplica`] is the shell that a shard runs, with the clocks that only a leader has.
//!
//! The protocol is that of KIP-848. Each change of members, of what they subscribe to, or of the topics gives the group a
//! new *target*: which member is to have which partition in the end. It is computed at once, by an [`Assignor`]. Members get
//! there one by one, each with its own heartbeats and without waiting for those whom the change does not touch:
//!
//! - What a member has and is not to keep it is told to let go. Until it says that it did, or is fenced, nobody else is given it.
//! - What it is to have and nobody holds it is given, once it has let go what it should.
//! - The number that stands beside what a member has, its *member epoch*, is drawn from a counter of the group that never goes
//!   back, anew each time partitions are given. So a heartbeat or commit that is older than a grant is known to be.
//! - A commit counts for a partition that the member has held since the epoch it names, or before. So it is never refused only
//!   because a heartbeat passed it, and what somebody commits who was fenced never counts.
//!
//! A member that is silent for its session timeout, or takes longer than its rebalance timeout to let partitions go, is
//! removed by an event that the leader proposes. The clocks for that are the leader's own: they are in no log, and a new
//! leader starts them again, so that a change of leaders costs no member its place. Nothing reads a clock in `apply`.
//!
//! Topics come in with the commands, as a [`Catalog`] of one version; what a group saw last is part of its state. A catalog that
//! is older than that changes nothing.
//!
//! Committed offsets belong to topic ids, so a topic that is made again under its name begins without any. They outlive the
//! members; only those of a group that has been without members for the retention time are forgotten.
//!
//! Left out: assignors that run in clients, transactions.

mod assignor;
mod catalog;
mod command;
mod commit;
mod draft;
mod error;
mod event;
mod group;
mod heartbeat;
mod machine;
mod member;
mod observed;
mod offsets;
mod replica;
mod sessions;
mod size;
mod snapshot;
mod state;
mod subscription;
mod view;
mod wire;

#[cfg(test)]
mod testing;

pub use assignor::Assignor;
pub use catalog::{Catalog, CatalogTopic};
pub use command::{
    Command, Commit, CommitItem, DeleteOffsets, ExpiredMember, Expiry, FetchOffsets, Heartbeat,
    Presence, Response,
};
pub use error::Error;
pub use machine::{CoordinatorMachine, Limits};
pub use member::{Epoch, TopicPartition};
pub use observed::RemovedMember;
pub use offsets::CommittedOffset;
pub use replica::{CoordinatorReplica, CoordinatorView};
pub use snapshot::BadSnapshot;
pub use subscription::Subscription;
pub use view::{
    GroupState, GroupSummary, GroupView, MemberClock, MemberState, MemberView, PausedPartition,
};
