//! Gathering, writing and syncing groups.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::file::{DIRECTORY, FILES};
use super::group::{
    FileHeader, GROUP_HEADER_BYTES, GroupHeader, group_file_bytes, second_header_position,
};
use super::turn::{Ticket, Turn};
use crate::config::{BLOCK_BYTES, BLOCK_LEN};
use crate::error::{Error, Result, Scope};
use crate::fs::{self, File, Fs};
use crate::poison::Poison;
use crate::pool::Pool;

/// What part of a journal file is enough when there is no space for a whole one.
const SMALL_FILE_PART: u64 = 16;
/// Buffers kept for later turns.
const SPARE_BUFFERS: usize = 64;
/// The largest buffer kept; an unusually large turn must not hold its memory for ever.
const SPARE_BUFFER_BYTES: usize = 4 << 20;

const ZEROS: [u8; BLOCK_LEN] = [0; BLOCK_LEN];

/// Draws random numbers.
pub(crate) type Random = Arc<Mutex<dyn FnMut() -> u64 + Send>>;

/// Where a journal goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// The number of the next file: above every file there is or was.
    pub(crate) file: u64,
    /// The number of the next group: above every group there is or was.
    pub(crate) group: u64,
}

/// The writing end of the journal. Shared by all threads.
///
/// - Tickets are given in the order in which turns are gathered, and groups are written in that order.
/// - `synced` only moves after the sync of the group that holds the ticket, and never after the journal is poisoned.
pub(crate) struct Journal {
    gathering: Mutex<Gathering>,
    writer: Mutex<Writer>,
    synced: AtomicU64,
    /// Whether the last group with records is not yet said to be synced by a later one.
    unannounced: AtomicBool,
    /// Bytes journaled or cached since the directory was opened.
    written_bytes: AtomicU64,
    poison: Arc<Poison>,
}

/// What waits for the next group.
#[derive(Debug, Default)]
struct Gathering {
    turns: Vec<Vec<u8>>,
    /// The last ticket given.
    ticket: Ticket,
    /// Whether somebody waits for what is here.
    needs_sync: bool,
    spare: Vec<Vec<u8>>,
}

/// The file that is written now, and those before it that may still be needed.
struct Writer {
    fs: Arc<dyn Fs>,
    pool: Arc<Pool>,
    random: Random,
    file_bytes: u64,
    current: Option<Current>,
    next_file: u64,
    next_group: u64,
    /// The last group whose sync has ended.
    synced_group: u64,
    files: VecDeque<(u64, u64)>,
}

/// The file that is written now.
struct Current {
    file: Arc<dyn File>,
    salt: u64,
    position: u64,
    /// Whether its name is not durable yet.
    is_new: bool,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal")
            .field("synced", &self.synced)
            .finish_non_exhaustive()
    }
}

impl Journal {
    /// A journal that goes on at `start`; `files` are those that are there already, by number, with their bytes.
    pub(crate) fn new(
        fs: Arc<dyn Fs>,
        pool: Arc<Pool>,
        random: Random,
        poison: Arc<Poison>,
        file_bytes: u64,
        start: Start,
        files: Vec<(u64, u64)>,
    ) -> Self {
        let synced_group = start.group - 1;
        let writer = Writer {
            fs,
            pool,
            random,
            file_bytes,
            current: None,
            next_file: start.file,
            next_group: start.group,
            synced_group,
            files: files.into(),
        };
        Self {
            gathering: Mutex::default(),
            writer: Mutex::new(writer),
            synced: AtomicU64::new(0),
            unannounced: AtomicBool::new(false),
            written_bytes: AtomicU64::new(0),
            poison,
        }
    }

    /// Begins a turn.
    pub(crate) fn turn(&self) -> Turn {
        Turn::new(lock(&self.gathering).spare.pop().unwrap_or_default())
    }

    /// Takes a turn for the next group.
    pub(crate) fn submit(&self, turn: Turn) -> Ticket {
        let parts = turn.into_parts();
        self.written_bytes
            .fetch_add(parts.cached_bytes, Ordering::Relaxed);
        let mut gathering = lock(&self.gathering);
        if self.poison.reason().is_some() {
            // Nothing will ever be written again, so nothing may pile up; the ticket is never done.
            gathering.turns.clear();
        }
        if parts.records.is_empty() {
            gathering.keep(parts.records);
            return gathering.ticket;
        }
        gathering.turns.push(parts.records);
        if parts.needs_sync {
            gathering.ticket.0 += 1;
            gathering.needs_sync = true;
        }
        gathering.ticket
    }

