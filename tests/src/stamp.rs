//! Records that say themselves who sent them, in which order, and to which partition.
//!
//! Everything about such a record (key, headers, timestamp, filler) follows from its value, and the value carries a
//! checksum. Whoever reads it can therefore tell a record that was sent from one that was made up, mixed up, cut or
//! given to the wrong partition, without knowing anything else.
//!
//! ```text
//! at  bytes  field of the value      all integers are big-endian
//!  0  4      "HWST"
//!  4  4      CRC-32C of everything behind it
//!  8  4      writer
//! 12  8      sequence
//! 20  16     topic id
//! 36  4      partition
//! 40  8      timestamp, milliseconds since 1970
//! 48  ...    filler that follows from the fields above
//! ```

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use highwater_proto::batch::Header;
use highwater_proto::{PartitionIndex, TopicId};
use uuid::Uuid;

const MAGIC: &[u8; 4] = b"HWST";
const CHECKSUMMED_FROM: usize = 8;
const FILLER_FROM: usize = 48;

/// One partition of one topic. The topic is named by its id, so that a topic made again is another place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionIndex,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The identity of a record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Who sent it.
    pub writer: u32,
    /// Its place among the records of that writer in that partition, from 0.
    pub sequence: u64,
    /// Where it was sent to.
    pub place: Place,
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{}#{}", self.writer, self.sequence)
    }
}

/// The parts of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Absent, empty or some bytes, by the stamp.
    pub key: Option<Bytes>,
    /// The stamp itself.
    pub value: Option<Bytes>,
    /// None to three, by the stamp.
    pub headers: Vec<Header>,
}

impl Stamp {
    /// The record with this identity. The value takes 48 bytes more than `filler_bytes`.
    #[must_use]
    pub fn to_parts(self, timestamp_ms: i64, filler_bytes: usize) -> Parts {
        let mut checksummed = BytesMut::with_capacity(FILLER_FROM + filler_bytes);
        checksummed.put_u32(self.writer);
        checksummed.put_u64(self.sequence);
        checksummed.put_slice(self.place.topic.as_bytes());
        checksummed.put_u32(self.place.partition.0);
        checksummed.put_i64(timestamp_ms);
        put_filler(&mut checksummed, self.digest(), filler_bytes);
        let mut value = BytesMut::with_capacity(CHECKSUMMED_FROM + checksummed.len());
        value.put_slice(MAGIC);
        value.put_u32(crc32c::crc32c(&checksummed));
        value.put_slice(&checksummed);
        Parts {
            timestamp_ms,
            key: self.key(),
            value: Some(value.freeze()),
            headers: self.headers(),
        }
    }

    /// The identity of a record that was read.
    ///
    /// # Errors
    /// What shows that no writer ever sent exactly this record.
    pub fn of(parts: &Parts) -> Result<Self, Forgery> {
        let mut value = parts.value.clone().ok_or(Forgery("it has no value"))?;
        let bytes = value.len();
        if bytes < FILLER_FROM || !value.starts_with(MAGIC) {
            return Err(Forgery("its value is not a stamp"));
        }
        value.advance(MAGIC.len());
        if value.get_u32() != crc32c::crc32c(&value) {
            return Err(Forgery("the checksum of its value is wrong"));
        }
        let stamp = Self {
            writer: value.get_u32(),
            sequence: value.get_u64(),
            place: Place {
                topic: TopicId(Uuid::from_u128(value.get_u128())),
                partition: PartitionIndex(value.get_u32()),
            },
        };
        let expected = stamp.to_parts(value.get_i64(), bytes - FILLER_FROM);
        let differs = |what| Err(Forgery(what));
        if parts.timestamp_ms != expected.timestamp_ms {
            return differs("its timestamp is not the one it was sent with");
        }
        if parts.key != expected.key {
            return differs("its key is not the one it was sent with");
        }
        if parts.headers != expected.headers {
            return differs("its headers are not those it was sent with");
        }
        if parts.value != expected.value {
            return differs("its filler is not the one it was sent with");
        }
        Ok(stamp)
    }

