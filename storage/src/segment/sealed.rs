//! The segments that a log has written.

use std::sync::Arc;

use super::error::Result;
use super::file::Segment;
use super::walk::Walk;
use super::{SegmentEnd, SegmentSpec};
use crate::RaftIndex;

/// A segment that takes no more frames. It can lose some at its end, and leave.
#[derive(Debug)]
pub(crate) struct SealedSegment {
    segment: Arc<Segment>,
}

impl SealedSegment {
    pub(super) fn new(segment: Arc<Segment>) -> Self {
        segment.set_sealed();
        Self { segment }
    }

    /// What readers share.
    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// What the segment was opened with.
    pub(crate) fn spec(&self) -> &SegmentSpec {
        self.segment.spec()
    }

    /// Where its frames end.
    pub(crate) fn end(&self) -> SegmentEnd {
        self.segment.end()
    }

    /// Ends the segment before `first_removed`. The bytes stay; nothing is ever written over them.
    ///
    /// # Errors
    /// When the frames before it cannot be read; then nothing has changed.
    pub(crate) fn truncate(&mut self, first_removed: RaftIndex) -> Result<SegmentEnd> {
        let end = Walk::end_before(&self.segment, first_removed)?;
        self.segment.cut(end);
        Ok(end)
    }

    pub(super) fn into_segment(self) -> Arc<Segment> {
        self.segment
    }
}
