//! From what a stop or a crash left on disk to a store.
//!
//! The phases are types, each made from the one before:
//!
//! 1. [`Loaded`]: identity and the newest whole checkpoint are read. If the newest is damaged, the one before it, whose journal is there
//!    too, takes its place.
//! 2. [`Replayed`]: the journal from the checkpoint's position on is read to its end. Only then is it known which groups had been synced,
//!    so only then is torn told from damaged.
//! 3. [`Restored`]: each log is put together: what the journal has beyond the durable ends is written to the segments again and synced,
//!    because a crash of the process alone leaves bytes in the page cache that no sync covered. So is the journal that was read.
//! 4. The store: a new checkpoint says all that, before anything is voted, answered or appended. Then what nothing names is removed.
//!
//! How long this takes is bounded by the checkpoint interval: sealed segments are looked up by name and size, not read.

mod build;
mod orphans;
mod rebuild;
mod replay;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

pub(crate) use self::orphans::{OWN_DIRECTORIES, is_marked, remove_remains};
use self::rebuild::{Evidence, Rebuilder, Rebuilt};
use self::replay::LogReplay;
use crate::checkpoint::{self, Applied, Checkpoint, Contents, LogEntry, Snapshot};
use crate::config::Config;
use crate::directory::{Deleted, Directory, Registered, Registry};
use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::identity::Identity;
use crate::journal::{self, FrameSource, Journal, Random, Record, Scan, Start};
use crate::log::{AppliedState, Frontier, Frontiers, Log, LogParts, LogShared, Sealed};
use crate::parallel;
use crate::poison::Poison;
use crate::pool::Pool;
use crate::run_mark::{LastRun, RunMark};
use crate::segment::{self, Limits, SealedSegment, SegmentFiles};
use crate::space::Gauge;
use crate::store::{Progress, RecoveredLog};
use crate::{LogId, RaftIndex};

/// What recovery hands to the store.
pub(crate) struct Recovered {
    pub(crate) directory: Arc<Directory>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) logs: Vec<RecoveredLog>,
    pub(crate) unknown_directories: Vec<String>,
    pub(crate) damage: Option<String>,
}

/// Phase 1: the checkpoint to start from.
#[derive(Debug)]
struct Loaded {
    contents: Contents,
    logs: BTreeMap<LogId, LogReplay>,
    snapshots: BTreeSet<PathBuf>,
    /// Whether a newer checkpoint is damaged.
    fell_back: bool,
}

/// Phase 2: all that is known without the segments.
#[derive(Debug)]
struct Replayed {
    contents: Contents,
    snapshots: BTreeSet<PathBuf>,
    logs: BTreeMap<LogId, LogReplay>,
    /// Deleted logs and their directories.
    deleted: BTreeMap<LogId, String>,
    scan: Scan,
    evidence: Evidence,
    fell_back: bool,
}

/// Phase 3: logs that are whole, or known not to be, and durable.
#[derive(Debug)]
struct Restored {
    contents: Contents,
    snapshots: BTreeSet<PathBuf>,
    logs: Vec<Rebuilt>,
    deleted: BTreeMap<LogId, String>,
    scan: Scan,
    damaged_group: Option<u64>,
    fell_back: bool,
}

/// Writes the first checkpoint and the identity of a new directory.
///
/// # Errors
/// [`Error::Corrupt`] when the directory has logs but no identity.
pub(crate) fn found(fs: &dyn Fs, random: &Random) -> Result<Identity> {
    for number in checkpoint::FILES.list(fs)? {
        let has_logs =
            checkpoint::read(fs, number).map_or(true, |contents| !contents.logs.is_empty());
        if has_logs {
            let reason = "it is missing, and there are logs".to_owned();
            return Err(Error::Corrupt {
                path: "identity".to_owned(),
                reason,
            });
        }
        fs.remove_file(&checkpoint::FILES.path(number))?;
    }
    let journal = Start { file: 1, group: 1 };
    let contents = Contents {
        number: 1,
        journal,
        synced_group: 0,
        logs: vec![],
        deleted: vec![],
    };
    checkpoint::write(fs, &contents)?;
    RunMark::default().set_clean(fs)?;
    let identity = Identity::new(
        &mut *random
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner),
    );
    identity.write(fs)?;
    Ok(identity)
}

