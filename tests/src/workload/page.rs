//! What a fetch or a subscription answers, taken apart.

use bytes::Bytes;
use highwater_proto::batch::{self, Records};
use highwater_proto::{Offset, Reason, v1};

use super::api::{Failure, named};
use super::router::Router;
use crate::history::{Page, ReadOutcome, ReadRecord};
use crate::stamp::{Forgery, Parts, Place, Stamp};

const MAX_DECOMPRESSED_BYTES: usize = 64 << 20;
/// Small, so that pages end in the middle of things.
const MAX_PAGE_BYTES: u32 = 64 << 10;

/// Reads once from a partition, waiting up to `max_wait_ms` for something to be there.
pub(super) async fn read_page(
    router: &mut Router,
    place: Place,
    from: Offset,
    format: v1::RecordFormat,
    max_wait_ms: u32,
) -> ReadOutcome {
    let api = router.leader(place).await;
    let request = v1::FetchRequest {
        partitions: vec![fetch_partition(place, from, router.epoch(place))],
        min_bytes: u32::from(max_wait_ms > 0),
        max_bytes: MAX_PAGE_BYTES,
        max_wait_ms,
        format: format.into(),
        allow_follower: false,
    };
    let outcome = match api.fetch(request).await {
        Ok(mut answer) => match answer.partitions.pop() {
            Some(fetched) if answer.partitions.is_empty() => outcome_of(fetched, from),
            _ => panic!("a fetch of one partition has one answer"),
        },
        Err(failure) => failed(&failure),
    };
    match &outcome {
        ReadOutcome::Records(page) => router.heard(place, page.leader_epoch),
        ReadOutcome::Failed { .. } => router.failed(place),
        ReadOutcome::OutOfRange => {}
    }
    outcome
}

/// A partition to read, from a leader of at least the epoch.
pub(super) fn fetch_partition(
    place: Place,
    from: Offset,
    leader_epoch: Option<u64>,
) -> v1::FetchPartition {
    v1::FetchPartition {
        partition: Some(named(place)),
        offset: from.0,
        max_bytes: 0,
        leader_epoch,
    }
}

/// What one partition's part of an answer says to somebody who wants everything from `from` on.
pub(super) fn outcome_of(fetched: v1::FetchedPartition, from: Offset) -> ReadOutcome {
    use v1::fetched_partition::Data;
    if let Some(error) = fetched.error {
        return failed(&error.into());
    }
    let mut records = Vec::new();
    match fetched.data {
        None => {}
        Some(Data::RecordBatches(batches)) => {
            for bytes in batches.batches {
                batch_records(&bytes, &mut records);
            }
            records.retain(|record| record.offset >= from);
        }
        Some(Data::Records(plain)) => records.extend(plain.records.into_iter().map(plain_record)),
    }
    ReadOutcome::Records(Page {
        high_watermark: Offset(fetched.high_watermark),
        log_start: Offset(fetched.log_start_offset),
        leader_epoch: fetched.leader_epoch,
        records,
        next_offset: Offset(fetched.next_offset),
    })
}

/// The outcome of a read that failed.
pub(super) fn failed(failure: &Failure) -> ReadOutcome {
    if failure.is(Reason::OffsetOutOfRange) {
        ReadOutcome::OutOfRange
    } else {
        ReadOutcome::Failed {
            reason: format!("{}: {}", failure.reason, failure.message),
            retriable: failure.retriable,
        }
    }
}

fn batch_records(bytes: &Bytes, found: &mut Vec<ReadRecord>) {
    let unreadable = |offset| ReadRecord {
        offset,
        stamp: Err(Forgery("its batch cannot be read")),
        producer: None,
    };
    let records = match Records::open(bytes.clone(), MAX_DECOMPRESSED_BYTES) {
        Ok(records) => records,
        Err(bad) => return found.push(unreadable(bad.offset)),
    };
    let producer = records.header().producer;
    for (at, record) in (0_u32..).zip(records) {
        found.push(match record {
            Ok(record) => ReadRecord {
                offset: record.offset,
                stamp: Stamp::of(&Parts {
                    timestamp_ms: record.timestamp_ms,
                    key: record.key,
                    value: record.value,
                    headers: record.headers.collect(),
                }),
                producer: producer
                    .map(|stamp| (stamp.id.0, stamp.epoch.0, stamp.sequence.plus(at).0)),
            },
            Err(bad) => unreadable(bad.record_offset),
        });
    }
}

fn plain_record(record: v1::Record) -> ReadRecord {
    let headers = record
        .headers
        .into_iter()
        .map(|header| batch::Header {
            key: header.key,
            value: header.value,
        })
        .collect();
    ReadRecord {
        offset: Offset(record.offset),
        stamp: Stamp::of(&Parts {
            timestamp_ms: record.timestamp_ms.unwrap_or(-1),
            key: record.key,
            value: record.value,
            headers,
        }),
        producer: None,
    }
}
