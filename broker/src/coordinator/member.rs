//! A member of a group, and what it has.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use highwater_proto::{PartitionIndex, TopicId};

use super::assignor::Assignor;
use super::subscription::Subscription;

/// One partition of a topic that exists or existed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub index: PartitionIndex,
}

/// A count of a group's changes. A member's epoch is that of the last change which gave it anything; 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The one after it.
    pub(super) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Its id, drawn by itself.
    pub(super) id: Arc<str>,
    /// The name under which it comes back with another id.
    pub(super) instance: Option<Arc<str>>,
    pub(super) rack: Option<String>,
    pub(super) client_id: String,
    pub(super) rebalance_timeout_ms: u32,
    pub(super) session_timeout_ms: u32,
    pub(super) subscription: Subscription,
    pub(super) assignor: Option<Assignor>,
    /// The topics that the subscription means, by the group's catalog version.
    pub(super) topics: BTreeSet<TopicId>,
}

/// What a member has.
///
/// Invariant: `assigned` and `revoking` have no partition in common, and no other member of the group has any of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// The epoch with which it was told last.
    pub(super) epoch: Epoch,
    /// The epoch that it is known to know: an answer with a newer one may have been lost.
    pub(super) known_epoch: Epoch,
    /// It is a static member that left and may be back.
    pub(super) is_away: bool,
    /// What it may read, each with the epoch that it was given with.
    pub(super) assigned: BTreeMap<TopicPartition, Epoch>,
    /// What it is to let go and has not said to have, likewise.
    pub(super) revoking: BTreeMap<TopicPartition, Epoch>,
}

impl Held {
    /// The epoch since which it has the partition, if it has.
    pub(super) fn since(&self, partition: TopicPartition) -> Option<Epoch> {
        let since = self
            .assigned
            .get(&partition)
            .or_else(|| self.revoking.get(&partition));
        since.copied()
    }

    /// Everything that nobody else may be given.
    pub(super) fn partitions(&self) -> impl Iterator<Item = TopicPartition> {
        self.assigned.keys().chain(self.revoking.keys()).copied()
    }
}

/// A member, what it has, and what it is to have in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seat {
    pub(super) member: Arc<Member>,
    pub(super) held: Arc<Held>,
    pub(super) target: Arc<BTreeSet<TopicPartition>>,
}

impl Seat {
    /// Whether the member has what it is to have.
    pub(super) fn is_settled(&self) -> bool {
        self.held.revoking.is_empty()
            && self.held.assigned.len() == self.target.len()
            && self.held.assigned.keys().eq(self.target.iter())
    }
}
