//! What went wrong with a file: the operation, the path and the system's reason.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A failed operation on a file.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}: {source}", path.display())]
pub struct Error {
    operation: Operation,
    path: PathBuf,
    source: io::Error,
}

/// What was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is a method of Fs, File or Map")]
pub enum Operation {
    Create,
    Allocate,
    Open,
    Rename,
    RemoveFile,
    RemoveDir,
    CreateDir,
    SyncDir,
    List,
    Stat,
    Lock,
    Write,
    Read,
    SyncData,
    Release,
    Map,
    Populate,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Allocate => "allocate space for",
            Self::Open => "open",
            Self::Rename => "rename",
            Self::RemoveFile => "remove",
            Self::RemoveDir => "remove directory",
            Self::CreateDir => "create directory",
            Self::SyncDir => "sync directory",
            Self::List => "list",
            Self::Stat => "stat",
            Self::Lock => "lock",
            Self::Write => "write",
            Self::Read => "read",
            Self::SyncData => "sync",
            Self::Release => "release space of",
            Self::Map => "map",
            Self::Populate => "read through the map of",
        })
    }
}

impl Error {
    /// An error of `operation` on `path`.
    pub fn new(
        operation: Operation,
        path: impl Into<PathBuf>,
        source: impl Into<io::Error>,
    ) -> Self {
        Self {
            operation,
            path: path.into(),
            source: source.into(),
        }
    }

    /// What was tried.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// The file or directory it was tried on.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The system's kind of error.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// Whether the disk or the quota is full.
    pub fn is_no_space(&self) -> bool {
        matches!(
            self.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }

    /// Whether the disk cannot give back bytes of a file: trying again does not help, other bytes may be fine. What comes from a lack of
    /// memory or handles is not that.
    pub fn is_unreadable(&self) -> bool {
        let is_read = matches!(self.operation, Operation::Read | Operation::Populate);
        // Without a number it is a simulated one, or a file that is shorter than it was.
        let passes = matches!(
            self.kind(),
            io::ErrorKind::OutOfMemory | io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
        );
        is_read && !passes
    }

    /// Whether the name does not exist.
    pub fn is_not_found(&self) -> bool {
        self.kind() == io::ErrorKind::NotFound
    }

    /// Whether the name is taken.
    pub fn is_already_exists(&self) -> bool {
        self.kind() == io::ErrorKind::AlreadyExists
    }

    /// Whether another process holds the lock.
    pub fn is_locked(&self) -> bool {
        self.operation == Operation::Lock && self.kind() == io::ErrorKind::WouldBlock
    }
}
