//! Limits of what clients may ask for.

use super::check::{Bound, Check};
use super::setting::settings;

settings! {
    /// Limits that all requests share.
    pub struct RequestsConfig {
        /// Bytes that all requests in flight and the answers to them may hold at once. A request that does not fit is
        /// refused; a stream that does not fit is read no further for now.
        pub memory_bytes: u64 = 256 << 20,
        /// Largest message of any method but the produce ones. Such messages hold names and numbers, so a larger one is a mistake.
        pub max_control_bytes: u32 = 4 << 20,
        /// Largest produce message: the largest batch plus room for what stands around it. No batch goes beyond it,
        /// whatever the `max.message.bytes` of its topic.
        pub max_produce_bytes: u32 = (16 << 20) + (64 << 10),
        /// Messages and strings inside one message. Each takes up to some hundred bytes when decoded, but may take only
        /// two when sent, so the size alone does not bound the memory.
        pub max_elements: u32 = 200_000,
        /// Longest time a unary call may take, so that none holds its memory for ever; a client's own deadline may be shorter.
        pub timeout_ms: u32 = 60_000,
        /// Longest time a stream waits for memory before it is refused, so that its client hears of the overload.
        pub memory_wait_ms: u32 = 10_000,
    }
}

impl RequestsConfig {
    pub(super) fn check(&self, check: &mut Check) {
        check.within(
            "requests.max_control_bytes",
            self.max_control_bytes,
            1024,
            1 << 30,
        );
        check.within(
            "requests.max_produce_bytes",
            self.max_produce_bytes,
            1024,
            1 << 30,
        );
        check.within("requests.max_elements", self.max_elements, 16, 1 << 24);
        check.within("requests.timeout_ms", self.timeout_ms, 100, 3_600_000);
        check.within("requests.memory_wait_ms", self.memory_wait_ms, 1, 3_600_000);
        let (key, largest) = if self.max_control_bytes > self.max_produce_bytes {
            ("requests.max_control_bytes", self.max_control_bytes)
        } else {
            ("requests.max_produce_bytes", self.max_produce_bytes)
        };
        check.within(
            "requests.memory_bytes",
            self.memory_bytes,
            Bound::derived("twice ", key, 2 * u64::from(largest)),
            1 << 40,
        );
    }
}

settings! {
    /// Limits of produce requests and streams.
    pub struct ProduceConfig {
        /// Wait for an acknowledgement where a request names none. Long enough for an election and a slow disk.
        pub default_timeout_ms: u32 = 30_000,
        /// Longest wait for an acknowledgement that a request may name. Below `requests.timeout_ms`, so that the answer still gets out.
        pub max_timeout_ms: u32 = 50_000,
        /// Batches in one message. Each is decided and answered by itself.
        pub max_items: usize = 4_096,
        /// Bytes that a stream has sent and that are not acknowledged yet; the stream is read no further above that.
        pub max_stream_bytes: u64 = 32 << 20,
        /// The same for one partition of a stream; further batches to it are refused, so that one stuck partition does not
        /// hold up the others.
        pub max_partition_bytes: u64 = 24 << 20,
        /// Batches of a stream that are not acknowledged yet; the stream is read no further above that.
        pub max_stream_batches: usize = 16_384,
        /// Records in one batch. A count is cheap to lie about in a header, and readers make room by it.
        pub max_batch_records: u32 = 1 << 20,
        /// Bytes of a record's key, checked where the broker sees it: in batches that are not compressed.
        pub max_key_bytes: u32 = 64 << 10,
        /// Headers of one record, as far as the broker sees them: each takes memory in every client that decodes them.
        pub max_headers: u32 = 1_024,
        /// Bytes of all headers of one record, as far as the broker sees them.
        pub max_header_bytes: u32 = 256 << 10,
    }
}

impl ProduceConfig {
    pub(super) fn check(&self, check: &mut Check, requests: &RequestsConfig) {
        check.within(
            "produce.max_timeout_ms",
            self.max_timeout_ms,
            1,
            Bound::of("requests.timeout_ms", requests.timeout_ms),
        );
        check.within(
            "produce.default_timeout_ms",
            self.default_timeout_ms,
            1,
            Bound::of("produce.max_timeout_ms", self.max_timeout_ms),
        );
        check.within("produce.max_items", self.max_items, 1, 1 << 20);
        check.within(
            "produce.max_stream_bytes",
            self.max_stream_bytes,
            Bound::of("requests.max_produce_bytes", requests.max_produce_bytes),
            Bound::of("requests.memory_bytes", requests.memory_bytes),
        );
        check.within(
            "produce.max_partition_bytes",
            self.max_partition_bytes,
            1,
            Bound::of("produce.max_stream_bytes", self.max_stream_bytes),
        );
        check.within(
            "produce.max_stream_batches",
            self.max_stream_batches,
            Bound::of("produce.max_items", self.max_items),
            1 << 24,
        );
        check.within(
            "produce.max_batch_records",
            self.max_batch_records,
            1,
            1 << 24,
        );
        check.within("produce.max_key_bytes", self.max_key_bytes, 1, 1 << 30);
        check.within("produce.max_headers", self.max_headers, 0, 1 << 20);
        check.within(
            "produce.max_header_bytes",
            self.max_header_bytes,
            0,
            1 << 30,
        );
    }
}

