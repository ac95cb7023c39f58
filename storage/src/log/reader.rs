//! The readers of one log.

use super::SegmentInfo;
use crate::error::Result;
use crate::{Frame, Offset};

/// Reads one log from any thread. It sees whole frames only and never keeps the writer waiting.
#[derive(Clone, Debug)]
pub struct LogReader {}

/// What a read found: whole frames, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batches {
    /// Frames with records. Payloads are slices of the segment and keep it.
    pub frames: Vec<Frame>,
}

impl LogReader {
    /// The batches from the one that holds `from` up to offset `upto` (exclusive: the high watermark): as many as fit into `max_bytes`, at
    /// least one where there is one. Empty when `from` is `upto`. Blocks.
    ///
    /// # Errors
    /// [`crate::Error::OffsetOutOfRange`], [`crate::Error::Damaged`].
    pub fn read(&self, _from: Offset, _upto: Offset, _max_bytes: u64) -> Result<Batches> {
        unimplemented!()
    }

    /// The same without ever waiting for the disk; `None` where that would be needed.
    ///
    /// # Errors
    /// As [`LogReader::read`].
    pub fn read_cached(
        &self,
        _from: Offset,
        _upto: Offset,
        _max_bytes: u64,
    ) -> Result<Option<Batches>> {
        unimplemented!()
    }

    /// The first batch below `upto` whose max timestamp is at or above `timestamp_ms`: its base offset and max timestamp. The first record
    /// at or after that time is in it. Blocks.
    ///
    /// # Errors
    /// [`crate::Error::Damaged`].
    pub fn offset_for_timestamp(
        &self,
        _timestamp_ms: i64,
        _upto: Offset,
    ) -> Result<Option<(Offset, i64)>> {
        unimplemented!()
    }

    /// The segments from oldest to newest.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        unimplemented!()
    }
}
