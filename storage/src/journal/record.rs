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
//!
//! A record is never checked by itself: its group's CRC covers it. Decoding still bounds every length by what is there, because a
//! journal may have been written by anybody.

use bytes::Bytes;

use crate::cursor::{Cursor, put_string};
use crate::frame::EncodedFrame;
use crate::log::{AppliedState, HardState, LogSpec};
use crate::segment::{Generation, SegmentEnd, SegmentSpec};
use crate::{LogId, Offset, RaftIndex, Term};

/// Bytes before a record's body.
const HEADER_BYTES: usize = 16;
/// Records start at multiples of this, within their group.
const ALIGNMENT: usize = 8;
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
            _ => return None,
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
