//! What a shard did since it started.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use highwater_storage::NewFrame;

/// Counts of one shard, which only grow, and whether it goes on; to be read from anywhere.
#[derive(Debug, Default)]
pub struct ShardCounters {
    turns: AtomicU64,
    entries: AtomicU64,
    entry_bytes: AtomicU64,
    is_ticking: AtomicBool,
}

impl ShardCounters {
    /// Turns made.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Entries written to logs.
    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// Payload bytes of those entries.
    pub fn entry_bytes(&self) -> u64 {
        self.entry_bytes.load(Ordering::Relaxed)
    }

    /// Whether some group needs ticks: then turns are made without end.
    pub fn is_ticking(&self) -> bool {
        self.is_ticking.load(Ordering::Relaxed)
    }

    pub(super) fn set_ticking(&self, is_ticking: bool) {
        self.is_ticking.store(is_ticking, Ordering::Relaxed);
    }

    pub(super) fn turned(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn wrote(&self, frames: &[NewFrame]) {
        let bytes: usize = frames.iter().map(|frame| frame.payload.len()).sum();
        self.entries
            .fetch_add(frames.len() as u64, Ordering::Relaxed);
        self.entry_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
