//! The 61 bytes in front of every record batch.
//!
//! ```text
//! at  bytes  field                  all integers are big-endian
//!  0  8      base offset            of the first record; outside the checksum
//!  8  4      batch length           bytes that follow this field
//! 12  4      leader epoch           outside the checksum
//! 16  1      magic                  2
//! 17  4      CRC-32C                of everything from byte 21 to the end of the batch
//! 21  2      attributes             bits 0-2 codec, 3 timestamp type, 4 transactional, 5 control, 6 delete horizon
//! 23  4      last offset delta      record count - 1
//! 27  8      base timestamp         of the first record, milliseconds since 1970
//! 35  8      max timestamp          the greatest of all records, or the append time
//! 43  8      producer id            -1: none
//! 51  2      producer epoch         -1: none
//! 53  4      base sequence          of the first record; -1: none
//! 57  4      record count
//! 61  ...    records                compressed as a whole when a codec is set
//! ```

use bytes::Bytes;

use super::{Compression, Error};
use crate::{Offset, ProducerEpoch, ProducerId, Sequence};

/// Bytes of a batch before its records.
pub const HEADER_BYTES: usize = 61;
/// Bytes before and including the batch length, which does not count them.
pub const LENGTH_PREFIX_BYTES: u32 = 12;
/// The leader epoch of a batch that no leader has taken yet.
pub const NO_LEADER_EPOCH: i32 = -1;

/// Where the checksummed bytes begin.
pub(super) const CHECKSUMMED_FROM: usize = 21;
/// The place of the checksum itself.
pub(super) const CRC_AT: usize = 17;

const MAGIC: u8 = 2;
const CODEC_BITS: u16 = 0b111;
const LOG_APPEND_TIME_BIT: u16 = 1 << 3;
const TRANSACTIONAL_BIT: u16 = 1 << 4;
const CONTROL_BIT: u16 = 1 << 5;
const DELETE_HORIZON_BIT: u16 = 1 << 6;
const KNOWN_BITS: u16 = 0b111_1111;

/// What the timestamps of a batch mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum TimestampType {
    /// Each record carries the time its producer gave it.
    #[default]
    CreateTime,
    /// Every record carries the time at which the leader appended the batch: its max timestamp.
    LogAppendTime,
}

/// Who sent a batch, and where it stands among the batches of that producer in the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProducerStamp {
    /// The producer.
    pub id: ProducerId,
    /// Its generation.
    pub epoch: ProducerEpoch,
    /// The sequence of the batch's first record.
    pub sequence: Sequence,
}

/// The header of one batch, decoded and consistent in itself.
///
/// Invariants of a parsed header: magic 2, no unknown attribute bit or codec, `record_count >= 1`, last offset delta is
/// `record_count - 1`, base offset is not negative and `base_offset + record_count` does not overflow an `i64`,
/// `batch_bytes >= HEADER_BYTES`, producer fields all absent or all present. It says nothing about the bytes behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Bytes of the whole batch, this header included.
    pub batch_bytes: u32,
    /// Term of the leader that appended the batch, [`NO_LEADER_EPOCH`] before that.
    pub leader_epoch: i32,
    /// CRC-32C as stored.
    pub crc: u32,
    /// How the records are compressed.
    pub compression: Compression,
    /// What the timestamps mean.
    pub timestamp_type: TimestampType,
    /// Part of a transaction.
    pub transactional: bool,
    /// Holds transaction markers instead of records of a client.
    pub control: bool,
    /// The base timestamp is a compaction's delete horizon.
    pub delete_horizon: bool,
    /// Timestamp of the first record, milliseconds since 1970.
    pub base_timestamp_ms: i64,
    /// Greatest timestamp, or the append time, milliseconds since 1970.
    pub max_timestamp_ms: i64,
    /// The idempotent producer, if there is one.
    pub producer: Option<ProducerStamp>,
    /// Records in the batch.
    pub record_count: u32,
}