    /// A number that looks random and follows from the identity.
    #[must_use]
    pub fn digest(self) -> u64 {
        let (high, low) = self.place.topic.0.as_u64_pair();
        [
            u64::from(self.writer),
            self.sequence,
            u64::from(self.place.partition.0),
            high,
        ]
        .into_iter()
        .fold(low, |state, word| mix(state ^ word))
    }

    fn key(self) -> Option<Bytes> {
        match self.digest() % 4 {
            0 => None,
            1 => Some(Bytes::new()),
            _ => Some(Bytes::copy_from_slice(&self.digest().to_be_bytes())),
        }
    }

    fn headers(self) -> Vec<Header> {
        let count = (self.digest() >> 8) % 4;
        (0..count)
            .map(|at| Header {
                key: format!("header-{}", at % 2),
                value: (at != 1).then(|| Bytes::copy_from_slice(&self.sequence.to_be_bytes())),
            })
            .collect()
    }
}

/// Why a record cannot be one that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forgery(pub &'static str);

/// SplitMix64's finalizer.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Bytes of which every second word repeats, so that compression has something to do.
fn put_filler(buffer: &mut BytesMut, seed: u64, bytes: usize) {
    let end = buffer.len() + bytes;
    let mut word = seed;
    while buffer.len() < end {
        word = mix(word);
        buffer.put_u64(word);
        buffer.put_u64(0x2020_2020_2020_2020);
    }
    buffer.truncate(end);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(sequence: u64) -> Stamp {
        Stamp {
            writer: 3,
            sequence,
            place: Place {
                topic: TopicId(Uuid::from_u128(7)),
                partition: PartitionIndex(2),
            },
        }
    }

    #[test]
    fn a_record_tells_its_stamp() {
        for sequence in 0..200 {
            let filler = usize::try_from(sequence).unwrap() * 3;
            let parts = stamp(sequence).to_parts(1_700_000_000_000, filler);
            assert_eq!(parts.value.as_ref().unwrap().len(), FILLER_FROM + filler);
            assert_eq!(Stamp::of(&parts), Ok(stamp(sequence)));
        }
    }

    #[test]
    fn records_vary_in_what_may_be_absent() {
        let all: Vec<_> = (0..100).map(|at| stamp(at).to_parts(0, 0)).collect();
        assert!(all.iter().any(|parts| parts.key.is_none()));
        assert!(all.iter().any(|parts| parts.key == Some(Bytes::new())));
        assert!(all.iter().any(|parts| parts.headers.is_empty()));
        assert!(all.iter().any(|parts| parts.headers.len() == 3));
    }

    #[test]
    fn every_flipped_bit_of_the_value_is_noticed() {
        let parts = stamp(5).to_parts(9, 40);
        let value = parts.value.clone().unwrap();
        for bit in 0..value.len() * 8 {
            let mut flipped = value.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let forged = Parts {
                value: Some(flipped.into()),
                ..parts.clone()
            };
            assert!(Stamp::of(&forged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn parts_of_two_records_do_not_mix() {
        let donor = stamp(1).to_parts(1, 8);
        let parts = (2..100)
            .map(|at| stamp(at).to_parts(2, 8))
            .find(|parts| parts.key != donor.key && parts.headers != donor.headers)
            .unwrap();
        let mixes = [
            Parts {
                timestamp_ms: 3,
                ..parts.clone()
            },
            Parts {
                key: donor.key,
                ..parts.clone()
            },
            Parts {
                headers: donor.headers,
                ..parts.clone()
            },
            Parts {
                value: None,
                ..parts.clone()
            },
            Parts {
                value: Some(Bytes::from_static(b"HWST")),
                ..parts.clone()
            },
        ];
        assert!(Stamp::of(&parts).is_ok());
        for mixed in mixes {
            assert!(Stamp::of(&mixed).is_err(), "{mixed:?}");
        }
    }
}
