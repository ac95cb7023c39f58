//! Files that nothing names.
//!
//! A segment that neither checkpoint nor journal names does not exist; its file is removed, and not used again, because nobody knows how
//! much of its space it still has. A directory that belongs to no log may be anybody's: it is reported and kept. Only the directories of
//! logs that were deleted go.
//!
//! A directory without a log is of one of two kinds. If all of the journal was there, its log was never created as far as anybody was
//! told: the crash came first, and whoever creates the log again may have its files removed ([`remove_remains`]). If something was lost,
//! that may have been the creation of a log with records: such a directory is marked, so that later starts, which find no damage any
//! more, still know ([`mark`]).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::LogId;
use crate::checkpoint;
use crate::directory::{Directory, Registry};
use crate::fs::{self, Fs};
use crate::store::RecoveredLog;

/// Top-level directories that hold no logs.
pub(crate) const OWN_DIRECTORIES: [&str; 4] = ["journal", "checkpoint", "pool", "recycled"];
const SEGMENT_SUFFIX: &str = ".segment";
/// Marks a directory without a log that may hold one whose creation is lost.
const MARK: &str = "unclaimed";
const MARK_TEXT: &[u8] =
    b"The journal was damaged when this directory was found, and nothing is left that says whose it is.\n";

/// What checkpoint and journal name.
#[derive(Debug)]
pub(crate) struct Named {
    segments: BTreeSet<PathBuf>,
    live: BTreeSet<PathBuf>,
    deleted: BTreeSet<PathBuf>,
}

impl Named {
    pub(crate) fn new(
        logs: &[RecoveredLog],
        registry: &Registry,
        deleted: &BTreeMap<LogId, String>,
    ) -> Self {
        let mut segments: BTreeSet<PathBuf> = logs
            .iter()
            .flat_map(|recovered| recovered.log.segment_paths())
            .collect();
        segments.extend(
            registry
                .retired
                .iter()
                .map(|(_, sealed)| sealed.segment.segment().path()),
        );
        Self {
            segments,
            live: registry
                .logs
                .values()
                .map(|log| PathBuf::from(&log.directory))
                .collect(),
            deleted: deleted.values().map(PathBuf::from).collect(),
        }
    }
}

/// Removes what is not named, and returns the directories that belong to no log.
///
/// # Errors
/// When a directory cannot be read or a file not be removed.
pub(crate) fn remove(directory: &Directory, named: &Named) -> fs::Result<Vec<String>> {
    let fs = &*directory.fs;
    remove_unfinished(fs)?;
    for path in named.live.iter().chain(&named.deleted) {
        remove_segments(directory, path, &named.segments)?;
    }
    for path in &named.deleted {
        checkpoint::remove_log_directory(fs, path)?;
    }
    find_all_unknown(fs, named)
}

/// Marks the directories that belong to no log. To be called where something was lost, before anything hides that.
///
/// # Errors
/// When a mark cannot be made durable: the start must be tried again.
pub(crate) fn mark(fs: &dyn Fs, named: &Named) -> fs::Result<()> {
    for directory in find_all_unknown(fs, named)? {
        let directory = Path::new(&directory);
        if !named.deleted.contains(directory) && !is_marked(fs, directory)? {
            checkpoint::write_whole(fs, &directory.join(MARK), MARK_TEXT)?;
            fs.sync_dir(directory)?;
        }
    }
    Ok(())
}

/// Whether the directory may hold a log whose creation is lost.
///
/// # Errors
/// When that cannot be read.
pub(crate) fn is_marked(fs: &dyn Fs, directory: &Path) -> fs::Result<bool> {
    Ok(fs.len(&directory.join(MARK))?.is_some())
}

/// Removes what a creation that never became durable left in `directory`.
///
/// # Errors
/// When the directory cannot be read or a file not be removed; what is left can still be removed later.
pub(crate) fn remove_remains(fs: &dyn Fs, directory: &Path) -> fs::Result<()> {
    for entry in fs.list(directory)? {
        if !entry.is_dir && entry.name.ends_with(SEGMENT_SUFFIX) {
            fs.remove_file(&directory.join(entry.name))?;
        }
    }
    Ok(())
}

fn find_all_unknown(fs: &dyn Fs, named: &Named) -> fs::Result<Vec<String>> {
    let mut unknown = vec![];
    for entry in fs.list(Path::new(""))? {
        if entry.is_dir && !OWN_DIRECTORIES.contains(&entry.name.as_str()) {
            find_unknown(fs, Path::new(&entry.name), named, &mut unknown)?;
        }
    }
    Ok(unknown)
}

/// Removes files that were being written when the last run ended.
fn remove_unfinished(fs: &dyn Fs) -> fs::Result<()> {
    for directory in ["", checkpoint::DIRECTORY].map(Path::new) {
        for entry in fs.list(directory)? {
            if !entry.is_dir && entry.name.ends_with(".new") {
                fs.remove_file(&directory.join(entry.name))?;
            }
        }
    }
    Ok(())
}

fn remove_segments(
    directory: &Directory,
    path: &Path,
    named: &BTreeSet<PathBuf>,
) -> fs::Result<()> {
    let entries = match directory.fs.list(path) {
        Err(error) if error.is_not_found() => return Ok(()), // No file, no directory.
        entries => entries?,
    };
    for entry in entries {
        let file = path.join(&entry.name);
        if !entry.is_dir && entry.name.ends_with(SEGMENT_SUFFIX) && !named.contains(&file) {
            directory.fs.remove_file(&file)?;
        }
    }
    Ok(())
}

/// Finds directories without directories in them that are no log's.
fn find_unknown(
    fs: &dyn Fs,
    path: &Path,
    named: &Named,
    unknown: &mut Vec<String>,
) -> fs::Result<()> {
    if named.live.contains(path) {
        return Ok(());
    }
    let entries = fs.list(path)?;
    let mut has_directories = false;
    for entry in entries.iter().filter(|entry| entry.is_dir) {
        has_directories = true;
        find_unknown(fs, &path.join(&entry.name), named, unknown)?;
    }
    if !has_directories && !entries.is_empty() {
        unknown.push(path.display().to_string());
    }
    Ok(())
}
