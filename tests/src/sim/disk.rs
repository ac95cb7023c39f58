//! The disk below a simulated broker: `SimFs`, with a gate that holds a sync of the journal until its virtual time is over.
//!
//! A journal sync blocks, and the shard goes on with its turns meanwhile. To have both without leaving the order of events to
//! chance, the sync runs on a thread of its own that stops right before the disk makes the bytes durable; from then on until
//! the gate opens only the simulator runs, and while that thread runs the simulator waits for it. So one thread runs at a
//! time, and a power loss during a sync meets a group that is written and not durable.

use std::fmt;
use std::io::IoSlice;
use std::ops::Range;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use highwater_storage::fs::{CrashMode, DirEntry, Fault, File, Fs, LockGuard, Map, Result, SimFs};
use highwater_storage::{Error, Store, Ticket};

use super::bug::Bug;

/// Where the journal's files are.
const JOURNAL: &str = "journal/";
/// The size of a disk that has room.
const ROOM_BYTES: u64 = 1 << 40;

/// A disk as one process sees it. Clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct SimDisk {
    fs: SimFs,
    gate: Arc<Gate>,
    bug: Option<Bug>,
}

/// Lets syncs of the journal pass, or holds the next one.
#[derive(Default)]
struct Gate(Mutex<Option<Hold>>);

/// What a sync that is held tells, and what it waits for.
struct Hold {
    reached: Sender<()>,
    go: Receiver<()>,
}

/// A sync of the journal that is on its way.
#[derive(Debug)]
pub(super) struct SyncInFlight {
    go: Sender<()>,
    thread: JoinHandle<std::result::Result<Ticket, Error>>,
}

/// How a sync began.
pub(super) enum SyncBegun {
    /// Its bytes are written; they are durable when it ends.
    Held(SyncInFlight),
    /// It ended without reaching the disk.
    Ended(std::result::Result<Ticket, Error>),
}

impl SimDisk {
    pub(super) fn new(seed: u64, bug: Option<Bug>) -> Self {
        Self::with(SimFs::new(seed), bug)
    }

    fn with(fs: SimFs, bug: Option<Bug>) -> Self {
        Self {
            fs,
            gate: Arc::default(),
            bug,
        }
    }

    /// The disk that the next process finds after a crash now. What the present one still does reaches nothing.
    pub(super) fn crash(&self, mode: CrashMode, seed: u64) -> Self {
        let after = self.fs.crash(mode, seed);
        self.fs.crash_at(self.fs.steps());
        Self::with(after, self.bug)
    }

    /// What would be left if the power went now, with room to look at it.
    pub(super) fn durable_image(&self) -> SimFs {
        self.image_after(CrashMode::PowerDropped)
    }

    /// The same disk for somebody who only looks, and may write as he likes.
    pub(super) fn image(&self) -> SimFs {
        self.image_after(CrashMode::Process)
    }

    fn image_after(&self, mode: CrashMode) -> SimFs {
        let image = self.fs.crash(mode, 0);
        image.set_capacity_bytes(ROOM_BYTES);
        image
    }

    /// The files in a directory and their bytes, by path.
    pub(super) fn files_in(&self, directory: &str) -> Vec<(String, Vec<u8>)> {
        let prefix = format!("{directory}/");
        let files = self.fs.files().into_iter();
        files
            .filter(|(path, _)| path.starts_with(&prefix))
            .collect()
    }

    /// Gives a file other bytes, or takes it away, behind everybody's back.
    pub(super) fn damage(&self, path: &str, bytes: Option<&[u8]>) -> Result<()> {
        let path = Path::new(path);
        if let Some(bytes) = bytes
            && self.fs.len(path)? == Some(bytes.len() as u64)
        {
            self.fs.corrupt(path, |there| there.copy_from_slice(bytes));
            return Ok(());
        }
        self.fs.remove_file(path)?;
        if let Some(bytes) = bytes {
            let file = self.fs.create(path, bytes.len() as u64)?;
            file.write_all_at(bytes, 0)?;
            file.sync_data()?;
        }
        self.fs.sync_dir(path.parent().unwrap_or(Path::new("")))
    }

    /// The process dies in the middle of what it does next, after so many more changes of the disk.
    pub(super) fn die_after(&self, steps: u64) {
        self.fs.crash_at(self.fs.steps() + steps);
    }

    pub(super) fn inject(&self, fault: Fault) {
        self.fs.inject(fault);
    }

    pub(super) fn clear_faults(&self) {
        self.fs.clear_faults();
    }

