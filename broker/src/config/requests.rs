//! Limits of what clients may ask for.

use serde::{Deserialize, Serialize};

use super::{Error, within};

/// Limits that all requests share.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RequestsConfig {
    /// Bytes that all requests in flight and the answers to them may hold at once. A request that does not fit is
    /// refused; a stream that does not fit is read no further for now.
    pub memory_bytes: u64,
    /// Bytes of a message of any method but the produce ones.
    pub max_control_bytes: u32,
    /// Bytes of a produce message: the largest batch plus room for what stands around it.
    pub max_produce_bytes: u32,
    /// Messages and strings inside one message. Each takes up to some hundred bytes when decoded, but may take only
    /// two when sent, so the size alone does not bound the memory.
    pub max_elements: u32,
    /// Longest time a unary call may take; a client's own deadline may be shorter.
    pub timeout_ms: u32,
    /// Longest time a stream waits for memory before it is refused.
    pub memory_wait_ms: u32,
}

impl Default for RequestsConfig {
    fn default() -> Self {
        Self {
            memory_bytes: 256 << 20,
            max_control_bytes: 4 << 20,
            max_produce_bytes: (16 << 20) + (64 << 10),
            max_elements: 200_000,
            timeout_ms: 60_000,
            memory_wait_ms: 10_000,
        }
    }
}

impl RequestsConfig {
    pub(super) fn validate(&self) -> Result<(), Error> {
        within(
            "requests.max_control_bytes",
            self.max_control_bytes,
            1024,
            1 << 30,
        )?;
        within(
            "requests.max_produce_bytes",
            self.max_produce_bytes,
            1024,
            1 << 30,
        )?;
        within("requests.max_elements", self.max_elements, 16, 1 << 24)?;
        within("requests.timeout_ms", self.timeout_ms, 100, 3_600_000)?;
        within("requests.memory_wait_ms", self.memory_wait_ms, 1, 3_600_000)?;
        let largest = self.max_control_bytes.max(self.max_produce_bytes);
        within(
            "requests.memory_bytes",
            self.memory_bytes,
            2 * u64::from(largest),
            1 << 40,
        )
    }
}

/// Limits of produce requests and streams.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProduceConfig {
    /// Wait for an acknowledgement where a request names none.
    pub default_timeout_ms: u32,
    /// Longest wait for an acknowledgement that a request may name.
    pub max_timeout_ms: u32,
    /// Batches in one message.
    pub max_items: usize,
    /// Bytes that a stream has sent and that are not acknowledged yet; the stream is read no further above that.
    pub max_stream_bytes: u64,
    /// The same for one partition of a stream; further batches to it are refused, so that one stuck partition does not
    /// hold up the others.
    pub max_partition_bytes: u64,
    /// Batches of a stream that are not acknowledged yet; the stream is read no further above that.
    pub max_stream_batches: usize,
    /// Records in one batch.
    pub max_batch_records: u32,
    /// Bytes of a record's key, checked where the broker sees it: in batches that are not compressed.
    pub max_key_bytes: u32,
    /// Headers of one record.
    pub max_headers: u32,
    /// Bytes of all headers of one record.
    pub max_header_bytes: u32,
}

impl Default for ProduceConfig {
    fn default() -> Self {
        Self {
            default_timeout_ms: 30_000,
            max_timeout_ms: 50_000,
            max_items: 4_096,
            max_stream_bytes: 32 << 20,
            max_partition_bytes: 24 << 20,
            max_stream_batches: 16_384,
            max_batch_records: 1 << 20,
            max_key_bytes: 64 << 10,
            max_headers: 1_024,
            max_header_bytes: 256 << 10,
        }
    }
}

impl ProduceConfig {
    pub(super) fn validate(&self, requests: &RequestsConfig) -> Result<(), Error> {
        within(
            "produce.max_timeout_ms",
            self.max_timeout_ms,
            1,
            requests.timeout_ms,
        )?;
        within(
            "produce.default_timeout_ms",
            self.default_timeout_ms,
            1,
            self.max_timeout_ms,
        )?;
        within("produce.max_items", self.max_items, 1, 1 << 20)?;
        within(
            "produce.max_stream_bytes",
            self.max_stream_bytes,
            u64::from(requests.max_produce_bytes),
            requests.memory_bytes,
        )?;
        within(
            "produce.max_partition_bytes",
            self.max_partition_bytes,
            1,
            self.max_stream_bytes,
        )?;
        within(
            "produce.max_stream_batches",
            self.max_stream_batches,
            self.max_items,
            1 << 24,
        )?;
        within(
            "produce.max_batch_records",
            self.max_batch_records,
            1,
            1 << 24,
        )?;
        within("produce.max_key_bytes", self.max_key_bytes, 1, 1 << 30)?;
        within("produce.max_headers", self.max_headers, 0, 1 << 20)?;
        within(
            "produce.max_header_bytes",
            self.max_header_bytes,
            0,
            1 << 30,
        )
    }
}

