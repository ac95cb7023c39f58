//! Giving up on frames that cannot be read. Only while nobody reads or writes the segment.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::error::{Error, Hole, Result};
use super::file::Segment;
use super::walk::{Step, Touch, Walk};
use crate::frame::{self, EncodedFrame, FrameKind, HEADER_BYTES, MAX_PAYLOAD_BYTES, NewFrame};
use crate::fs::{self, Operation};
use crate::{Offset, RaftIndex, Term};

/// Frames that cannot be read, and the bytes where they were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) hole: Hole,
    range: Range<u64>,
}

impl Segment {
    /// Reads all frames and finds those that are not what was written.
    ///
    /// # Errors
    /// When the disk cannot read: what it holds is then not known.
    pub(crate) fn find_lost(self: &Arc<Self>) -> Result<Vec<Lost>> {
        let mut walk = Walk::new(self, Touch::Any, 0, |place| {
            place.next_index <= self.spec().first_index
        })?;
        let mut found = Vec::new();
        loop {
            let start = walk.position();
            match walk.step() {
                Ok(Step::End | Step::Cold) => return Ok(found),
                Ok(Step::Frame(header, position)) => match walk.frame(&header, position) {
                    Ok(_) => {}
                    Err(Error::Damaged { hole, .. }) => {
                        let range = position..position + header.frame_bytes();
                        found.push(Lost { hole, range });
                    }
                    Err(error) => return Err(error),
                },
                Err(Error::Damaged { hole, .. }) => {
                    walk.skip_hole();
                    let range = start..walk.position();
                    found.push(Lost { hole, range });
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes lost frames over what cannot be read: with the same indexes and offsets, in the same bytes. Doing it again after a crash
    /// does no harm.
    ///
    /// # Errors
    /// When the disk cannot write, or the bytes are too few or too many for as many frames.
    pub(crate) fn put_lost(
        self: &Arc<Self>,
        lost: &Lost,
        term: impl Fn(RaftIndex) -> Term,
    ) -> Result<()> {
        let length = lost.range.end - lost.range.start;
        let count = lost.hole.to.0 - lost.hole.from.0;
        let filling = length.checked_sub(count * HEADER_BYTES as u64);
        let filling = filling.filter(|filling| *filling <= u64::from(MAX_PAYLOAD_BYTES));
        let Some(filling) = filling.and_then(|filling| usize::try_from(filling).ok()) else {
            let reason = std::io::Error::other(format!("{count} frames do not fit {length} bytes"));
            return Err(fs::Error::new(Operation::Write, self.path(), reason).into());
        };
        let frames = lost_frames(&lost.hole, self.spec().salt, filling, term);
        let bytes: Vec<u8> = frames.iter().flat_map(EncodedFrame::to_vec).collect();
        let file = Arc::clone(&self.open()?.file);
        file.write_all_at(&bytes, lost.range.start)?;
        Ok(file.sync_data()?)
    }
}

/// Frames that stand for those of `hole`. The first takes all offsets (as many as fit), the last has `filling` bytes of payload.
pub(crate) fn lost_frames(
    hole: &Hole,
    salt: u64,
    filling: usize,
    term: impl Fn(RaftIndex) -> Term,
) -> Vec<EncodedFrame> {
    let mut offset = hole.from_offset;
    let mut frames = Vec::new();
    let mut index = hole.from;
    while index < hole.to {
        let record_count = u32::try_from(hole.to_offset.0 - offset.0).unwrap_or(u32::MAX);
        let is_last = index.next() == hole.to;
        let payload = if is_last {
            Bytes::from(vec![0; filling])
        } else {
            Bytes::new()
        };
        let frame = NewFrame {
            index,
            term: term(index),
            kind: FrameKind::Lost,
            record_count,
            max_timestamp_ms: -1,
            payload,
        };
        let encoded = frame::encode(&frame, offset, salt);
        frames.push(encoded.expect("indexes and offsets were those of frames"));
        offset = Offset(offset.0 + u64::from(record_count));
        index = index.next();
    }
    frames
}
