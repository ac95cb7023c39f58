//! What a checkpoint says of one log.
//!
//! ```text
//! log id, max segment bytes                                  u64, u64
//! write caching                                              u8
//! directory                                                  string (length u32, bytes)
//! hard state: term, vote, commit                             u64 each
//! log start offset                                           u64
//! start: index, offset, term of the entry before             u64 each
//! generation of the next segment                             u64
//! applied: index, term                                       u64, u64
//! conf state                                                 string
//! snapshot: 0 and the bytes, or 1 and a file's bytes, CRC    u8, then string, or u64, u32
//! damage: 0, or 1 and what is damaged                        u8, ...
//! terms: count, then for each first index, term              u32, u64 each
//! segments: count, then for each                             u32
//!     generation, salt, first index, base offset, file bytes u64 each
//!     end: position, next index, term, next offset, max timestamp
//!     limit: the smallest first index of later generations   u64
//!     frames of a head                                       string
//! ```

use std::path::PathBuf;

use bytes::Bytes;

use crate::cursor::{Cursor, put_count, put_string};
use crate::log::encoding::{SEGMENT_FACT_BYTES, put_numbers};
use crate::log::{Damage, HardState, LogSpec};
use crate::segment::{Generation, SegmentEnd, SegmentSpec};
use crate::{LogId, Offset, RaftIndex, Term};

/// The limit of a segment that no later one ends.
pub(crate) const NO_LIMIT: RaftIndex = RaftIndex(u64::MAX);

const SEGMENT_BYTES: usize = 2 * SEGMENT_FACT_BYTES + 12;

/// One log as of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogEntry {
    pub(crate) log: LogId,
    pub(crate) spec: LogSpec,
    pub(crate) hard_state: HardState,
    pub(crate) log_start: Offset,
    pub(crate) start: LogStart,
    /// The generation of the next segment: above every one there is or was.
    pub(crate) next_generation: Generation,
    pub(crate) applied: Applied,
    pub(crate) damage: Option<Damage>,
    /// Where each term begins, from the first index on.
    pub(crate) terms: Vec<(RaftIndex, Term)>,
    pub(crate) segments: Vec<SegmentEntry>,
}

/// What comes first in a log, whether there is a segment or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogStart {
    /// The first index.
    pub(crate) index: RaftIndex,
    /// The offset of the first record at or after it.
    pub(crate) offset: Offset,
    /// The term of the entry before; 0 where there was none.
    pub(crate) term_before: Term,
}

/// The applied state, its snapshot by reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) index: RaftIndex,
    pub(crate) term: Term,
    pub(crate) conf_state: Bytes,
    pub(crate) snapshot: Snapshot,
}

/// Where a machine snapshot is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Snapshot {
    /// In the entry itself.
    Inline(Bytes),
    /// In the file that is named by the log and the applied index.
    File { bytes: u64, crc: u32 },
}

/// One segment as of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentEntry {
    pub(crate) spec: SegmentSpec,
    /// How far it is durable.
    pub(crate) end: SegmentEnd,
    /// The smallest first index of all later generations: what it holds from there on is no part of the log.
    pub(crate) limit: RaftIndex,
    /// Of a head, its frames.
    pub(crate) head: Bytes,
}

impl LogEntry {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        put_numbers(&mut out, &[self.log.0, self.spec.max_segment_bytes]);
        out.push(u8::from(self.spec.write_caching));
        put_string(&mut out, self.spec.directory.as_bytes());
        self.hard_state.encode(&mut out);
        let start = self.start;
        put_numbers(
            &mut out,
            &[
                self.log_start.0,
                start.index.0,
                start.offset.0,
                start.term_before.0,
            ],
        );
        put_numbers(&mut out, &[u64::from(self.next_generation.0)]);
        self.applied.encode(&mut out);
        out.push(u8::from(self.damage.is_some()));
        if let Some(damage) = &self.damage {
            damage.encode(&mut out);
        }
        put_count(&mut out, self.terms.len());
        for (index, term) in &self.terms {
            put_numbers(&mut out, &[index.0, term.0]);
        }
        put_count(&mut out, self.segments.len());
        for segment in &self.segments {
            segment.spec.encode(&mut out);
            segment.end.encode(&mut out);
            put_numbers(&mut out, &[segment.limit.0]);
            put_string(&mut out, &segment.head);
        }
        out
    }

    /// The file of the snapshot, if it has one.
    pub(crate) fn snapshot_file(&self) -> Option<PathBuf> {
        match self.applied.snapshot {
            Snapshot::Inline(_) => None,
            Snapshot::File { crc, .. } => {
                Some(super::snapshot_path(self.log, self.applied.index, crc))
            }
        }
    }

    /// Reads what [`LogEntry::encode`] wrote, to the last byte.
    pub(crate) fn decode(bytes: Bytes) -> Option<Self> {
        let cursor = &mut Cursor::new(bytes);
        let (log, max_segment_bytes) = (LogId(cursor.u64()?), cursor.u64()?);
        let write_caching = cursor.flag()?;
        let spec = LogSpec {
            directory: cursor.text()?,
            max_segment_bytes,
            write_caching,
        };
        let hard_state = HardState::decode(cursor)?;
        let log_start = Offset(cursor.u64()?);
        let (index, offset) = (RaftIndex(cursor.u64()?), Offset(cursor.u64()?));
        let start = LogStart {
            index,
            offset,
            term_before: Term(cursor.u64()?),
        };
        let next_generation = Generation::decode(cursor)?;
        let applied = Applied::decode(cursor)?;
        let damage = if cursor.flag()? {
            Some(Damage::decode(cursor)?)
        } else {
            None
        };
        let terms = decode_terms(cursor)?;
        let segments = decode_segments(cursor)?;
        (cursor.remaining() == 0).then_some(Self {
            log,
            spec,
            hard_state,
            log_start,
            start,
            next_generation,
            applied,
            damage,
            terms,
            segments,
        })
    }
}

