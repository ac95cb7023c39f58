//! Who syncs the journal, and when.
//!
//! One sync covers everything all shards submitted, and the next begins when it ends: there is no timer. A shard with
//! nothing else to do syncs itself, since each hand-over between threads costs more than many a sync. A shard with
//! more work leaves it to the journal thread and goes on with its next turn. Whoever synced wakes the shards that
//! wait.
//!
//! The journal thread also writes the heartbeat of a journal that fell idle (see [`Store::heartbeat_journal`]).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use highwater_storage::{Error as StorageError, Store};

use super::instruments::Instruments;

/// How long a journal must be idle before its heartbeat: half of what storage allows, since idleness is noticed one
/// period late at most.
const HEARTBEAT_PERIOD: Duration = Duration::from_millis(5);

/// How long after a sync without room the next is tried.
const RETRY_PERIOD: Duration = Duration::from_millis(100);

/// A shard that may wait for a sync.
pub(super) trait SyncWaiter: Send + Sync {
    /// A sync ended well.
    fn sync_ended(&self);

    /// There will be no further sync.
    fn journal_failed(&self);
}

/// The journal of one data directory, as the shards share it.
pub(super) struct Journal {
    store: Arc<Store>,
    waiters: Vec<Arc<dyn SyncWaiter>>,
    state: Mutex<State>,
    changed: Condvar,
    /// Whether a sync runs or is about to.
    is_syncing: AtomicBool,
    clock: Arc<SyncClock>,
    /// Whether the journal thread looks after the heartbeat.
    is_armed: AtomicBool,
    /// Syncs since the start.
    syncs: AtomicU64,
    failure: OnceLock<Arc<str>>,
    instruments: Instruments,
    /// What the store had written when the last sync was measured.
    measured_bytes: AtomicU64,
}

/// When the sync under way began; it outlives the journal.
#[derive(Debug, Default)]
pub(super) struct SyncClock(Mutex<Option<Instant>>);

impl SyncClock {
    /// For how long the sync under way has been so; `None` while there is none.
    pub(super) fn age(&self) -> Option<Duration> {
        let began = *self.began();
        began.map(|began| began.elapsed())
    }

    fn set(&self, began: Option<Instant>) {
        *self.began() = began;
    }

    fn began(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct State {
    is_requested: bool,
    /// Whether a sync failed for want of room and is to be tried again.
    is_retrying: bool,
    is_stopping: bool,
}

/// What the journal thread has to do.
enum Work {
    Sync,
    Heartbeat,
    Stop,
}

impl Journal {
    pub(super) fn new(
        store: Arc<Store>,
        waiters: Vec<Arc<dyn SyncWaiter>>,
        instruments: Instruments,
    ) -> Self {
        Self {
            instruments,
            measured_bytes: AtomicU64::new(store.written_bytes()),
            store,
            waiters,
            state: Mutex::default(),
            changed: Condvar::new(),
            is_syncing: AtomicBool::new(false),
            clock: Arc::default(),
            is_armed: AtomicBool::new(false),
            syncs: AtomicU64::new(0),
            failure: OnceLock::new(),
        }
    }

    /// Why the data directory takes no more writes, once that is so.
    pub(super) fn failure(&self) -> Option<&Arc<str>> {
        self.failure.get()
    }

    /// Notes a failure that was met outside a sync.
    pub(super) fn fail(&self, reason: &str) {
        if self.failure.set(reason.into()).is_ok() {
            tracing::error!(reason, "the data directory failed and takes no more writes");
        }
        for waiter in &self.waiters {
            waiter.journal_failed();
        }
    }

    /// Syncs on the calling thread, unless a sync runs: then the journal thread does it next. True when all that was
    /// submitted is durable.
    pub(super) fn sync_here(&self) -> bool {
        if self.is_syncing.swap(true, Ordering::Acquire) {
            self.request();
            return false;
        }
        self.sync()
    }

    /// Lets the journal thread sync what was submitted.
    pub(super) fn request(&self) {
        let mut state = self.state();
        if !state.is_requested {
            state.is_requested = true;
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Lets the journal thread end after what was requested.
    pub(super) fn stop(&self) {
        self.state().is_stopping = true;
        self.changed.notify_one();
    }

    /// The journal thread.
    pub(super) fn run(&self) {
        loop {
            let syncs_before = self.syncs.load(Ordering::Relaxed);
            match self.wait() {
                Work::Sync => {
                    self.is_syncing.store(true, Ordering::Release);
                    self.sync();
                }
                Work::Heartbeat if self.syncs.load(Ordering::Relaxed) == syncs_before => {
                    self.heartbeat();
                }
                Work::Heartbeat => {}
                Work::Stop => return,
            }
        }
    }

    fn wait(&self) -> Work {
        let mut state = self.state();
        loop {
            if std::mem::take(&mut state.is_requested) {
                return Work::Sync;
            }
            if state.is_stopping {
                return Work::Stop;
            }
            let period = if state.is_retrying {
                RETRY_PERIOD
            } else if self.is_armed.load(Ordering::Acquire) {
                HEARTBEAT_PERIOD
            } else {
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let waited = self.changed.wait_timeout(state, period);
            let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = guard;
            if timeout.timed_out() {
                let is_retry = std::mem::take(&mut state.is_retrying);
                return if is_retry {
                    Work::Sync
                } else {
                    Work::Heartbeat
                };
            }
        }
    }

    /// True when all that was submitted before is durable.
    fn sync(&self) -> bool {
        let synced = self.measured_sync();
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.is_syncing.store(false, Ordering::Release);
        match synced {
            Ok(()) => {
                if !self.is_armed.swap(true, Ordering::AcqRel) {
                    // The lock makes sure that the thread is either waiting, and hears it, or about to look.
                    drop(self.state());
                    self.changed.notify_one();
                }
                for waiter in &self.waiters {
                    waiter.sync_ended();
                }
                true
            }
            Err(StorageError::NoSpace { reason }) => {
                tracing::warn!(reason, "the journal waits for room on the disk");
                self.state().is_retrying = true;
                self.changed.notify_one();
                false
            }
            Err(error) => {
                self.fail(&error.to_string());
                false
            }
        }
    }

    fn measured_sync(&self) -> Result<(), StorageError> {
        let (began, before) = (Instant::now(), self.store.synced());
        self.clock.set(Some(began));
        let synced = self.store.sync();
        self.clock.set(None);
        let synced = synced?;
        let took = began.elapsed();
        let turns = synced.0.saturating_sub(before.0);
        if turns > 0 {
            let written = self.store.written_bytes();
            let measured = self.measured_bytes.swap(written, Ordering::Relaxed);
            self.instruments
                .synced(took, turns, written.saturating_sub(measured));
        }
        Ok(())
    }

    /// Shows when the sync under way began.
    pub(super) fn clock(&self) -> Arc<SyncClock> {
        Arc::clone(&self.clock)
    }

    fn heartbeat(&self) {
        self.is_armed.store(false, Ordering::Release);
        if !self.store.needs_heartbeat() || self.failure().is_some() {
            return;
        }
        match self.store.heartbeat_journal() {
            Ok(()) => {
                // It may have synced what was submitted meanwhile: that has waiters, and a heartbeat to come.
                if self.store.needs_heartbeat() {
                    self.is_armed.store(true, Ordering::Release);
                }
                for waiter in &self.waiters {
                    waiter.sync_ended();
                }
            }
            // Without room the next sync says what the heartbeat would have said, and syncs what has gathered.
            Err(StorageError::NoSpace { .. }) => {
                self.state().is_retrying |= self.store.has_unsynced();
            }
            Err(error) => self.fail(&error.to_string()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
