//! The door to the disk.
//!
//! All that storage wants of a file system is in three traits: [`Fs`] (names), [`File`] (bytes) and [`Map`] (bytes read without a copy).
//! [`RealFs`] is the operating system. [`MemoryFs`] is memory that ends with the process. [`SimFs`] models a page cache and a disk that
//! fail, for tests.
//!
//! What the traits leave out is left out on purpose:
//!
//! - A file never changes its size after [`Fs::create`]: nothing is appended to it, nothing cut from it, so a mapping of it never
//!   loses its ground. Contents that change size are written to a new file, which is then renamed.
//! - There are no stores through a mapping, and no buffered handles: a position is given with every read and write.
//! - All paths are relative to the root of the [`Fs`], which is one data directory, and are made of plain names (no `..`).
//!
//! A change is in memory until it is synced: bytes (and the length given at creation) through [`File::sync_data`], names through
//! [`Fs::sync_dir`] of each directory that gained or lost one.

#[cfg(test)]
mod conformance;
mod error;
mod memory;
mod mmap;
mod real;
mod sim;

use std::fmt::Debug;
use std::io::IoSlice;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

pub use error::{Error, Operation};
pub use memory::MemoryFs;
pub use real::RealFs;
pub use sim::{CrashMode, Fault, Image, SimFs};

/// The result of an operation on files.
pub type Result<T> = std::result::Result<T, Error>;

/// A data directory: names, and what is known of the disk below it.
pub trait Fs: Debug + Send + Sync {
    /// Creates a file of `len` bytes, all zero, with all of its space allocated.
    ///
    /// # Errors
    /// [`Error::is_already_exists`] when the name is taken; [`Error::is_no_space`] when the space cannot be had, and then no file is left.
    fn create(&self, path: &Path, len: u64) -> Result<Arc<dyn File>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when there is none.
    fn open(&self, path: &Path) -> Result<Arc<dyn File>>;

    /// Gives a file another name, in one step also between directories. A file that had the new name is removed.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;

    /// Removes a file's name. Its bytes stay as long as a [`File`], [`Map`] or slice of it lives.
    fn remove_file(&self, path: &Path) -> Result<()>;

    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> Result<()>;

    /// Creates a directory and those above it. Not an error when it is there.
    fn create_dir_all(&self, path: &Path) -> Result<()>;

    /// Makes the names created in, renamed into or out of, and removed from this directory durable. The root is the empty path.
    fn sync_dir(&self, path: &Path) -> Result<()>;

    /// The entries of a directory, sorted by name.
    fn list(&self, path: &Path) -> Result<Vec<DirEntry>>;

    /// The length of a file in bytes; `None` when there is no such name.
    fn len(&self, path: &Path) -> Result<Option<u64>>;

    /// Bytes that can still be allocated on the disk.
    fn free_bytes(&self) -> Result<u64>;

    /// Takes the exclusive lock that the file at `path` stands for, creating the file when it is missing.
    ///
    /// # Errors
    /// [`Error::is_locked`] when another process holds it.
    fn lock(&self, path: &Path) -> Result<LockGuard>;

    /// What names this run of the kernel; `None` when that cannot be known. The page cache does not outlive it.
    fn boot_id(&self) -> Option<String>;

    /// What names the file system below the root, as far as the system gives one.
    fn filesystem_id(&self) -> Result<u64>;
}

/// An open file. Its size is fixed. Handles are shared: all methods take `&self`, and concurrent writes to different ranges are fine.
pub trait File: Debug + Send + Sync {
    /// The size in bytes.
    fn len(&self) -> u64;

    /// Whether the size is zero.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes all of `bytes` at `position`, into the page cache.
    ///
    /// # Errors
    /// Any error leaves the range undefined. A range outside the file is refused.
    fn write_all_at(&self, bytes: &[u8], position: u64) -> Result<()> {
        self.write_vectored_all_at(&mut [IoSlice::new(bytes)], position)
    }

    /// Writes all of `buffers`, one after the other, from `position` on, into the page cache. The slices are used up.
    ///
    /// # Errors
    /// As [`File::write_all_at`].
    fn write_vectored_all_at(&self, buffers: &mut [IoSlice<'_>], position: u64) -> Result<()>;

    /// Fills `buffer` from `position`.
    ///
    /// # Errors
    /// A range outside the file is an error, as is a disk that cannot read.
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> Result<()>;

    /// Makes all bytes written so far, and the size, durable; not the name.
    ///
    /// # Errors
    /// After any error nothing may be said about the bytes written since the last good sync, whatever a later sync answers.
    fn sync_data(&self) -> Result<()>;

    /// Gives the space of `range` back to the disk, where the system can. Reading it gives zeros then, or what was there; writing to it
    /// may meet a full disk. The size stays.
    ///
    /// # Errors
    /// When the disk fails; the bytes outside of `range` are as they were.
    fn release(&self, _range: Range<u64>) -> Result<()> {
        Ok(())
    }

    /// Maps the whole file for reading. The map shows what is written later, too.
    fn map(&self) -> Result<Arc<dyn Map>>;
}

/// A read-only view of a whole file. It outlives the file's handle and name.
pub trait Map: Debug + Send + Sync {
    /// The size in bytes.
    fn len(&self) -> u64;

    /// Whether the size is zero.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of `range`, without a copy where the system allows; they keep the map alive.
    ///
    /// Nobody may write to `range` while the slice lives. Bytes that are not in memory are read when they are touched, and a disk that
    /// cannot read them then ends the process: [`Map::populate`] first.
    ///
    /// # Panics
    /// When `range` is not inside the file.
    fn slice(self: Arc<Self>, range: Range<u64>) -> Bytes;

    /// Reads `range` into memory.
    ///
    /// # Errors
    /// Where touching the bytes would have met a disk that cannot read.
    fn populate(&self, range: Range<u64>) -> Result<()>;
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name, without the directory. Names that are not UTF-8 are none of ours and are not listed.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// Holds a lock taken by [`Fs::lock`] until dropped.
#[must_use = "the lock ends when the guard is dropped"]
pub struct LockGuard {
    _held: Box<dyn Send + Sync>,
}

impl LockGuard {
    fn new(held: impl Send + Sync + 'static) -> Self {
        Self {
            _held: Box::new(held),
        }
    }
}

impl Debug for LockGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LockGuard")
    }
}
