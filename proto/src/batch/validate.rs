//! What a broker checks, once, when a batch arrives from a client.

use super::header::{self, TimestampType};
use super::record::{self, Layout};
use super::{BatchHeader, Compression, Error, HEADER_BYTES, MIN_RECORD_BYTES, NO_LEADER_EPOCH};

/// How large a batch of a client and the parts of its records may be.
///
/// The limits on parts of a record can be checked in uncompressed batches only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a batch as sent (`max.message.bytes` of the topic).
    pub max_batch_bytes: u32,
    /// Records in a batch.
    pub max_batch_records: u32,
    /// Bytes of a key.
    pub max_key_bytes: u32,
    /// Bytes of a value.
    pub max_value_bytes: u32,
    /// Headers of a record.
    pub max_headers: u32,
    /// Bytes of all headers of a record, their lengths included.
    pub max_header_bytes: u32,
}

impl Default for Limits {
    /// Kafka's `max.message.bytes`; everything else as much as fits a batch of that size.
    fn default() -> Self {
        const KAFKA_MAX_MESSAGE_BYTES: u32 = 1_048_588;
        Self {
            max_batch_bytes: KAFKA_MAX_MESSAGE_BYTES,
            max_batch_records: 1 << 20,
            max_key_bytes: KAFKA_MAX_MESSAGE_BYTES,
            max_value_bytes: KAFKA_MAX_MESSAGE_BYTES,
            max_headers: 10_000,
            max_header_bytes: KAFKA_MAX_MESSAGE_BYTES,
        }
    }
}

/// Checks a batch as a client may send it and returns its header. `batch` must be one whole batch and nothing else.
///
/// The header and the checksum are always checked. The records are checked one by one when they are not compressed;
/// compressed ones are left to the consumer, which bounds their decompression.
///
/// # Errors
/// The first thing that is wrong; [`Error::reason`] says what to answer.
pub fn validate(batch: &[u8], limits: &Limits) -> Result<BatchHeader, Error> {
    if batch.len() as u64 > u64::from(limits.max_batch_bytes) {
        return Err(Error::TooLarge {
            found: batch.len() as u64,
            most: u64::from(limits.max_batch_bytes),
        });
    }
    let header = BatchHeader::parse(batch)?;
    check_length(&header, batch)?;
    check_checksum(&header, batch)?;
    check_sender(&header)?;
    check_record_count(&header, batch, limits)?;
    if header.compression == Compression::None {
        check_records(&header, batch, limits)?;
    }
    Ok(header)
}

/// The bytes are one whole batch and nothing else.
pub(super) fn check_length(header: &BatchHeader, batch: &[u8]) -> Result<(), Error> {
    let (declared, found) = (u64::from(header.batch_bytes), batch.len() as u64);
    match declared.cmp(&found) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Less => Err(Error::TrailingBytes { declared, found }),
        std::cmp::Ordering::Greater => Err(Error::Cut {
            needed: declared,
            found,
        }),
    }
}

/// The checksum fits the bytes.
pub(super) fn check_checksum(header: &BatchHeader, batch: &[u8]) -> Result<(), Error> {
    let computed = header::checksum(batch);
    if header.crc != computed {
        return Err(Error::Checksum {
            stored: header.crc,
            computed,
        });
    }
    Ok(())
}

/// The fields that only a broker sets are not set. Some clients (librdkafka) send leader epoch 0 for none.
fn check_sender(header: &BatchHeader) -> Result<(), Error> {
    if header.base_offset.0 != 0 {
        return Err(Error::BaseOffset {
            found: i64::try_from(header.base_offset.0).unwrap_or(i64::MAX),
        });
    }
    if ![NO_LEADER_EPOCH, 0].contains(&header.leader_epoch) {
        return Err(Error::LeaderEpoch {
            found: header.leader_epoch,
        });
    }
    if header.control {
        return Err(Error::Control);
    }
    if header.transactional {
        return Err(Error::Transactional);
    }
    if header.delete_horizon {
        return Err(Error::DeleteHorizon);
    }
    if header.timestamp_type == TimestampType::LogAppendTime {
        return Err(Error::TimestampType);
    }
    Ok(())
}

