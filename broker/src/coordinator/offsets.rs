//! How far a group has come.

use std::collections::BTreeMap;

use super::member::TopicPartition;
use super::size;

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
///
/// Invariant: `bytes` is what they take in a snapshot at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Offsets {
    by_partition: BTreeMap<TopicPartition, CommittedOffset>,
    bytes: usize,
}

impl FromIterator<(TopicPartition, CommittedOffset)> for Offsets {
    fn from_iter<T: IntoIterator<Item = (TopicPartition, CommittedOffset)>>(offsets: T) -> Self {
        let by_partition: BTreeMap<_, _> = offsets.into_iter().collect();
        let sizes = by_partition.values().map(CommittedOffset::size);
        Self {
            bytes: sizes.sum(),
            by_partition,
        }
    }
}

impl CommittedOffset {
    fn size(&self) -> usize {
        size::of_offset(self.metadata.len())
    }
}

impl Offsets {
    pub(super) fn get(&self, partition: TopicPartition) -> Option<&CommittedOffset> {
        self.by_partition.get(&partition)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&TopicPartition, &CommittedOffset)> {
        self.by_partition.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.by_partition.len()
    }

    /// What they take in a snapshot at most.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether committing this takes more room than there is in its place.
    pub(super) fn grow_with(&self, partition: TopicPartition, metadata: &str) -> bool {
        let before = self.get(partition);
        before.is_none_or(|before| metadata.len() > before.metadata.len())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_partition.is_empty()
    }

    pub(super) fn commit(&mut self, at_ms: i64, offsets: &[PartitionOffset]) {
        for offset in offsets {
            let committed = offset.committed(at_ms);
            self.bytes += committed.size();
            let before = self.by_partition.insert(offset.partition, committed);
            self.bytes -= before.map_or(0, |before| before.size());
        }
    }

    pub(super) fn remove(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            let before = self.by_partition.remove(partition);
            self.bytes -= before.map_or(0, |before| before.size());
        }
    }

    /// Forgets what was committed at this time or before.
    pub(super) fn expire(&mut self, committed_until_ms: i64) {
        self.by_partition.retain(|_, offset| {
            let stays = offset.committed_at_ms > committed_until_ms;
            if !stays {
                self.bytes -= offset.size();
            }
            stays
        });
    }

    /// Whether anything was committed at this time or before.
    pub(super) fn has_any_until(&self, committed_until_ms: i64) -> bool {
        let mut offsets = self.by_partition.values();
        offsets.any(|offset| offset.committed_at_ms <= committed_until_ms)
    }
}
