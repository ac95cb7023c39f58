//! Checkpoints: what lets the journal be forgotten.
//!
//! A checkpoint first rolls the journal to a position J, then syncs every segment that was written before, then takes each changed log's
//! state as of one applied index, and writes all that, with what the last checkpoint says of the other logs, into one file. Start is:
//! the newest whole checkpoint, and the journal from its J on.
//!
//! - The last two checkpoints are kept, with the journal from the older one's J: the newest may turn out to be damaged.
//! - What is captured may be newer than J. Replay from J then meets records that it has already, and each of them says so by itself:
//!   positions, generations and terms only grow.
//! - Segments leave only here: a file is given up when neither kept checkpoint, nor the journal since, names it.
//! - A segment that cannot be synced keeps what the journal has of it: those frames are written to the journal after J again ([`carry`]).
//! - An attempt that fails takes no new journal file from the next: J stays where it was until much was written since.

mod carry;
mod entry;
mod file;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use carry::Carried;
pub(crate) use entry::{Applied, LogEntry, LogStart, NO_LIMIT, SegmentEntry, Snapshot};
pub(crate) use file::{
    Contents, DIRECTORY, FILES, read, read_whole, snapshot_path, write, write_whole,
};

use crate::LogId;
use crate::directory::{Directory, Registry};
use crate::error::{Error, Result, Scope};
use crate::fs;
use crate::journal::Start;
use crate::log::Sealed;
use crate::store::Progress;

/// A checkpoint on its way. Its steps: [`crate::Store::begin_checkpoint`], [`Checkpoint::sync_segments`] on any thread, then
/// [`crate::Log::capture`] of each log that changed on the log's own thread, then [`Checkpoint::finish`]. Dropping it gives it up.
#[derive(Debug)]
pub struct Checkpoint {
    directory: Arc<Directory>,
    progress: Arc<Progress>,
    /// `None` once it is finished.
    begun: Option<Begun>,
    synced_group: u64,
    /// How often each log had changed when the checkpoint began.
    changes: BTreeMap<LogId, u64>,
    changed: Vec<LogId>,
}

/// How a checkpoint began. One that was given up leaves this to the next.
#[derive(Debug)]
pub(crate) struct Begun {
    /// Where the journal goes on: everything before will be in segments, or written again after it.
    journal: Start,
    /// Bytes written before that, or again after it.
    covered_bytes: u64,
    /// The frames that were written again.
    carried: Carried,
}

/// What a checkpoint says of one log.
#[derive(Debug)]
pub struct CapturedLog {
    pub(crate) entry: LogEntry,
    pub(crate) snapshot: Bytes,
    pub(crate) retired: Vec<Sealed>,
}

impl Checkpoint {
    /// Rolls the journal and notes what has changed. The caller holds the only right to a checkpoint.
    pub(crate) fn begin(directory: Arc<Directory>, progress: Arc<Progress>) -> Result<Self> {
        let begun = Begun::new(&directory, &progress)?;
        let synced_group = directory.journal.synced_group();
        let registry = directory.registry();
        let changes: BTreeMap<_, _> = registry
            .logs
            .iter()
            .map(|(log, registered)| (*log, registered.shared.changes()))
            .collect();
        let is_changed = |log: &LogId| {
            let registered = &registry.logs[log];
            registered.entry.is_none() || changes[log] != registered.checkpointed_changes
        };
        let changed = registry
            .logs
            .keys()
            .filter(|log| is_changed(log))
            .copied()
            .collect();
        drop(registry);
        Ok(Self {
            directory,
            progress,
            begun: Some(begun),
            synced_group,
            changes,
            changed,
        })
    }

    /// The logs that must be captured, unless they are deleted meanwhile: those that changed since the last checkpoint.
    pub fn changed(&self) -> &[LogId] {
        &self.changed
    }

    /// Syncs every segment that was written before the checkpoint began. Blocks. A segment that fails poisons its log and holds up no
    /// other: what the journal has of it stays in the journal.
    ///
    /// # Errors
    /// [`Error::Poisoned`] when the directory is; [`Error::NoSpace`] or [`Error::Corrupt`] when what only the journal has cannot be
    /// written to its new end, so that the old one has to stay.
    pub fn sync_segments(&mut self) -> Result<()> {
        self.sync_segments_as_due(|_, all| all)
    }

