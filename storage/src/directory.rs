//! What all logs of a data directory share: the disk, the journal, and the list of logs.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::LogId;
use crate::config::Config;
use crate::error::{Error, Result, Scope};
use crate::fs::Fs;
use crate::journal::{Journal, Random};
use crate::log::{Frontiers, LogShared, Sealed};
use crate::poison::Poison;
use crate::pool::Pool;
use crate::run_mark::RunMark;
use crate::segment::{ActiveSegment, SealedSegment, SegmentFiles, SegmentSpec};
use crate::space::Gauge;

/// Journal files to set aside, whatever their size.
const LEAST_RESERVED_FILES: u64 = 2;

/// A data directory in use.
pub(crate) struct Directory {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) config: Config,
    pub(crate) files: Arc<SegmentFiles>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) journal: Journal,
    pub(crate) poison: Arc<Poison>,
    pub(crate) random: Random,
    pub(crate) frontiers: Frontiers,
    pub(crate) gauge: Gauge,
    pub(crate) run_mark: RunMark,
    pub(crate) registry: Mutex<Registry>,
}

/// The logs, and what the last checkpoint says of them.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    /// The directories of all logs, deleted ones included as long as their files are there.
    pub(crate) directories: HashSet<String>,
    /// Directories that were found at the start and belong to no log. What is in them nobody was ever told of, unless they are marked.
    pub(crate) strangers: HashSet<String>,
    pub(crate) logs: BTreeMap<LogId, Registered>,
    /// Deleted logs whose files are still there.
    pub(crate) deleted: Vec<Deleted>,
    /// Segments that left their logs, and the first checkpoint that does not name them.
    pub(crate) retired: Vec<(u64, Sealed)>,
}

/// One log.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(crate) shared: Arc<LogShared>,
    pub(crate) directory: String,
    /// What the last checkpoint says, encoded; nothing for a log that is younger.
    pub(crate) entry: Option<Bytes>,
    /// The file of the snapshot that the last checkpoint names.
    pub(crate) snapshot_file: Option<PathBuf>,
    /// The changes of the log that are in `entry` and need no journal.
    pub(crate) checkpointed_changes: u64,
}

/// A log that is gone.
#[derive(Debug)]
pub(crate) struct Deleted {
    pub(crate) log: LogId,
    pub(crate) directory: String,
    pub(crate) segments: Vec<Sealed>,
    /// The first checkpoint without it; `None` before there is one.
    pub(crate) gone_since: Option<u64>,
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory")
            .field("journal", &self.journal)
            .finish_non_exhaustive()
    }
}

impl Directory {
    /// # Errors
    /// [`Error::Poisoned`] when the journal or a checkpoint failed.
    pub(crate) fn check(&self) -> Result<()> {
        self.poison.check(Scope::Directory)
    }

    pub(crate) fn random(&self) -> u64 {
        (self.random.lock().unwrap_or_else(PoisonError::into_inner))()
    }

    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a segment's file. Only produce respects the floor; what trims and deletes write may also use what was reserved.
    ///
    /// # Errors
    /// [`Error::NoSpace`]: nothing is left behind.
    pub(crate) fn create_segment(
        &self,
        log: LogId,
        directory: &Path,
        spec: SegmentSpec,
        is_produce: bool,
    ) -> Result<ActiveSegment> {
        if is_produce {
            self.gauge.check(spec.file_bytes)?;
        }
        loop {
            match self.files.create(log, directory, spec) {
                Ok(segment) => return Ok(segment),
                Err(error) if error.is_no_space() => {
                    if is_produce || !self.pool.shrink()? {
                        return Err(Error::NoSpace {
                            reason: error.to_string(),
                        });
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Gives back segments that were opened and not used.
    pub(crate) fn discard(&self, segments: impl Iterator<Item = SealedSegment>) {
        for segment in segments {
            if let Err(error) = self.files.retire(segment) {
                // It belongs to nobody, and the next start removes it.
                tracing::warn!(%error, "a segment file that was not needed could not be put aside");
            }
        }
    }

    /// Sets space aside again for the journal and the checkpoints, when there is some.
    pub(crate) fn restore_reserve(&self) {
        let bytes = self.config.journal_file_bytes;
        let mut count = self.config.reserve_bytes.div_ceil(bytes);
        if count > 0 {
            // A checkpoint on a full disk needs one file to roll the journal into, and the space of another for itself.
            count = count.max(LEAST_RESERVED_FILES);
        }
        let reserved = self.pool.reserve(bytes, count);
        if let Err(error) = reserved {
            tracing::warn!(%error, "no space could be set aside for the journal");
        }
    }

    /// Bytes of files that leave when another checkpoint or two are done.
    pub(crate) fn retired_bytes(&self) -> u64 {
        let registry = self.registry();
        let deleted = registry
            .deleted
            .iter()
            .flat_map(|deleted| &deleted.segments);
        let retired = registry.retired.iter().map(|(_, sealed)| sealed);
        retired
            .chain(deleted)
            .map(|sealed| sealed.segment.spec().file_bytes)
            .sum()
    }

    /// To be called before bytes are written that the journal does not get.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::NoSpace`]: nothing may be cached.
    pub(crate) fn note_cached_write(&self) -> Result<()> {
        self.run_mark.set_running(&*self.fs).map_err(|error| {
            if error.is_no_space() {
                Error::NoSpace {
                    reason: error.to_string(),
                }
            } else {
                Error::Io(error)
            }
        })
    }
}
