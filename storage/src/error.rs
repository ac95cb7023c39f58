//! What storage answers when it cannot do what it was asked.

use std::sync::Arc;

use crate::fs;
use crate::{LogId, Offset, RaftIndex};

/// Storage's own result.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of storage. Each variant is something that a caller treats in its own way.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk is full, or below its floor. Nothing was changed. It clears by itself.
    #[error("no space left for new segments: {reason}")]
    NoSpace {
        /// What was tried.
        reason: String,
    },

    /// An earlier error was final: what was written since the last good sync is in doubt, and nothing is written any more. Sticky.
    #[error("{scope} takes no more writes since an earlier error: {reason}")]
    Poisoned {
        /// What is poisoned.
        scope: Scope,
        /// The first error.
        reason: Arc<str>,
    },

    /// The index left the log: whatever held it was compacted or trimmed.
    #[error("index {index} is below the log's first index {first}")]
    Compacted {
        /// The index asked for.
        index: RaftIndex,
        /// The first index still there.
        first: RaftIndex,
    },

    /// The offset is outside of what the log holds.
    #[error("offset {offset} is outside of {start}..{end}")]
    OffsetOutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// The first offset that is there.
        start: Offset,
        /// The first offset that is not there yet.
        end: Offset,
    },

    /// Bytes that were written well cannot be read back as they were. The rest of the log can be.
    #[error("log {log} is damaged at index {from} (offset {from_offset}): {reason}")]
    Damaged {
        /// The log.
        log: LogId,
        /// The first index that cannot be read.
        from: RaftIndex,
        /// The offset of its first record.
        from_offset: Offset,
        /// What was found.
        reason: String,
    },

    /// A file that the whole directory needs (identity, both checkpoints) is unreadable.
    #[error("{path} is damaged: {reason}")]
    Corrupt {
        /// The file, relative to the data directory.
        path: String,
        /// What was found.
        reason: String,
    },

    /// Another process uses the data directory.
    #[error("the data directory is in use by another process (lock file {path})")]
    Locked {
        /// The lock file, relative to the data directory.
        path: String,
    },

    /// The data directory was written by a version that this one does not know.
    #[error("the data directory has format version {found}; this version reads {known}")]
    UnsupportedFormat {
        /// The version found.
        found: u32,
        /// The version known.
        known: u32,
    },

    /// The caller broke a rule of the interface. Nothing was changed.
    #[error("refused: {reason}")]
    Invalid {
        /// The rule and what was asked.
        reason: String,
    },

    /// The operating system failed where nothing was in doubt (opening, listing, reading).
    #[error(transparent)]
    Io(#[from] fs::Error),
}

/// What an error makes unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One log.
    Log(LogId),
    /// The data directory: its journal or checkpoint failed.
    Directory,
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Log(log) => write!(f, "log {log}"),
            Self::Directory => f.write_str("the data directory"),
        }
    }
}

impl Error {
    /// Whether the same call may succeed later without anybody's doing.
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::NoSpace { .. })
    }

    pub(crate) fn invalid(reason: impl Into<String>) -> Self {
        Self::Invalid {
            reason: reason.into(),
        }
    }
}
