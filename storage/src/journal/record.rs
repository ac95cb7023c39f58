//! The records of the journal as bytes.
//!
//! ```text
//!   0      1        4             8        16
//!   +------+--------+-------------+--------+------+---------------------------+
//!   | kind | zero 3 | body bytes  | log id | body | zeros to a multiple of 8  |
//!   | u8   |        | u32         | u64    |      |                           |
//!   +------+--------+-------------+--------+------+---------------------------+
//! ```
//!
//! | kind | body |
//! |---|---|
//! | 1 log opened | applied index u64, term u64, max segment bytes u64, write caching u8, directory, conf state, snapshot (strings: length u32, bytes) |
//! | 2 log deleted | |
//! | 3 segment opened | generation u32, zero u32, salt u64, first index u64, base offset u64, file bytes u64 (0: a head, no file) |
//! | 4 truncated | generation that follows u32, zero u32, first removed index u64 |
//! | 5 hard state | term u64, vote u64, commit u64 |
//! | 6 frames | generation u32, zero u32, position u64, then the frames byte for byte as in the segment |
//! | 7 snapshot installed | index u64, term u64, next offset u64, log start u64, conf state, snapshot |
//! | 8 spec changed | max segment bytes u64, write caching u8 |
//! | 9 segment synced | generation u32, zero u32, then the end: position, next index, term, next offset, max timestamp, u64 each |
//! | 10 log seeded | applied index u64, term u64, log start u64, conf state, snapshot, then first index u64, offset there u64, term before u64, terms (count u32; first index, term u64 each), segments (count u32; as 3 and 9 have them: opening, end) |
//!
//! A record is never checked by itself: its group's CRC covers it. Decoding still bounds every length by what is there, because a
//! journal may have been written by anybody.

use bytes::Bytes;

use crate::checkpoint::LogStart;
use crate::cursor::{Cursor, put_count, put_string};
use crate::frame::EncodedFrame;
use crate::log::encoding::{SEGMENT_FACT_BYTES, put_numbers};
use crate::log::{AppliedState, HardState, LogSpec};
use crate::segment::{Generation, SegmentEnd, SegmentSpec};
use crate::{LogId, Offset, RaftIndex, Term};

/// Bytes before a record's body.
const HEADER_BYTES: usize = 16;
/// Records start at multiples of this, within their group.
const ALIGNMENT: usize = 8;
/// Bytes of where a term begins.
const TERM_BYTES: usize = 16;
/// Bytes of the body of a frames record before the frames.
const FRAMES_PREFIX_BYTES: usize = 16;

/// A fact about one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// The log exists from here on.
    LogOpened {
        log: LogId,
        spec: LogSpec,
        applied: AppliedState,
    },
    /// It does not, and its id never comes back.
    LogDeleted { log: LogId },
    /// A segment takes the log's frames from here on; it ends all before it at its first index.
    SegmentOpened { log: LogId, segment: SegmentSpec },
    /// The frames from `first_removed` on are no part of the log. `next` is the generation of the segment that will follow.
    Truncated {
        log: LogId,
        next: Generation,
        first_removed: RaftIndex,
    },
    /// Term, vote and commit index.
    HardStateSet { log: LogId, hard_state: HardState },
    /// Frames, byte for byte as they stand in the segment from `position` on.
    FramesWritten {
        log: LogId,
        generation: Generation,
        position: u64,
        frames: Bytes,
    },
    /// The log starts anew after a snapshot: what it held before is gone.
    SnapshotInstalled {
        log: LogId,
        applied: AppliedState,
        next_offset: Offset,
        log_start: Offset,
    },
    /// The log begins anew with frames that came from elsewhere and are durable in these segments: what it held before is gone.
    LogSeeded {
        log: LogId,
        applied: AppliedState,
        log_start: Offset,
        start: LogStart,
        terms: Vec<(RaftIndex, Term)>,
        segments: Vec<(SegmentSpec, SegmentEnd)>,
    },
    /// The log is kept in another way from here on.
    SpecChanged {
        log: LogId,
        max_segment_bytes: u64,
        write_caching: bool,
    },
    /// The segment itself is durable up to `end`, whether its frames went through the journal or not.
    SegmentSynced {
        log: LogId,
        generation: Generation,
        end: SegmentEnd,
    },
}

