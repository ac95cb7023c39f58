//! Topics, shards, storage and what happens by the clock.

use serde::{Deserialize, Serialize};

use super::{Error, within, wrong};
use crate::raft;

/// Defaults and limits of topics.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopicsConfig {
    /// Partitions of a topic whose creator names no number.
    pub default_partitions: u32,
    /// Partitions of one topic.
    pub max_partitions_per_topic: u32,
    /// Partitions of all topics together: each takes memory and files on its brokers.
    pub max_partitions: u32,
    /// Topics.
    pub max_topics: u32,
    /// Idempotent producers that one partition remembers. Each takes some 300 bytes of memory and of every snapshot.
    pub max_producers: usize,
    /// Silence after which a partition forgets an idempotent producer. Longer than any client retries a batch.
    pub producer_expiration_ms: u64,
    /// The same while more than three quarters of `max_producers` are in use.
    pub producer_expiration_min_ms: u64,
}

impl Default for TopicsConfig {
    fn default() -> Self {
        Self {
            default_partitions: 1,
            max_partitions_per_topic: 10_000,
            max_partitions: 100_000,
            max_topics: 50_000,
            max_producers: 10_000,
            producer_expiration_ms: 24 * 3_600_000,
            producer_expiration_min_ms: 15 * 60_000,
        }
    }
}

impl TopicsConfig {
    pub(super) fn validate(&self) -> Result<(), Error> {
        within("topics.max_partitions", self.max_partitions, 1, 1 << 24)?;
        within(
            "topics.max_partitions_per_topic",
            self.max_partitions_per_topic,
            1,
            self.max_partitions,
        )?;
        within(
            "topics.default_partitions",
            self.default_partitions,
            1,
            self.max_partitions_per_topic,
        )?;
        within("topics.max_topics", self.max_topics, 1, 1 << 24)?;
        within("topics.max_producers", self.max_producers, 1, 1 << 24)?;
        within(
            "topics.producer_expiration_min_ms",
            self.producer_expiration_min_ms,
            1,
            self.producer_expiration_ms,
        )
    }
}

/// The threads that own the partitions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShardsConfig {
    /// Threads; 0: one per two cores, at least 1, at most 16.
    pub threads: usize,
    /// Requests waiting for one thread; further ones are refused.
    pub mailbox_requests: usize,
    /// Bytes of requests waiting for one thread; further ones are refused.
    pub mailbox_bytes: usize,
    /// Bytes that one partition may have proposed and not committed; further batches are refused.
    pub max_uncommitted_bytes: u64,
}

impl Default for ShardsConfig {
    fn default() -> Self {
        Self {
            threads: 0,
            mailbox_requests: 65_536,
            mailbox_bytes: 128 << 20,
            max_uncommitted_bytes: 64 << 20,
        }
    }
}

impl ShardsConfig {
    pub(super) fn validate(&self) -> Result<(), Error> {
        within("shards.threads", self.threads, 0, 256)?;
        within(
            "shards.mailbox_requests",
            self.mailbox_requests,
            16,
            1 << 24,
        )?;
        within("shards.mailbox_bytes", self.mailbox_bytes, 1 << 20, 1 << 40)?;
        within(
            "shards.max_uncommitted_bytes",
            self.max_uncommitted_bytes,
            1 << 20,
            1 << 40,
        )
    }

    /// The same for the Raft layer. `max_batch_bytes` is the largest batch that is let in.
    pub(crate) fn to_raft(&self, max_batch_bytes: u32) -> raft::Config {
        let others = raft::Config::default();
        let entry_bytes = others.entry_bytes.max(max_batch_bytes as usize);
        raft::Config {
            mailbox_messages: self.mailbox_requests,
            mailbox_bytes: self.mailbox_bytes.max(entry_bytes),
            uncommitted_bytes: self.max_uncommitted_bytes,
            entry_bytes,
            ..others
        }
    }

    /// Threads to start.
    #[must_use]
    pub fn thread_count(&self) -> usize {
        if self.threads > 0 {
            return self.threads;
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (cores / 2).clamp(1, 16)
    }
}

/// The data directory.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageConfig {
    /// Size of a journal file. Larger ones are rolled less often; each is preallocated.
    pub journal_file_bytes: u64,
    /// Bytes written since the last checkpoint at which the next is due; at twice that, writes wait. Bounds how long a
    /// start takes.
    pub checkpoint_interval_bytes: u64,
    /// Free bytes of the disk below which produce is refused. Reads, trims and deletes go on.
    pub min_free_bytes: u64,
    /// Bytes set aside at start for journal and checkpoints, so that a full disk does not stop deletes.
    pub reserve_bytes: u64,
    /// Bytes of segment files kept for reuse: writing into a recycled file is cheaper than growing a new one.
    pub pool_bytes: u64,
}

impl Default for StorageConfig {
    fn default() -> Self {
        let storage = highwater_storage::Config::default();
        Self {
            journal_file_bytes: storage.journal_file_bytes,
            checkpoint_interval_bytes: storage.checkpoint_interval_bytes,
            min_free_bytes: storage.min_free_bytes,
            reserve_bytes: storage.reserve_bytes,
            pool_bytes: storage.pool_bytes,
        }
    }
}

impl StorageConfig {
    pub(super) fn validate(&self) -> Result<(), Error> {
        within(
            "storage.checkpoint_interval_bytes",
            self.checkpoint_interval_bytes,
            4096,
            1 << 40,
        )?;
        self.to_storage().validate().map_err(|error| {
            wrong(
                "storage.journal_file_bytes",
                self.journal_file_bytes,
                error.to_string(),
            )
        })
    }

    /// The same for the storage layer.
    #[must_use]
    pub fn to_storage(&self) -> highwater_storage::Config {
        highwater_storage::Config {
            journal_file_bytes: self.journal_file_bytes,
            checkpoint_interval_bytes: self.checkpoint_interval_bytes,
            min_free_bytes: self.min_free_bytes,
            reserve_bytes: self.reserve_bytes,
            pool_bytes: self.pool_bytes,
            ..highwater_storage::Config::default()
        }
    }
}

/// What happens by the clock.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpkeepConfig {
    /// Time between two looks at retention and `segment.ms` of all partitions.
    pub retention_check_ms: u32,
    /// Time between two looks at the disk's free space, to say in the log when it gets full and when it has room again.
    pub disk_check_ms: u32,
    /// Time between two looks for idempotent producers that went silent.
    pub producer_check_ms: u32,
}

impl Default for UpkeepConfig {
    fn default() -> Self {
        Self {
            retention_check_ms: 60_000,
            disk_check_ms: 1_000,
            producer_check_ms: 600_000,
        }
    }
}

impl UpkeepConfig {
    pub(super) fn validate(&self) -> Result<(), Error> {
        within(
            "upkeep.retention_check_ms",
            self.retention_check_ms,
            10,
            86_400_000,
        )?;
        within("upkeep.disk_check_ms", self.disk_check_ms, 10, 3_600_000)?;
        within(
            "upkeep.producer_check_ms",
            self.producer_check_ms,
            10,
            86_400_000,
        )
    }
}
