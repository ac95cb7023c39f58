//! When checkpoints are made, and by whom.
//!
//! The checkpoint thread rolls the journal, syncs the segments (the long part, during which the shards go on), has
//! each shard capture its changed replicas between two turns, and writes the checkpoint. Without all captures there is
//! none: a replica that was captured but not written down would pass for unchanged the next time. A shard that does
//! not answer therefore ends checkpoints for good, and at twice the interval writing.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use highwater_storage::{Error as StorageError, LogId, Store};
use tokio::sync::oneshot;

use super::journal::Journal;
use super::machine::Machine;
use super::request::Operation;
use super::thread::ShardPort;
use super::{Error, ReplicaId};

/// Asks the checkpoint thread for a checkpoint.
#[derive(Default)]
pub(super) struct CheckpointSignal {
    state: Mutex<SignalState>,
    changed: Condvar,
}

#[derive(Default)]
struct SignalState {
    is_requested: bool,
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

    pub(super) fn stop(&self) {
        self.state().is_stopping = true;
        self.changed.notify_one();
    }

    /// Waits for a request. False when there will be none.
    fn wait(&self) -> bool {
        let mut state = self.state();
        while !state.is_requested && !state.is_stopping {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.is_requested = false;
        !state.is_stopping
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
}

impl<M: Machine> Checkpointer<M> {
    /// The checkpoint thread. On stopping it makes a last checkpoint, so that the next start has little to do.
    pub(super) fn run(&self) {
        while self.signal.wait() {
            if !self.try_checkpoint() {
                return;
            }
        }
        self.try_checkpoint();
    }

    /// False when no further one can be made.
    fn try_checkpoint(&self) -> bool {
        if self.journal.failure().is_some() {
            return false;
        }
        let done = self.checkpoint();
        for port in &self.ports {
            port.mailbox.wake();
        }
        match done {
            Ok(()) => true,
            Err(Error::ShardBusy) => {
                self.journal.fail("a shard did not answer a checkpoint");
                false
            }
            Err(error) => {
                tracing::error!(%error, "a checkpoint failed");
                self.report(&error);
                self.journal.failure().is_none()
            }
        }
    }

    fn checkpoint(&self) -> Result<(), Error> {
        let mut checkpoint = self.store.begin_checkpoint()?;
        checkpoint.sync_segments()?;
        let answers = self.ports.iter().map(|port| {
            let (answer, captured) = oneshot::channel();
            port.mailbox.operate(Operation::Capture { answer })?;
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

    /// Tells the shards which logs failed, or all that the directory did.
    fn report(&self, error: &Error) {
        let health = self.store.health();
        if let Some(reason) = &health.poisoned {
            self.journal.fail(reason);
        } else if matches!(error, Error::Storage(StorageError::Poisoned { .. }))
            && health.poisoned_logs.is_empty()
        {
            self.journal.fail(&error.to_string());
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
