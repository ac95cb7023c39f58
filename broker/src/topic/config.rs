//! The configuration in force on a topic, as values.
//!
//! Names, defaults and bounds are in the table of [names](super::config_keys), which makes these values.

pub use highwater_proto::batch::TimestampType;

/// What a topic is configured to, with defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// Sealed segments older than this leave, in milliseconds; `None`: never for their age.
    pub retention_ms: Option<u64>,
    /// The oldest sealed segments leave while the rest holds this many bytes; `None`: never for their size.
    pub retention_bytes: Option<u64>,
    /// Largest size of a segment in bytes.
    pub segment_bytes: u64,
    /// A segment with records is closed this long after it was opened, in milliseconds.
    pub segment_ms: u64,
    /// Largest batch, in bytes as sent.
    pub max_message_bytes: u64,
    /// Who dates records.
    pub timestamp_type: TimestampType,
    /// How far in the past a producer may date a record, in milliseconds.
    pub timestamp_before_max_ms: u64,
    /// How far in the future a producer may date a record, in milliseconds.
    pub timestamp_after_max_ms: u64,
    /// Replicas that must be able to take part in a write.
    pub min_insync_replicas: u32,
    /// Acknowledge when a majority holds the batch in memory, as Kafka does, instead of on disk.
    pub write_caching: bool,
}

impl Default for TopicConfig {
    /// Kafka's defaults.
    fn default() -> Self {
        const HOUR_MS: u64 = 60 * 60 * 1_000;
        const WEEK_MS: u64 = 7 * 24 * HOUR_MS;
        Self {
            retention_ms: Some(WEEK_MS),
            retention_bytes: None,
            segment_bytes: 1 << 30,
            segment_ms: WEEK_MS,
            // 1 MiB and the frame of an old message format: Kafka's number.
            max_message_bytes: 1_048_588,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX.unsigned_abs(),
            timestamp_after_max_ms: HOUR_MS,
            min_insync_replicas: 1,
            write_caching: false,
        }
    }
}