    /// Writes and syncs what has gathered.
    ///
    /// # Errors
    /// [`Error::NoSpace`]: no new journal file could be had; everything waits on. [`Error::Poisoned`] for ever after any other failure.
    pub(crate) fn sync(&self) -> Result<Ticket> {
        let mut writer = lock(&self.writer);
        self.poison.check(Scope::Directory)?;
        if lock(&self.gathering).turns.is_empty() {
            return Ok(self.synced());
        }
        self.write_gathered(&mut writer)
    }

    /// Writes the group that says that the last one was synced, with what waits for no sync of its own.
    ///
    /// # Errors
    /// As [`Journal::sync`].
    pub(crate) fn heartbeat(&self) -> Result<()> {
        let mut writer = lock(&self.writer);
        self.poison.check(Scope::Directory)?;
        if self.unannounced.load(Ordering::Acquire) || !lock(&self.gathering).turns.is_empty() {
            self.write_gathered(&mut writer)?;
        }
        Ok(())
    }

    /// Whether [`Journal::heartbeat`] would write something.
    pub(crate) fn needs_heartbeat(&self) -> bool {
        self.unannounced.load(Ordering::Acquire) || !lock(&self.gathering).turns.is_empty()
    }

    /// The highest ticket that is done.
    pub(crate) fn synced(&self) -> Ticket {
        Ticket(self.synced.load(Ordering::Acquire))
    }

    /// Whether somebody waits for what has gathered.
    pub(crate) fn has_unsynced(&self) -> bool {
        lock(&self.gathering).needs_sync
    }

    /// Bytes journaled or cached since the directory was opened.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed)
    }

    /// Starts a new file, so that all later groups are in it and those after it. Returns where it starts. A file that holds no group
    /// yet is as good as a new one.
    ///
    /// # Errors
    /// As [`Journal::sync`].
    pub(crate) fn roll(&self) -> Result<Start> {
        let mut writer = lock(&self.writer);
        self.poison.check(Scope::Directory)?;
        if let Some(current) = &writer.current
            && current.position == BLOCK_BYTES
        {
            return Ok(Start {
                file: writer.next_file - 1,
                group: writer.next_group,
            });
        }
        let start = Start {
            file: writer.next_file,
            group: writer.next_group,
        };
        writer
            .open_file(BLOCK_BYTES)
            .map_err(|error| self.refuse_or_poison(error))?;
        Ok(start)
    }

    /// The last group whose sync has ended.
    pub(crate) fn synced_group(&self) -> u64 {
        lock(&self.writer).synced_group
    }

    /// Gives up the files below `file`, which no kept checkpoint needs.
    ///
    /// # Errors
    /// When one cannot be renamed or removed; nothing is in doubt then.
    pub(crate) fn release_below(&self, file: u64) -> fs::Result<()> {
        let mut writer = lock(&self.writer);
        while let Some((number, bytes)) = writer
            .files
            .front()
            .copied()
            .filter(|(number, _)| *number < file)
        {
            writer.pool.give(&FILES.path(number), bytes)?;
            writer.files.pop_front();
        }
        Ok(())
    }

    fn write_gathered(&self, writer: &mut Writer) -> Result<Ticket> {
        let (turns, ticket, needs_sync) = {
            let mut gathering = lock(&self.gathering);
            let turns = std::mem::take(&mut gathering.turns);
            let needs_sync = std::mem::take(&mut gathering.needs_sync);
            (turns, gathering.ticket, needs_sync)
        };
        match writer.write_group(&turns) {
            Ok(bytes) => {
                self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
                // Nothing is lost with an empty group, so none has to vouch for it.
                self.unannounced.store(!turns.is_empty(), Ordering::Release);
                self.synced.store(ticket.0, Ordering::Release);
                let mut gathering = lock(&self.gathering);
                turns.into_iter().for_each(|buffer| gathering.keep(buffer));
                Ok(ticket)
            }
            Err(error) => {
                let error = self.refuse_or_poison(error);
                if matches!(error, Error::NoSpace { .. }) {
                    lock(&self.gathering).put_back(turns, needs_sync);
                }
                Err(error)
            }
        }
    }

    fn refuse_or_poison(&self, failure: Failure) -> Error {
        match failure {
            Failure::NoSpace(error) => Error::NoSpace {
                reason: error.to_string(),
            },
            Failure::Final(error) => self.poison.set(Scope::Directory, &error),
        }
    }
}

