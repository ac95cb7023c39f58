//! The timestamp of the record at an offset.

use highwater_proto::batch::{self, BadBatch, BatchHeader, TimestampType};
use highwater_storage::{LogReader, Offset};

/// A record and its timestamp in milliseconds since the Unix epoch; -1: it has none.
pub(crate) type RecordTime = (Offset, i64);

/// Why a timestamp cannot be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The log cannot be read there.
    #[error(transparent)]
    Read(#[from] highwater_storage::Error),
    /// What stands there is no lawful batch.
    #[error(transparent)]
    Header(#[from] batch::Error),
    /// Its records cannot be decoded.
    #[error("the batch at offset {} cannot be decoded: {}", .0.offset, .0.source)]
    Batch(BadBatch),
}

/// The first record at or after `from` and below `upto`, the high watermark, and its timestamp; `None` where there is none.
/// Blocks. Decompresses at most `max_decompressed_bytes`, and only where the record is not the first of its batch.
///
/// # Errors
/// See [`Error`]; among them, that `from` is below the first segment.
pub(crate) fn record_time(
    reader: &LogReader,
    from: Offset,
    upto: Offset,
    max_decompressed_bytes: usize,
) -> Result<Option<RecordTime>, Error> {
    if from >= upto {
        return Ok(None);
    }
    for frame in reader.read(from, upto, 1)?.frames {
        let header = BatchHeader::parse(&frame.payload)?;
        if header.base_offset.0 >= from.0 {
            let at = Offset(header.base_offset.0);
            return Ok(Some((at, time_of_first(&header))));
        }
        if header.timestamp_type == TimestampType::LogAppendTime {
            return Ok(Some((from, header.max_timestamp_ms)));
        }
        let records = batch::Records::open(frame.payload, max_decompressed_bytes);
        for record in records.map_err(Error::Batch)? {
            let record = record.map_err(Error::Batch)?;
            if record.offset.0 >= from.0 {
                return Ok(Some((Offset(record.offset.0), record.timestamp_ms)));
            }
        }
    }
    Ok(None)
}

fn time_of_first(header: &BatchHeader) -> i64 {
    match header.timestamp_type {
        TimestampType::CreateTime => header.base_timestamp_ms,
        TimestampType::LogAppendTime => header.max_timestamp_ms,
    }
}
