//! How far a group has come.

use std::collections::BTreeMap;

use super::member::TopicPartition;

/// The offset of a partition as it was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// Offset of the next record to read.
    pub offset: u64,
    /// Leader epoch of the record before it, where said.
    pub leader_epoch: Option<u64>,
    /// The text kept beside it.
    pub metadata: String,
    /// When it was committed, in milliseconds since the Unix epoch.
    pub committed_at_ms: i64,
}

/// An offset to commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PartitionOffset {
    pub(super) partition: TopicPartition,
    pub(super) offset: u64,
    pub(super) leader_epoch: Option<u64>,
    pub(super) metadata: String,
}

/// The committed offsets of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Offsets {
    pub(super) by_partition: BTreeMap<TopicPartition, CommittedOffset>,
}

impl Offsets {
    pub(super) fn get(&self, partition: TopicPartition) -> Option<&CommittedOffset> {
        self.by_partition.get(&partition)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_partition.is_empty()
    }

    pub(super) fn commit(&mut self, at_ms: i64, offsets: &[PartitionOffset]) {
        for offset in offsets {
            self.by_partition
                .insert(offset.partition, offset.committed(at_ms));
        }
    }

    pub(super) fn remove(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.by_partition.remove(partition);
        }
    }

    /// Forgets what was committed at this time or before.
    pub(super) fn expire(&mut self, committed_until_ms: i64) {
        self.by_partition
            .retain(|_, offset| offset.committed_at_ms > committed_until_ms);
    }

    /// Whether anything was committed at this time or before.
    pub(super) fn has_any_until(&self, committed_until_ms: i64) -> bool {
        let mut offsets = self.by_partition.values();
        offsets.any(|offset| offset.committed_at_ms <= committed_until_ms)
    }
}
