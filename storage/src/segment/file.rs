//! The shared part of a segment: its file, opened when needed, and what readers know of it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::error::{Error, Hole, Result};
use super::files::SegmentFiles;
use super::index::SparseIndex;
use super::verified::Verified;
use super::{SegmentEnd, SegmentSpec, header};
use crate::LogId;
use crate::fs::{self, File, Map, Operation};

/// Bytes after the end of a closed segment that are worth giving back to the disk.
const UNUSED_TAIL_BYTES: u64 = 64 * 1024;

/// A segment as its readers share it.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(super) files: Arc<SegmentFiles>,
    log: LogId,
    spec: SegmentSpec,
    place: Mutex<Place>,
    frames: Mutex<Frames>,
    /// Whether bytes were written that no sync covers. Such a file stays open, so that an error of the disk finds somebody to tell.
    is_dirty: AtomicBool,
    /// One sync at a time: the second must not answer before the first has ended.
    syncing: Mutex<()>,
    /// Whether a write or sync failed: what is durable is then unknown for good.
    has_failed: AtomicBool,
    last_used: AtomicU64,
    is_sealed: AtomicBool,
    /// Whether the file was created in this run, so that all of its space is there.
    is_whole: AtomicBool,
}

/// Where the file is, and its handle while it is open.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    opened: Option<Arc<Opened>>,
    /// Every map that was made and may live on in slices.
    maps: Vec<Weak<dyn Map>>,
}

/// What is known of the frames.
#[derive(Debug)]
struct Frames {
    end: SegmentEnd,
    index: SparseIndex,
}

/// An open file.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: Arc<dyn File>,
    map: Mutex<Option<Arc<dyn Map>>>,
    pub(super) verified: Mutex<Verified>,
}

impl Segment {
    /// A segment whose frames end at `end`. Nothing is opened.
    pub(super) fn new(
        files: Arc<SegmentFiles>,
        log: LogId,
        path: PathBuf,
        spec: SegmentSpec,
        end: SegmentEnd,
    ) -> Self {
        let mut index = SparseIndex::new(spec.start());
        index.add(vec![end]);
        Self {
            files,
            log,
            spec,
            place: Mutex::new(Place {
                path,
                opened: None,
                maps: Vec::new(),
            }),
            frames: Mutex::new(Frames { end, index }),
            is_dirty: AtomicBool::new(false),
            syncing: Mutex::default(),
            has_failed: AtomicBool::new(false),
            last_used: AtomicU64::new(0),
            is_sealed: AtomicBool::new(false),
            is_whole: AtomicBool::new(false),
        }
    }

    /// What the segment was opened with.
    pub(crate) fn spec(&self) -> &SegmentSpec {
        &self.spec
    }

    /// Where its frames end now.
    pub(crate) fn end(&self) -> SegmentEnd {
        lock(&self.frames).end
    }

    /// Where its file is.
    pub(crate) fn path(&self) -> PathBuf {
        lock(&self.place).path.clone()
    }

    /// Whether it takes no more frames.
    pub(crate) fn is_sealed(&self) -> bool {
        self.is_sealed.load(Ordering::Acquire)
    }

    pub(super) fn set_sealed(&self) {
        self.is_sealed.store(true, Ordering::Release);
    }

    /// Whether bytes were written that no [`Segment::sync`] covers.
    pub(crate) fn is_dirty(&self) -> bool {
        self.is_dirty.load(Ordering::Acquire)
    }

    /// Makes the frames durable that are written by now, and says where they end. The name needs its directory synced besides.
    ///
    /// # Errors
    /// After any failed write or sync, for good.
    pub(crate) fn sync(self: &Arc<Self>) -> Result<SegmentEnd> {
        let _syncing = lock(&self.syncing);
        self.check_failed()?;
        let end = self.end();
        // Cleared before the sync: what is written meanwhile makes it dirty again.
        if self.is_dirty.swap(false, Ordering::AcqRel) {
            let synced = self.open().and_then(|opened| Ok(opened.file.sync_data()?));
            if synced.is_err() {
                self.has_failed.store(true, Ordering::Release);
                self.is_dirty.store(true, Ordering::Release);
            }
            synced?;
        }
        self.check_failed()?;
        Ok(end)
    }

    /// Whether some of the file's space may have been given back. It is not used again then.
    pub(super) fn may_have_released(&self) -> bool {
        self.has_unused_tail() && !self.is_whole.load(Ordering::Acquire)
    }

    fn has_unused_tail(&self) -> bool {
        self.spec.file_bytes - self.end().position >= UNUSED_TAIL_BYTES
    }

    /// Gives back the space that a segment that was closed early does not need. Only when its end is durable.
    ///
    /// # Errors
    /// When the disk fails; the frames are as they were.
    pub(crate) fn release_tail(self: &Arc<Self>) -> Result<()> {
        if !self.has_unused_tail() {
            return Ok(());
        }
        self.is_whole.store(false, Ordering::Release);
        let end = self.end().position.next_multiple_of(header::BLOCK_BYTES);
        Ok(self.open()?.file.release(end..self.spec.file_bytes)?)
    }

    fn check_failed(&self) -> Result<()> {
        if self.has_failed.load(Ordering::Acquire) {
            let reason = std::io::Error::other("an earlier write or sync of this segment failed");
            return Err(fs::Error::new(Operation::SyncData, self.path(), reason).into());
        }
        Ok(())
    }

