//! Reading a log by index: what the group itself, or a follower, needs.

use super::log::Log;
use crate::error::{Error, Result};
use crate::{Frame, RaftIndex};

impl Log {
    /// The frames of the indexes from `from` up to, not including, `to`: as many as fit into `max_bytes` of payload, at least one. Blocks.
    ///
    /// # Errors
    /// [`Error::Compacted`], [`Error::Damaged`], [`Error::Io`]; [`Error::Invalid`] for a range above the last index or empty.
    pub fn read(&self, from: RaftIndex, to: RaftIndex, max_bytes: u64) -> Result<Vec<Frame>> {
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
            let found = match self.read_once(at, to, left) {
                Err(error) if frames.is_empty() => return Err(error),
                Err(_) => break,
                Ok(found) => found,
            };
            for frame in found {
                let bytes = frame.payload.len() as u64;
                if bytes > left && !frames.is_empty() {
                    return Ok(frames);
                }
                left = left.saturating_sub(bytes);
                at = frame.index.next();
                frames.push(frame);
            }
            if left == 0 {
                break;
            }
        }
        Ok(frames)
    }

    /// Frames from one segment or head.
    fn read_once(&self, from: RaftIndex, to: RaftIndex, max_bytes: u64) -> Result<Vec<Frame>> {
        if let Some(head) = self
            .heads
            .iter()
            .rev()
            .find(|head| head.spec().first_index <= from)
        {
            let frames = head
                .frames()
                .iter()
                .filter(|frame| from <= frame.index && frame.index < to);
            return Ok(frames.cloned().collect());
        }
        let view = self.shared.view();
        let count = view
            .segments
            .partition_point(|segment| segment.spec().first_index <= from);
        let segment = count.checked_sub(1).map(|at| &view.segments[at]);
        if let Some(segment) = segment.filter(|segment| from < segment.end().next_index) {
            let frames = segment.read_entries(from, to, max_bytes);
            return frames.map_err(|error| self.shared.read_error(error));
        }
        match view
            .holes
            .iter()
            .find(|hole| hole.from <= from && from < hole.to)
        {
            Some(hole) => Err(self.shared.hole_error(hole)),
            None => Err(Error::Compacted {
                index: from,
                first: self.start.index,
            }),
        }
    }
}
