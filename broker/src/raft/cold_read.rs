//! Reading entries for a follower that is behind, where that may have to wait for the disk.
//!
//! A shard's thread waits for no disk: what is not in memory is read by one of few threads of its own, and comes back as
//! an operation. Raft goes on without it and asks again when the follower is heard of, so a read may be lost at any place:
//! where too many wait, or when its shard takes no more.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use highwater_storage::{Error as StorageError, Frame, LogReader, RaftIndex};

use super::machine::Machine;
use super::request::Operation;
use super::thread::ShardPort;
use super::{GroupId, ReplicaId};

/// Reads that wait for a thread.
const MAX_WAITING: usize = 256;

/// Entries to be read outside of the shard's thread.
#[derive(Debug)]
pub struct ColdRead {
    pub(super) group: GroupId,
    pub(super) replica: ReplicaId,
    pub(super) reader: LogReader,
    pub(super) from: RaftIndex,
    /// One past the last.
    pub(super) to: RaftIndex,
    /// Payload bytes at most, but for the first entry.
    pub(super) max_bytes: u64,
    /// Shows whoever waits for the read that it is still on its way.
    pub(super) ticket: Arc<()>,
}

/// A cold read that is done.
#[derive(Debug)]
pub struct FinishedRead {
    pub(super) group: GroupId,
    pub(super) replica: ReplicaId,
    pub(super) frames: Result<Vec<Frame>, StorageError>,
    pub(super) ticket: Arc<()>,
}

impl ColdRead {
    /// Reads; the operation tells the shard. Blocks.
    pub fn run<M: Machine>(self) -> Operation<M> {
        let frames = self.reader.entries(self.from, self.to, self.max_bytes);
        Operation::Fetched(FinishedRead {
            group: self.group,
            replica: self.replica,
            frames,
            ticket: self.ticket,
        })
    }
}

/// The threads that read.
pub(super) struct ReadPool<M: Machine> {
    state: Mutex<State<M>>,
    changed: Condvar,
}

struct State<M: Machine> {
    waiting: VecDeque<(ColdRead, Arc<ShardPort<M>>)>,
    is_stopping: bool,
}

impl<M: Machine> Default for ReadPool<M> {
    fn default() -> Self {
        let state = State {
            waiting: VecDeque::new(),
            is_stopping: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }
}

impl<M: Machine> ReadPool<M> {
    /// Has something read for the shard behind `port`, or drops it where too much waits.
    pub(super) fn submit(&self, read: ColdRead, port: &Arc<ShardPort<M>>) {
        let mut state = self.state();
        if state.waiting.len() < MAX_WAITING {
            state.waiting.push_back((read, Arc::clone(port)));
            drop(state);
            self.changed.notify_one();
        }
    }

    /// One of the threads.
    pub(super) fn run(&self) {
        while let Some((read, port)) = self.next() {
            if port.mailbox.operate(read.run()).is_err() {
                tracing::debug!("a shard took no cold read; it will ask again");
            }
        }
    }

    /// Lets the threads end.
    pub(super) fn stop(&self) {
        let mut state = self.state();
        state.is_stopping = true;
        state.waiting.clear();
        self.changed.notify_all();
    }

    fn next(&self) -> Option<(ColdRead, Arc<ShardPort<M>>)> {
        let state = self.state();
        let mut state = self
            .changed
            .wait_while(state, |state| {
                state.waiting.is_empty() && !state.is_stopping
            })
            .unwrap_or_else(PoisonError::into_inner);
        state.waiting.pop_front()
    }

    /// A panic while the lock was held leaves the queue whole.
    fn state(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