    /// The same, piece by piece: `due` is told how many segments are done and how many there are, may take its time, and says how many to
    /// sync next, all at once.
    ///
    /// # Errors
    /// As [`Checkpoint::sync_segments`].
    pub fn sync_segments_as_due(&mut self, due: impl FnMut(usize, usize) -> usize) -> Result<()> {
        self.directory.check()?;
        self.directory.frontiers.sync_all(due);
        let unsynced = self.directory.frontiers.unsynced();
        match &mut self.begun {
            Some(begun) if !unsynced.is_empty() => {
                begun.carry(&self.directory, self.progress.journal(), &unsynced)
            }
            _ => Ok(()),
        }
    }

    /// Writes the checkpoint and makes it the newest. Logs that are not in `captured` keep what the last checkpoint says of them.
    /// Blocks. Files that no kept checkpoint or journal names any more are pooled or removed.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a log of [`Checkpoint::changed`] is neither captured nor deleted; [`Error::NoSpace`]: the last checkpoint
    /// stays, try again later; [`Error::Poisoned`]: the directory takes no more writes.
    pub fn finish(mut self, captured: Vec<CapturedLog>) -> Result<()> {
        self.directory.check()?;
        let Some(begun) = &self.begun else {
            return Ok(());
        };
        let (journal, covered_bytes) = (begun.journal, begun.covered_bytes);
        let number = self.progress.newest() + 1;
        let captured: Result<Vec<_>> = captured.into_iter().map(|log| self.place(log)).collect();
        let contents = {
            let mut registry = self.directory.registry();
            for log in captured? {
                self.take(&mut registry, log, number);
            }
            self.check_complete(&registry)?;
            self.contents(&mut registry, number, journal)
        };
        let directory = &self.directory;
        write_with_reserve(directory, || file::write(&*directory.fs, &contents))?;
        self.begun = None;
        let kept = self.progress.advance(number, journal, covered_bytes);
        if let Err(error) = self.clean_up(number, kept) {
            // All of it is rubbish that the next start removes.
            tracing::warn!(%error, "files that are not needed any more could not be removed");
        }
        Ok(())
    }

    /// Gives a log's snapshot its place: in the entry, or in a file of its own.
    fn place(&self, mut captured: CapturedLog) -> Result<CapturedLog> {
        let snapshot = std::mem::take(&mut captured.snapshot);
        let entry = &mut captured.entry;
        if snapshot.len() as u64 <= self.directory.config.inline_snapshot_bytes {
            entry.applied.snapshot = Snapshot::Inline(snapshot);
            return Ok(captured);
        }
        let crc = crc32fast::hash(&snapshot);
        let path = snapshot_path(entry.log, entry.applied.index, crc);
        let fs = &*self.directory.fs;
        // One that is there is the same: index and CRC are in its name.
        if fs.len(&path)? != Some(snapshot.len() as u64) {
            write_with_reserve(&self.directory, || write_whole(fs, &path, &snapshot))?;
        }
        entry.applied.snapshot = Snapshot::File {
            bytes: snapshot.len() as u64,
            crc,
        };
        Ok(captured)
    }

    /// Puts one captured log into the registry.
    fn take(&self, registry: &mut Registry, captured: CapturedLog, number: u64) {
        for sealed in captured.retired {
            sealed.frontier.retire();
            registry.retired.push((number, sealed));
        }
        let log = captured.entry.log;
        // One that is missing was deleted meanwhile.
        if let Some(registered) = registry.logs.get_mut(&log) {
            registered.entry = Some(captured.entry.encode().into());
            registered.snapshot_file = captured.entry.snapshot_file();
            registered.checkpointed_changes = self.changes.get(&log).copied().unwrap_or(0);
        }
    }

    fn check_complete(&self, registry: &Registry) -> Result<()> {
        let is_missing = |log: &&LogId| {
            let registered = registry.logs.get(log);
            registered
                .is_some_and(|registered| registered.checkpointed_changes != self.changes[log])
        };
        match self.changed.iter().find(is_missing) {
            Some(log) => Err(Error::invalid(format!(
                "log {log} has changed and was not captured"
            ))),
            None => Ok(()),
        }
    }

    fn contents(&self, registry: &mut Registry, number: u64, journal: Start) -> Contents {
        for deleted in &mut registry.deleted {
            deleted.gone_since.get_or_insert(number);
        }
        Contents {
            number,
            journal,
            synced_group: self.synced_group,
            logs: registry
                .logs
                .values()
                .filter_map(|registered| registered.entry.clone())
                .collect(),
            deleted: registry
                .deleted
                .iter()
                .map(|deleted| (deleted.log, deleted.directory.clone()))
                .collect(),
        }
    }