    /// Runs a write of the bytes that take the segment from its end to `end`, and shows them to readers.
    pub(super) fn write(
        self: &Arc<Self>,
        ends: &[SegmentEnd],
        write: impl FnOnce(&dyn File, u64) -> fs::Result<()>,
    ) -> Result<u64> {
        self.check_failed()?;
        let opened = self.open()?;
        let start = self.end().position;
        let written = write(&*opened.file, start);
        self.is_dirty.store(true, Ordering::Release);
        if written.is_err() {
            self.has_failed.store(true, Ordering::Release);
        }
        written?;
        if let Some(end) = ends.last() {
            lock(&opened.verified).insert(start..end.position);
            let mut frames = lock(&self.frames);
            for end in ends {
                frames.index.note_end(end);
            }
            frames.end = *end;
        }
        Ok(start)
    }

    /// Ends the segment earlier.
    pub(super) fn cut(&self, end: SegmentEnd) {
        let mut frames = lock(&self.frames);
        frames.index.cut(&end);
        frames.end = end;
    }

    /// The last known place of which `is_before` holds, and where the frames end.
    pub(super) fn place_before(
        &self,
        is_before: impl Fn(&SegmentEnd) -> bool,
    ) -> (SegmentEnd, SegmentEnd) {
        let frames = lock(&self.frames);
        (frames.index.last_before(is_before), frames.end)
    }

    pub(super) fn add_places(&self, found: Vec<SegmentEnd>) {
        lock(&self.frames).index.add(found);
    }

    /// The file's handle.
    pub(super) fn open(self: &Arc<Self>) -> Result<Arc<Opened>> {
        self.last_used.store(self.files.tick(), Ordering::Relaxed);
        let opened = {
            let mut place = lock(&self.place);
            if let Some(opened) = &place.opened {
                return Ok(Arc::clone(opened));
            }
            let file = self.files.fs().open(&place.path).map_err(|error| {
                if error.is_not_found() {
                    self.damaged("the file is missing")
                } else {
                    error.into()
                }
            })?;
            self.check_file(&*file, &place.path)?;
            Arc::clone(place.opened.insert(Arc::new(Opened::new(file))))
        };
        self.files.note_opened(self);
        Ok(opened)
    }

    /// Gives the handle of a file that was just created.
    pub(super) fn set_opened(self: &Arc<Self>, file: Arc<dyn File>) {
        self.last_used.store(self.files.tick(), Ordering::Relaxed);
        self.is_dirty.store(true, Ordering::Release);
        self.is_whole.store(true, Ordering::Release);
        lock(&self.place).opened = Some(Arc::new(Opened::new(file)));
        self.files.note_opened(self);
    }

    fn check_file(&self, file: &dyn File, path: &Path) -> Result<()> {
        if file.len() != self.spec.file_bytes {
            return Err(self.damaged(format!(
                "the file has {} bytes instead of {}",
                file.len(),
                self.spec.file_bytes
            )));
        }
        let mut fields = [0; header::FIELD_BYTES];
        file.read_exact_at(&mut fields, 0)?;
        if header::decode(&fields) != Some((self.log, self.spec)) {
            // Each frame proves itself with the salt, so the rest can still be read.
            tracing::warn!(path = %path.display(), log = %self.log, "the header block of a segment is damaged");
        }
        Ok(())
    }

    /// The error that all of the segment is damaged.
    fn damaged(&self, reason: impl std::fmt::Display) -> Error {
        let end = self.end();
        let hole = Hole {
            from: self.spec.first_index,
            to: end.next_index,
            from_offset: self.spec.base_offset,
            to_offset: end.next_offset,
        };
        Error::Damaged {
            hole,
            reason: format!(
                "segment {} of log {}: {reason}",
                self.spec.generation.0, self.log
            ),
        }
    }

    /// The map of the open file.
    pub(super) fn map(&self, opened: &Opened) -> Result<Arc<dyn Map>> {
        let mut slot = lock(&opened.map);
        if let Some(map) = &*slot {
            return Ok(Arc::clone(map));
        }
        let map = opened.file.map()?;
        *slot = Some(Arc::clone(&map));
        drop(slot);
        let mut place = lock(&self.place);
        place.maps.retain(|map| map.strong_count() > 0);
        place.maps.push(Arc::downgrade(&map));
        Ok(map)
    }

    /// Closes the file unless it has bytes that are not durable. Slices keep their map. Says whether it is closed.
    pub(crate) fn close_if_clean(&self) -> bool {
        if self.is_dirty() {
            return false;
        }
        lock(&self.place).opened = None;
        true
    }

    pub(super) fn is_open(&self) -> bool {
        lock(&self.place).opened.is_some()
    }

    pub(super) fn last_used(&self) -> u64 {
        self.last_used.load(Ordering::Relaxed)
    }

    /// Moves the file, for those too who still read it.
    pub(super) fn move_to(&self, path: PathBuf) -> fs::Result<()> {
        let mut place = lock(&self.place);
        self.files.fs().rename(&place.path, &path)?;
        place.path = path;
        place.opened = None;
        Ok(())
    }

    /// Closes the file, and says whether no slice of it is alive any more. Only for the last owner of the segment.
    pub(super) fn is_released(&self) -> bool {
        let mut place = lock(&self.place);
        place.opened = None;
        place.maps.iter().all(|map| map.strong_count() == 0)
    }
}

impl Opened {
    fn new(file: Arc<dyn File>) -> Self {
        Self {
            file,
            map: Mutex::default(),
            verified: Mutex::default(),
        }
    }
}

/// Locks. What these locks guard is whole at every moment, so a panic of another holder changes nothing.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
