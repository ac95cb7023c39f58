//! The writer of one log.

use super::{AppliedState, HardState, LogReader, SegmentInfo};
use crate::checkpoint::CapturedLog;
use crate::error::Result;
use crate::journal::{Ticket, Turn};
use crate::{Frame, LogId, NewFrame, Offset, RaftIndex, Term};

/// The writer of one log. It belongs to one shard thread.
#[derive(Debug)]
pub struct Log {}

impl Log {
    /// The log's id, which is the replica's.
    pub fn id(&self) -> LogId {
        unimplemented!()
    }

    /// The first index that is still there; one after [`Log::last_index`] when there is none.
    pub fn first_index(&self) -> RaftIndex {
        unimplemented!()
    }

    /// The last index; one before [`Log::first_index`] when there is none.
    pub fn last_index(&self) -> RaftIndex {
        unimplemented!()
    }

    /// The term of the entry at `index`; known from one before the first index to the last, `None` above it. Never reads the disk.
    ///
    /// # Errors
    /// [`crate::Error::Compacted`] below that.
    pub fn term_at(&self, _index: RaftIndex) -> Result<Option<Term>> {
        unimplemented!()
    }

    /// The offset the next record gets.
    pub fn next_offset(&self) -> Offset {
        unimplemented!()
    }

    /// The log start offset, as last set.
    pub fn log_start(&self) -> Offset {
        unimplemented!()
    }

    /// The hard state as last set.
    pub fn hard_state(&self) -> HardState {
        unimplemented!()
    }

    /// Whether frames skip the journal.
    pub fn write_caching(&self) -> bool {
        unimplemented!()
    }

    /// Appends frames with contiguous indexes from [`Log::last_index`] + 1 on. They can be read at once, and are durable when the turn's
    /// ticket is done (see [`Log::ticket`] for `write.caching`).
    ///
    /// # Errors
    /// [`crate::Error::NoSpace`]: nothing changed. [`crate::Error::Invalid`]: a frame breaks a rule, nothing changed. Any other poisons the log.
    pub fn append(&mut self, _turn: &mut Turn, _frames: &[NewFrame]) -> Result<()> {
        unimplemented!()
    }

    /// Removes the frames from `first_removed` on. The segment is closed: what follows goes to another place.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] at or below the commit index or below the first index.
    pub fn truncate_suffix(&mut self, _turn: &mut Turn, _first_removed: RaftIndex) -> Result<()> {
        unimplemented!()
    }

    /// Sets the hard state. A change of term or vote must be durable before anything is sent in that term; a change of the commit index
    /// alone goes to disk with whatever goes next.
    pub fn set_hard_state(&mut self, _turn: &mut Turn, _hard_state: HardState) {
        unimplemented!()
    }

    /// The ticket that this log's writes up to now wait for, when its last turn was submitted as `submitted`. The same, but for
    /// `write.caching` logs: what they cached waits for nothing.
    pub fn ticket(&mut self, _submitted: Ticket) -> Ticket {
        unimplemented!()
    }

    /// Records below `offset` may leave: whole sealed segments, at the next checkpoints. Never goes back.
    pub fn set_log_start(&mut self, _offset: Offset) {
        unimplemented!()
    }

    /// Frames below `below` may leave when a checkpoint holds an applied state at or above them.
    pub fn compact(&mut self, _below: RaftIndex) {
        unimplemented!()
    }

    /// The frames of the indexes from `from` up to, not including, `to`: as many as fit into `max_bytes` of payload, at least one. Blocks.
    ///
    /// # Errors
    /// [`crate::Error::Compacted`], [`crate::Error::Damaged`]; [`crate::Error::Invalid`] above the last index.
    pub fn read(&self, _from: RaftIndex, _to: RaftIndex, _max_bytes: u64) -> Result<Vec<Frame>> {
        unimplemented!()
    }

    /// A reader of this log for other threads.
    pub fn reader(&self) -> LogReader {
        unimplemented!()
    }

    /// What a checkpoint has to say of this log, with the state of its group as of one index.
    pub fn capture(&mut self, _applied: AppliedState) -> CapturedLog {
        unimplemented!()
    }

    /// The largest segment from now on, in bytes.
    pub fn set_max_segment_bytes(&mut self, _bytes: u64) {
        unimplemented!()
    }

    /// Turns `write.caching` on or off. Turning it off syncs what is only cached. Blocks.
    ///
    /// # Errors
    /// A failed sync poisons the log.
    pub fn set_write_caching(&mut self, _turn: &mut Turn, _caching: bool) -> Result<()> {
        unimplemented!()
    }

    /// Closes the active segment, so that retention can remove it; the next append opens another.
    pub fn roll(&mut self) {
        unimplemented!()
    }

    /// The segments from oldest to newest.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        unimplemented!()
    }
}
