//! The threads of a node and the data directory below them, and how they end.

use std::sync::Arc;

use highwater_storage::Store;
use tracing::warn;

use crate::raft::ShardThreads;
use crate::replica::Replica;

/// Shards and store. Dropped, it is stopped in order by a thread of its own, which nobody waits for.
pub(super) struct Engine {
    /// There until it is stopped.
    parts: Option<Parts>,
}

struct Parts {
    threads: ShardThreads<Replica>,
    store: Arc<Store>,
}

impl Engine {
    pub(super) fn new(threads: ShardThreads<Replica>, store: Arc<Store>) -> Self {
        Self {
            parts: Some(Parts { threads, store }),
        }
    }

    /// Ends the shards, makes a last checkpoint and gives the data directory free. Blocks.
    pub(super) fn stop(mut self) {
        if let Some(parts) = self.parts.take() {
            parts.stop();
        }
    }
}

impl Parts {
    fn stop(self) {
        self.threads.stop();
        if let Err(error) = self.store.close() {
            warn!(%error, "the data directory was not closed in order");
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let Some(parts) = self.parts.take() else {
            return;
        };
        let stopping = std::thread::Builder::new().name("stop".to_owned());
        if let Err(error) = stopping.spawn(|| parts.stop()) {
            warn!(%error, "a broker that was dropped goes on: there is no thread to stop it");
        }
    }
}
