//! Reading a log by index: what the group itself, or a follower, needs.

use std::sync::Arc;

use super::log::Log;
use super::reader::LogReader;
use super::shared::LogShared;
use super::staging::StagedFrom;
use crate::error::{Error, Result};
use crate::segment::{self, Segment};
use crate::{Frame, RaftIndex};

impl Log {
    /// The frames of the indexes from `from` up to, not including, `to`: as many as fit into `max_bytes` of payload, at least one. They end
    /// where damage took the next. Blocks.
    ///
    /// # Errors
    /// [`Error::Compacted`]; [`Error::Damaged`] where the frame at `from` is gone or cannot be read; [`Error::Io`]; [`Error::Invalid`] for a
    /// range above the last index or empty.
    pub fn read(&self, from: RaftIndex, to: RaftIndex, max_bytes: u64) -> Result<Vec<Frame>> {
        let read = |segment: &Arc<Segment>, from, max_bytes| {
            segment.read_entries(from, to, max_bytes).map(Some)
        };
        Ok(self
            .read_with(from, to, max_bytes, read)?
            .unwrap_or_default())
    }

    /// The same without ever waiting for the disk; `None` where that would be needed: [`LogReader::entries`] can wait.
    ///
    /// # Errors
    /// As [`Log::read`].
    pub fn read_cached(
        &self,
        from: RaftIndex,
        to: RaftIndex,
        max_bytes: u64,
    ) -> Result<Option<Vec<Frame>>> {
        let read = |segment: &Arc<Segment>, from, max_bytes| {
            segment.read_entries_cached(from, to, max_bytes)
        };
        self.read_with(from, to, max_bytes, read)
    }

    fn read_with(
        &self,
        from: RaftIndex,
        to: RaftIndex,
        max_bytes: u64,
        read: impl Fn(&Arc<Segment>, RaftIndex, u64) -> segment::Result<Option<Vec<Frame>>>,
    ) -> Result<Option<Vec<Frame>>> {
        if from < self.start.index {
            return Err(Error::Compacted {
                index: from,
                first: self.start.index,
            });
        }
        if from >= to || to > self.next_index {
            return Err(Error::invalid(format!(
                "cannot read indexes {from}..{to} of {}",
                self.next_index
            )));
        }
        let (mut frames, mut left): (Vec<Frame>, u64) = (vec![], max_bytes);
        let mut at = from;
        while at < to {
            let found = match self.read_once(at, to, |segment, from| read(segment, from, left)) {
                Err(error) if frames.is_empty() => return Err(error),
                Ok(None) if frames.is_empty() => return Ok(None),
                Err(_) | Ok(None) => break,
                Ok(Some(found)) => found,
            };
            for frame in found {
                let bytes = frame.payload.len() as u64;
                if bytes > left && !frames.is_empty() {
                    return Ok(Some(frames));
                }
                left = left.saturating_sub(bytes);
                at = frame.index.next();
                frames.push(frame);
            }
            if left == 0 {
                break;
            }
        }
        Ok(Some(frames))
    }

    /// Frames from one segment or head, at least one.
    fn read_once(
        &self,
        from: RaftIndex,
        to: RaftIndex,
        read: impl Fn(&Arc<Segment>, RaftIndex) -> segment::Result<Option<Vec<Frame>>>,
    ) -> Result<Option<Vec<Frame>>> {
        let mut heads = self.heads.iter().rev();
        let found = match heads.find(|head| head.spec().first_index <= from) {
            Some(head) => {
                let wanted = |frame: &&Frame| from <= frame.index && frame.index < to;
                Some(head.frames().iter().filter(wanted).cloned().collect())
            }
            None => self.shared.read_entries(from, read)?,
        };
        match found {
            Some(frames) if frames.is_empty() => Err(self.shared.absent(from)),
            found => Ok(found),
        }
    }
}

impl Log {
    /// Where a log begins that takes over all that this one holds.
    pub fn begins(&self) -> StagedFrom {
        StagedFrom {
            index: self.start.index,
            offset: self.start.offset,
            term_before: self.start.term_before,
        }
    }

    /// The frames that are in no file: none of them has records, and a reader does not find them.
    pub fn frames_without_file(&self) -> Vec<Frame> {
        self.heads
            .iter()
            .flat_map(|head| head.frames().iter().cloned())
            .collect()
    }
}

impl LogReader {
    /// Frames of the indexes from `from` up to, not including, `to`: as many as fit into `max_bytes` of payload and stand in one segment
    /// file, at least one. Blocks. What has no file is not there: the log itself has it in memory.
    ///
    /// # Errors
    /// [`Error::Compacted`] for what is not in a file, [`Error::Damaged`], [`Error::Io`].
    pub fn entries(&self, from: RaftIndex, to: RaftIndex, max_bytes: u64) -> Result<Vec<Frame>> {
        let read =
            |segment: &Arc<Segment>, from| segment.read_entries(from, to, max_bytes).map(Some);
        let frames = self.shared.read_entries(from, read)?;
        Ok(frames.unwrap_or_default())
    }
}

impl LogShared {
    /// Frames from the segment that has index `from`.
    fn read_entries(
        &self,
        from: RaftIndex,
        read: impl Fn(&Arc<Segment>, RaftIndex) -> segment::Result<Option<Vec<Frame>>>,
    ) -> Result<Option<Vec<Frame>>> {
        let view = self.view();
        let count = view
            .segments
            .partition_point(|segment| segment.spec().first_index <= from);
        let segment = count.checked_sub(1).map(|at| &view.segments[at]);
        if let Some(segment) = segment.filter(|segment| from < segment.end().next_index) {
            return read(segment, from).map_err(|error| self.read_error(error));
        }
        Err(self.absent(from))
    }

    /// Why nothing is at index `from`.
    fn absent(&self, from: RaftIndex) -> Error {
        let view = self.view();
        let mut holes = view.holes.iter();
        match holes.find(|hole| hole.from <= from && from < hole.to) {
            Some(hole) => self.hole_error(hole),
            None => Error::Compacted {
                index: from,
                first: view
                    .segments
                    .first()
                    .map_or(from.next(), |segment| segment.spec().first_index),
            },
        }
    }
}
