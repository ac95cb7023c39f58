//! When checkpoints are made, and by whom.
//!
//! The checkpoint thread rolls the journal, syncs the segments (the long part, during which the shards go on, at a [`Pace`]), has
//! each shard capture its changed replicas between two turns, and writes the checkpoint. Without all captures there is
//! none; one that failed is tried again.

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use highwater_storage::{LogId, Store};
use tokio::sync::{oneshot, watch};

use super::instruments::Instruments;
use super::journal::Journal;
use super::machine::Machine;
use super::pace::Pace;
use super::request::Operation;
use super::thread::ShardPort;
use super::{Error, ReplicaId};

/// How long after a failed checkpoint the next is tried.
const RETRY_PERIOD: Duration = Duration::from_millis(100);
/// Between two looks at how many segments are due.
const PAUSE: Duration = Duration::from_millis(5);

/// Asks the checkpoint thread for a checkpoint.
pub(super) struct CheckpointSignal {
    state: Mutex<SignalState>,
    changed: Condvar,
    /// The number of the last checkpoint that was made.
    made: watch::Sender<u64>,
}

impl Default for CheckpointSignal {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            made: watch::Sender::new(0),
        }
    }
}

#[derive(Default)]
struct SignalState {
    is_requested: bool,
    /// Checkpoints that were begun.
    begun: u64,
    is_stopping: bool,
}

impl CheckpointSignal {
    /// Asks for one. Cheap, and the same as once when asked often.
    pub(super) fn request(&self) {
        let mut state = self.state();
        if !state.is_requested {
            state.is_requested = true;
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Asks for one that holds everything of before, and waits until it is made. False when there will be none.
    pub(super) async fn make(&self) -> bool {
        let mut made = self.made.subscribe();
        let wanted = self.state().begun + 1;
        self.request();
        loop {
            if *made.borrow_and_update() >= wanted {
                return true;
            }
            if self.state().is_stopping || made.changed().await.is_err() {
                return false;
            }
        }
    }

    pub(super) fn stop(&self) {
        self.state().is_stopping = true;
        self.changed.notify_one();
        // Whoever waits looks again.
        self.made.send_modify(|_| {});
    }

    /// Waits for `period`, unless there is to be an end.
    fn pause(&self, period: Duration) {
        let state = self.state();
        let waited = self
            .changed
            .wait_timeout_while(state, period, |state| !state.is_stopping);
        drop(waited);
    }

    /// Waits for a request and answers the number of the checkpoint to make; `None` when there will be none.
    fn wait(&self) -> Option<u64> {
        let mut state = self.state();
        while !state.is_requested && !state.is_stopping {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.is_requested = false;
        state.begun += 1;
        (!state.is_stopping).then_some(state.begun)
    }

    fn state(&self) -> MutexGuard<'_, SignalState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes checkpoints of all shards of one data directory.
pub(super) struct Checkpointer<M: Machine> {
    pub(super) store: Arc<Store>,
    pub(super) journal: Arc<Journal>,
    pub(super) ports: Vec<Arc<ShardPort<M>>>,
    pub(super) signal: Arc<CheckpointSignal>,
    pub(super) instruments: Instruments,
    /// When the last checkpoint began, and what the store had written then.
    pub(super) last: Cell<(Instant, u64)>,
}

impl<M: Machine> Checkpointer<M> {
    /// The checkpoint thread. On stopping it makes a last checkpoint, so that the next start has little to do.
    pub(super) fn run(&self) {
        while let Some(number) = self.signal.wait() {
            match self.try_checkpoint() {
                Ok(()) => drop(self.signal.made.send_replace(number)),
                Err(error) => {
                    tracing::error!(%error, "a checkpoint failed");
                    self.signal.pause(RETRY_PERIOD);
                    if self.signal.made.receiver_count() > 0 {
                        self.signal.request();
                    }
                }
            }
            // Shards may have waited for it.
            for port in &self.ports {
                port.mailbox.wake();
            }
        }
        if let Err(error) = self.try_checkpoint() {
            tracing::error!(%error, "the last checkpoint failed");
        }
    }

    fn try_checkpoint(&self) -> Result<(), Error> {
        if let Some(reason) = self.journal.failure() {
            let reason = Arc::clone(reason);
            return Err(Error::DirectoryFailed { reason });
        }
        let (began, written) = (Instant::now(), self.store.written_bytes());
        let (last_began, last_written) = self.last.get();
        let bytes = written.saturating_sub(last_written);
        let pace = Pace::after(began.duration_since(last_began), bytes);
        let done = self.checkpoint(&pace);
        self.report_failures();
        match done {
            Ok(()) => {
                self.last.set((began, written));
                self.instruments.checkpointed(began.elapsed(), bytes);
            }
            Err(_) => self.instruments.checkpoint_failures.inc(),
        }
        done
    }

    fn checkpoint(&self, pace: &Pace) -> Result<(), Error> {
        let mut checkpoint = self.store.begin_checkpoint()?;
        let (began, written) = (Instant::now(), self.store.written_bytes());
        checkpoint.sync_segments_as_due(|done, all| {
            loop {
                let bytes = self.store.written_bytes().saturating_sub(written);
                let due = pace.due(done, all, began.elapsed(), bytes);
                if due > 0 {
                    return due;
                }
                std::thread::sleep(PAUSE);
            }
        })?;
        let logs: Arc<HashSet<LogId>> = Arc::new(checkpoint.changed().iter().copied().collect());
        let answers = self.ports.iter().map(|port| {
            let (answer, captured) = oneshot::channel();
            let logs = Arc::clone(&logs);
            port.mailbox.operate(Operation::Capture { logs, answer })?;
            Ok(captured)
        });
        let answers: Vec<_> = answers.collect::<Result<_, Error>>()?;
        let mut captured = Vec::new();
        for answer in answers {
            captured.extend(answer.blocking_recv().map_err(|_| Error::ShardBusy)?);
        }
        checkpoint.finish(captured)?;
        Ok(())
    }

    /// Tells the shards which logs failed while they were synced, or that the whole directory did.
    fn report_failures(&self) {
        let health = self.store.health();
        if let Some(reason) = &health.poisoned {
            self.journal.fail(reason);
        }
        for (log, reason) in &health.poisoned_logs {
            for port in &self.ports {
                // A shard that has no room for it meets the failure at its next write.
                let _told = port.mailbox.operate(fail(*log, reason));
            }
        }
    }
}

fn fail<M: Machine>(log: LogId, reason: &Arc<str>) -> Operation<M> {
    Operation::Fail {
        replica: ReplicaId(log.0),
        reason: reason.to_string(),
    }
}
