//! One data directory.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use crate::checkpoint::{Begun, Checkpoint, LogStart};
use crate::config::Config;
use crate::directory::{Deleted, Directory, Registered};
use crate::error::{Error, Result};
use crate::fs::{Fs, LockGuard};
use crate::identity::Identity;
use crate::journal::{self, Random, Record, Start, Ticket, Turn};
use crate::log::{AppliedState, Damage, HardState, Log, LogParts, LogShared, LogSpec};
use crate::recovery;
use crate::segment::Generation;
use crate::space::Space;
use crate::starts::Starts;
use crate::succession::Succession;
use crate::{LogId, Offset, checkpoint};

const LOCK: &str = "lock";

/// One data directory: its journal, its checkpoints and its logs. Shared by all threads.
#[derive(Debug)]
pub struct Store {
    directory: Arc<Directory>,
    progress: Arc<Progress>,
    identity: Mutex<Identity>,
    _lock: LockGuard,
}

/// What [`Store::open`] found.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Arc<Store>,
    /// Every log that was not deleted, by id.
    pub logs: Vec<RecoveredLog>,
    /// Whose directory it is.
    pub identity: Identity,
    /// Directories that belong to no log, relative to the data directory. They are kept.
    pub unknown_directories: Vec<String>,
    /// What of the journal is lost although it had been synced. Logs that were created in it are not among `logs`, logs that were
    /// deleted in it may be; what each log of `logs` may lack is said there.
    pub damage: Option<String>,
}

/// A log as it was left.
#[derive(Debug)]
pub struct RecoveredLog {
    /// The log.
    pub log: Log,
    /// The state of its group as last checkpointed: frames above its index are still to be applied.
    pub applied: AppliedState,
    /// What could not be recovered.
    pub damage: Option<Damage>,
}

/// How urgent a checkpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Not yet.
    None,
    /// Begin one.
    Due,
    /// Nothing may be written before one is done.
    TurnsMustWait,
}

/// Whether the directory works.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Why the directory takes no more writes.
    pub poisoned: Option<Arc<str>>,
    /// The logs that take no more writes, and why.
    pub poisoned_logs: Vec<(LogId, Arc<str>)>,
    /// The logs of which readers could not get everything, and the first thing that they missed. They take no more frames. What recovery
    /// could not give back is not here: see [`RecoveredLog::damage`].
    pub damaged_logs: Vec<(LogId, Arc<str>)>,
}

impl Store {
    /// Opens the data directory: takes its lock, reads what is there, and makes all that it keeps durable before it returns. Blocks.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::UnsupportedFormat`]; [`Error::Corrupt`] when the identity or every checkpoint is unreadable;
    /// [`Error::Invalid`] for a configuration that cannot be; [`Error::Io`], [`Error::NoSpace`]: nothing is lost, try again.
    pub fn open(
        fs: Arc<dyn Fs>,
        random: Box<dyn FnMut() -> u64 + Send>,
        config: Config,
    ) -> Result<Opened> {
        config.validate()?;
        let lock = take_lock(&*fs)?;
        let random: Random = Arc::new(Mutex::new(random));
        for directory in [journal::DIRECTORY, checkpoint::DIRECTORY] {
            fs.create_dir_all(Path::new(directory))?;
        }
        fs.sync_dir(Path::new(""))?;
        let identity = match Identity::read(&*fs)? {
            Some(identity) => identity,
            None => recovery::found(&*fs, &random)?,
        };
        let recovered = recovery::recover(fs, random, config)?;
        let store = Self {
            directory: recovered.directory,
            progress: recovered.progress,
            identity: Mutex::new(identity),
            _lock: lock,
        };
        Ok(Opened {
            store: Arc::new(store),
            logs: recovered.logs,
            identity,
            unknown_directories: recovered.unknown_directories,
            damage: recovered.damage,
        })
    }

    /// Whose directory it is.
    pub fn identity(&self) -> Identity {
        *lock(&self.identity)
    }

    /// Writes down the cluster and the broker's number, once. Blocks.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the directory belongs to another cluster or broker.
    pub fn adopt(&self, cluster: Uuid, broker_id: u64) -> Result<Identity> {
        let mut identity = lock(&self.identity);
        let differs = identity.cluster.is_some_and(|known| known != cluster)
            || identity.broker_id.is_some_and(|known| known != broker_id);
        if differs {
            return Err(Error::invalid(format!(
                "the data directory belongs to broker {:?} of cluster {:?}, not to broker {broker_id} of {cluster}",
                identity.broker_id, identity.cluster
            )));
        }
        let adopted = Identity {
            cluster: Some(cluster),
            broker_id: Some(broker_id),
            ..*identity
        };
        if adopted != *identity {
            adopted.write(&*self.directory.fs)?;
            *identity = adopted;
        }
        Ok(adopted)
    }

