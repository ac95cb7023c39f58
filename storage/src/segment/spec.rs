//! What is known of a segment without looking into it.

use super::header;
use crate::frame::FrameHeader;
use crate::{Offset, RaftIndex, Term};

/// Counts the segments of one log in the order of their opening, also those that are gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Generation(pub(crate) u32);

impl Generation {
    /// The generation after this one.
    pub(crate) fn next(self) -> Self {
        Self(
            self.0
                .checked_add(1)
                .expect("a log does not live through 2^32 segments"),
        )
    }
}

/// What a segment was opened with. It never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentSpec {
    /// Its number in its log.
    pub(crate) generation: Generation,
    /// What its frame headers are seeded with.
    pub(crate) salt: u64,
    /// The index of its first frame.
    pub(crate) first_index: RaftIndex,
    /// The offset of its first record.
    pub(crate) base_offset: Offset,
    /// The size of its file, header block included; 0 when it has no file.
    pub(crate) file_bytes: u64,
}

/// Where the frames of a segment end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentEnd {
    /// The position in the file after the last frame.
    pub(crate) position: u64,
    /// The index that the next frame has or would have.
    pub(crate) next_index: RaftIndex,
    /// The term of the last frame; 0 when there is none.
    pub(crate) term: Term,
    /// The offset that the next record has or would have.
    pub(crate) next_offset: Offset,
    /// The largest timestamp of its records; `i64::MIN` when there is none.
    pub(crate) max_timestamp_ms: i64,
}

impl SegmentSpec {
    /// Whether its frames have no file, and are in memory, journal and checkpoint only.
    pub(crate) fn is_head(&self) -> bool {
        self.file_bytes == 0
    }

    /// Where the frames end before the first is written.
    pub(crate) fn start(&self) -> SegmentEnd {
        SegmentEnd {
            position: header::BLOCK_BYTES,
            next_index: self.first_index,
            term: Term(0),
            next_offset: self.base_offset,
            max_timestamp_ms: i64::MIN,
        }
    }
}

impl SegmentEnd {
    /// Where the frames end after one more.
    pub(crate) fn after(&self, frame: &FrameHeader) -> Self {
        let timestamp = if frame.record_count > 0 {
            frame.max_timestamp_ms
        } else {
            i64::MIN
        };
        Self {
            position: self.position + frame.frame_bytes(),
            next_index: frame.index.next(),
            term: frame.term,
            next_offset: frame.next_offset(),
            max_timestamp_ms: self.max_timestamp_ms.max(timestamp),
        }
    }

    /// Whether `frame` is the one that comes here.
    pub(crate) fn continues_with(&self, frame: &FrameHeader) -> bool {
        frame.index == self.next_index && frame.base_offset == self.next_offset
    }
}
