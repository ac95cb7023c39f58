//! What the log of a coordinator says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use highwater_proto::TopicId;

use super::member::{Epoch, Held, Member, TopicPartition};
use super::offsets::{CommittedOffset, PartitionOffset};

/// A change of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) group: Arc<str>,
    pub(super) change: Change,
}

/// What changes of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Another epoch, above the old one, and the topics that some member reads with their numbers of partitions, by this
    /// version of the metadata.
    EpochSet {
        epoch: Epoch,
        catalog_version: u64,
        topics: BTreeMap<TopicId, u32>,
    },
    /// A new member, or what one says of itself from now on.
    MemberSet(Arc<Member>),
    /// A member is gone since this time.
    MemberRemoved { member: Arc<str>, at_ms: i64 },
    /// What a member is to have in the end.
    TargetSet {
        member: Arc<str>,
        target: Arc<BTreeSet<TopicPartition>>,
    },
    /// What a member has.
    HeldSet { member: Arc<str>, held: Arc<Held> },
    /// Offsets, committed at this time.
    OffsetsCommitted {
        at_ms: i64,
        offsets: Vec<PartitionOffset>,
    },
    /// Offsets are forgotten.
    OffsetsRemoved(Vec<TopicPartition>),
    /// If the group has no members: offsets that were committed at this time or before are forgotten, and with the last of
    /// them the group.
    OffsetsExpired { committed_until_ms: i64 },
    /// The group and its offsets are gone.
    Removed,
}

impl Change {
    /// Whether members may be changed by it, or whether there is a group.
    pub(super) fn is_of_members(&self) -> bool {
        match self {
            Self::EpochSet { .. }
            | Self::MemberSet(_)
            | Self::MemberRemoved { .. }
            | Self::TargetSet { .. }
            | Self::HeldSet { .. }
            | Self::OffsetsExpired { .. }
            | Self::Removed => true,
            Self::OffsetsCommitted { .. } | Self::OffsetsRemoved(_) => false,
        }
    }
}

impl PartitionOffset {
    /// What is kept of it when it was committed at `at_ms`.
    pub(super) fn committed(&self, at_ms: i64) -> CommittedOffset {
        CommittedOffset {
            offset: self.offset,
            leader_epoch: self.leader_epoch,
            metadata: self.metadata.clone(),
            committed_at_ms: at_ms,
        }
    }
}
