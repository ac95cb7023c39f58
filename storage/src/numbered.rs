//! Files of one kind in one directory, named by rising numbers.

use std::path::{Path, PathBuf};

use crate::fs::{self, Fs};

/// Where the files of a kind are, and how their names end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NumberedFiles {
    pub(crate) directory: &'static str,
    /// With its dot.
    pub(crate) extension: &'static str,
}

impl NumberedFiles {
    /// The path of the file with this number.
    pub(crate) fn path(&self, number: u64) -> PathBuf {
        Path::new(self.directory).join(format!("{number:012}{}", self.extension))
    }

    /// The numbers of the files that are there, from oldest to newest.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub(crate) fn list(&self, fs: &dyn Fs) -> fs::Result<Vec<u64>> {
        let entries = fs.list(Path::new(self.directory))?;
        let number = |entry: &fs::DirEntry| entry.name.strip_suffix(self.extension)?.parse().ok();
        let mut numbers: Vec<u64> = entries.iter().filter_map(number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }
}
