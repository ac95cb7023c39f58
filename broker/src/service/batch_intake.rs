//! From an item of a produce request to a checked batch.

use bytes::Bytes;
use highwater_proto::batch::{self, BatchBuilder, BatchHeader, Compression, NewRecord};
use highwater_proto::{ApiError, Reason, v1};
use v1::produce_item::Payload;

use crate::config::{ProduceConfig, RequestsConfig};

/// A batch whose bytes are what its header says.
#[derive(Debug)]
pub(crate) struct CheckedBatch {
    pub(crate) batch: Bytes,
    pub(crate) header: BatchHeader,
}

/// The limits on batches and records of all topics. A topic's own `max.message.bytes` is checked by its partition.
pub(crate) fn limits(requests: &RequestsConfig, produce: &ProduceConfig) -> batch::Limits {
    batch::Limits {
        max_batch_bytes: requests.max_produce_bytes,
        max_batch_records: produce.max_batch_records,
        max_key_bytes: produce.max_key_bytes,
        max_value_bytes: requests.max_produce_bytes,
        max_headers: produce.max_headers,
        max_header_bytes: produce.max_header_bytes,
    }
}

/// Checks a batch, or makes one of plain records. A finished batch is passed on as it is, byte for byte.
///
/// # Errors
/// What is wrong with the payload.
pub(crate) fn check(
    payload: Option<Payload>,
    limits: &batch::Limits,
    now_ms: i64,
) -> Result<CheckedBatch, ApiError> {
    let batch = match payload {
        Some(Payload::RecordBatch(batch)) => batch,
        Some(Payload::Records(records)) => build(&records.records, now_ms)?,
        None => {
            return Err(ApiError::new(
                Reason::InvalidRequest,
                "the item holds neither `records` nor `record_batch`",
            ));
        }
    };
    let header = batch::validate(&batch, limits).map_err(|error| ApiError::from(&error))?;
    Ok(CheckedBatch { batch, header })
}

fn build(records: &[v1::Record], now_ms: i64) -> Result<Bytes, ApiError> {
    if records.is_empty() {
        return Err(ApiError::new(
            Reason::InvalidRecord,
            "`records` is empty: a batch has at least one record",
        ));
    }
    let mut builder = BatchBuilder::new();
    for record in records {
        let headers: Vec<batch::Header> = record
            .headers
            .iter()
            .map(|header| batch::Header {
                key: header.key.clone(),
                value: header.value.clone(),
            })
            .collect();
        builder
            .append(&NewRecord {
                timestamp_ms: record.timestamp_ms.unwrap_or(now_ms),
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers: &headers,
            })
            .map_err(|error| ApiError::from(&error))?;
    }
    builder
        .finish(Compression::None, None)
        .map_err(|error| ApiError::from(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(payload: Option<Payload>) -> Result<CheckedBatch, ApiError> {
        let limits = limits(&RequestsConfig::default(), &ProduceConfig::default());
        check(payload, &limits, 1_000)
    }

    fn record(value: &'static str) -> v1::Record {
        v1::Record {
            value: Some(value.into()),
            ..Default::default()
        }
    }

    #[test]
    fn plain_records_become_one_batch_dated_now() {
        let records = v1::Records {
            records: vec![
                v1::Record {
                    key: Some("k".into()),
                    headers: vec![v1::Header {
                        key: "h".to_owned(),
                        value: None,
                    }],
                    timestamp_ms: Some(5),
                    ..record("a")
                },
                record("b"),
            ],
        };
        let checked = checked(Some(Payload::Records(records))).unwrap();
        assert_eq!(checked.header.record_count, 2);
        let read: Vec<_> = batch::Records::open(checked.batch, 1 << 20)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(read[0].timestamp_ms, 5);
        assert_eq!(read[0].headers.len(), 1);
        assert_eq!(read[1].timestamp_ms, 1_000);
        assert_eq!(read[1].value.as_deref(), Some(&b"b"[..]));
        assert_eq!(read[1].key, None);
    }

    #[test]
    fn a_finished_batch_passes_without_a_copy() {
        let batch = build(&[record("a")], 1).unwrap();
        let checked = checked(Some(Payload::RecordBatch(batch.clone()))).unwrap();
        assert_eq!(checked.batch.as_ptr(), batch.as_ptr());
    }

    #[test]
    fn nothing_and_empty_records_are_refused() {
        assert_eq!(checked(None).unwrap_err().reason, Reason::InvalidRequest);
        let empty = Payload::Records(v1::Records::default());
        assert_eq!(
            checked(Some(empty)).unwrap_err().reason,
            Reason::InvalidRecord
        );
    }
}
