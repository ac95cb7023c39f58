//! The names of journal files, and places in them.

use crate::numbered::NumberedFiles;

/// Where the journal files are.
pub(crate) const DIRECTORY: &str = "journal";
/// The journal files.
pub(super) const FILES: NumberedFiles = NumberedFiles {
    directory: DIRECTORY,
    extension: ".journal",
};

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