/// Limits of fetch requests and subscriptions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct FetchConfig {
    /// Bytes of one partition in an answer where the request names none.
    pub default_partition_bytes: u32,
    /// Most bytes of batches that one answer may hold; a request may ask for less. One batch may be larger.
    pub max_bytes: u32,
    /// Longest wait that a request may name.
    pub max_wait_ms: u32,
    /// How long a request waits, whatever it says itself, for a partition that elects its leader. Partitions do so when
    /// they are first needed after a start.
    pub leader_wait_ms: u32,
    /// Partitions in one request or assignment.
    pub max_partitions: usize,
    /// Bytes that a batch may take when the broker decompresses it for a client that wants plain records.
    pub max_decompressed_bytes: u32,
    /// Reads from disk at once.
    pub read_threads: usize,
    /// Reads from disk waiting for a thread; further ones are refused.
    pub max_queued_reads: usize,
    /// Credit that one subscription may have outstanding.
    pub max_credit_bytes: u64,
    /// Bytes of batches in one pushed message: what a subscriber that reads slowly can make the broker hold.
    pub push_bytes: u32,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self {
            default_partition_bytes: 1 << 20,
            max_bytes: 50 << 20,
            max_wait_ms: 30_000,
            leader_wait_ms: 2_000,
            max_partitions: 10_000,
            max_decompressed_bytes: 64 << 20,
            read_threads: 8,
            max_queued_reads: 1_024,
            max_credit_bytes: 1 << 30,
            push_bytes: 1 << 20,
        }
    }
}

impl FetchConfig {
    pub(super) fn validate(&self, requests: &RequestsConfig) -> Result<(), Error> {
        let answer = u32::try_from(requests.memory_bytes / 2).unwrap_or(u32::MAX);
        within("fetch.max_bytes", self.max_bytes, 1, answer)?;
        within(
            "fetch.default_partition_bytes",
            self.default_partition_bytes,
            1,
            self.max_bytes,
        )?;
        within(
            "fetch.max_wait_ms",
            self.max_wait_ms,
            0,
            requests.timeout_ms / 2,
        )?;
        within(
            "fetch.leader_wait_ms",
            self.leader_wait_ms,
            1,
            requests.timeout_ms / 2,
        )?;
        within("fetch.max_partitions", self.max_partitions, 1, 1 << 20)?;
        within(
            "fetch.max_decompressed_bytes",
            self.max_decompressed_bytes,
            1,
            answer,
        )?;
        within("fetch.read_threads", self.read_threads, 1, 512)?;
        within("fetch.max_queued_reads", self.max_queued_reads, 1, 1 << 20)?;
        within("fetch.max_credit_bytes", self.max_credit_bytes, 1, 1 << 40)?;
        within("fetch.push_bytes", self.push_bytes, 1, self.max_bytes)
    }
}

/// Limits of offset queries.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct OffsetsConfig {
    /// Questions in one request. Each question by time reads one batch.
    pub max_items: usize,
}

impl Default for OffsetsConfig {
    fn default() -> Self {
        Self { max_items: 10_000 }
    }
}

impl OffsetsConfig {
    pub(super) fn validate(&self) -> Result<(), Error> {
        within("offsets.max_items", self.max_items, 1, 1 << 20)
    }
}

/// Limits of administration and metadata.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminConfig {
    /// Names in one metadata request.
    pub max_names: usize,
    /// Partitions in one trim request.
    pub max_items: usize,
    /// Configs in one create or alter request.
    pub max_configs: usize,
    /// Longest wait until the partitions of a new topic have leaders. The topic exists after it in any case; partitions
    /// without a leader get one as soon as it is possible.
    pub leader_wait_ms: u32,
    /// Metadata watches at once; each holds one version of the metadata.
    pub max_watches: usize,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            max_names: 10_000,
            max_items: 10_000,
            max_configs: 256,
            leader_wait_ms: 30_000,
            max_watches: 4_096,
        }
    }
}

impl AdminConfig {
    pub(super) fn validate(&self, requests: &RequestsConfig) -> Result<(), Error> {
        within("admin.max_names", self.max_names, 1, 1 << 20)?;
        within("admin.max_items", self.max_items, 1, 1 << 20)?;
        within("admin.max_configs", self.max_configs, 1, 1 << 16)?;
        within(
            "admin.leader_wait_ms",
            self.leader_wait_ms,
            1,
            requests.timeout_ms,
        )?;
        within("admin.max_watches", self.max_watches, 1, 1 << 20)
    }
}
