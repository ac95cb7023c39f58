//! What one turn of a shard writes.

use super::record::{self, Record};
use crate::LogId;
use crate::frame::EncodedFrame;
use crate::segment::Generation;

/// Numbers what was submitted. Tickets are done in order: when one is done, so are all before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// The journal records of one turn. All of them become durable together or not at all.
#[derive(Debug, Default)]
pub struct Turn {
    records: Vec<u8>,
    needs_sync: bool,
    cached_bytes: u64,
}

impl Turn {
    /// A turn that writes into `buffer`, which is empty and was used before: the first touch of memory costs more than the copy.
    pub(super) fn new(buffer: Vec<u8>) -> Self {
        debug_assert!(buffer.is_empty());
        Self {
            records: buffer,
            needs_sync: false,
            cached_bytes: 0,
        }
    }

    /// Whether nothing was written in this turn that the journal must hold before anybody is answered.
    pub fn is_empty(&self) -> bool {
        !self.needs_sync
    }

    /// Adds a record that must be durable before anybody is answered.
    pub(crate) fn add(&mut self, record: &Record) {
        record.encode(&mut self.records);
        self.needs_sync = true;
    }

    /// Adds a record that may go to disk with whatever goes next.
    pub(crate) fn add_lazily(&mut self, record: &Record) {
        record.encode(&mut self.records);
    }

    /// Adds frames.
    pub(crate) fn add_frames(
        &mut self,
        log: LogId,
        generation: Generation,
        position: u64,
        frames: &[EncodedFrame],
    ) {
        record::encode_frames(&mut self.records, log, generation, position, frames);
        self.needs_sync = true;
    }

    /// Counts bytes that were written past the journal; the next checkpoint has to sync them.
    pub(crate) fn count_cached(&mut self, bytes: u64) {
        self.cached_bytes += bytes;
    }

    /// Where the turn stands, for [`Turn::rewind`].
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            len: self.records.len(),
            needs_sync: self.needs_sync,
        }
    }

    /// Takes back what was added since `mark`.
    pub(crate) fn rewind(&mut self, mark: Mark) {
        self.records.truncate(mark.len);
        self.needs_sync = mark.needs_sync;
    }

    pub(super) fn into_parts(self) -> Parts {
        Parts {
            records: self.records,
            needs_sync: self.needs_sync,
            cached_bytes: self.cached_bytes,
        }
    }
}

/// A point in a turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    len: usize,
    needs_sync: bool,
}

/// A turn as the journal takes it.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) records: Vec<u8>,
    pub(super) needs_sync: bool,
    pub(super) cached_bytes: u64,
}