settings! {
    /// Limits of fetch requests and subscriptions.
    pub struct FetchConfig {
        /// Bytes of one partition in an answer where the request names none. One busy partition leaves room for others.
        pub default_partition_bytes: u32 = 1 << 20,
        /// Most bytes of batches that one answer may hold; a request may ask for less. One batch may be larger.
        pub max_bytes: u32 = 50 << 20,
        /// Longest wait for new records that a request may name. Shorter than what proxies and load balancers cut off.
        pub max_wait_ms: u32 = 30_000,
        /// How long a request waits, whatever it says itself, for a partition that elects its leader. Partitions do so when
        /// they are first needed after a start.
        pub leader_wait_ms: u32 = 2_000,
        /// Partitions in one request or assignment. Each is looked up and waited for.
        pub max_partitions: usize = 10_000,
        /// Bytes that a batch may take when the broker decompresses it for a client that wants plain records.
        pub max_decompressed_bytes: u32 = 64 << 20,
        /// Reads from disk at once. More keeps more of a fast disk busy; each holds a thread while it waits.
        pub read_threads: usize = 8,
        /// Reads from disk waiting for a thread; further ones are refused, since they would be answered too late.
        pub max_queued_reads: usize = 1_024,
        /// Credit in bytes that one subscription may have outstanding: what a subscriber has promised to take.
        pub max_credit_bytes: u64 = 1 << 30,
        /// Bytes of batches in one pushed message: what a subscriber that reads slowly can make the broker hold.
        pub push_bytes: u32 = 1 << 20,
    }
}

impl FetchConfig {
    pub(super) fn check(&self, check: &mut Check, requests: &RequestsConfig) {
        let answer = Bound::derived(
            "half of ",
            "requests.memory_bytes",
            (requests.memory_bytes / 2).min(u64::from(u32::MAX)),
        );
        check.within("fetch.max_bytes", self.max_bytes, 1, answer);
        check.within(
            "fetch.default_partition_bytes",
            self.default_partition_bytes,
            1,
            Bound::of("fetch.max_bytes", self.max_bytes),
        );
        check.within(
            "fetch.max_wait_ms",
            self.max_wait_ms,
            0,
            Bound::derived("half of ", "requests.timeout_ms", requests.timeout_ms / 2),
        );
        check.within(
            "fetch.leader_wait_ms",
            self.leader_wait_ms,
            1,
            Bound::derived("half of ", "requests.timeout_ms", requests.timeout_ms / 2),
        );
        check.within("fetch.max_partitions", self.max_partitions, 1, 1 << 20);
        check.within(
            "fetch.max_decompressed_bytes",
            self.max_decompressed_bytes,
            1,
            answer,
        );
        check.within("fetch.read_threads", self.read_threads, 1, 512);
        check.within("fetch.max_queued_reads", self.max_queued_reads, 1, 1 << 20);
        check.within("fetch.max_credit_bytes", self.max_credit_bytes, 1, 1 << 40);
        check.within(
            "fetch.push_bytes",
            self.push_bytes,
            1,
            Bound::of("fetch.max_bytes", self.max_bytes),
        );
    }
}

settings! {
    /// Limits of offset queries.
    pub struct OffsetsConfig {
        /// Questions in one request. Each question by time reads one batch.
        pub max_items: usize = 10_000,
    }
}

impl OffsetsConfig {
    pub(super) fn check(&self, check: &mut Check) {
        check.within("offsets.max_items", self.max_items, 1, 1 << 20);
    }
}

settings! {
    /// Limits of administration and metadata.
    pub struct AdminConfig {
        /// Names in one metadata request, which is answered at one go.
        pub max_names: usize = 10_000,
        /// Partitions in one trim request, each of which is a write of its own.
        pub max_items: usize = 10_000,
        /// Configs in one create or alter request. There are fewer than that.
        pub max_configs: usize = 256,
        /// Longest wait until the partitions of a new topic have leaders, so that its creator can produce at once. The topic
        /// exists after it in any case; partitions without a leader get one as soon as it is possible.
        pub leader_wait_ms: u32 = 30_000,
        /// Metadata watches at once; each holds one version of the metadata.
        pub max_watches: usize = 4_096,
    }
}

impl AdminConfig {
    pub(super) fn check(&self, check: &mut Check, requests: &RequestsConfig) {
        check.within("admin.max_names", self.max_names, 1, 1 << 20);
        check.within("admin.max_items", self.max_items, 1, 1 << 20);
        check.within("admin.max_configs", self.max_configs, 1, 1 << 16);
        check.within(
            "admin.leader_wait_ms",
            self.leader_wait_ms,
            1,
            Bound::of("requests.timeout_ms", requests.timeout_ms),
        );
        check.within("admin.max_watches", self.max_watches, 1, 1 << 20);
    }
}
