//! Walking over the frames of a segment, header by header.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::SegmentEnd;
use super::error::{Error, Hole, Result};
use super::file::{Opened, Segment, lock};
use super::index::INTERVAL_BYTES;
use crate::RaftIndex;
use crate::frame::{self, ALIGNMENT, Decoded, Frame, FrameHeader, HEADER_BYTES};
use crate::fs::{self, Map};

/// Bytes of the segment that a walk looks at in one piece, at least.
const WINDOW_BYTES: u64 = 64 * 1024;

/// Where one byte cannot be read, the rest of its page cannot either.
const UNREADABLE_BYTES: u64 = 4096;

/// How a walk treats bytes that were not read from the disk yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Touch {
    /// They are read, whatever it takes.
    Any,
    /// Only bytes that were written or checked since the file was opened are looked at.
    Cached,
}

/// A walk from a known place to the end of the segment.
pub(super) struct Walk<'a> {
    segment: &'a Arc<Segment>,
    opened: Arc<Opened>,
    map: Arc<dyn Map>,
    touch: Touch,
    /// What stands before the next frame.
    at: SegmentEnd,
    end: SegmentEnd,
    window: Bytes,
    window_start: u64,
    window_bytes: u64,
    last_place: u64,
    found: Vec<SegmentEnd>,
    /// Where to go on after the hole that the last step met.
    after_hole: Option<SegmentEnd>,
}

/// A step of a walk.
pub(super) enum Step {
    /// The next frame, and where it starts.
    Frame(FrameHeader, u64),
    /// No frame is left.
    End,
    /// Only for [`Touch::Cached`]: the next frame would have to be read from the disk.
    Cold,
}

impl<'a> Walk<'a> {
    /// Starts at the last place of which `is_before` holds.
    pub(super) fn new(
        segment: &'a Arc<Segment>,
        touch: Touch,
        window_bytes: u64,
        is_before: impl Fn(&SegmentEnd) -> bool,
    ) -> Result<Self> {
        let opened = segment.open()?;
        let map = segment.map(&opened)?;
        let (at, end) = segment.place_before(is_before);
        Ok(Self {
            segment,
            opened,
            map,
            touch,
            at,
            end,
            window: Bytes::new(),
            window_start: at.position,
            window_bytes: window_bytes.max(WINDOW_BYTES),
            last_place: at.position,
            found: Vec::new(),
            after_hole: None,
        })
    }

    /// Where the frames end before `index`.
    pub(super) fn end_before(segment: &'a Arc<Segment>, index: RaftIndex) -> Result<SegmentEnd> {
        let mut walk = Self::new(segment, Touch::Any, WINDOW_BYTES, |place| {
            place.next_index <= index
        })?;
        while walk.at.next_index < index {
            match walk.step()? {
                Step::Frame(..) => {}
                Step::End | Step::Cold => break,
            }
        }
        Ok(walk.at)
    }

    /// Goes over the next frame. Its header is checked, its payload is not.
    pub(super) fn step(&mut self) -> Result<Step> {
        let position = self.at.position;
        // After a hole the last frame may come early: what follows it there was cut off.
        if position >= self.end.position || self.at.next_index >= self.end.next_index {
            return Ok(Step::End);
        }
        if self.touch == Touch::Cached
            && !self.is_verified(&(position..position + HEADER_BYTES as u64))
        {
            return Ok(Step::Cold);
        }
        let Some(header) = self
            .header_at(position)?
            .filter(|header| self.at.continues_with(header))
        else {
            return Err(self.lost_header()?);
        };
        self.at = self.at.after(&header);
        if self.at.position >= self.last_place + INTERVAL_BYTES {
            self.last_place = self.at.position;
            self.found.push(self.at);
        }
        Ok(Step::Frame(header, position))
    }

    /// The frame with its payload, which is checked unless that was done since the file was opened.
    pub(super) fn frame(&mut self, header: &FrameHeader, position: u64) -> Result<Frame> {
        let start = position + HEADER_BYTES as u64;
        let range = start..start + u64::from(header.payload_len);
        let whole = position..position + header.frame_bytes();
        let hole = Hole {
            from: header.index,
            to: header.index.next(),
            from_offset: header.base_offset,
            to_offset: header.next_offset(),
        };
        let payload = match self.bytes(range) {
            Err(error) if error.is_unreadable() => {
                return Err(self.damaged(hole, position, error));
            }
            read => read?,
        };
        if !self.is_verified(&whole) {
            if let Err(error) = header.verify_payload(&payload) {
                return Err(self.damaged(hole, position, error));
            }
            lock(&self.opened.verified).insert(whole);
        }
        Ok(header.with_payload(payload))
    }

