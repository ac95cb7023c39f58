//! The segment files of a data directory: which are open, and which wait for another use.
//!
//! Files of dropped segments go to one directory, the pool, and from there into new segments of the same size: their blocks are
//! allocated and were written, so a write into them costs the disk no change of metadata. A file moves there at once, and is given out
//! when the last slice of it is gone. What is in the pool belongs to nobody: at start all of it is free.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use super::active::ActiveSegment;
use super::error::Result;
use super::file::{Segment, lock};
use super::sealed::SealedSegment;
use super::{Generation, SegmentEnd, SegmentSpec, header};
use crate::LogId;
use crate::fs::{self, File, Fs};

/// The directory of files that wait for another use.
const POOL_DIRECTORY: &str = "recycled";

/// Limits on segment files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How many files without unsynced bytes may be open.
    pub(crate) open_files: usize,
    /// Bytes of files that may wait for another use.
    pub(crate) pool_bytes: u64,
}

/// The segment files of a data directory.
#[derive(Debug)]
pub(crate) struct SegmentFiles {
    fs: Arc<dyn Fs>,
    limits: Limits,
    ticks: AtomicU64,
    /// When [`SegmentFiles::close_unused`] was last called.
    unused_since: AtomicU64,
    opened: Mutex<Vec<Weak<Segment>>>,
    pool: Mutex<Pool>,
}

#[derive(Debug, Default)]
struct Pool {
    /// Files that can be given out, by size.
    free: BTreeMap<u64, Vec<PathBuf>>,
    free_bytes: u64,
    /// Segments that somebody may still read.
    retired: Vec<Arc<Segment>>,
    /// Names in the pool are never used twice in one run.
    next_number: u64,
}

impl SegmentFiles {
    /// The segment files of `fs`. All files in the pool are free; what does not fit its limit is removed.
    ///
    /// # Errors
    /// When the pool cannot be read.
    pub(crate) fn open(fs: Arc<dyn Fs>, limits: Limits) -> fs::Result<Arc<Self>> {
        fs.create_dir_all(Path::new(POOL_DIRECTORY))?;
        let files = Self {
            fs,
            limits,
            ticks: AtomicU64::new(0),
            unused_since: AtomicU64::new(0),
            opened: Mutex::default(),
            pool: Mutex::default(),
        };
        for entry in files.fs.list(Path::new(POOL_DIRECTORY))? {
            let path = Path::new(POOL_DIRECTORY).join(&entry.name);
            if let Some(number) = entry
                .name
                .strip_suffix(".segment")
                .and_then(|number| number.parse::<u64>().ok())
            {
                let pool = &mut *lock(&files.pool);
                pool.next_number = pool.next_number.max(number.saturating_add(1));
            }
            if !entry.is_dir {
                files.free(path)?;
            }
        }
        Ok(Arc::new(files))
    }

    pub(super) fn fs(&self) -> &Arc<dyn Fs> {
        &self.fs
    }

    /// Creates the file of a segment, out of the pool where it can. Neither bytes nor name are durable.
    ///
    /// # Errors
    /// [`fs::Error::is_no_space`] when there is no space for it; then nothing was changed.
    pub(crate) fn create(
        self: &Arc<Self>,
        log: LogId,
        directory: &Path,
        spec: SegmentSpec,
    ) -> fs::Result<ActiveSegment> {
        self.fs.create_dir_all(directory)?;
        let path = path_of(directory, spec.generation);
        let file = match self.take(spec.file_bytes, &path)? {
            Some(file) => file,
            None => self.allocate(&path, spec.file_bytes)?,
        };
        file.write_all_at(&header::encode(log, &spec), 0)?;
        let segment = Arc::new(Segment::new(
            Arc::clone(self),
            log,
            path,
            spec,
            spec.start(),
        ));
        segment.set_opened(file);
        Ok(ActiveSegment::new(segment))
    }