fn decode_terms(cursor: &mut Cursor) -> Option<Vec<(RaftIndex, Term)>> {
    let count = cursor.count(16)?;
    let mut terms = Vec::with_capacity(count);
    for _ in 0..count {
        terms.push((RaftIndex(cursor.u64()?), Term(cursor.u64()?)));
    }
    Some(terms)
}

fn decode_segments(cursor: &mut Cursor) -> Option<Vec<SegmentEntry>> {
    let count = cursor.count(SEGMENT_BYTES)?;
    let mut segments = Vec::with_capacity(count);
    for _ in 0..count {
        segments.push(SegmentEntry {
            spec: SegmentSpec::decode(cursor)?,
            end: SegmentEnd::decode(cursor)?,
            limit: RaftIndex(cursor.u64()?),
            head: cursor.string()?,
        });
    }
    Some(segments)
}

impl Applied {
    fn encode(&self, out: &mut Vec<u8>) {
        put_numbers(out, &[self.index.0, self.term.0]);
        put_string(out, &self.conf_state);
        match &self.snapshot {
            Snapshot::Inline(bytes) => {
                out.push(0);
                put_string(out, bytes);
            }
            Snapshot::File { bytes, crc } => {
                out.push(1);
                put_numbers(out, &[*bytes]);
                out.extend_from_slice(&crc.to_le_bytes());
            }
        }
    }

    fn decode(cursor: &mut Cursor) -> Option<Self> {
        Some(Self {
            index: RaftIndex(cursor.u64()?),
            term: Term(cursor.u64()?),
            conf_state: cursor.string()?,
            snapshot: match cursor.u8()? {
                0 => Snapshot::Inline(cursor.string()?),
                1 => Snapshot::File {
                    bytes: cursor.u64()?,
                    crc: cursor.u32()?,
                },
                _ => return None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::log::MissingFrames;

    fn entry() -> LogEntry {
        let spec = SegmentSpec {
            generation: Generation(2),
            salt: 0x55,
            first_index: RaftIndex(11),
            base_offset: Offset(100),
            file_bytes: 65536,
        };
        let end = SegmentEnd {
            position: 5000,
            next_index: RaftIndex(13),
            term: Term(3),
            next_offset: Offset(120),
            max_timestamp_ms: -1,
        };
        LogEntry {
            log: LogId(7),
            spec: LogSpec {
                directory: "t/7".to_owned(),
                max_segment_bytes: 1 << 20,
                write_caching: true,
            },
            hard_state: HardState {
                term: Term(4),
                vote: 7,
                commit: RaftIndex(12),
            },
            log_start: Offset(90),
            start: LogStart {
                index: RaftIndex(11),
                offset: Offset(100),
                term_before: Term(2),
            },
            next_generation: Generation(3),
            applied: Applied {
                index: RaftIndex(12),
                term: Term(3),
                conf_state: Bytes::from_static(b"c"),
                snapshot: Snapshot::File {
                    bytes: 9000,
                    crc: 6,
                },
            },
            damage: Some(Damage {
                missing: vec![MissingFrames {
                    from: RaftIndex(12),
                    to: RaftIndex(13),
                    from_offset: Offset(110),
                    to_offset: Offset(120),
                }],
                unknown_tail: true,
                hard_state_in_doubt: false,
                reason: "r".to_owned(),
            }),
            terms: vec![(RaftIndex(11), Term(3))],
            segments: vec![SegmentEntry {
                spec,
                end,
                limit: NO_LIMIT,
                head: Bytes::new(),
            }],
        }
    }

    #[test]
    fn bytes_of_an_entry_are_these() {
        let mut expected = vec![];
        put_numbers(&mut expected, &[7, 1 << 20]);
        expected.extend(b"\x01\x03\0\0\0t/7");
        put_numbers(&mut expected, &[4, 7, 12]); // hard state
        put_numbers(&mut expected, &[90, 11, 100, 2, 3]); // log start, start, next generation
        put_numbers(&mut expected, &[12, 3]); // applied
        expected.extend(b"\x01\0\0\0c\x01");
        put_numbers(&mut expected, &[9000]);
        expected.extend([6, 0, 0, 0]);
        expected.extend([1, 1, 0, 0, 0]); // damaged, one hole
        put_numbers(&mut expected, &[12, 13, 110, 120]);
        expected.extend(b"\x01\0\x01\0\0\0r");
        expected.extend([1, 0, 0, 0]);
        put_numbers(&mut expected, &[11, 3]); // terms
        expected.extend([1, 0, 0, 0]);
        put_numbers(&mut expected, &[2, 0x55, 11, 100, 65536]);
        put_numbers(&mut expected, &[5000, 13, 3, 120, u64::MAX]);
        put_numbers(&mut expected, &[u64::MAX]); // no limit
        expected.extend([0, 0, 0, 0]); // no head
        assert_eq!(entry().encode(), expected);
        assert_eq!(LogEntry::decode(expected.into()), Some(entry()));
    }

    proptest! {
        #[test]
        fn changed_entries_never_panic(changes: Vec<(u16, u8)>, cut in 0..400usize) {
            let mut bytes = entry().encode();
            let len = bytes.len();
            changes.iter().for_each(|(at, byte)| bytes[usize::from(*at) % len] = *byte);
            bytes.truncate(len.saturating_sub(cut.saturating_sub(100)));
            let _ = LogEntry::decode(bytes.into());
        }
    }
}