fn check_record_count(header: &BatchHeader, batch: &[u8], limits: &Limits) -> Result<(), Error> {
    let body_bytes = batch.len() - HEADER_BYTES;
    let most = match header.compression {
        Compression::None => (body_bytes / MIN_RECORD_BYTES) as u64,
        _ => u64::MAX,
    };
    let most = most.min(u64::from(limits.max_batch_records));
    if u64::from(header.record_count) > most {
        return Err(Error::RecordCount {
            found: header.record_count,
            most,
        });
    }
    Ok(())
}

fn check_records(header: &BatchHeader, batch: &[u8], limits: &Limits) -> Result<(), Error> {
    let mut at = HEADER_BYTES;
    let mut greatest = i64::MIN;
    for index in 0..header.record_count {
        let malformed = |problem| Error::Record {
            record: index,
            problem,
        };
        let layout = record::parse(batch, at, index).map_err(malformed)?;
        check_limits(index, &layout, limits)?;
        let timestamp_ms = header
            .base_timestamp_ms
            .checked_add(layout.timestamp_delta_ms)
            .ok_or_else(|| malformed(record::Problem::Timestamp))?;
        greatest = greatest.max(timestamp_ms);
        at = layout.end;
    }
    if at < batch.len() {
        return Err(Error::BytesAfterRecords {
            bytes: (batch.len() - at) as u64,
        });
    }
    if greatest != header.max_timestamp_ms {
        return Err(Error::MaxTimestamp {
            declared: header.max_timestamp_ms,
            greatest,
        });
    }
    Ok(())
}

