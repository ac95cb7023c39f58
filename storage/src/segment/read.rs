//! Reading frames by index, by offset and by time.

use std::sync::Arc;

use super::error::{Error, Hole, Result};
use super::file::Segment;
use super::walk::{Step, Touch, Walk};
use crate::frame::{Frame, FrameHeader};
use crate::{Offset, RaftIndex};

/// A read never takes more than this from a segment at once, whatever was asked.
const MAX_READ_BYTES: u64 = 16 * 1024 * 1024;

/// Which frames a read wants: it skips those before, and ends at the first after.
struct Wanted<B, A, H> {
    is_before: B,
    is_after: A,
    /// Whether a hole ends before the first wanted frame.
    skips: H,
    records_only: bool,
    max_bytes: u64,
}

impl Segment {
    /// The frames from index `from` up to, not including, `to`: as many as fit into `max_bytes`, at least one where there is one.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the first of them cannot be read.
    pub(crate) fn read_entries(
        self: &Arc<Self>,
        from: RaftIndex,
        to: RaftIndex,
        max_bytes: u64,
    ) -> Result<Vec<Frame>> {
        let frames = self.read_entries_touching(Touch::Any, from, to, max_bytes)?;
        Ok(frames.unwrap_or_default())
    }

    /// The same without waiting for the disk; `None` where that would be needed.
    ///
    /// # Errors
    /// As [`Segment::read_entries`].
    pub(crate) fn read_entries_cached(
        self: &Arc<Self>,
        from: RaftIndex,
        to: RaftIndex,
        max_bytes: u64,
    ) -> Result<Option<Vec<Frame>>> {
        if self.may_be_cold() {
            return Ok(None);
        }
        self.read_entries_touching(Touch::Cached, from, to, max_bytes)
    }

    fn read_entries_touching(
        self: &Arc<Self>,
        touch: Touch,
        from: RaftIndex,
        to: RaftIndex,
        max_bytes: u64,
    ) -> Result<Option<Vec<Frame>>> {
        let wanted = Wanted {
            is_before: |header: &FrameHeader| header.index < from,
            is_after: |header: &FrameHeader| header.index >= to,
            skips: |hole: &Hole| hole.to <= from,
            records_only: false,
            max_bytes,
        };
        let mut walk = Walk::new(self, touch, max_bytes.min(MAX_READ_BYTES), |place| {
            place.next_index <= from
        })?;
        collect(&mut walk, &wanted)
    }

    /// The pages of a sealed segment may be gone from memory, and only a blocking read may find that out.
    fn may_be_cold(&self) -> bool {
        self.is_sealed() || !self.is_open()
    }

    /// The frames with records from the one that holds offset `from` up to offset `upto`: as many as fit into `max_bytes`, at least one
    /// where there is one. Blocks on the disk.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the first of them cannot be read.
    pub(crate) fn read_records(
        self: &Arc<Self>,
        from: Offset,
        upto: Offset,
        max_bytes: u64,
    ) -> Result<Vec<Frame>> {
        Ok(self
            .read_records_touching(Touch::Any, from, upto, max_bytes)?
            .unwrap_or_default())
    }

    /// The same without waiting for the disk; `None` where that would be needed.
    ///
    /// # Errors
    /// As [`Segment::read_records`].
    pub(crate) fn read_records_cached(
        self: &Arc<Self>,
        from: Offset,
        upto: Offset,
        max_bytes: u64,
    ) -> Result<Option<Vec<Frame>>> {
        if self.may_be_cold() {
            return Ok(None);
        }
        self.read_records_touching(Touch::Cached, from, upto, max_bytes)
    }

    fn read_records_touching(
        self: &Arc<Self>,
        touch: Touch,
        from: Offset,
        upto: Offset,
        max_bytes: u64,
    ) -> Result<Option<Vec<Frame>>> {
        let wanted = Wanted {
            is_before: |header: &FrameHeader| header.next_offset() <= from,
            is_after: |header: &FrameHeader| header.base_offset >= upto,
            skips: |hole: &Hole| hole.to_offset <= from,
            records_only: true,
            max_bytes,
        };
        let mut walk = Walk::new(self, touch, max_bytes.min(MAX_READ_BYTES), |place| {
            place.next_offset <= from
        })?;
        collect(&mut walk, &wanted)
    }

    /// The first frame with records below `upto` whose largest timestamp is at or above `timestamp_ms`: its base offset and that
    /// timestamp. Blocks on the disk.
    ///
    /// # Errors
    /// [`Error::Damaged`] when frames on the way cannot be read.
    pub(crate) fn find_timestamp(
        self: &Arc<Self>,
        timestamp_ms: i64,
        upto: Offset,
    ) -> Result<Option<(Offset, i64)>> {
        let mut walk = Walk::new(self, Touch::Any, 0, |place| {
            place.max_timestamp_ms < timestamp_ms
        })?;
        while let Step::Frame(header, _) = walk.step()? {
            if header.base_offset >= upto {
                break;
            }
            if header.record_count > 0 && header.max_timestamp_ms >= timestamp_ms {
                return Ok(Some((header.base_offset, header.max_timestamp_ms)));
            }
        }
        Ok(None)
    }
}

/// The wanted frames; `None` when the first of them is not cached and had to be. Damage before them is stepped over, damage after some
/// of them ends the read: the next one, which starts there, reports it.
fn collect<B, A, H>(walk: &mut Walk<'_>, wanted: &Wanted<B, A, H>) -> Result<Option<Vec<Frame>>>
where
    B: Fn(&FrameHeader) -> bool,
    A: Fn(&FrameHeader) -> bool,
    H: Fn(&Hole) -> bool,
{
    let mut frames = Vec::new();
    let mut bytes = 0;
    loop {
        let (header, position) = match walk.step() {
            Ok(Step::Frame(header, position)) => (header, position),
            Ok(Step::End) => return Ok(Some(frames)),
            Ok(Step::Cold) => return Ok((!frames.is_empty()).then_some(frames)),
            Err(Error::Damaged { .. }) if !frames.is_empty() => return Ok(Some(frames)),
            Err(Error::Damaged { hole, .. }) if (wanted.skips)(&hole) => {
                walk.skip_hole();
                continue;
            }
            Err(error) => return Err(error),
        };
        if (wanted.is_before)(&header) || (wanted.records_only && header.record_count == 0) {
            continue;
        }
        bytes += u64::from(header.payload_len);
        if (wanted.is_after)(&header) || (bytes > wanted.max_bytes && !frames.is_empty()) {
            return Ok(Some(frames));
        }
        if !walk.may_touch(&header, position) {
            return Ok((!frames.is_empty()).then_some(frames));
        }
        match walk.frame(&header, position) {
            Ok(frame) => frames.push(frame),
            Err(Error::Damaged { .. }) if !frames.is_empty() => return Ok(Some(frames)),
            Err(error) => return Err(error),
        }
    }
}
