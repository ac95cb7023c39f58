//! What a replica gives to another that is seeded.

use highwater_storage::{Error as StorageError, Frame, LogReader, RaftIndex, StagedFrom};
use raft::eraftpb::Entry;

use crate::raft::entry;

/// The frames of a replica's log up to an applied index. Reads go past the replica's shard.
#[derive(Debug)]
pub struct Source {
    pub(in crate::raft) reader: LogReader,
    pub(in crate::raft) begins: StagedFrom,
    pub(in crate::raft) upto: RaftIndex,
    pub(in crate::raft) total_bytes: u64,
    /// Frames that are in no file.
    pub(in crate::raft) unfiled: Vec<Frame>,
}

/// Why a replica gives nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceRefusal {
    /// It is not on this broker, or failed.
    #[error("that replica is not here, or does not run")]
    NotHere,
    /// Whoever asks is no member of the group as of what is applied here.
    #[error("the replica that asks is no member of the group")]
    NoMember,
    /// Not everything that is wanted is applied here yet.
    #[error("not everything up to that index is applied here yet")]
    NotYet,
    /// The log begins above what is wanted.
    #[error("the log begins above that index")]
    Past,
}

impl Source {
    /// Where the log begins.
    pub fn begins(&self) -> StagedFrom {
        self.begins
    }

    /// Bytes of the whole log.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// The entries from `from` on: as many as fit into `max_bytes` of payload, at least one where there is one. None where the
    /// end is reached. Blocks.
    ///
    /// # Errors
    /// [`StorageError::Compacted`] where the log begins later by now: ask for another source. What cannot be read ends the
    /// replica that has it.
    pub fn read(&self, from: RaftIndex, max_bytes: u64) -> Result<Vec<Entry>, StorageError> {
        if from > self.upto {
            return Ok(Vec::new());
        }
        let frames = self.read_frames(from, max_bytes)?;
        Ok(frames.into_iter().map(entry::from_frame).collect())
    }

    fn read_frames(&self, from: RaftIndex, max_bytes: u64) -> Result<Vec<Frame>, StorageError> {
        match self.reader.entries(from, self.upto.next(), max_bytes) {
            Err(error @ StorageError::Compacted { .. }) => {
                let wanted = |frame: &&Frame| from <= frame.index && frame.index <= self.upto;
                let found: Vec<_> = self.unfiled.iter().filter(wanted).cloned().collect();
                match found.first() {
                    Some(first) if first.index == from => Ok(found),
                    _ => Err(error),
                }
            }
            read => read,
        }
    }
}
