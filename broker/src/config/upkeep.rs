//! Topics, shards, storage and what happens by the clock.

use super::check::{Bound, Check};
use super::setting::settings;
use crate::raft;

settings! {
    /// Defaults and limits of topics.
    pub struct TopicsConfig {
        /// Partitions of a topic whose creator names no number. One keeps all records in order.
        pub default_partitions: u32 = 1,
        /// Replicas of each partition of a topic whose creator names no number. 0: three, or one on each broker where there
        /// are fewer.
        pub default_replication_factor: u32 = 0,
        /// Partitions of one topic, so that a slip of the finger does not use up `max_partitions`.
        pub max_partitions_per_topic: u32 = 10_000,
        /// Partitions of all topics together: each takes memory and files on its brokers.
        pub max_partitions: u32 = 100_000,
        /// Topics. Each takes memory in the metadata of every broker and client.
        pub max_topics: u32 = 50_000,
        /// Idempotent producers that one partition remembers. Each takes some 300 bytes of memory and of every snapshot.
        pub max_producers: usize = 10_000,
        /// Silence after which a partition forgets an idempotent producer. Longer than any client retries a batch.
        pub producer_expiration_ms: u64 = 24 * 3_600_000,
        /// The same while more than three quarters of `max_producers` are in use, so that short-lived producers make room for others.
        pub producer_expiration_min_ms: u64 = 15 * 60_000,
    }
}

impl TopicsConfig {
    pub(super) fn check(&self, check: &mut Check) {
        check.within("topics.max_partitions", self.max_partitions, 1, 1 << 24);
        check.within(
            "topics.max_partitions_per_topic",
            self.max_partitions_per_topic,
            1,
            Bound::of("topics.max_partitions", self.max_partitions),
        );
        check.within(
            "topics.default_partitions",
            self.default_partitions,
            1,
            Bound::of(
                "topics.max_partitions_per_topic",
                self.max_partitions_per_topic,
            ),
        );
        check.within(
            "topics.default_replication_factor",
            self.default_replication_factor,
            0,
            15,
        );
        check.within("topics.max_topics", self.max_topics, 1, 1 << 24);
        check.within("topics.max_producers", self.max_producers, 1, 1 << 24);
        check.within(
            "topics.producer_expiration_ms",
            self.producer_expiration_ms,
            1,
            365 * 86_400_000,
        );
        check.within(
            "topics.producer_expiration_min_ms",
            self.producer_expiration_min_ms,
            1,
            Bound::of("topics.producer_expiration_ms", self.producer_expiration_ms),
        );
    }
}

settings! {
    /// The threads that own the partitions.
    pub struct ShardsConfig {
        /// Threads; 0: one per two cores, at least 1, at most 16. The other cores serve requests.
        pub threads: usize = 0,
        /// Requests waiting for one thread; further ones are refused, since they would wait longer than their clients.
        pub mailbox_requests: usize = 65_536,
        /// Bytes of requests waiting for one thread; further ones are refused, since they hold memory.
        pub mailbox_bytes: usize = 128 << 20,
        /// Bytes that one partition may have proposed and not committed; further batches are refused until the disk (or a
        /// majority) follows.
        pub max_uncommitted_bytes: u64 = 64 << 20,
        /// Bytes that a replica may lack and still be sent entry after entry, where its leader has them all. One that lacks more
        /// than this and more than half of the log copies the whole log instead, which writes each byte once.
        pub seeding_bytes: u64 = 256 << 20,
    }
}

impl ShardsConfig {
    pub(super) fn check(&self, check: &mut Check) {
        check.within("shards.threads", self.threads, 0, 256);
        check.within(
            "shards.mailbox_requests",
            self.mailbox_requests,
            16,
            1 << 24,
        );
        check.within("shards.mailbox_bytes", self.mailbox_bytes, 1 << 20, 1 << 40);
        check.within(
            "shards.max_uncommitted_bytes",
            self.max_uncommitted_bytes,
            1 << 20,
            1 << 40,
        );
        check.within("shards.seeding_bytes", self.seeding_bytes, 1, 1 << 50);
    }

