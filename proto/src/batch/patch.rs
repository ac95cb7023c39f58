//! The few changes made to a finished batch.

use super::header::{self, CRC_AT};
use super::{BatchHeader, Error, ProducerStamp, TimestampType};
use crate::Offset;

/// Writes base offset and leader epoch into a batch. Both lie outside the checksum.
///
/// # Errors
/// [`Error::Cut`] when `batch` is shorter than a header; it is then unchanged.
pub fn set_position(batch: &mut [u8], base_offset: Offset, leader_epoch: i32) -> Result<(), Error> {
    let found = batch.len() as u64;
    let Some(prefix) = batch.first_chunk_mut::<{ super::HEADER_BYTES }>() else {
        return Err(Error::Cut {
            needed: super::HEADER_BYTES as u64,
            found,
        });
    };
    prefix[0..8].copy_from_slice(&base_offset.0.to_be_bytes());
    prefix[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
    Ok(())
}

/// Stamps a whole batch with the time of its append: sets the timestamp type and max timestamp, and the checksum anew.
/// Readers then take `timestamp_ms` for every record.
///
/// # Errors
/// The header's error; the batch is then unchanged.
pub fn set_log_append_time(batch: &mut [u8], timestamp_ms: i64) -> Result<(), Error> {
    rewrite(batch, |header| {
        header.timestamp_type = TimestampType::LogAppendTime;
        header.max_timestamp_ms = timestamp_ms;
    })
}

/// Stamps a whole batch with another producer id, epoch and sequence, and computes the checksum anew.
///
/// # Errors
/// The header's error; the batch is then unchanged.
pub fn set_producer(batch: &mut [u8], producer: Option<ProducerStamp>) -> Result<(), Error> {
    rewrite(batch, |header| header.producer = producer)
}

fn rewrite(batch: &mut [u8], change: impl FnOnce(&mut BatchHeader)) -> Result<(), Error> {
    let mut header = BatchHeader::parse(batch)?;
    change(&mut header);
    batch[..super::HEADER_BYTES].copy_from_slice(&header.encode());
    let crc = header::checksum(batch);
    batch[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BatchBuilder, Compression, Limits, NewRecord, validate};
    use crate::{ProducerEpoch, ProducerId, Sequence};

    fn batch() -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        let record = NewRecord {
            timestamp_ms: 5,
            value: Some(b"x"),
            ..NewRecord::default()
        };
        builder.append(&record).unwrap();
        builder.finish(Compression::None, None).unwrap().to_vec()
    }

    #[test]
    fn the_position_is_outside_the_checksum() {
        let mut patched = batch();
        set_position(&mut patched, Offset(77), 3).unwrap();
        let header = BatchHeader::parse(&patched).unwrap();
        assert_eq!((header.base_offset, header.leader_epoch), (Offset(77), 3));
        assert_eq!(header.crc, header::checksum(&patched));
        assert_eq!(patched[16..], batch()[16..]);
    }

    #[test]
    fn append_time_changes_three_fields_and_keeps_the_batch_valid() {
        let mut patched = batch();
        set_log_append_time(&mut patched, 1_234).unwrap();
        let (before, after) = (batch(), BatchHeader::parse(&patched).unwrap());
        assert_eq!(after.timestamp_type, TimestampType::LogAppendTime);
        assert_eq!(
            (after.max_timestamp_ms, after.base_timestamp_ms),
            (1_234, 5)
        );
        assert_eq!(after.crc, header::checksum(&patched));
        assert_eq!(patched[..17], before[..17]);
        assert_eq!(patched[43..], before[43..]);
    }

    #[test]
    fn a_batch_can_change_its_producer() {
        let stamp = ProducerStamp {
            id: ProducerId(1),
            epoch: ProducerEpoch(0),
            sequence: Sequence(8),
        };
        let mut patched = batch();
        set_producer(&mut patched, Some(stamp)).unwrap();
        let header = validate(&patched, &Limits::default()).unwrap();
        assert_eq!(header.producer, Some(stamp));
        set_producer(&mut patched, None).unwrap();
        assert_eq!(patched, batch());
    }

    #[test]
    fn what_is_no_batch_is_left_alone() {
        let mut short = vec![0; 60];
        assert!(set_position(&mut short, Offset(1), 1).is_err());
        assert!(set_log_append_time(&mut short, 1).is_err());
        assert_eq!(short, vec![0; 60]);
    }
}