/// How writing failed.
enum Failure {
    /// Before any byte: there is no space for a new file.
    NoSpace(fs::Error),
    /// What is on disk now is not known.
    Final(fs::Error),
}

impl Gathering {
    fn keep(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE_BUFFERS && buffer.capacity() <= SPARE_BUFFER_BYTES {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// A heartbeat without room leaves nobody waiting who did not wait before.
    fn put_back(&mut self, mut turns: Vec<Vec<u8>>, needs_sync: bool) {
        turns.append(&mut self.turns);
        self.turns = turns;
        self.needs_sync |= needs_sync;
    }
}

impl Writer {
    /// Writes one group, syncs it and returns the bytes it took.
    fn write_group(&mut self, turns: &[Vec<u8>]) -> std::result::Result<u64, Failure> {
        let record_bytes: usize = turns.iter().map(Vec::len).sum();
        let bytes = group_file_bytes(record_bytes as u64);
        self.make_room(bytes)?;
        let current = self.current.as_mut().expect("made room in it");
        let header = GroupHeader {
            number: self.next_group,
            synced_through: self.synced_group,
            record_bytes: u32::try_from(record_bytes)
                .expect("turns wait long before 4 GiB have gathered"),
        };
        let head = header.encode(current.salt, turns.iter().map(Vec::as_slice));
        // The filling makes whole pages: a part of one would first have to be read.
        let filling = usize::try_from(bytes).expect("sum of lengths in memory")
            - GROUP_HEADER_BYTES
            - record_bytes;
        let mut slices = Vec::with_capacity(turns.len() + 2);
        slices.push(IoSlice::new(&head));
        slices.extend(turns.iter().map(|turn| IoSlice::new(turn)));
        slices.push(IoSlice::new(&ZEROS[..filling]));
        current
            .file
            .write_vectored_all_at(&mut slices, current.position)
            .map_err(Failure::Final)?;
        current.file.sync_data().map_err(Failure::Final)?;
        if current.is_new {
            self.fs
                .sync_dir(Path::new(DIRECTORY))
                .map_err(Failure::Final)?;
            current.is_new = false;
        }
        current.position += bytes;
        self.synced_group = self.next_group;
        self.next_group += 1;
        Ok(bytes)
    }

    fn make_room(&mut self, bytes: u64) -> std::result::Result<(), Failure> {
        let fits = self.current.as_ref().is_some_and(|current| {
            current.position + bytes <= second_header_position(current.file.len())
        });
        if fits { Ok(()) } else { self.open_file(bytes) }
    }

    /// Opens the next file, with room for a group of `bytes`, and makes it the current one. On a full disk a small one will do.
    fn open_file(&mut self, bytes: u64) -> std::result::Result<(), Failure> {
        let (number, path) = (self.next_file, FILES.path(self.next_file));
        let small = (self.file_bytes / SMALL_FILE_PART).next_multiple_of(BLOCK_BYTES);
        let take = |wanted: u64| self.pool.take(&path, wanted.max(bytes + 2 * BLOCK_BYTES));
        let taken = take(self.file_bytes).or_else(|error| {
            if error.is_no_space() {
                take(small)
            } else {
                Err(error)
            }
        });
        let file = taken.map_err(|error| {
            if error.is_no_space() {
                Failure::NoSpace(error)
            } else {
                Failure::Final(error)
            }
        })?;
        let salt = (self.random.lock().unwrap_or_else(PoisonError::into_inner))();
        let header = FileHeader {
            number,
            salt,
            first_group: self.next_group,
        };
        // Twice: without it no group of the file could be told from its former life.
        for position in [0, second_header_position(file.len())] {
            file.write_all_at(&header.encode(), position)
                .map_err(Failure::Final)?;
        }
        self.files.push_back((number, file.len()));
        self.current = Some(Current {
            file,
            salt,
            position: BLOCK_BYTES,
            is_new: true,
        });
        self.next_file += 1;
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while a lock is held poisons it. The journal's own state is then still whole: each change is a few plain stores.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