    /// Begins a start of the broker: takes the next number, durably. Blocks.
    ///
    /// # Errors
    /// When it cannot be written: then no start has begun.
    pub fn begin_start(&self) -> Result<Starts> {
        let before = Starts::read(&*self.directory.fs)?;
        let starts = Starts {
            number: before.number.saturating_add(1),
            ..before
        };
        starts.write(&*self.directory.fs)?;
        Ok(starts)
    }

    /// Notes, durably, how many starts the cluster knows of, and whether this is an old copy. Blocks.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note_starts(&self, starts: Starts) -> Result<()> {
        Ok(starts.write(&*self.directory.fs)?)
    }

    /// The cluster that the directory is to go over to, if there is one. Blocks.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Io`]: then it is not known which cluster the directory belongs to.
    pub fn succession(&self) -> Result<Option<Succession>> {
        Succession::read(&*self.directory.fs)
    }

    /// Has the directory go over to another cluster at its next start. Blocks.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn prepare_succession(&self, succession: Succession) -> Result<()> {
        succession.write(&*self.directory.fs)
    }

    /// The directory belongs to the cluster that it was to go over to. Blocks.
    ///
    /// # Errors
    /// When that cannot be written: it is done again at the next start.
    pub fn succeed(&self, succession: Succession) -> Result<()> {
        let mut identity = lock(&self.identity);
        let succeeded = Identity {
            cluster: Some(succession.cluster),
            ..*identity
        };
        succeeded.write(&*self.directory.fs)?;
        *identity = succeeded;
        Succession::remove(&*self.directory.fs)
    }

    /// Creates an empty log whose group starts with `applied` (index 0 and the first members). Durable when the turn's ticket is done.
    /// What a creation that a crash undid left in its directory is removed.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an id or a directory that a log has, or a directory that is no plain relative path;
    /// [`Error::Corrupt`] for a directory that belonged to no log at a start that found the journal or a checkpoint damaged;
    /// [`Error::Io`]; [`Error::Poisoned`].
    pub fn create_log(
        &self,
        turn: &mut Turn,
        id: LogId,
        spec: LogSpec,
        applied: AppliedState,
    ) -> Result<Log> {
        self.directory.check()?;
        check_spec(&spec)?;
        let shared = Arc::new(LogShared::new(id));
        {
            let mut registry = self.directory.registry();
            if registry.strangers.contains(&spec.directory) {
                self.clear_remains(id, &spec.directory)?;
                registry.strangers.remove(&spec.directory);
            }
            let is_taken = registry.logs.contains_key(&id)
                || registry.deleted.iter().any(|deleted| deleted.log == id)
                || registry.directories.contains(&spec.directory);
            if is_taken {
                return Err(Error::invalid(format!(
                    "log {id} or directory {} exists",
                    spec.directory
                )));
            }
            registry.directories.insert(spec.directory.clone());
            let registered = Registered {
                shared: Arc::clone(&shared),
                directory: spec.directory.clone(),
                entry: None,
                snapshot_file: None,
                checkpointed_changes: 0,
            };
            registry.logs.insert(id, registered);
        }
        let start = LogStart {
            index: applied.index.next(),
            offset: Offset(0),
            term_before: applied.term,
        };
        turn.add(&Record::LogOpened {
            log: id,
            spec: spec.clone(),
            applied,
        });
        let parts = LogParts {
            spec,
            hard_state: HardState::default(),
            log_start: Offset(0),
            start,
            next_index: start.index,
            next_offset: Offset(0),
            next_generation: Generation(1),
            terms: vec![],
            sealed: vec![],
            heads: vec![],
            damage: None,
        };
        Ok(Log::new(Arc::clone(&self.directory), shared, parts))
    }

    /// Removes what is left of a creation that was never durable.
    fn clear_remains(&self, id: LogId, directory: &str) -> Result<()> {
        let fs = &*self.directory.fs;
        if recovery::is_marked(fs, Path::new(directory))? {
            // What named its files may be what was lost: an empty log would hide them for good.
            return Err(Error::Corrupt {
                path: directory.to_owned(),
                reason: format!(
                    "there are files, but nothing says that log {id} was created: move the directory away to begin with an empty log"
                ),
            });
        }
        tracing::info!(log = %id, directory, "a crash undid the creation of the log; its files are removed");
        Ok(recovery::remove_remains(fs, Path::new(directory))?)
    }

    /// Deletes a log. Its files go when no checkpoint or journal names them.
    pub fn delete_log(&self, turn: &mut Turn, log: Log) {
        turn.add(&Record::LogDeleted { log: log.id() });
        let (id, directory, segments) = log.into_deleted();
        let mut registry = self.directory.registry();
        registry.logs.remove(&id);
        registry.deleted.push(Deleted {
            log: id,
            directory,
            segments,
            gone_since: None,
        });
    }

    /// Begins a turn.
    pub fn turn(&self) -> Turn {
        self.directory.journal.turn()
    }

    /// Hands the turn to the next sync. A turn that needs none gets the ticket of the last that did.
    pub fn submit(&self, turn: Turn) -> Ticket {
        self.directory.journal.submit(turn)
    }

    /// Writes and syncs once all that was submitted, and says up to which ticket all is durable. Blocks; concurrent callers take turns.
    ///
    /// # Errors
    /// [`Error::NoSpace`]: no journal file could be had, what was submitted waits on. [`Error::Poisoned`] after any other failure, for ever.
    pub fn sync(&self) -> Result<Ticket> {
        self.directory.journal.sync()
    }

    /// The highest ticket that is done.
    pub fn synced(&self) -> Ticket {
        self.directory.journal.synced()
    }

    /// Whether something submitted waits for [`Store::sync`].
    pub fn has_unsynced(&self) -> bool {
        self.directory.journal.has_unsynced()
    }

    /// Whether [`Store::heartbeat_journal`] has something to write.
    pub fn needs_heartbeat(&self) -> bool {
        self.directory.journal.needs_heartbeat()
    }

    /// Writes the group that says that the one before it was synced, and commit indexes that wait. To be called within 10 ms of the last
    /// sync when nothing else was submitted since, and again while [`Store::needs_heartbeat`]. Blocks.
    ///
    /// # Errors
    /// As [`Store::sync`].
    pub fn heartbeat_journal(&self) -> Result<()> {
        self.directory.journal.heartbeat()
    }

    /// How urgent a checkpoint is.
    pub fn checkpoint_pressure(&self) -> Pressure {
        let interval = self.directory.config.checkpoint_interval_bytes;
        let written = self
            .directory
            .journal
            .written_bytes()
            .saturating_sub(self.progress.covered_bytes());
        if written >= interval.saturating_mul(2) {
            Pressure::TurnsMustWait
        } else if self.progress.is_running() {
            Pressure::None
        } else if written >= interval || self.directory.retired_bytes() >= interval {
            Pressure::Due
        } else {
            Pressure::None
        }
    }

    /// Bytes journaled, or cached for logs with `write_caching`, since the directory was opened.
    pub fn written_bytes(&self) -> u64 {
        self.directory.journal.written_bytes()
    }

    /// Whether something changed that the newest checkpoint does not have, so that a start would have to do it again, or something
    /// leaves with the next one.
    pub fn is_behind(&self) -> bool {
        let registry = self.directory.registry();
        let mut logs = registry.logs.values();
        !registry.deleted.is_empty()
            || !registry.retired.is_empty()
            || logs
                .any(|log| log.entry.is_none() || log.checkpointed_changes != log.shared.changes())
    }

    /// Closes the segments that were not used since the last call, so that a log that is idle holds nothing open. What no checkpoint
    /// synced yet stays open.
    pub fn close_unused_segments(&self) {
        self.directory.files.close_unused();
    }

    /// Begins a checkpoint; one at a time.
    ///
    /// # Errors
    /// [`Error::Invalid`] while another is on its way; [`Error::NoSpace`], [`Error::Poisoned`].
    pub fn begin_checkpoint(&self) -> Result<Checkpoint> {
        self.directory.check()?;
        self.progress.begin()?;
        let begun = Checkpoint::begin(Arc::clone(&self.directory), Arc::clone(&self.progress));
        if begun.is_err() {
            self.progress.end();
        }
        begun
    }

    /// The room on the disk.
    pub fn space(&self) -> Space {
        self.directory.gauge.read()
    }

    /// Whether the directory works.
    pub fn health(&self) -> Health {
        let registry = self.directory.registry();
        let logs = registry.logs.iter();
        let poisoned_logs =
            logs.filter_map(|(log, registered)| Some((*log, registered.shared.poison_reason()?)));
        let logs = registry.logs.iter();
        let damaged_logs = logs.filter_map(|(log, registered)| {
            let met = registered.shared.damage_met()?;
            Some((*log, Arc::clone(&met.reason)))
        });
        Health {
            poisoned: self.directory.poison.reason(),
            poisoned_logs: poisoned_logs.collect(),
            damaged_logs: damaged_logs.collect(),
        }
    }

    /// Makes everything durable, cached frames too, and says so on disk. To be called when nothing writes any more. Blocks.
    ///
    /// # Errors
    /// As [`Store::sync`]; the next start then treats this as a crash.
    pub fn close(&self) -> Result<()> {
        self.sync()?;
        self.directory.journal.heartbeat()?;
        self.directory.frontiers.sync_all(|_, all| all);
        let health = self.health();
        if health.poisoned.is_none() && health.poisoned_logs.is_empty() {
            self.directory.run_mark.set_clean(&*self.directory.fs)?;
        }
        Ok(())
    }

    /// Segment files that are open now, for tests and metrics.
    pub fn open_segments(&self) -> usize {
        self.directory.files.open_count()
    }
}