impl Record {
    /// The log that the record is about.
    pub(crate) fn log(&self) -> LogId {
        match self {
            Self::LogOpened { log, .. }
            | Self::LogDeleted { log }
            | Self::SegmentOpened { log, .. }
            | Self::Truncated { log, .. }
            | Self::HardStateSet { log, .. }
            | Self::FramesWritten { log, .. }
            | Self::SnapshotInstalled { log, .. }
            | Self::LogSeeded { log, .. }
            | Self::SpecChanged { log, .. }
            | Self::SegmentSynced { log, .. } => *log,
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Self::LogOpened { .. } => 1,
            Self::LogDeleted { .. } => 2,
            Self::SegmentOpened { .. } => 3,
            Self::Truncated { .. } => 4,
            Self::HardStateSet { .. } => 5,
            Self::FramesWritten { .. } => 6,
            Self::SnapshotInstalled { .. } => 7,
            Self::SpecChanged { .. } => 8,
            Self::SegmentSynced { .. } => 9,
            Self::LogSeeded { .. } => 10,
        }
    }

    /// Appends the record to `out`, whose length is a multiple of 8 and stays one.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let start = begin(out, self.kind(), self.log());
        self.encode_body(out);
        finish(out, start);
    }

    fn encode_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::LogOpened { spec, applied, .. } => {
                put_u64(out, applied.index.0);
                put_u64(out, applied.term.0);
                put_u64(out, spec.max_segment_bytes);
                out.push(u8::from(spec.write_caching));
                put_string(out, spec.directory.as_bytes());
                put_string(out, &applied.conf_state);
                put_string(out, &applied.snapshot);
            }
            Self::LogDeleted { .. } => {}
            Self::SegmentOpened { segment, .. } => segment.encode(out),
            Self::Truncated {
                next,
                first_removed,
                ..
            } => {
                put_u64(out, u64::from(next.0));
                put_u64(out, first_removed.0);
            }
            Self::HardStateSet { hard_state, .. } => hard_state.encode(out),
            Self::FramesWritten {
                generation,
                position,
                frames,
                ..
            } => {
                put_u64(out, u64::from(generation.0));
                put_u64(out, *position);
                out.extend_from_slice(frames);
            }
            Self::SnapshotInstalled {
                applied,
                next_offset,
                log_start,
                ..
            } => {
                put_u64(out, applied.index.0);
                put_u64(out, applied.term.0);
                put_u64(out, next_offset.0);
                put_u64(out, log_start.0);
                put_string(out, &applied.conf_state);
                put_string(out, &applied.snapshot);
            }
            Self::SpecChanged {
                max_segment_bytes,
                write_caching,
                ..
            } => {
                put_u64(out, *max_segment_bytes);
                out.push(u8::from(*write_caching));
            }
            Self::SegmentSynced {
                generation, end, ..
            } => {
                put_u64(out, u64::from(generation.0));
                end.encode(out);
            }
            Self::LogSeeded {
                applied,
                log_start,
                start,
                terms,
                segments,
                ..
            } => {
                put_numbers(out, &[applied.index.0, applied.term.0, log_start.0]);
                put_string(out, &applied.conf_state);
                put_string(out, &applied.snapshot);
                put_numbers(out, &[start.index.0, start.offset.0, start.term_before.0]);
                put_count(out, terms.len());
                for (first, term) in terms {
                    put_numbers(out, &[first.0, term.0]);
                }
                put_count(out, segments.len());
                for (spec, end) in segments {
                    spec.encode(out);
                    end.encode(out);
                }
            }
        }
    }

    /// Takes the next record off `group`; `None` when it is no record of ours.
    pub(crate) fn decode(group: &mut Cursor) -> Option<Self> {
        let kind = group.u8()?;
        let zero = group.bytes(3)?;
        if zero.iter().any(|byte| *byte != 0) {
            return None;
        }
        let len = usize::try_from(group.u32()?).ok()?;
        let log = LogId(group.u64()?);
        let mut body = Cursor::new(group.bytes(len)?);
        group.bytes(len.next_multiple_of(ALIGNMENT) - len)?;
        let record = Self::decode_body(kind, log, &mut body)?;
        (body.remaining() == 0).then_some(record)
    }

    fn decode_body(kind: u8, log: LogId, body: &mut Cursor) -> Option<Self> {
        Some(match kind {
            1 => {
                let (index, term) = (RaftIndex(body.u64()?), Term(body.u64()?));
                let (max_segment_bytes, write_caching) = (body.u64()?, body.flag()?);
                let spec = LogSpec {
                    directory: body.text()?,
                    max_segment_bytes,
                    write_caching,
                };
                let applied = AppliedState {
                    index,
                    term,
                    conf_state: body.string()?,
                    snapshot: body.string()?,
                };
                Self::LogOpened { log, spec, applied }
            }
            2 => Self::LogDeleted { log },
            3 => Self::SegmentOpened {
                log,
                segment: SegmentSpec::decode(body)?,
            },
            4 => Self::Truncated {
                log,
                next: Generation::decode(body)?,
                first_removed: RaftIndex(body.u64()?),
            },
            5 => Self::HardStateSet {
                log,
                hard_state: HardState::decode(body)?,
            },
            6 => {
                let (generation, position) = (Generation::decode(body)?, body.u64()?);
                let frames = body.bytes(body.remaining())?;
                Self::FramesWritten {
                    log,
                    generation,
                    position,
                    frames,
                }
            }
            7 => {
                let (index, term) = (RaftIndex(body.u64()?), Term(body.u64()?));
                let (next_offset, log_start) = (Offset(body.u64()?), Offset(body.u64()?));
                let applied = AppliedState {
                    index,
                    term,
                    conf_state: body.string()?,
                    snapshot: body.string()?,
                };
                Self::SnapshotInstalled {
                    log,
                    applied,
                    next_offset,
                    log_start,
                }
            }
            8 => Self::SpecChanged {
                log,
                max_segment_bytes: body.u64()?,
                write_caching: body.flag()?,
            },
            9 => Self::SegmentSynced {
                log,
                generation: Generation::decode(body)?,
                end: SegmentEnd::decode(body)?,
            },
            10 => Self::decode_seeded(log, body)?,
            _ => return None,
        })
    }

    fn decode_seeded(log: LogId, body: &mut Cursor) -> Option<Self> {
        let (index, term) = (RaftIndex(body.u64()?), Term(body.u64()?));
        let log_start = Offset(body.u64()?);
        let applied = AppliedState {
            index,
            term,
            conf_state: body.string()?,
            snapshot: body.string()?,
        };
        let start = LogStart {
            index: RaftIndex(body.u64()?),
            offset: Offset(body.u64()?),
            term_before: Term(body.u64()?),
        };
        let terms = (0..body.count(TERM_BYTES)?)
            .map(|_| Some((RaftIndex(body.u64()?), Term(body.u64()?))))
            .collect::<Option<_>>()?;
        let segments = (0..body.count(2 * SEGMENT_FACT_BYTES)?)
            .map(|_| Some((SegmentSpec::decode(body)?, SegmentEnd::decode(body)?)))
            .collect::<Option<_>>()?;
        Some(Self::LogSeeded {
            log,
            applied,
            log_start,
            start,
            terms,
            segments,
        })
    }
}