impl BatchHeader {
    /// Decodes the header at the start of `bytes`, which may go on behind the batch or end inside it.
    ///
    /// # Errors
    /// [`Error::Cut`] for fewer than 61 bytes; otherwise the invariant that does not hold.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(Error::Cut {
                needed: HEADER_BYTES as u64,
                found: bytes.len() as u64,
            });
        };
        if header[16] != MAGIC {
            return Err(Error::Magic { found: header[16] });
        }
        let attributes = u16::from_be_bytes(field(header, 21));
        if attributes & !KNOWN_BITS != 0 {
            return Err(Error::Attributes { found: attributes });
        }
        let record_count = parse_record_count(header)?;
        Ok(Self {
            base_offset: parse_base_offset(header, record_count)?,
            batch_bytes: parse_batch_bytes(header)?,
            leader_epoch: i32::from_be_bytes(field(header, 12)),
            crc: u32::from_be_bytes(field(header, CRC_AT)),
            compression: Compression::from_bits(attributes & CODEC_BITS)?,
            timestamp_type: if attributes & LOG_APPEND_TIME_BIT == 0 {
                TimestampType::CreateTime
            } else {
                TimestampType::LogAppendTime
            },
            transactional: attributes & TRANSACTIONAL_BIT != 0,
            control: attributes & CONTROL_BIT != 0,
            delete_horizon: attributes & DELETE_HORIZON_BIT != 0,
            base_timestamp_ms: i64::from_be_bytes(field(header, 27)),
            max_timestamp_ms: i64::from_be_bytes(field(header, 35)),
            producer: parse_producer(header)?,
            record_count,
        })
    }

    /// Encodes the header. `crc` is written as it stands: the caller computes it over the finished batch.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let (id, epoch, sequence) = match self.producer {
            Some(stamp) => (stamp.id.0, stamp.epoch.0, stamp.sequence.0),
            None => (-1, -1, -1),
        };
        let length = self.batch_bytes.wrapping_sub(LENGTH_PREFIX_BYTES);
        let mut out = [0; HEADER_BYTES];
        out[0..8].copy_from_slice(&self.base_offset.0.to_be_bytes());
        out[8..12].copy_from_slice(&length.to_be_bytes());
        out[12..16].copy_from_slice(&self.leader_epoch.to_be_bytes());
        out[16] = MAGIC;
        out[17..21].copy_from_slice(&self.crc.to_be_bytes());
        out[21..23].copy_from_slice(&self.attributes().to_be_bytes());
        out[23..27].copy_from_slice(&self.record_count.wrapping_sub(1).to_be_bytes());
        out[27..35].copy_from_slice(&self.base_timestamp_ms.to_be_bytes());
        out[35..43].copy_from_slice(&self.max_timestamp_ms.to_be_bytes());
        out[43..51].copy_from_slice(&id.to_be_bytes());
        out[51..53].copy_from_slice(&epoch.to_be_bytes());
        out[53..57].copy_from_slice(&sequence.to_be_bytes());
        out[57..61].copy_from_slice(&self.record_count.to_be_bytes());
        out
    }

    /// The offset of the record after this batch.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.base_offset.plus(u64::from(self.record_count))
    }

    fn attributes(&self) -> u16 {
        let flag = |set: bool, bit: u16| if set { bit } else { 0 };
        self.compression.bits()
            | flag(
                self.timestamp_type == TimestampType::LogAppendTime,
                LOG_APPEND_TIME_BIT,
            )
            | flag(self.transactional, TRANSACTIONAL_BIT)
            | flag(self.control, CONTROL_BIT)
            | flag(self.delete_horizon, DELETE_HORIZON_BIT)
    }
}

/// Takes the first batch off `batches`, which holds whole batches one after the other. `None` when it is empty.
///
/// # Errors
/// The header's error, or [`Error::Cut`] when the last batch is not whole; `batches` is then unchanged.
pub fn split_first(batches: &mut Bytes) -> Result<Option<(BatchHeader, Bytes)>, Error> {
    if batches.is_empty() {
        return Ok(None);
    }
    let header = BatchHeader::parse(batches)?;
    let needed = header.batch_bytes as usize;
    if needed > batches.len() {
        return Err(Error::Cut {
            needed: needed as u64,
            found: batches.len() as u64,
        });
    }
    Ok(Some((header, batches.split_to(needed))))
}

/// The checksum that belongs into a batch of at least [`HEADER_BYTES`].
pub(super) fn checksum(batch: &[u8]) -> u32 {
    crc32c::crc32c(&batch[CHECKSUMMED_FROM..])
}

fn parse_base_offset(header: &[u8; HEADER_BYTES], record_count: u32) -> Result<Offset, Error> {
    let found = i64::from_be_bytes(field(header, 0));
    match u64::try_from(found) {
        Ok(offset) if found.checked_add(i64::from(record_count)).is_some() => Ok(Offset(offset)),
        _ => Err(Error::BaseOffset { found }),
    }
}

fn parse_batch_bytes(header: &[u8; HEADER_BYTES]) -> Result<u32, Error> {
    let found = i32::from_be_bytes(field(header, 8));
    match u32::try_from(found).map(|length| length + LENGTH_PREFIX_BYTES) {
        Ok(bytes) if bytes as usize >= HEADER_BYTES => Ok(bytes),
        _ => Err(Error::Length { declared: found }),
    }
}

fn parse_record_count(header: &[u8; HEADER_BYTES]) -> Result<u32, Error> {
    let found = i32::from_be_bytes(field(header, 57));
    let last_offset_delta = i32::from_be_bytes(field(header, 23));
    if found <= 0 {
        return Err(Error::Empty { found });
    }
    if last_offset_delta != found - 1 {
        return Err(Error::LastOffsetDelta {
            found: last_offset_delta,
            record_count: found,
        });
    }
    Ok(found.unsigned_abs())
}

fn parse_producer(header: &[u8; HEADER_BYTES]) -> Result<Option<ProducerStamp>, Error> {
    let id = i64::from_be_bytes(field(header, 43));
    let epoch = i16::from_be_bytes(field(header, 51));
    let sequence = i32::from_be_bytes(field(header, 53));
    if (id, epoch, sequence) == (-1, -1, -1) {
        return Ok(None);
    }
    if id < 0 || epoch < 0 || sequence < 0 {
        return Err(Error::Producer {
            id,
            epoch,
            sequence,
        });
    }
    Ok(Some(ProducerStamp {
        id: ProducerId(id),
        epoch: ProducerEpoch(epoch),
        sequence: Sequence(sequence),
    }))
}

