//! Files that nothing names.
//!
//! A segment that neither checkpoint nor journal names does not exist; its file is removed, and not used again, because nobody knows how
//! much of its space it still has. A directory that belongs to no log may be anybody's: it is reported and kept. Only the directories of logs that were deleted go.

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
