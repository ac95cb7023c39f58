//! What the writer of a log shares with its readers and with checkpoints.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwap;

use super::MissingFrames;
use crate::error::{Error, Result, Scope};
use crate::poison::Poison;
use crate::segment::{self, Generation, Segment, SegmentEnd};
use crate::{LogId, Offset, RaftIndex};

/// The shared part of a log.
#[derive(Debug)]
pub(crate) struct LogShared {
    id: LogId,
    view: ArcSwap<View>,
    poison: Poison,
    /// The first damage that a reader met.
    damage: OnceLock<DamageMet>,
    /// Counts what the log wrote, so that a checkpoint knows which logs it can leave as they were.
    changes: AtomicU64,
}

/// Durable frames that a reader could not get, and why.
#[derive(Clone, Debug)]
pub(crate) struct DamageMet {
    pub(crate) missing: MissingFrames,
    pub(crate) reason: Arc<str>,
}

/// The segments of a log as they are now. Frames that are appended to the last one show by themselves.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// From oldest to newest; only those with files, because a head holds no records.
    pub(crate) segments: Vec<Arc<Segment>>,
    /// What is missing between them.
    pub(crate) holes: Vec<MissingFrames>,
    /// The next offset where there is no segment.
    pub(crate) next_offset: Offset,
}

impl LogShared {
    pub(crate) fn new(id: LogId) -> Self {
        Self {
            id,
            view: ArcSwap::default(),
            poison: Poison::default(),
            damage: OnceLock::new(),
            changes: AtomicU64::new(1),
        }
    }

    pub(crate) fn id(&self) -> LogId {
        self.id
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    pub(crate) fn show(&self, view: View) {
        self.view.store(Arc::new(view));
    }

    pub(crate) fn note_change(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// # Errors
    /// [`Error::Poisoned`] after a failed write or sync of this log.
    pub(crate) fn check(&self) -> Result<()> {
        self.poison.check(Scope::Log(self.id))
    }

    pub(crate) fn poison(&self, error: &dyn std::fmt::Display) -> Error {
        self.poison.set(Scope::Log(self.id), error)
    }

    pub(crate) fn poison_reason(&self) -> Option<Arc<str>> {
        self.poison.reason()
    }

    pub(crate) fn damage_met(&self) -> Option<&DamageMet> {
        self.damage.get()
    }

    /// What a failed read of one of the log's segments means to the caller. Damage is remembered, so that the owner hears of it: the log
    /// takes no more frames. A log that failed has bytes that no sync covers, of which nothing can be said.
    pub(crate) fn read_error(&self, error: segment::Error) -> Error {
        match error {
            segment::Error::Io(error) => Error::Io(error),
            segment::Error::Damaged { hole, reason } => {
                if self.poison.reason().is_none() {
                    self.note_damage(&hole, &reason);
                }
                Error::Damaged {
                    log: self.id,
                    from: hole.from,
                    from_offset: hole.from_offset,
                    reason,
                }
            }
        }
    }

    fn note_damage(&self, hole: &segment::Hole, reason: &str) {
        self.damage.get_or_init(|| {
            let reason = format!(
                "offsets {} to {}: {reason}",
                hole.from_offset, hole.to_offset
            );
            tracing::error!(log = %self.id, reason, "a reader met damage: the log takes no more records");
            self.note_change();
            DamageMet {
                missing: MissingFrames::from(*hole),
                reason: reason.into(),
            }
        });
    }

    /// The error for a read that starts in a hole.
    pub(crate) fn hole_error(&self, hole: &MissingFrames) -> Error {
        Error::Damaged {
            log: self.id,
            from: hole.from,
            from_offset: hole.from_offset,
            reason: format!(
                "frames {} to {} (offsets {} to {}) were lost",
                hole.from, hole.to, hole.from_offset, hole.to_offset
            ),
        }
    }
}

/// How far a segment is durable by itself, without the journal.
#[derive(Debug)]
pub(crate) struct Frontier {
    segment: Arc<Segment>,
    directory: PathBuf,
    log: Arc<LogShared>,
    durable: Mutex<SegmentEnd>,
    /// Whether the file's name was made durable.
    has_name: AtomicBool,
    /// Whether the segment left its log: nobody needs it durable.
    is_retired: AtomicBool,
}

impl Frontier {
    /// The frontier of a segment whose frames are durable up to `durable`.
    pub(crate) fn new(
        segment: Arc<Segment>,
        directory: PathBuf,
        log: Arc<LogShared>,
        durable: SegmentEnd,
        has_name: bool,
    ) -> Self {
        Self {
            segment,
            directory,
            log,
            durable: Mutex::new(durable),
            has_name: AtomicBool::new(has_name),
            is_retired: AtomicBool::new(false),
        }
    }

    /// How far the segment is durable: never further than it goes, and not at all without its name.
    pub(crate) fn durable(&self) -> SegmentEnd {
        if !self.has_name.load(Ordering::Acquire) {
            return self.segment.spec().start();
        }
        let durable = *self.lock();
        let end = self.segment.end();
        if end.position < durable.position {
            end
        } else {
            durable
        }
    }

    /// Which segment it is.
    pub(crate) fn generation(&self) -> Generation {
        self.segment.spec().generation
    }

    /// The index after the last durable frame; `None` when no frame is.
    pub(crate) fn durable_next_index(&self) -> Option<RaftIndex> {
        let next = self.durable().next_index;
        (next > self.segment.spec().first_index).then_some(next)
    }

    /// Makes durable what is written by now, but for the file's name.
    ///
    /// # Errors
    /// The log is poisoned.
    pub(crate) fn sync(&self) -> Result<()> {
        self.log.check()?;
        let end = self
            .segment
            .sync()
            .map_err(|error| self.log.poison(&error))?;
        *self.lock() = end;
        Ok(())
    }

    /// Whether bytes were written that no sync covers.
    pub(crate) fn is_dirty(&self) -> bool {
        self.segment.is_dirty()
    }

    /// The directory, if the file's name is not durable yet.
    pub(crate) fn unsynced_directory(&self) -> Option<&PathBuf> {
        (!self.has_name.load(Ordering::Acquire)).then_some(&self.directory)
    }

    pub(crate) fn set_named(&self) {
        self.has_name.store(true, Ordering::Release);
    }

    pub(crate) fn retire(&self) {
        self.is_retired.store(true, Ordering::Release);
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::Acquire)
    }

    /// Whether nothing will ever have to be synced here again.
    pub(crate) fn is_done(&self) -> bool {
        self.is_retired()
            || (self.segment.is_sealed()
                && !self.segment.is_dirty()
                && self.unsynced_directory().is_none())
    }

    pub(crate) fn log(&self) -> &Arc<LogShared> {
        &self.log
    }

    fn lock(&self) -> MutexGuard<'_, SegmentEnd> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
