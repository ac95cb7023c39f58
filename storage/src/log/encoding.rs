//! The facts about logs and segments as the journal and the checkpoint write them. Numbers are u64, little-endian.

use super::{Damage, HardState, MissingFrames};
use crate::cursor::{Cursor, put_count, put_string};
use crate::segment::{Generation, SegmentEnd, SegmentSpec};
use crate::{Offset, RaftIndex, Term};

/// Bytes of an encoded [`SegmentSpec`] or [`SegmentEnd`].
pub(crate) const SEGMENT_FACT_BYTES: usize = 40;
const MISSING_BYTES: usize = 32;

pub(crate) fn put_numbers(out: &mut Vec<u8>, numbers: &[u64]) {
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

impl Generation {
    pub(crate) fn decode(cursor: &mut Cursor) -> Option<Self> {
        let number = u32::try_from(cursor.u64()?).ok()?;
        // The last number has none after it.
        (number < u32::MAX).then_some(Self(number))
    }
}

impl SegmentSpec {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_numbers(
            out,
            &[
                u64::from(self.generation.0),
                self.salt,
                self.first_index.0,
                self.base_offset.0,
                self.file_bytes,
            ],
        );
    }

    pub(crate) fn decode(cursor: &mut Cursor) -> Option<Self> {
        Some(Self {
            generation: Generation::decode(cursor)?,
            salt: cursor.u64()?,
            first_index: RaftIndex(cursor.u64()?),
            base_offset: Offset(cursor.u64()?),
            file_bytes: cursor.u64()?,
        })
    }
}

impl SegmentEnd {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let timestamp = self.max_timestamp_ms.cast_unsigned();
        put_numbers(
            out,
            &[
                self.position,
                self.next_index.0,
                self.term.0,
                self.next_offset.0,
                timestamp,
            ],
        );
    }

    pub(crate) fn decode(cursor: &mut Cursor) -> Option<Self> {
        Some(Self {
            position: cursor.u64()?,
            next_index: RaftIndex(cursor.u64()?),
            term: Term(cursor.u64()?),
            next_offset: Offset(cursor.u64()?),
            max_timestamp_ms: cursor.i64()?,
        })
    }
}

impl HardState {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_numbers(out, &[self.term.0, self.vote, self.commit.0]);
    }

    pub(crate) fn decode(cursor: &mut Cursor) -> Option<Self> {
        Some(Self {
            term: Term(cursor.u64()?),
            vote: cursor.u64()?,
            commit: RaftIndex(cursor.u64()?),
        })
    }
}

impl Damage {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_count(out, self.missing.len());
        for hole in &self.missing {
            put_numbers(
                out,
                &[hole.from.0, hole.to.0, hole.from_offset.0, hole.to_offset.0],
            );
        }
        out.extend([
            u8::from(self.unknown_tail),
            u8::from(self.hard_state_in_doubt),
        ]);
        put_string(out, self.reason.as_bytes());
    }

    pub(crate) fn decode(cursor: &mut Cursor) -> Option<Self> {
        let count = cursor.count(MISSING_BYTES)?;
        let mut missing = Vec::with_capacity(count);
        for _ in 0..count {
            missing.push(MissingFrames {
                from: RaftIndex(cursor.u64()?),
                to: RaftIndex(cursor.u64()?),
                from_offset: Offset(cursor.u64()?),
                to_offset: Offset(cursor.u64()?),
            });
        }
        Some(Self {
            missing,
            unknown_tail: cursor.flag()?,
            hard_state_in_doubt: cursor.flag()?,
            reason: cursor.text()?,
        })
    }
}