    /// Removes what only checkpoints before the kept two, or the journal before the older one's position, name.
    fn clean_up(&self, number: u64, older: Start) -> Result<()> {
        let directory = &self.directory;
        let fs = &*directory.fs;
        for old in FILES.list(fs)?.into_iter().filter(|old| old + 1 < number) {
            fs.remove_file(&FILES.path(old))?;
        }
        directory.journal.release_below(older.file)?;
        let (retired, deleted) = {
            let mut registry = directory.registry();
            let retired: Vec<_> = registry
                .retired
                .extract_if(.., |(since, _)| *since < number)
                .collect();
            let is_gone = |deleted: &mut crate::directory::Deleted| {
                deleted.gone_since.is_some_and(|since| since < number)
            };
            let deleted: Vec<_> = registry.deleted.extract_if(.., is_gone).collect();
            (retired, deleted)
        };
        for (_, sealed) in retired {
            directory.files.retire(sealed.segment)?;
        }
        for deleted in deleted {
            deleted
                .segments
                .into_iter()
                .try_for_each(|sealed| directory.files.retire(sealed.segment))?;
            remove_log_directory(fs, Path::new(&deleted.directory))?;
            // Only now may another log take its place.
            directory.registry().directories.remove(&deleted.directory);
        }
        directory.files.collect()?;
        self.remove_snapshots()?;
        directory.restore_reserve();
        Ok(())
    }

    /// Removes the snapshot files that neither this checkpoint nor the one before names.
    fn remove_snapshots(&self) -> Result<()> {
        let named: BTreeSet<PathBuf> = {
            let registry = self.directory.registry();
            let logs = registry.logs.values();
            logs.filter_map(|log| log.snapshot_file.clone()).collect()
        };
        let before = self.progress.swap_snapshots(named.clone());
        remove_unnamed_snapshots(&*self.directory.fs, |path| {
            named.contains(path) || before.contains(path)
        })?;
        Ok(())
    }
}

impl Drop for Checkpoint {
    fn drop(&mut self) {
        match self.begun.take() {
            Some(begun) => self.progress.abandon(begun),
            None => self.progress.end(),
        }
    }
}

impl Begun {
    /// Rolls the journal, or takes up where an attempt that was given up had rolled it, unless too much was written since.
    fn new(directory: &Directory, progress: &Progress) -> Result<Self> {
        let written_bytes = directory.journal.written_bytes();
        let is_recent = |begun: &Self| {
            written_bytes.saturating_sub(begun.covered_bytes)
                < directory.config.checkpoint_interval_bytes
        };
        if let Some(begun) = progress.take_abandoned().filter(is_recent) {
            return Ok(begun);
        }
        Ok(Self {
            journal: directory.journal.roll()?,
            covered_bytes: written_bytes,
            carried: Carried::default(),
        })
    }
}

/// Removes the snapshot files of which `is_named` does not hold.
pub(crate) fn remove_unnamed_snapshots(
    fs: &dyn fs::Fs,
    is_named: impl Fn(&PathBuf) -> bool,
) -> fs::Result<()> {
    for entry in fs.list(Path::new(DIRECTORY))? {
        let path = Path::new(DIRECTORY).join(&entry.name);
        if entry.name.ends_with(".snapshot") && !is_named(&path) {
            fs.remove_file(&path)?;
        }
    }
    Ok(())
}

/// Removes the directory of a deleted log, and the one above when it was the last there. What is not ours stays.
pub(crate) fn remove_log_directory(fs: &dyn fs::Fs, path: &Path) -> fs::Result<()> {
    for directory in path
        .ancestors()
        .take_while(|path| path.components().count() > 1)
    {
        match fs.list(directory) {
            Ok(entries) if entries.is_empty() => fs.remove_dir(directory)?,
            Err(error) if error.is_not_found() => {}
            Ok(_) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Runs a write of a new file that may use the space set aside for it. What fails otherwise is final for the directory.
fn write_with_reserve(directory: &Directory, write: impl Fn() -> fs::Result<()>) -> Result<()> {
    loop {
        match write() {
            Ok(()) => return Ok(()),
            Err(error) if error.is_no_space() => match directory.pool.shrink() {
                Ok(true) => {}
                _ => {
                    return Err(Error::NoSpace {
                        reason: error.to_string(),
                    });
                }
            },
            Err(error) => return Err(directory.poison.set(Scope::Directory, &error)),
        }
    }
}
