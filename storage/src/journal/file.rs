//! The names of journal files.

use std::path::{Path, PathBuf};

use crate::fs::{self, Fs};

/// Where the journal files are.
pub(crate) const DIRECTORY: &str = "journal";
const EXTENSION: &str = ".journal";

/// The path of a journal file.
pub(super) fn path(number: u64) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{number:012}{EXTENSION}"))
}

/// The numbers of the journal files that are there, from oldest to newest.
///
/// # Errors
/// When the directory cannot be listed.
pub(crate) fn list(fs: &dyn Fs) -> fs::Result<Vec<u64>> {
    let mut numbers: Vec<u64> = fs
        .list(Path::new(DIRECTORY))?
        .iter()
        .filter_map(|entry| entry.name.strip_suffix(EXTENSION)?.parse().ok())
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// A place in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    /// The number of the file.
    pub(crate) file: u64,
    /// The byte in it.
    pub(crate) position: u64,
    /// How many bytes from there.
    pub(crate) bytes: u32,
}
