//! The readers of one log.

use std::sync::Arc;

use super::shared::{LogShared, View};
use super::{MissingFrames, SegmentInfo};
use crate::error::{Error, Result};
use crate::segment::{self, Segment};
use crate::{Frame, Offset};

/// Reads one log from any thread. It sees whole frames only and never keeps the writer waiting.
#[derive(Clone, Debug)]
pub struct LogReader {
    pub(super) shared: Arc<LogShared>,
}

/// What a read found: whole frames, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batches {
    /// Frames with records. Payloads are slices of the segment and keep it.
    pub frames: Vec<Frame>,
}

impl LogReader {
    pub(super) fn new(shared: Arc<LogShared>) -> Self {
        Self { shared }
    }

    /// The batches from the one that holds `from` up to offset `upto` (exclusive: the high watermark): as many as fit into `max_bytes`, at
    /// least one where there is one. Empty when `from` is `upto`. Blocks.
    ///
    /// # Errors
    /// [`Error::OffsetOutOfRange`] below the first segment or where `from` is above the end; [`Error::Damaged`] when the first batch
    /// cannot be read; [`Error::Io`].
    pub fn read(&self, from: Offset, upto: Offset, max_bytes: u64) -> Result<Batches> {
        let read = |segment: &Arc<Segment>, from, max_bytes| {
            segment.read_records(from, upto, max_bytes).map(Some)
        };
        Ok(self
            .read_with(from, upto, max_bytes, read)?
            .unwrap_or_default())
    }

    /// The same without ever waiting for the disk; `None` where that would be needed.
    ///
    /// # Errors
    /// As [`LogReader::read`].
    pub fn read_cached(
        &self,
        from: Offset,
        upto: Offset,
        max_bytes: u64,
    ) -> Result<Option<Batches>> {
        let read = |segment: &Arc<Segment>, from, max_bytes| {
            segment.read_records_cached(from, upto, max_bytes)
        };
        self.read_with(from, upto, max_bytes, read)
    }

    /// The first batch below `upto` whose max timestamp is at or above `timestamp_ms`: its base offset and max timestamp. The first record
    /// at or after that time is in it. Blocks.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Io`].
    pub fn offset_for_timestamp(
        &self,
        timestamp_ms: i64,
        upto: Offset,
    ) -> Result<Option<(Offset, i64)>> {
        let view = self.shared.view();
        for segment in &view.segments {
            let end = segment.end();
            if segment.spec().base_offset >= upto {
                break;
            }
            if end.next_offset == segment.spec().base_offset || end.max_timestamp_ms < timestamp_ms
            {
                continue;
            }
            let found = segment
                .find_timestamp(timestamp_ms, upto)
                .map_err(|error| self.shared.read_error(error))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The segments from oldest to newest.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let info = |segment: &Arc<Segment>| {
            let (spec, end) = (segment.spec(), segment.end());
            SegmentInfo {
                base_offset: spec.base_offset,
                next_offset: end.next_offset,
                bytes: end.position - spec.start().position,
                max_timestamp_ms: end.max_timestamp_ms,
                sealed: segment.is_sealed(),
            }
        };
        self.shared.view().segments.iter().map(info).collect()
    }

    fn read_with(
        &self,
        from: Offset,
        upto: Offset,
        max_bytes: u64,
        read: impl Fn(&Arc<Segment>, Offset, u64) -> segment::Result<Option<Vec<Frame>>>,
    ) -> Result<Option<Batches>> {
        let view = self.shared.view();
        let mut at = self.first_segment(&view, from)?;
        let mut batches = Batches::default();
        let mut next = from;
        let mut left = max_bytes;
        while let Some(segment) = view.segments.get(at).filter(|_| next < upto) {
            if segment.spec().base_offset > next {
                return self.stop_at_hole(&view, next, batches);
            }
            let found = match read(segment, next, left) {
                Ok(Some(frames)) => frames,
                Ok(None) => return Ok((!batches.frames.is_empty()).then_some(batches)),
                Err(_) if !batches.frames.is_empty() => return Ok(Some(batches)),
                Err(error) => return Err(self.shared.read_error(error)),
            };
            for frame in found {
                let bytes = frame.payload.len() as u64;
                if bytes > left && !batches.frames.is_empty() {
                    return Ok(Some(batches));
                }
                left = left.saturating_sub(bytes);
                next = frame.next_offset();
                batches.frames.push(frame);
            }
            if left == 0 || next < segment.end().next_offset {
                break;
            }
            at += 1;
        }
        if batches.frames.is_empty() && next < upto && at >= view.segments.len() {
            return self.stop_at_hole(&view, next, batches);
        }
        Ok(Some(batches))
    }

    /// Which segment to begin with.
    fn first_segment(&self, view: &View, from: Offset) -> Result<usize> {
        let start = view
            .segments
            .first()
            .map_or(view.next_offset, |segment| segment.spec().base_offset);
        let end = view
            .segments
            .last()
            .map_or(view.next_offset, |segment| segment.end().next_offset);
        let in_hole = view
            .holes
            .iter()
            .any(|hole| hole.from_offset <= from && from < hole.to_offset);
        if (from < start || from > end) && !in_hole {
            return Err(Error::OffsetOutOfRange {
                offset: from,
                start,
                end,
            });
        }
        // Several segments can begin at one offset; all but the last of those have no record.
        Ok(view
            .segments
            .partition_point(|segment| segment.end().next_offset <= from))
    }

    /// What a read that has come to `next` and cannot go on there answers.
    fn stop_at_hole(&self, view: &View, next: Offset, batches: Batches) -> Result<Option<Batches>> {
        let is_there = |hole: &&MissingFrames| hole.from_offset <= next && next < hole.to_offset;
        match view.holes.iter().find(is_there) {
            Some(hole) if batches.frames.is_empty() => Err(self.shared.hole_error(hole)),
            _ => Ok(Some(batches)),
        }
    }
}