/// Keeps other processes out of the data directory.
///
/// # Errors
/// [`Error::Locked`] when one is in.
pub(crate) fn take_lock(fs: &dyn Fs) -> Result<LockGuard> {
    fs.lock(Path::new(LOCK)).map_err(|error| {
        if error.is_locked() {
            Error::Locked {
                path: LOCK.to_owned(),
            }
        } else {
            Error::Io(error)
        }
    })
}

/// A directory that cannot leave the data directory, nor meet storage's own.
fn check_spec(spec: &LogSpec) -> Result<()> {
    let parts: Vec<&str> = spec.directory.split('/').collect();
    let is_plain =
        |part: &&str| !part.is_empty() && *part != "." && *part != ".." && !part.contains('\\');
    if parts.len() < 2 || !parts.iter().all(is_plain) {
        return Err(Error::invalid(format!(
            "{:?} is no plain path of at least two names",
            spec.directory
        )));
    }
    if recovery::OWN_DIRECTORIES.contains(&parts[0]) {
        return Err(Error::invalid(format!(
            "{:?} is in a directory of the store itself",
            spec.directory
        )));
    }
    Ok(())
}

/// Which checkpoints there are, and whether one is on its way.
#[derive(Debug)]
pub(crate) struct Progress {
    state: Mutex<ProgressState>,
}

