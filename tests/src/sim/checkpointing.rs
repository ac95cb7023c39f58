//! How a simulated broker makes checkpoints: the steps of the product's checkpoint thread, each at its own virtual time.

use std::collections::HashSet;
use std::sync::Arc;

use highwater_broker::raft::{Operation, ReplicaId};
use highwater_storage::{CapturedLog, Checkpoint, Error, LogId, Pressure};
use tokio::sync::oneshot;

use super::process::Process;

/// How far the checkpoint is.
#[derive(Debug)]
pub(super) enum Checkpointing {
    /// There is none.
    Idle,
    /// The journal is rolled; the segments are being synced.
    Begun(Checkpoint),
    /// The shard is asked what it has.
    Capturing {
        checkpoint: Checkpoint,
        captured: oneshot::Receiver<Vec<CapturedLog>>,
    },
}

/// What a step did.
#[derive(Debug)]
pub(super) enum Stepped {
    /// There is another step to come.
    On,
    /// The shard has to have a turn before the next.
    NeedsTurn,
    /// The checkpoint is there.
    Done,
    /// Nothing is to be done.
    Nothing,
    /// It is given up; another can be tried.
    GivenUp(Error),
    /// The directory failed.
    Failed(Arc<str>),
}

impl Process {
    /// Whether a checkpoint is on its way or should be.
    pub(super) fn wants_checkpoint(&self) -> bool {
        !matches!(self.checkpoint, Checkpointing::Idle)
            || self.store.checkpoint_pressure() > Pressure::None
    }

    /// Does the next step. Not to be called while a sync is on its way: both hold the journal.
    pub(super) fn step_checkpoint(&mut self) -> Stepped {
        let stepped = match std::mem::replace(&mut self.checkpoint, Checkpointing::Idle) {
            Checkpointing::Idle => self.begin(),
            Checkpointing::Begun(checkpoint) => self.sync_segments(checkpoint),
            Checkpointing::Capturing {
                checkpoint,
                mut captured,
            } => match captured.try_recv() {
                Ok(captured) => checkpoint.finish(captured).map(|()| Stepped::Done),
                Err(oneshot::error::TryRecvError::Empty) => {
                    self.checkpoint = Checkpointing::Capturing {
                        checkpoint,
                        captured,
                    };
                    Ok(Stepped::NeedsTurn)
                }
                Err(oneshot::error::TryRecvError::Closed) => Ok(Stepped::Nothing),
            },
        };
        self.report_failures();
        match (stepped, self.store.health().poisoned) {
            (_, Some(reason)) => Stepped::Failed(reason),
            (Ok(stepped), None) => stepped,
            (Err(error), None) => Stepped::GivenUp(error),
        }
    }

    fn begin(&mut self) -> Result<Stepped, Error> {
        if self.store.checkpoint_pressure() == Pressure::None {
            return Ok(Stepped::Nothing);
        }
        self.checkpoint = Checkpointing::Begun(self.store.begin_checkpoint()?);
        Ok(Stepped::On)
    }

    fn sync_segments(&mut self, mut checkpoint: Checkpoint) -> Result<Stepped, Error> {
        checkpoint.sync_segments()?;
        let logs: Arc<HashSet<LogId>> = Arc::new(checkpoint.changed().iter().copied().collect());
        let (answer, captured) = oneshot::channel();
        self.operate(Operation::Capture { logs, answer });
        self.checkpoint = Checkpointing::Capturing {
            checkpoint,
            captured,
        };
        Ok(Stepped::NeedsTurn)
    }

    /// Tells the shard which logs failed while they were synced.
    fn report_failures(&mut self) {
        for (log, reason) in self.store.health().poisoned_logs {
            self.operate(Operation::Fail {
                replica: ReplicaId(log.0),
                reason: reason.to_string(),
            });
        }
    }
}