    /// Opens a segment again to write on from `durable`. A file that holds nothing durable yet is created where it is missing.
    ///
    /// # Errors
    /// [`super::Error::Damaged`] when frames below `durable` cannot be there.
    pub(crate) fn reopen(
        self: &Arc<Self>,
        log: LogId,
        directory: &Path,
        spec: SegmentSpec,
        durable: SegmentEnd,
    ) -> Result<ActiveSegment> {
        let path = path_of(directory, spec.generation);
        let is_empty = durable.position == spec.start().position;
        if is_empty && self.fs.len(&path)? != Some(spec.file_bytes) {
            return Ok(self.create(log, directory, spec)?);
        }
        let segment = Arc::new(Segment::new(
            Arc::clone(self),
            log,
            path.clone(),
            spec,
            durable,
        ));
        if is_empty {
            let file = self.fs.open(&path)?;
            file.write_all_at(&header::encode(log, &spec), 0)?;
            segment.set_opened(file);
        } else {
            segment.open()?;
        }
        Ok(ActiveSegment::new(segment))
    }

    /// A segment that takes no more frames and ends at `end`. Nothing is opened before it is read.
    pub(crate) fn sealed(
        self: &Arc<Self>,
        log: LogId,
        directory: &Path,
        spec: SegmentSpec,
        end: SegmentEnd,
    ) -> SealedSegment {
        let path = path_of(directory, spec.generation);
        SealedSegment::new(Arc::new(Segment::new(
            Arc::clone(self),
            log,
            path,
            spec,
            end,
        )))
    }

    /// Makes the names in `directory`, and the names that lead to it, durable.
    ///
    /// # Errors
    /// When a directory cannot be synced.
    pub(crate) fn sync_directory(&self, directory: &Path) -> fs::Result<()> {
        directory
            .ancestors()
            .try_for_each(|ancestor| self.fs.sync_dir(ancestor))
    }

    /// Takes the file of a segment that left its log. It is used again when nobody reads it any more.
    ///
    /// # Errors
    /// When it cannot be moved; it then stays where it is, and belongs to nobody.
    pub(crate) fn retire(&self, segment: SealedSegment) -> fs::Result<()> {
        let segment = segment.into_segment();
        if segment.may_have_released() {
            return match self.fs.remove_file(&segment.path()) {
                Err(error) if error.is_not_found() => Ok(()),
                removed => removed,
            };
        }
        match segment.move_to(self.pool_path()) {
            Err(error) if error.is_not_found() => return Ok(()),
            moved => moved?,
        }
        lock(&self.pool).retired.push(segment);
        self.collect()
    }

    /// Frees the files of retired segments that nobody reads any more.
    ///
    /// # Errors
    /// When a file that does not fit into the pool cannot be removed.
    pub(crate) fn collect(&self) -> fs::Result<()> {
        let mut unread = Vec::new();
        {
            let pool = &mut *lock(&self.pool);
            for segment in std::mem::take(&mut pool.retired) {
                // The last owner: no reader can open it or slice it again.
                match Arc::try_unwrap(segment) {
                    Ok(segment) if segment.is_released() => unread.push(segment.path()),
                    Ok(segment) => pool.retired.push(Arc::new(segment)),
                    Err(segment) => pool.retired.push(segment),
                }
            }
        }
        unread.into_iter().try_for_each(|path| self.free(path))
    }

    /// Bytes of files that are free for another use: space that needs no allocation.
    #[cfg(test)]
    pub(crate) fn pool_bytes(&self) -> u64 {
        lock(&self.pool).free_bytes
    }

    /// How many files are open.
    pub(crate) fn open_count(&self) -> usize {
        let opened = lock(&self.opened);
        let mut open: Vec<_> = opened
            .iter()
            .filter(|segment| segment.upgrade().is_some_and(|segment| segment.is_open()))
            .map(Weak::as_ptr)
            .collect();
        open.sort_unstable();
        open.dedup();
        open.len()
    }