#[derive(Debug)]
struct ProgressState {
    newest: u64,
    /// Where the newest checkpoint's journal begins.
    journal: Start,
    is_running: bool,
    /// Bytes that were written when the newest checkpoint began.
    covered_bytes: u64,
    /// The snapshot files that the newest checkpoint names.
    snapshots: BTreeSet<PathBuf>,
    /// What the last attempt had done, if it was given up.
    abandoned: Option<Begun>,
}

impl Progress {
    /// Checkpoint `newest`, whose journal begins at `journal` and which names these snapshot files, is the only one that counts.
    pub(crate) fn new(newest: u64, journal: Start, snapshots: BTreeSet<PathBuf>) -> Self {
        let state = ProgressState {
            newest,
            journal,
            is_running: false,
            covered_bytes: 0,
            snapshots,
            abandoned: None,
        };
        Self {
            state: Mutex::new(state),
        }
    }

    pub(crate) fn newest(&self) -> u64 {
        lock(&self.state).newest
    }

    pub(crate) fn begin(&self) -> Result<()> {
        let mut state = lock(&self.state);
        if state.is_running {
            return Err(Error::invalid("a checkpoint is on its way"));
        }
        state.is_running = true;
        Ok(())
    }

    /// The checkpoint is done.
    pub(crate) fn end(&self) {
        lock(&self.state).is_running = false;
    }

    /// The checkpoint is given up; the next may go on with what it did.
    pub(crate) fn abandon(&self, begun: Begun) {
        let mut state = lock(&self.state);
        state.is_running = false;
        state.abandoned = Some(begun);
    }

    /// What the last attempt had done, if it was given up.
    pub(crate) fn take_abandoned(&self) -> Option<Begun> {
        lock(&self.state).abandoned.take()
    }

    /// Where the newest checkpoint's journal begins.
    pub(crate) fn journal(&self) -> Start {
        lock(&self.state).journal
    }

    fn is_running(&self) -> bool {
        lock(&self.state).is_running
    }

    fn covered_bytes(&self) -> u64 {
        lock(&self.state).covered_bytes
    }

    /// Makes checkpoint `number` the newest. Returns where the journal of the one before begins.
    pub(crate) fn advance(&self, number: u64, journal: Start, written_bytes: u64) -> Start {
        let mut state = lock(&self.state);
        state.newest = number;
        state.covered_bytes = written_bytes;
        std::mem::replace(&mut state.journal, journal)
    }

    /// Notes which snapshot files the newest checkpoint names. Returns those of the one before.
    pub(crate) fn swap_snapshots(&self, named: BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
        std::mem::replace(&mut lock(&self.state).snapshots, named)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is changed by plain stores only, so it is whole even after a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