    /// Whether the frame may be looked at.
    pub(super) fn may_touch(&self, header: &FrameHeader, position: u64) -> bool {
        self.touch == Touch::Any || self.is_verified(&(position..position + header.frame_bytes()))
    }

    /// Where the walk is.
    pub(super) fn position(&self) -> u64 {
        self.at.position
    }

    /// Goes on after the hole that the last step met.
    pub(super) fn skip_hole(&mut self) {
        if let Some(after) = self.after_hole.take() {
            self.at = after;
        }
    }

    fn is_verified(&self, range: &Range<u64>) -> bool {
        lock(&self.opened.verified).contains(range)
    }

    fn header_at(&mut self, position: u64) -> Result<Option<FrameHeader>> {
        let end = self.end.position.min(position + HEADER_BYTES as u64);
        let bytes = match self.bytes(position..end) {
            Err(error) if error.is_unreadable() => return Ok(None),
            read => read?,
        };
        let fits = |header: &FrameHeader| position + header.frame_bytes() <= self.end.position;
        Ok(
            match frame::decode_header(&bytes, self.segment.spec().salt) {
                Ok(Decoded::Header(header)) if fits(&header) => Some(header),
                _ => None,
            },
        )
    }

    /// The error for a place without the frame that was written there: all up to the next frame that can be found is missing.
    fn lost_header(&mut self) -> Result<Error> {
        let start = self.at;
        let mut after = SegmentEnd {
            max_timestamp_ms: start.max_timestamp_ms,
            ..self.end
        };
        let mut position = start.position + ALIGNMENT as u64;
        while position < self.end.position {
            if let Err(error) = self.bytes(position..position + ALIGNMENT as u64) {
                if !error.is_unreadable() {
                    return Err(error.into());
                }
                position = (position + 1).next_multiple_of(UNREADABLE_BYTES);
                continue;
            }
            if let Some(header) = self
                .header_at(position)?
                .filter(|header| self.is_after_hole(header))
            {
                after.position = position;
                (after.next_index, after.next_offset) = (header.index, header.base_offset);
                break;
            }
            position += ALIGNMENT as u64;
        }
        self.after_hole = Some(after);
        let hole = Hole {
            from: start.next_index,
            to: after.next_index,
            from_offset: start.next_offset,
            to_offset: after.next_offset,
        };
        Ok(self.damaged(hole, start.position, frame::Error::Header))
    }

    fn is_after_hole(&self, header: &FrameHeader) -> bool {
        (self.at.next_index..self.end.next_index).contains(&header.index)
            && header.base_offset >= self.at.next_offset
    }

    fn damaged(&self, hole: Hole, position: u64, error: impl std::fmt::Display) -> Error {
        let reason = format!(
            "{error} at position {position} of {}",
            self.segment.path().display()
        );
        Error::Damaged { hole, reason }
    }

    /// Bytes of the segment, out of a window that moves along.
    fn bytes(&mut self, range: Range<u64>) -> fs::Result<Bytes> {
        let window_end = self.window_start + self.window.len() as u64;
        if range.start < self.window_start || range.end > window_end {
            let mut end = self
                .end
                .position
                .min(range.end.max(range.start + self.window_bytes));
            if self.touch == Touch::Any
                && let Err(error) = self.map.populate(range.start..end)
            {
                // What is wanted may be readable where what follows it is not.
                if !error.is_unreadable() {
                    return Err(error);
                }
                end = range.end;
                self.map.populate(range.start..end)?;
            }
            self.window = Arc::clone(&self.map).slice(range.start..end);
            self.window_start = range.start;
        }
        let within = |position: u64| {
            usize::try_from(position - self.window_start).expect("inside the window")
        };
        Ok(self.window.slice(within(range.start)..within(range.end)))
    }
}

impl Drop for Walk<'_> {
    fn drop(&mut self) {
        // What was learned on the way shortens later walks.
        self.segment.add_places(std::mem::take(&mut self.found));
    }
}