/// Appends a frames record without a copy in between: this is where payloads enter the journal.
pub(crate) fn encode_frames(
    out: &mut Vec<u8>,
    log: LogId,
    generation: Generation,
    position: u64,
    frames: &[EncodedFrame],
) {
    let bytes: usize = frames
        .iter()
        .flat_map(EncodedFrame::parts)
        .map(<[u8]>::len)
        .sum();
    out.reserve(HEADER_BYTES + FRAMES_PREFIX_BYTES + bytes);
    let start = begin(out, 6, log);
    put_u64(out, u64::from(generation.0));
    put_u64(out, position);
    for part in frames.iter().flat_map(EncodedFrame::parts) {
        out.extend_from_slice(part);
    }
    finish(out, start);
}

/// Writes a record's header; the length follows in [`finish`].
fn begin(out: &mut Vec<u8>, kind: u8, log: LogId) -> usize {
    debug_assert_eq!(out.len() % ALIGNMENT, 0, "records are aligned");
    let start = out.len();
    out.extend_from_slice(&[kind, 0, 0, 0, 0, 0, 0, 0]);
    put_u64(out, log.0);
    start
}

fn finish(out: &mut Vec<u8>, start: usize) {
    let len = u32::try_from(out.len() - start - HEADER_BYTES).expect("a record is far below 4 GiB");
    out[start + 4..start + 8].copy_from_slice(&len.to_le_bytes());
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frame;
    use crate::{FrameKind, NewFrame};

    fn encoded(record: &Record) -> Vec<u8> {
        let mut out = vec![];
        record.encode(&mut out);
        out
    }

    #[test]
    fn bytes_of_a_hard_state_are_these() {
        let hard_state = HardState {
            term: Term(3),
            vote: 9,
            commit: RaftIndex(0x0102),
        };
        let record = Record::HardStateSet {
            log: LogId(7),
            hard_state,
        };
        let mut expected = vec![5, 0, 0, 0, 24, 0, 0, 0]; // kind, body bytes
        expected.extend([7, 0, 0, 0, 0, 0, 0, 0]); // log
        expected.extend([3, 0, 0, 0, 0, 0, 0, 0]); // term
        expected.extend([9, 0, 0, 0, 0, 0, 0, 0]); // vote
        expected.extend([2, 1, 0, 0, 0, 0, 0, 0]); // commit
        assert_eq!(encoded(&record), expected);
    }

    #[test]
    fn bytes_of_an_opened_log_are_these() {
        let record = Record::LogOpened {
            log: LogId(7),
            spec: LogSpec {
                directory: "t/1".to_owned(),
                max_segment_bytes: 4096,
                write_caching: true,
            },
            applied: AppliedState {
                conf_state: Bytes::from_static(b"cs"),
                ..AppliedState::default()
            },
        };
        let mut expected = vec![1, 0, 0, 0, 42, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0];
        expected.extend([0; 16]); // applied index and term
        expected.extend([0, 16, 0, 0, 0, 0, 0, 0, 1]); // max segment bytes, write caching
        expected.extend(b"\x03\0\0\0t/1\x02\0\0\0cs\0\0\0\0");
        expected.resize(64, 0); // a multiple of 8
        assert_eq!(encoded(&record), expected);
    }

    #[test]
    fn bytes_of_a_seeded_log_are_these() {
        let spec = SegmentSpec {
            generation: Generation(3),
            salt: 4,
            first_index: RaftIndex(5),
            base_offset: Offset(6),
            file_bytes: 8192,
        };
        let record = Record::LogSeeded {
            log: LogId(7),
            applied: AppliedState {
                index: RaftIndex(9),
                term: Term(2),
                conf_state: Bytes::from_static(b"cs"),
                snapshot: Bytes::from_static(b"snap"),
            },
            log_start: Offset(6),
            start: LogStart {
                index: RaftIndex(5),
                offset: Offset(6),
                term_before: Term(1),
            },
            terms: vec![(RaftIndex(5), Term(2))],
            segments: vec![(spec, spec.start())],
        };
        let mut expected = vec![];
        let numbers = |out: &mut Vec<u8>, numbers: &[u64]| {
            out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        };
        expected.extend([10, 0, 0, 0, 166, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
        numbers(&mut expected, &[9, 2, 6]); // applied index and term, log start
        expected.extend(b"\x02\0\0\0cs\x04\0\0\0snap");
        numbers(&mut expected, &[5, 6, 1]); // start
        expected.extend(b"\x01\0\0\0");
        numbers(&mut expected, &[5, 2]); // where a term begins
        expected.extend(b"\x01\0\0\0");
        numbers(&mut expected, &[3, 4, 5, 6, 8192]); // opened
        numbers(&mut expected, &[4096, 5, 0, 6]); // the end
        expected.extend(i64::MIN.to_le_bytes());
        expected.resize(184, 0); // a multiple of 8
        assert_eq!(encoded(&record), expected);
    }

    #[test]
    fn frames_stand_in_their_record_as_in_the_segment() {
        let new = NewFrame {
            index: RaftIndex(4),
            term: Term(2),
            kind: FrameKind::Events,
            record_count: 0,
            max_timestamp_ms: -1,
            payload: Bytes::from_static(b"events"),
        };
        let frame = frame::encode(&new, Offset(5), 77).unwrap();
        let mut out = vec![];
        encode_frames(
            &mut out,
            LogId(7),
            Generation(3),
            4096,
            std::slice::from_ref(&frame),
        );
        assert_eq!(out[..8], [6, 0, 0, 0, 80, 0, 0, 0]);
        assert_eq!(
            out[16..32],
            [3, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(out[32..], frame.to_vec());
        let record = Record::FramesWritten {
            log: LogId(7),
            generation: Generation(3),
            position: 4096,
            frames: frame.to_vec().into(),
        };
        assert_eq!(encoded(&record), out, "one form, whoever writes it");
    }

    fn applied() -> impl Strategy<Value = AppliedState> {
        (
            any::<u64>(),
            any::<u64>(),
            any::<Vec<u8>>(),
            any::<Vec<u8>>(),
        )
            .prop_map(|(index, term, conf_state, snapshot)| {
                let (index, term) = (RaftIndex(index), Term(term));
                AppliedState {
                    index,
                    term,
                    conf_state: conf_state.into(),
                    snapshot: snapshot.into(),
                }
            })
    }

    fn segment() -> impl Strategy<Value = SegmentSpec> {
        (0..u32::MAX, any::<[u64; 4]>()).prop_map(
            |(generation, [salt, index, offset, file_bytes])| SegmentSpec {
                generation: Generation(generation),
                salt,
                first_index: RaftIndex(index),
                base_offset: Offset(offset),
                file_bytes,
            },
        )
    }

    fn end() -> impl Strategy<Value = SegmentEnd> {
        (any::<[u64; 4]>(), any::<i64>()).prop_map(
            |([position, index, term, offset], max_timestamp_ms)| SegmentEnd {
                position,
                next_index: RaftIndex(index),
                term: Term(term),
                next_offset: Offset(offset),
                max_timestamp_ms,
            },
        )
    }

    fn records() -> impl Strategy<Value = Record> {
        let log = any::<u64>().prop_map(LogId);
        let generation = (0..u32::MAX).prop_map(Generation);
        prop_oneof![
            (
                log.clone(),
                applied(),
                "[a-z/]{0,20}",
                any::<u64>(),
                any::<bool>()
            )
                .prop_map(
                    |(log, applied, directory, max_segment_bytes, write_caching)| {
                        Record::LogOpened {
                            log,
                            applied,
                            spec: LogSpec {
                                directory,
                                max_segment_bytes,
                                write_caching,
                            },
                        }
                    }
                ),
            log.clone().prop_map(|log| Record::LogDeleted { log }),
            (log.clone(), segment())
                .prop_map(|(log, segment)| Record::SegmentOpened { log, segment }),
            (log.clone(), generation.clone(), any::<u64>()).prop_map(|(log, next, index)| {
                Record::Truncated {
                    log,
                    next,
                    first_removed: RaftIndex(index),
                }
            }),
            (log.clone(), any::<[u64; 3]>()).prop_map(|(log, [term, vote, commit])| {
                Record::HardStateSet {
                    log,
                    hard_state: HardState {
                        term: Term(term),
                        vote,
                        commit: RaftIndex(commit),
                    },
                }
            }),
            (
                log.clone(),
                generation.clone(),
                any::<u64>(),
                any::<Vec<u8>>()
            )
                .prop_map(|(log, generation, position, frames)| {
                    Record::FramesWritten {
                        log,
                        generation,
                        position,
                        frames: frames.into(),
                    }
                }),
            (log.clone(), applied(), any::<u64>(), any::<u64>()).prop_map(
                |(log, applied, next, start)| {
                    Record::SnapshotInstalled {
                        log,
                        applied,
                        next_offset: Offset(next),
                        log_start: Offset(start),
                    }
                }
            ),
            (log.clone(), any::<u64>(), any::<bool>()).prop_map(
                |(log, max_segment_bytes, write_caching)| {
                    Record::SpecChanged {
                        log,
                        max_segment_bytes,
                        write_caching,
                    }
                }
            ),
            (log.clone(), generation, end()).prop_map(|(log, generation, end)| {
                Record::SegmentSynced {
                    log,
                    generation,
                    end,
                }
            }),
            (
                log,
                applied(),
                any::<[u64; 4]>(),
                prop::collection::vec(any::<(u64, u64)>(), 0..4),
                prop::collection::vec((segment(), end()), 0..4),
            )
                .prop_map(|(log, applied, numbers, terms, segments)| {
                    let [log_start, index, offset, term_before] = numbers;
                    let terms = terms.into_iter();
                    Record::LogSeeded {
                        log,
                        applied,
                        log_start: Offset(log_start),
                        start: LogStart {
                            index: RaftIndex(index),
                            offset: Offset(offset),
                            term_before: Term(term_before),
                        },
                        terms: terms
                            .map(|(first, term)| (RaftIndex(first), Term(term)))
                            .collect(),
                        segments,
                    }
                }),
        ]
    }

    proptest! {
        #[test]
        fn decoding_gives_back_what_was_encoded(records in prop::collection::vec(records(), 0..5)) {
            let mut group = vec![];
            records.iter().for_each(|record| record.encode(&mut group));
            let mut cursor = Cursor::new(group.into());
            for record in records {
                prop_assert_eq!(Record::decode(&mut cursor), Some(record));
            }
            prop_assert_eq!(cursor.remaining(), 0);
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut bytes: Vec<u8>, kind in 0..12u8) {
            if let Some(first) = bytes.first_mut() {
                *first = kind;
            }
            let mut cursor = Cursor::new(bytes.into());
            while Record::decode(&mut cursor).is_some() {}
        }

        #[test]
        fn cut_record_is_none(record in records(), cut in 1..64usize) {
            let mut bytes = encoded(&record);
            bytes.truncate(bytes.len().saturating_sub(cut));
            prop_assert_eq!(Record::decode(&mut Cursor::new(bytes.into())), None);
        }
    }
}
