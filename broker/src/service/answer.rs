//! The answer of one partition to a reader: batches as stored, or plain records.

use bytes::Bytes;
use highwater_proto::batch::{self, BadBatch};
use highwater_proto::{ApiError, Reason, v1};
use highwater_storage::Offset;
use v1::fetched_partition::Data;

use super::partition_read::{ReadBatches, View};
use crate::partition::Standing;

/// Bytes of memory that a decoded record takes beside its key, value and headers, rounded up.
const RECORD_BYTES: usize = 160;

/// What was read, in the form asked for.
#[derive(Debug, Default)]
pub(super) struct Answered {
    pub(super) data: Option<Data>,
    pub(super) next_offset: Offset,
    /// Memory that the data takes.
    pub(super) bytes: u64,
}

/// Batches as they are stored.
pub(super) fn batches(read: ReadBatches) -> Answered {
    Answered {
        next_offset: read.next_offset,
        bytes: read.bytes,
        data: (!read.batches.is_empty()).then_some(Data::RecordBatches(v1::RecordBatches {
            batches: read.batches,
        })),
    }
}

/// The records at `offset` and above, decoded and decompressed. Stops when they take `max_bytes` of memory, but gives
/// the rest of a batch at least. Blocks for as long as decompression takes.
///
/// # Errors
/// `DATA_LOSS` where the first batch is not what its header says.
pub(super) fn records(
    read: ReadBatches,
    offset: Offset,
    max_bytes: u64,
    max_decompressed_bytes: usize,
) -> Result<Answered, ApiError> {
    let mut answered = Answered {
        next_offset: offset,
        ..Answered::default()
    };
    let mut records = Vec::new();
    for batch in read.batches {
        if answered.bytes >= max_bytes {
            break;
        }
        match decode(batch, answered.next_offset, max_decompressed_bytes) {
            Ok(decoded) => {
                answered.next_offset = decoded.next_offset;
                answered.bytes += decoded.bytes;
                records.extend(decoded.records);
            }
            Err(bad) if records.is_empty() => return Err(bad_batch(&bad)),
            Err(_) => break,
        }
    }
    if records.is_empty() {
        // Only records below `offset`, or none at all: what was passed over need not be read again.
        answered.next_offset = answered.next_offset.max(read.next_offset);
    }
    answered.data = (!records.is_empty()).then_some(Data::Records(v1::Records { records }));
    Ok(answered)
}

struct Decoded {
    records: Vec<v1::Record>,
    next_offset: Offset,
    bytes: u64,
}

fn decode(batch: Bytes, from: Offset, max_decompressed_bytes: usize) -> Result<Decoded, BadBatch> {
    let reader = batch::Records::open(batch, max_decompressed_bytes)?;
    let mut decoded = Decoded {
        records: Vec::new(),
        next_offset: Offset(reader.header().next_offset().0),
        bytes: reader.body_bytes() as u64,
    };
    for record in reader {
        let record = record?;
        if record.offset.0 < from.0 {
            continue;
        }
        decoded.bytes += (RECORD_BYTES * (1 + record.headers.len())) as u64;
        decoded.records.push(v1::Record {
            key: record.key,
            value: record.value,
            headers: record
                .headers
                .map(|header| v1::Header {
                    key: header.key,
                    value: header.value,
                })
                .collect(),
            timestamp_ms: Some(record.timestamp_ms),
            offset: record.offset.0,
        });
    }
    Ok(decoded)
}

/// The error for a batch that is intact and yet not what its header says: its producer built it wrongly.
pub(super) fn bad_batch(bad: &BadBatch) -> ApiError {
    ApiError::new(
        Reason::DataLoss,
        format!(
            "the batch at offset {} cannot be decoded ({}): it was stored as its producer sent it; fetch batches \
             instead of records, or go on behind it",
            bad.offset, bad.source
        ),
    )
    .with("offset", bad.offset)
}

/// A partition's answer with everything but its data, as one look showed it.
pub(super) fn empty(
    name: Option<v1::TopicPartition>,
    view: &View,
    next_offset: Offset,
) -> v1::FetchedPartition {
    let leader_epoch = match view.standing {
        Standing::Serving { term }
        | Standing::Opening { term }
        | Standing::Following { term, .. } => term.0,
        Standing::Quarantined => 0,
    };
    v1::FetchedPartition {
        partition: name,
        error: None,
        high_watermark: view.high_watermark.0,
        log_start_offset: view.log_start.0,
        leader_epoch,
        data: None,
        next_offset: next_offset.0,
    }
}

#[cfg(test)]
mod tests {
    use highwater_proto::batch::{BatchBuilder, Compression, NewRecord, set_position};

    use super::*;

    fn batch(base_offset: u64, values: &[&str]) -> Bytes {
        let mut builder = BatchBuilder::new();
        for value in values {
            let record = NewRecord {
                timestamp_ms: 9,
                value: Some(value.as_bytes()),
                ..NewRecord::default()
            };
            builder.append(&record).unwrap();
        }
        let mut bytes = builder.finish(Compression::Lz4, None).unwrap().to_vec();
        set_position(&mut bytes, highwater_proto::Offset(base_offset), 1).unwrap();
        bytes.into()
    }

    fn read(batches: Vec<Bytes>, next_offset: u64) -> ReadBatches {
        ReadBatches {
            bytes: batches.iter().map(|batch| batch.len() as u64).sum(),
            batches,
            next_offset: Offset(next_offset),
        }
    }

    fn values(answered: &Answered) -> Vec<(u64, String)> {
        match &answered.data {
            Some(Data::Records(records)) => records
                .records
                .iter()
                .map(|record| {
                    let value = record.value.clone().unwrap().to_vec();
                    (record.offset, String::from_utf8(value).unwrap())
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn records_begin_at_the_offset_asked_for() {
        let read = read(vec![batch(10, &["a", "b", "c"]), batch(13, &["d"])], 14);
        let answered = records(read, Offset(11), 1 << 20, 1 << 20).unwrap();
        assert_eq!(
            values(&answered),
            [
                (11, "b".to_owned()),
                (12, "c".to_owned()),
                (13, "d".to_owned())
            ]
        );
        assert_eq!(answered.next_offset, Offset(14));
    }

    #[test]
    fn decoding_stops_between_batches_when_the_limit_is_reached() {
        let read = read(vec![batch(0, &["a", "b"]), batch(2, &["c"])], 3);
        let answered = records(read, Offset(0), 1, 1 << 20).unwrap();
        assert_eq!(values(&answered).len(), 2);
        assert_eq!(answered.next_offset, Offset(2));
    }

    #[test]
    fn a_batch_that_lies_is_data_loss_but_what_stands_before_it_is_read() {
        let large = "x".repeat(1000);
        let bad = batch(1, &[&large]);
        let error = records(read(vec![bad.clone()], 2), Offset(1), 1 << 20, 100).unwrap_err();
        assert_eq!(error.reason, Reason::DataLoss);
        let answered = records(
            read(vec![batch(0, &["a"]), bad], 2),
            Offset(0),
            1 << 20,
            100,
        );
        let answered = answered.unwrap();
        assert_eq!(values(&answered).len(), 1);
        assert_eq!(answered.next_offset, Offset(1));
    }
}