fn check_limits(index: u32, layout: &Layout, limits: &Limits) -> Result<(), Error> {
    let key_bytes = layout.key.as_ref().map_or(0, ExactSizeIterator::len);
    let value_bytes = layout.value.as_ref().map_or(0, ExactSizeIterator::len);
    let checks = [
        ("key bytes", key_bytes as u64, limits.max_key_bytes),
        ("value bytes", value_bytes as u64, limits.max_value_bytes),
        (
            "headers",
            u64::from(layout.header_count),
            limits.max_headers,
        ),
        (
            "header bytes",
            layout.headers.len() as u64,
            limits.max_header_bytes,
        ),
    ];
    for (limit, found, most) in checks {
        if found > u64::from(most) {
            return Err(Error::RecordLimit {
                record: index,
                limit,
                found,
                most: u64::from(most),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::Reason;
    use crate::batch::{BatchBuilder, Header, NewRecord};

    fn batch(codec: Compression) -> Vec<u8> {
        let headers = [Header {
            key: "name".into(),
            value: Some(Bytes::from_static(b"content")),
        }];
        let mut builder = BatchBuilder::new();
        for timestamp_ms in [20, 30, 10] {
            let record = NewRecord {
                timestamp_ms,
                key: Some(b"key"),
                value: Some(b"a value"),
                headers: &headers,
            };
            builder.append(&record).unwrap();
        }
        builder.finish(codec, None).unwrap().to_vec()
    }

    fn reseal(batch: &mut [u8]) {
        let crc = header::checksum(batch);
        batch[header::CRC_AT..header::CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
    }

    /// The error after `bytes` were written at `at` and the checksum made to fit.
    fn error_with(at: usize, bytes: &[u8]) -> Error {
        let mut changed = batch(Compression::None);
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        reseal(&mut changed);
        validate(&changed, &Limits::default()).unwrap_err()
    }

    #[test]
    fn what_the_builder_makes_is_valid() {
        for codec in Compression::ALL {
            let header = validate(&batch(codec), &Limits::default()).unwrap();
            assert_eq!((header.record_count, header.max_timestamp_ms), (3, 30));
        }
    }

    #[test]
    fn each_defect_is_refused_with_its_reason() {
        let (invalid, corrupt) = (Reason::InvalidRecord, Reason::CorruptMessage);
        let cases = [
            ("base offset", error_with(7, &[1]), invalid),
            ("leader epoch", error_with(12, &[0, 0, 0, 1]), invalid),
            ("magic", error_with(16, &[1]), invalid),
            ("unknown attribute", error_with(22, &[0x80]), invalid),
            ("unknown codec", error_with(22, &[7]), invalid),
            (
                "append time",
                error_with(22, &[8]),
                Reason::InvalidTimestamp,
            ),
            ("transaction", error_with(22, &[16]), Reason::Unsupported),
            ("control", error_with(22, &[32]), invalid),
            ("delete horizon", error_with(22, &[64]), invalid),
            ("last offset delta", error_with(26, &[1]), invalid),
            (
                "base timestamp",
                error_with(34, &[21]),
                Reason::InvalidTimestamp,
            ),
            (
                "max timestamp",
                error_with(42, &[31]),
                Reason::InvalidTimestamp,
            ),
            ("producer id only", error_with(43, &[0]), invalid),
            ("no record", error_with(57, &[0, 0, 0, 0]), invalid),
            ("length", error_with(11, &[60]), corrupt),
            ("record length", error_with(HEADER_BYTES, &[0x7e]), invalid),
            (
                "record attributes",
                error_with(HEADER_BYTES + 1, &[1]),
                invalid,
            ),
        ];
        for (defect, error, reason) in cases {
            assert_eq!(error.reason(), reason, "{defect}: {error}");
        }
    }

    #[test]
    fn fewer_and_more_bytes_than_declared_are_corruption() {
        let whole = batch(Compression::None);
        for length in 0..whole.len() {
            let error = validate(&whole[..length], &Limits::default()).unwrap_err();
            assert!(matches!(error, Error::Cut { .. }), "{length}: {error}");
        }
        let longer = [&whole[..], &[0]].concat();
        let error = validate(&longer, &Limits::default()).unwrap_err();
        assert!(matches!(error, Error::TrailingBytes { .. }));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        for codec in [Compression::None, Compression::Snappy] {
            let whole = batch(codec);
            for bit in 0..whole.len() * 8 {
                let mut flipped = whole.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(validate(&flipped, &Limits::default()).is_err(), "bit {bit}");
            }
        }
    }

    #[test]
    fn a_count_that_the_bytes_cannot_hold_is_refused_before_the_records_are_read() {
        let mut changed = batch(Compression::None);
        changed[23..27].copy_from_slice(&(i32::MAX - 1).to_be_bytes());
        changed[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
        reseal(&mut changed);
        let error = validate(&changed, &Limits::default()).unwrap_err();
        assert!(matches!(error, Error::RecordCount { .. }));
        let mut compressed = batch(Compression::Gzip);
        compressed[23..27].copy_from_slice(&(i32::MAX - 1).to_be_bytes());
        compressed[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
        reseal(&mut compressed);
        let error = validate(&compressed, &Limits::default()).unwrap_err();
        assert!(matches!(error, Error::RecordCount { .. }));
    }

    #[test]
    fn each_limit_holds_at_its_value_and_refuses_above() {
        let whole = batch(Compression::None);
        let exact = Limits {
            max_batch_bytes: u32::try_from(whole.len()).unwrap(),
            max_batch_records: 3,
            max_key_bytes: 3,
            max_value_bytes: 7,
            max_headers: 1,
            max_header_bytes: 13,
        };
        validate(&whole, &exact).unwrap();
        let shrink: [fn(&mut Limits); 6] = [
            |limits| limits.max_batch_bytes -= 1,
            |limits| limits.max_batch_records -= 1,
            |limits| limits.max_key_bytes -= 1,
            |limits| limits.max_value_bytes -= 1,
            |limits| limits.max_headers -= 1,
            |limits| limits.max_header_bytes -= 1,
        ];
        for (which, shrink) in shrink.into_iter().enumerate() {
            let mut tight = exact.clone();
            shrink(&mut tight);
            assert!(validate(&whole, &tight).is_err(), "limit {which}");
        }
    }

    #[test]
    fn leader_epoch_zero_counts_as_unset() {
        let mut changed = batch(Compression::None);
        changed[12..16].copy_from_slice(&[0; 4]);
        validate(&changed, &Limits::default()).unwrap();
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = validate(&bytes, &Limits::default());
        }

        #[test]
        fn mutated_batches_never_panic(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let mut changed = batch(Compression::None);
            for (at, byte) in changes {
                let at = at.index(changed.len());
                changed[at] = byte;
            }
            reseal(&mut changed);
            let _ = validate(&changed, &Limits::default());
        }
    }
}
