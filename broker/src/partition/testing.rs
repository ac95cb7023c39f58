//! What the tests of partitions share.

use bytes::Bytes;
use highwater_proto::batch::{
    BatchBuilder, BatchHeader, Compression, NewRecord, ProducerStamp, TimestampType,
};
use highwater_proto::{ProducerEpoch, ProducerId, Sequence};

use super::machine::Command;
use crate::topic::TopicConfig;

/// A configuration that refuses nothing and keeps everything.
pub(crate) fn config() -> TopicConfig {
    TopicConfig {
        retention_ms: None,
        retention_bytes: None,
        segment_bytes: 1 << 20,
        segment_ms: u64::MAX,
        max_message_bytes: 1 << 20,
        timestamp_type: TimestampType::CreateTime,
        timestamp_before_max_ms: u64::MAX,
        timestamp_after_max_ms: u64::MAX,
        min_insync_replicas: 1,
        write_caching: false,
    }
}

/// Who sends a batch and which it is.
pub(crate) fn stamp(id: i64, epoch: i16, sequence: i32) -> Option<ProducerStamp> {
    Some(ProducerStamp {
        id: ProducerId(id),
        epoch: ProducerEpoch(epoch),
        sequence: Sequence(sequence),
    })
}

/// A checked batch whose records carry `timestamp_ms`.
pub(crate) fn batch(
    producer: Option<ProducerStamp>,
    record_count: u32,
    timestamp_ms: i64,
) -> (Bytes, BatchHeader) {
    let mut builder = BatchBuilder::new();
    for _ in 0..record_count {
        let record = NewRecord {
            timestamp_ms,
            value: Some(b"value"),
            ..NewRecord::default()
        };
        builder.append(&record).unwrap();
    }
    let batch = builder.finish(Compression::None, producer).unwrap();
    let header = BatchHeader::parse(&batch).unwrap();
    (batch, header)
}

/// The command that appends such a batch.
pub(crate) fn produce(producer: Option<ProducerStamp>, record_count: u32) -> Command {
    let (batch, header) = batch(producer, record_count, 0);
    Command::Produce { batch, header }
}