    /// The same for the Raft layer. `max_batch_bytes` is the largest batch that is let in.
    pub(crate) fn to_raft(&self, max_batch_bytes: u32) -> raft::Config {
        let others = raft::Config::default();
        let entry_bytes = others.entry_bytes.max(max_batch_bytes as usize);
        raft::Config {
            mailbox_messages: self.mailbox_requests,
            mailbox_bytes: self.mailbox_bytes.max(entry_bytes),
            uncommitted_bytes: self.max_uncommitted_bytes,
            seeding_bytes: self.seeding_bytes,
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

/// What sizes of files in the data directory are multiples of.
const BLOCK_BYTES: u64 = 4096;

settings! {
    /// The data directory.
    pub struct StorageConfig {
        /// Size of a journal file. Larger ones are rolled less often; each is preallocated.
        pub journal_file_bytes: u64 = highwater_storage::Config::default().journal_file_bytes,
        /// Bytes written since the last checkpoint at which the next is due; at twice that, writes wait. Bounds how long a
        /// start takes.
        pub checkpoint_interval_bytes: u64 = highwater_storage::Config::default().checkpoint_interval_bytes,
        /// Free bytes of the disk below which produce is refused. Reads, trims and deletes go on, which is how room is made.
        pub min_free_bytes: u64 = highwater_storage::Config::default().min_free_bytes,
        /// Bytes set aside at start for journal and checkpoints, so that a full disk does not stop deletes.
        pub reserve_bytes: u64 = highwater_storage::Config::default().reserve_bytes,
        /// Bytes of segment files kept for reuse: writing into a recycled file is cheaper than growing a new one.
        pub pool_bytes: u64 = highwater_storage::Config::default().pool_bytes,
    }
}

impl StorageConfig {
    pub(super) fn check(&self, check: &mut Check) {
        check.within(
            "storage.checkpoint_interval_bytes",
            self.checkpoint_interval_bytes,
            4096,
            1 << 40,
        );
        check.within(
            "storage.journal_file_bytes",
            self.journal_file_bytes,
            16_384,
            1 << 40,
        );
        check.within("storage.min_free_bytes", self.min_free_bytes, 0, 1 << 50);
        check.within("storage.reserve_bytes", self.reserve_bytes, 0, 1 << 40);
        check.within("storage.pool_bytes", self.pool_bytes, 0, 1 << 50);
        let blocks = [
            ("storage.journal_file_bytes", self.journal_file_bytes),
            ("storage.reserve_bytes", self.reserve_bytes),
        ];
        for (key, bytes) in blocks {
            let is_whole = bytes.is_multiple_of(BLOCK_BYTES);
            check.that(
                key,
                bytes,
                is_whole,
                "a multiple of 4096, the size of a block",
            );
        }
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

settings! {
    /// What happens by the clock.
    pub struct UpkeepConfig {
        /// Time between two looks at retention and `segment.ms` of all partitions. Records may stay that much longer; what is too
        /// much by `retention.bytes` goes within a second.
        pub retention_check_ms: u32 = 60_000,
        /// Time between two looks at the disk, to say in the log when it gets full and when it has room again, and to know since when
        /// something on it fails.
        pub disk_check_ms: u32 = 1_000,
        /// Time between two looks for idempotent producers that went silent. They take memory that much longer.
        pub producer_check_ms: u32 = 600_000,
    }
}

impl UpkeepConfig {
    pub(super) fn check(&self, check: &mut Check) {
        check.within(
            "upkeep.retention_check_ms",
            self.retention_check_ms,
            10,
            86_400_000,
        );
        check.within("upkeep.disk_check_ms", self.disk_check_ms, 10, 3_600_000);
        check.within(
            "upkeep.producer_check_ms",
            self.producer_check_ms,
            10,
            86_400_000,
        );
    }
}
