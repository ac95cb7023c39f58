//! Why a segment cannot be read.

use crate::fs;
use crate::{Offset, RaftIndex};

/// An error of a segment.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file system failed.
    #[error(transparent)]
    Io(#[from] fs::Error),
    /// Frames that were written are not there, or not as they were written. Others of the segment may be.
    #[error("indexes {} to {} (offsets {} to {}) are damaged: {reason}", hole.from, hole.to, hole.from_offset, hole.to_offset)]
    Damaged {
        /// What is missing.
        hole: Hole,
        /// What was found, with file and position.
        reason: String,
    },
}

/// A run of frames that cannot be read; the ends are exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    pub(crate) from: RaftIndex,
    pub(crate) to: RaftIndex,
    pub(crate) from_offset: Offset,
    pub(crate) to_offset: Offset,
}

/// A segment's own result.
pub(crate) type Result<T> = std::result::Result<T, Error>;