fn field<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&header[at..at + N]);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> BatchHeader {
        BatchHeader {
            base_offset: Offset(0x0102),
            batch_bytes: 70,
            leader_epoch: 5,
            crc: 0xdead_beef,
            compression: Compression::Zstd,
            timestamp_type: TimestampType::LogAppendTime,
            transactional: false,
            control: false,
            delete_horizon: false,
            base_timestamp_ms: 1_000,
            max_timestamp_ms: 1_234,
            producer: Some(ProducerStamp {
                id: ProducerId(9),
                epoch: ProducerEpoch(1),
                sequence: Sequence(77),
            }),
            record_count: 3,
        }
    }

    #[test]
    fn header_has_kafkas_bytes() {
        #[rustfmt::skip]
        let golden: [u8; HEADER_BYTES] = [
            0, 0, 0, 0, 0, 0, 1, 2,             // base offset
            0, 0, 0, 58,                        // length
            0, 0, 0, 5,                         // leader epoch
            2,                                  // magic
            0xde, 0xad, 0xbe, 0xef,             // checksum
            0, 0b1100,                          // zstd, log append time
            0, 0, 0, 2,                         // last offset delta
            0, 0, 0, 0, 0, 0, 3, 0xe8,          // base timestamp
            0, 0, 0, 0, 0, 0, 4, 0xd2,          // max timestamp
            0, 0, 0, 0, 0, 0, 0, 9,             // producer id
            0, 1,                               // producer epoch
            0, 0, 0, 77,                        // base sequence
            0, 0, 0, 3,                         // record count
        ];
        assert_eq!(sample().encode(), golden);
        assert_eq!(BatchHeader::parse(&golden).unwrap(), sample());
    }

    #[test]
    fn a_header_that_contradicts_itself_is_refused() {
        let broken = |at: usize, bytes: &[u8]| {
            let mut header = sample().encode();
            header[at..at + bytes.len()].copy_from_slice(bytes);
            BatchHeader::parse(&header).unwrap_err()
        };
        assert!(matches!(
            broken(0, &[0xff; 8]),
            Error::BaseOffset { found: -1 }
        ));
        assert!(matches!(
            broken(0, &i64::MAX.to_be_bytes()),
            Error::BaseOffset { .. }
        ));
        assert!(matches!(
            broken(8, &48_i32.to_be_bytes()),
            Error::Length { declared: 48 }
        ));
        assert!(matches!(
            broken(8, &(-1_i32).to_be_bytes()),
            Error::Length { declared: -1 }
        ));
        assert!(matches!(broken(16, &[1]), Error::Magic { found: 1 }));
        assert!(matches!(
            broken(21, &[0, 0x80]),
            Error::Attributes { found: 0x80 }
        ));
        assert!(matches!(broken(21, &[1, 0]), Error::Attributes { .. }));
        assert!(matches!(broken(21, &[0, 5]), Error::Codec { found: 5 }));
        assert!(matches!(
            broken(23, &3_i32.to_be_bytes()),
            Error::LastOffsetDelta { .. }
        ));
        assert!(matches!(broken(57, &[0; 4]), Error::Empty { found: 0 }));
        assert!(matches!(broken(57, &[0xff; 4]), Error::Empty { found: -1 }));
        assert!(matches!(broken(43, &[0xff; 8]), Error::Producer { .. }));
        assert!(matches!(broken(51, &[0xff; 2]), Error::Producer { .. }));
        assert!(matches!(broken(53, &[0xff; 4]), Error::Producer { .. }));
    }

    #[test]
    fn batches_split_one_by_one_and_a_cut_one_is_reported() {
        let mut batch = sample().encode().to_vec();
        batch.resize(70, 0);
        let mut two = Bytes::from([batch.clone(), batch.clone()].concat());
        let (header, first) = split_first(&mut two).unwrap().unwrap();
        assert_eq!((header, first.len()), (sample(), 70));
        assert!(split_first(&mut two).unwrap().is_some());
        assert!(split_first(&mut two).unwrap().is_none());
        let mut cut = Bytes::from(batch).slice(..69);
        assert!(matches!(
            split_first(&mut cut),
            Err(Error::Cut {
                needed: 70,
                found: 69
            })
        ));
        assert_eq!(cut.len(), 69);
    }

    proptest! {
        #[test]
        fn whatever_parses_encodes_to_the_same_bytes(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..80),
            honest: bool,
        ) {
            if honest && bytes.len() >= HEADER_BYTES {
                let attributes = bytes[22] & 0x7b;
                bytes[..HEADER_BYTES].copy_from_slice(&sample().encode());
                bytes[22] = attributes;
            }
            if let Ok(header) = BatchHeader::parse(&bytes) {
                prop_assert_eq!(&header.encode()[..], &bytes[..HEADER_BYTES]);
            }
        }
    }
}