    /// Leaves `bytes` of room on the disk.
    pub(super) fn leave_free(&self, bytes: u64) {
        let used: usize = self.fs.files().values().map(Vec::len).sum();
        self.fs.set_capacity_bytes(used as u64 + bytes);
    }

    pub(super) fn end_shortage(&self) {
        self.fs.set_capacity_bytes(ROOM_BYTES);
    }

    /// Begins a sync of the journal that ends with [`SyncInFlight::end`].
    pub(super) fn begin_sync(&self, store: &Arc<Store>) -> SyncBegun {
        let (reached, has_reached) = channel();
        let (go, may_go) = channel();
        *self.gate.hold() = Some(Hold {
            reached,
            go: may_go,
        });
        let (store, gate) = (Arc::clone(store), Arc::clone(&self.gate));
        let thread = std::thread::spawn(move || {
            let synced = store.sync();
            // Nobody was held: who waits for that hears it by this end of the channel going away.
            gate.hold().take();
            synced
        });
        match has_reached.recv() {
            Ok(()) => SyncBegun::Held(SyncInFlight { go, thread }),
            Err(_) => SyncBegun::Ended(joined(thread)),
        }
    }

    fn lies_about(&self, path: &Path) -> bool {
        self.bug == Some(Bug::AckBeforeSync) && is_journal(path)
    }
}

impl SyncInFlight {
    /// Lets the disk make the bytes durable, or fail if it has died, and answers what the sync did.
    pub(super) fn end(self) -> std::result::Result<Ticket, Error> {
        drop(self.go);
        joined(self.thread)
    }
}

fn joined(
    thread: JoinHandle<std::result::Result<Ticket, Error>>,
) -> std::result::Result<Ticket, Error> {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl Gate {
    fn hold(&self) -> MutexGuard<'_, Option<Hold>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits here if a sync is to be held.
    fn pass(&self) {
        let hold = self.hold().take();
        if let Some(hold) = hold
            && hold.reached.send(()).is_ok()
        {
            // What ends the wait is that the other end goes away when the time is over.
            let _is_over = hold.go.recv();
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}

fn is_journal(path: &Path) -> bool {
    path.to_string_lossy().starts_with(JOURNAL)
}

/// A file whose syncs pass the gate.
#[derive(Debug)]
struct GatedFile {
    file: Arc<dyn File>,
    disk: SimDisk,
    is_journal: bool,
    lies: bool,
}

impl SimDisk {
    fn gated(&self, file: Arc<dyn File>, path: &Path) -> Arc<dyn File> {
        Arc::new(GatedFile {
            file,
            disk: self.clone(),
            is_journal: is_journal(path),
            lies: self.lies_about(path),
        })
    }
}

impl Fs for SimDisk {
    fn create(&self, path: &Path, len: u64) -> Result<Arc<dyn File>> {
        Ok(self.gated(self.fs.create(path, len)?, path))
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn File>> {
        Ok(self.gated(self.fs.open(path)?, path))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.fs.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        self.fs.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        self.fs.remove_dir(path)
    }

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        self.fs.create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        if self.bug == Some(Bug::NamesNotSynced) {
            return Ok(());
        }
        self.fs.sync_dir(path)
    }

    fn list(&self, path: &Path) -> Result<Vec<DirEntry>> {
        self.fs.list(path)
    }

    fn len(&self, path: &Path) -> Result<Option<u64>> {
        self.fs.len(path)
    }

    fn free_bytes(&self) -> Result<u64> {
        self.fs.free_bytes()
    }

    fn lock(&self, path: &Path) -> Result<LockGuard> {
        self.fs.lock(path)
    }

    fn boot_id(&self) -> Option<String> {
        self.fs.boot_id()
    }

    fn filesystem_id(&self) -> Result<u64> {
        self.fs.filesystem_id()
    }
}

impl File for GatedFile {
    fn len(&self) -> u64 {
        self.file.len()
    }

    fn write_vectored_all_at(&self, buffers: &mut [IoSlice<'_>], position: u64) -> Result<()> {
        self.file.write_vectored_all_at(buffers, position)
    }

    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> Result<()> {
        self.file.read_exact_at(buffer, position)
    }

    fn sync_data(&self) -> Result<()> {
        if self.is_journal {
            self.disk.gate.pass();
        }
        if self.lies {
            return Ok(());
        }
        self.file.sync_data()
    }

    fn release(&self, range: Range<u64>) -> Result<()> {
        self.file.release(range)
    }

    fn map(&self) -> Result<Arc<dyn Map>> {
        self.file.map()
    }
}