/// Recovers a directory that has an identity.
///
/// # Errors
/// [`Error::Corrupt`] when no checkpoint is whole; [`Error::Io`], [`Error::NoSpace`]: nothing is lost, try again.
pub(crate) fn recover(fs: Arc<dyn Fs>, random: Random, config: Config) -> Result<Recovered> {
    let last_run = RunMark::read(&*fs)?;
    let limits = Limits {
        open_files: config.open_segments,
        pool_bytes: config.pool_bytes,
    };
    let files = SegmentFiles::open(Arc::clone(&fs), limits)?;
    let restored = Loaded::read(&*fs)?
        .replay(&*fs, last_run)?
        .restore(&fs, &files)?;
    restored.into_store(fs, files, random, config)
}

impl Loaded {
    fn read(fs: &dyn Fs) -> Result<Self> {
        let mut numbers = checkpoint::FILES.list(fs)?;
        let mut first_error = None;
        while let Some(number) = numbers.pop() {
            match Self::read_one(fs, number) {
                Ok(loaded) => {
                    let fell_back = first_error.is_some();
                    return Ok(Self {
                        fell_back,
                        ..loaded
                    });
                }
                Err(error @ Error::Corrupt { .. }) => {
                    tracing::warn!(%error, "a checkpoint is damaged; the one before it is used if there is one");
                    first_error.get_or_insert(error);
                    if !numbers.is_empty() {
                        fs.rename(
                            &checkpoint::FILES.path(number),
                            &checkpoint::FILES.path(number).with_extension("damaged"),
                        )?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(first_error.unwrap_or_else(|| Error::Corrupt {
            path: checkpoint::DIRECTORY.to_owned(),
            reason: "there is no checkpoint".to_owned(),
        }))
    }

    fn read_one(fs: &dyn Fs, number: u64) -> Result<Self> {
        let contents = checkpoint::read(fs, number)?;
        let corrupt = |reason: &str| Error::Corrupt {
            path: checkpoint::FILES.path(number).display().to_string(),
            reason: reason.to_owned(),
        };
        let mut logs = BTreeMap::new();
        let mut snapshots = BTreeSet::new();
        for bytes in &contents.logs {
            let mut entry =
                LogEntry::decode(bytes.clone()).ok_or_else(|| corrupt("an entry is not one"))?;
            snapshots.extend(entry.snapshot_file());
            entry.applied.snapshot =
                Snapshot::Inline(load_snapshot(fs, entry.log, &entry.applied)?);
            let replay =
                LogReplay::from_entry(entry).ok_or_else(|| corrupt("a head is not one"))?;
            logs.insert(replay.log, replay);
        }
        Ok(Self {
            contents,
            logs,
            snapshots,
            fell_back: false,
        })
    }

    /// Reads the journal.
    fn replay(self, fs: &dyn Fs, last_run: LastRun) -> Result<Replayed> {
        let Self {
            contents,
            mut logs,
            snapshots,
            fell_back,
        } = self;
        let mut deleted: BTreeMap<LogId, String> = contents.deleted.iter().cloned().collect();
        let scan = journal::scan(fs, contents.journal, &mut |mut group| {
            while let Some((record, location)) = group.next_record()? {
                let log = record.log();
                match record {
                    Record::LogOpened { spec, applied, .. } if !deleted.contains_key(&log) => {
                        logs.entry(log)
                            .or_insert_with(|| LogReplay::opened(log, spec, applied));
                    }
                    Record::LogDeleted { .. } => {
                        if let Some(replay) = logs.remove(&log) {
                            deleted.insert(log, replay.spec.directory);
                        }
                    }
                    record => {
                        if let Some(replay) = logs.get_mut(&log) {
                            replay.apply(record, location, group.number);
                        }
                    }
                }
            }
            Ok(())
        })?;
        let damaged_group = scan.damaged(contents.synced_group);
        if let Some(group) = damaged_group {
            tracing::error!(
                group,
                "the journal is damaged: groups are missing that had been synced"
            );
        }
        let evidence = Evidence {
            damaged_group,
            is_torn: !scan.missing.is_empty(),
            last_run,
        };
        Ok(Replayed {
            contents,
            snapshots,
            logs,
            deleted,
            scan,
            evidence,
            fell_back,
        })
    }
}

/// The snapshot of an applied state, checked.
fn load_snapshot(fs: &dyn Fs, log: LogId, applied: &Applied) -> Result<Bytes> {
    match &applied.snapshot {
        Snapshot::Inline(bytes) => Ok(bytes.clone()),
        Snapshot::File { bytes, crc } => {
            let path = checkpoint::snapshot_path(log, applied.index, *crc);
            let read = checkpoint::read_whole(fs, &path).map_err(|error| error.to_string());
            let checked = read.and_then(|read| {
                let is_whole = read.len() as u64 == *bytes && crc32fast::hash(&read) == *crc;
                if is_whole {
                    Ok(read)
                } else {
                    Err("it is not what was written".to_owned())
                }
            });
            checked.map_err(|reason| Error::Corrupt {
                path: path.display().to_string(),
                reason,
            })
        }
    }
}

impl Replayed {
    /// Puts each log together and makes it durable.
    fn restore(self, fs: &Arc<dyn Fs>, files: &Arc<SegmentFiles>) -> Result<Restored> {
        let mut rebuilder = Rebuilder {
            fs: &**fs,
            files,
            source: FrameSource::new(Arc::clone(fs)),
            evidence: self.evidence,
            directories: BTreeSet::new(),
            unsynced: vec![],
        };
        let rebuilt: Result<Vec<_>> = self
            .logs
            .into_values()
            .map(|replay| rebuilder.rebuild(replay))
            .collect();
        let logs = rebuilt?;
        rebuilder.sync_segments().map_err(|error| match error {
            segment::Error::Io(error) => Error::Io(error),
            segment::Error::Damaged { reason, .. } => Error::Corrupt {
                path: "topics".to_owned(),
                reason,
            },
        })?;
        let directories: BTreeSet<&Path> = rebuilder
            .directories
            .iter()
            .flat_map(|directory| directory.ancestors())
            .collect();
        let directories: Vec<&Path> = directories.into_iter().collect();
        parallel::try_for_each(&directories, |directory| fs.sync_dir(directory))?;
        // Later groups will say that these were synced, and a start that finds the next checkpoint damaged reads them again.
        self.scan.sync(&**fs, self.contents.journal)?;
        for rebuilt in &logs {
            if let Some(damage) = &rebuilt.damage {
                tracing::error!(log = %rebuilt.replay.log, reason = %damage.reason, "a log is damaged");
            }
        }
        Ok(Restored {
            contents: self.contents,
            snapshots: self.snapshots,
            logs,
            deleted: self.deleted,
            scan: self.scan,
            damaged_group: self.evidence.damaged_group,
            fell_back: self.fell_back,
        })
    }
}

impl Restored {
    /// Starts a new journal, checkpoints, and removes what nothing names.
    fn into_store(
        self,
        fs: Arc<dyn Fs>,
        files: Arc<SegmentFiles>,
        random: Random,
        config: Config,
    ) -> Result<Recovered> {
        let Self {
            contents,
            snapshots,
            logs,
            deleted,
            scan,
            damaged_group,
            fell_back,
        } = self;
        let poison = Arc::new(Poison::default());
        let pool = Arc::new(Pool::open(Arc::clone(&fs), config.pool_bytes)?);
        let next = Start {
            file: scan.next_file.max(contents.journal.file),
            group: scan
                .next_group
                .max(scan.synced_through.max(contents.synced_group) + 1),
        };
        let journal = Journal::new(
            Arc::clone(&fs),
            Arc::clone(&pool),
            Arc::clone(&random),
            Arc::clone(&poison),
            config.journal_file_bytes,
            next,
            scan.files,
        );
        let directory = Arc::new(Directory {
            gauge: Gauge::new(Arc::clone(&fs), config.min_free_bytes),
            frontiers: Frontiers::new(Arc::clone(&fs)),
            fs,
            config,
            files,
            pool,
            journal,
            poison,
            random,
            run_mark: RunMark::default(),
            registry: Mutex::new(Registry {
                deleted: tombstones(&deleted),
                ..Registry::default()
            }),
        });
        directory.restore_reserve();
        let logs = logs
            .into_iter()
            .map(|rebuilt| into_log(&directory, rebuilt))
            .collect();
        let recovered = Recovered {
            directory,
            progress: Arc::new(Progress::new(contents.number, contents.journal, snapshots)),
            logs,
            unknown_directories: vec![],
            damage: damaged_group.map(|group| format!("group {group} of the journal is damaged")),
        };
        let lost_something = damaged_group.is_some() || fell_back;
        recovered.settle(&deleted, lost_something)
    }
}

impl Recovered {
    /// Makes what was recovered the checkpoint of record, and lets go of the rest.
    fn settle(mut self, deleted: &BTreeMap<LogId, String>, lost_something: bool) -> Result<Self> {
        let directory = &self.directory;
        if lost_something {
            // The new checkpoint is whole: the next start would not know any more.
            let named = orphans::Named::new(&self.logs, &directory.registry(), deleted);
            orphans::mark(&*directory.fs, &named)?;
        }
        self.progress.begin()?;
        let first = Checkpoint::begin(Arc::clone(directory), Arc::clone(&self.progress))?;
        let captured = self
            .logs
            .iter_mut()
            .map(|recovered| recovered.log.capture(recovered.applied.clone()))
            .collect();
        first.finish(captured)?;
        directory.run_mark.set_clean(&*directory.fs)?;
        self.logs
            .iter()
            .for_each(|recovered| recovered.log.release_tail());
        let named = orphans::Named::new(&self.logs, &directory.registry(), deleted);
        self.unknown_directories = orphans::remove(directory, &named)?;
        let strangers = self.unknown_directories.iter().cloned();
        directory.registry().strangers.extend(strangers);
        directory.registry().deleted.clear();
        Ok(self)
    }
}

fn tombstones(deleted: &BTreeMap<LogId, String>) -> Vec<Deleted> {
    let tombstone = |(log, directory): (&LogId, &String)| Deleted {
        log: *log,
        directory: directory.clone(),
        segments: vec![],
        gone_since: None,
    };
    deleted.iter().map(tombstone).collect()
}

fn into_log(directory: &Arc<Directory>, rebuilt: Rebuilt) -> RecoveredLog {
    let Rebuilt {
        replay,
        sealed,
        heads,
        terms,
        next_index,
        next_offset,
        damage,
    } = rebuilt;
    let shared = Arc::new(LogShared::new(replay.log));
    let path = Path::new(&replay.spec.directory);
    let track = |segment: SealedSegment| {
        let (inner, end) = (Arc::clone(segment.segment()), segment.end());
        let frontier = Arc::new(Frontier::new(
            inner,
            path.to_owned(),
            Arc::clone(&shared),
            end,
            true,
        ));
        Sealed { segment, frontier }
    };
    let parts = LogParts {
        sealed: sealed.into_iter().map(track).collect(),
        hard_state: replay.hard_state,
        log_start: replay.log_start,
        start: replay.start,
        next_index: next_index.max(RaftIndex(1)),
        next_offset,
        next_generation: replay.next_generation,
        terms,
        heads,
        damage: damage.clone(),
        spec: replay.spec.clone(),
    };
    let registered = Registered {
        shared: Arc::clone(&shared),
        directory: replay.spec.directory,
        entry: None,
        snapshot_file: None,
        checkpointed_changes: 0,
    };
    let mut registry = directory.registry();
    registry.directories.insert(registered.directory.clone());
    registry.logs.insert(replay.log, registered);
    drop(registry);
    let Snapshot::Inline(snapshot) = replay.applied.snapshot else {
        unreachable!("snapshots were loaded with the checkpoint")
    };
    let applied = AppliedState {
        index: replay.applied.index,
        term: replay.applied.term,
        conf_state: replay.applied.conf_state,
        snapshot,
    };
    RecoveredLog {
        log: Log::new(Arc::clone(directory), shared, parts),
        applied,
        damage,
    }
}
