//! Batches of stamped records.

use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use highwater_proto::batch::{BatchBuilder, Compression, NewRecord, ProducerStamp};
use highwater_proto::{ProducerEpoch, ProducerId, Sequence, v1};
use rand::Rng;

use super::Sizes;
use super::api::named;
use crate::stamp::{Parts, Place, Stamp};

/// The records of a writer with these sequences, sized at random.
pub(super) fn records(
    place: Place,
    writer: u32,
    sequences: Range<u64>,
    sizes: Sizes,
    random: &mut impl Rng,
) -> Vec<Parts> {
    sequences
        .map(|sequence| {
            let stamp = Stamp {
                writer,
                sequence,
                place,
            };
            let filler_bytes = random.random_range(0..=sizes.max_filler_bytes);
            stamp.to_parts(now_ms(), filler_bytes)
        })
        .collect()
}

/// The records as a record batch with any codec.
pub(super) fn encoded(
    records: &[Parts],
    producer: Option<ProducerStamp>,
    random: &mut impl Rng,
) -> Bytes {
    let codec = Compression::ALL[random.random_range(0..Compression::ALL.len())];
    let mut builder = BatchBuilder::new();
    for parts in records {
        let record = NewRecord {
            timestamp_ms: parts.timestamp_ms,
            key: parts.key.as_deref(),
            value: parts.value.as_deref(),
            headers: &parts.headers,
        };
        builder.append(&record).expect("records of one moment");
    }
    builder.finish(codec, producer).expect("small batches")
}

/// A finished batch for a partition.
pub(super) fn item(place: Place, batch: Bytes) -> v1::ProduceItem {
    v1::ProduceItem {
        partition: Some(named(place)),
        payload: Some(v1::produce_item::Payload::RecordBatch(batch)),
    }
}

/// Plain records for a partition, of which the broker makes a batch.
pub(super) fn plain_item(place: Place, records: Vec<Parts>) -> v1::ProduceItem {
    let records = records
        .into_iter()
        .map(|parts| v1::Record {
            key: parts.key,
            value: parts.value,
            headers: parts
                .headers
                .into_iter()
                .map(|header| v1::Header {
                    key: header.key,
                    value: header.value,
                })
                .collect(),
            timestamp_ms: Some(parts.timestamp_ms),
            offset: 0,
        })
        .collect();
    v1::ProduceItem {
        partition: Some(named(place)),
        payload: Some(v1::produce_item::Payload::Records(v1::Records { records })),
    }
}

/// The numbers of an idempotent producer's batch. Its sequences are those of the writer.
pub(super) fn producer_stamp(
    (id, epoch): (ProducerId, ProducerEpoch),
    first_sequence: u64,
) -> ProducerStamp {
    let sequence = first_sequence & u64::from(i32::MAX.unsigned_abs());
    ProducerStamp {
        id,
        epoch,
        sequence: Sequence(i32::try_from(sequence).expect("masked to 31 bits")),
    }
}

/// The present time in milliseconds since 1970: older records would expire.
#[must_use]
pub fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("later than 1970");
    i64::try_from(since.as_millis()).expect("not that late")
}