    /// Counts uses, to tell which file was not used for long.
    pub(super) fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::Relaxed)
    }

    /// Closes the files without unsynced bytes that were not used since the last call.
    pub(crate) fn close_unused(&self) {
        let since = self.unused_since.swap(self.tick(), Ordering::Relaxed);
        let mut opened = lock(&self.opened);
        let mut living = living(&mut opened);
        living.retain(|segment| segment.last_used() > since || !segment.close_if_clean());
        opened.extend(living.iter().map(Arc::downgrade));
    }

    /// Notes an open file, and closes others when too many are.
    pub(super) fn note_opened(&self, segment: &Arc<Segment>) {
        let mut opened = lock(&self.opened);
        opened.push(Arc::downgrade(segment));
        if opened.len() <= self.limits.open_files {
            return;
        }
        let mut living = living(&mut opened);
        living.sort_by_key(|segment| segment.last_used());
        // An eighth more than needed, so that the next opening does not have to look again.
        let mut too_many =
            (living.len() + self.limits.open_files / 8).saturating_sub(self.limits.open_files);
        living.retain(|candidate| {
            let close =
                too_many > 0 && !Arc::ptr_eq(candidate, segment) && candidate.close_if_clean();
            too_many -= usize::from(close);
            !close
        });
        opened.extend(living.iter().map(Arc::downgrade));
    }

    /// A file of the pool under its new name.
    fn take(&self, file_bytes: u64, path: &Path) -> fs::Result<Option<Arc<dyn File>>> {
        self.collect()?;
        let Some(pooled) = self.pop(file_bytes) else {
            return Ok(None);
        };
        self.fs.rename(&pooled, path)?;
        self.fs.open(path).map(Some)
    }

    fn pop(&self, file_bytes: u64) -> Option<PathBuf> {
        let pool = &mut *lock(&self.pool);
        let path = pool.free.get_mut(&file_bytes)?.pop()?;
        pool.free_bytes -= file_bytes;
        Some(path)
    }

    fn allocate(&self, path: &Path, file_bytes: u64) -> fs::Result<Arc<dyn File>> {
        let created = self.fs.create(path, file_bytes);
        match created {
            // A name that nothing durable speaks of is left from before a crash.
            Err(error) if error.is_already_exists() => self.fs.remove_file(path)?,
            Err(error) if error.is_no_space() && self.empty_pool()? > 0 => {}
            created => return created,
        }
        self.fs.create(path, file_bytes)
    }

    /// Removes all free files and says how many bytes that gave back.
    fn empty_pool(&self) -> fs::Result<u64> {
        let (free, bytes) = {
            let pool = &mut *lock(&self.pool);
            (
                std::mem::take(&mut pool.free),
                std::mem::take(&mut pool.free_bytes),
            )
        };
        free.into_values()
            .flatten()
            .try_for_each(|path| self.fs.remove_file(&path))?;
        Ok(bytes)
    }

    /// Puts a file in the pool among the free ones, or removes it.
    fn free(&self, path: PathBuf) -> fs::Result<()> {
        let file_bytes = self.fs.len(&path)?.unwrap_or(0);
        {
            let pool = &mut *lock(&self.pool);
            if file_bytes > header::BLOCK_BYTES
                && pool.free_bytes + file_bytes <= self.limits.pool_bytes
            {
                pool.free.entry(file_bytes).or_default().push(path);
                pool.free_bytes += file_bytes;
                return Ok(());
            }
        }
        self.fs.remove_file(&path)
    }

    fn pool_path(&self) -> PathBuf {
        let pool = &mut *lock(&self.pool);
        pool.next_number += 1;
        Path::new(POOL_DIRECTORY).join(format!("{:020}.segment", pool.next_number))
    }
}

/// Takes the open segments out of `opened`.
fn living(opened: &mut Vec<Weak<Segment>>) -> Vec<Arc<Segment>> {
    let mut living: Vec<Arc<Segment>> = opened
        .drain(..)
        .filter_map(|segment| segment.upgrade())
        .collect();
    living.sort_by_key(|segment| Arc::as_ptr(segment).addr());
    living.dedup_by_key(|segment| Arc::as_ptr(segment).addr());
    living.retain(|segment| segment.is_open());
    living
}

/// The name of a segment's file.
pub(crate) fn path_of(directory: &Path, generation: Generation) -> PathBuf {
    directory.join(format!("{:010}.segment", generation.0))
}

/// The size of a log's next segment file: `first_bytes` at first, then twice the last, up to `max_bytes`; more only for a frame that
/// would not fit. A multiple of 4 KiB.
pub(crate) fn next_file_bytes(
    last: Option<u64>,
    first_bytes: u64,
    max_bytes: u64,
    frame_bytes: u64,
) -> u64 {
    let wanted = last
        .map_or(first_bytes, |last| last.saturating_mul(2))
        .max(first_bytes)
        .min(max_bytes);
    let needed = header::BLOCK_BYTES + frame_bytes;
    let fitting = if needed > wanted {
        needed.checked_next_power_of_two().unwrap_or(needed)
    } else {
        wanted
    };
    fitting.next_multiple_of(header::BLOCK_BYTES)
}
