//! What shards, journal and checkpoints measure of themselves.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter};

/// Where measurements go. Clones share them; recording one takes a few atomic operations and no lock.
#[derive(Clone, Debug)]
pub struct Instruments {
    /// Duration of shard turns, in seconds.
    pub turn_seconds: Histogram,
    /// Commands per shard turn that had any.
    pub turn_commands: Histogram,
    /// Duration of journal syncs, with the write before them, in seconds.
    pub sync_seconds: Histogram,
    /// Shard turns that one journal sync made durable.
    pub group_turns: Histogram,
    /// Bytes that were written between the ends of two journal syncs.
    pub group_bytes: Histogram,
    /// Duration of checkpoints, in seconds.
    pub checkpoint_seconds: Histogram,
    /// Bytes of logs that one checkpoint let the journal forget.
    pub checkpoint_bytes: Histogram,
    /// Checkpoints that failed.
    pub checkpoint_failures: IntCounter,
}

impl Default for Instruments {
    /// Measurements that nobody reads.
    fn default() -> Self {
        let histogram =
            || Histogram::with_opts(HistogramOpts::new("unread", "unread")).expect("a lawful name");
        Self {
            turn_seconds: histogram(),
            turn_commands: histogram(),
            sync_seconds: histogram(),
            group_turns: histogram(),
            group_bytes: histogram(),
            checkpoint_seconds: histogram(),
            checkpoint_bytes: histogram(),
            checkpoint_failures: IntCounter::new("unread", "unread").expect("a lawful name"),
        }
    }
}

impl Instruments {
    pub(super) fn turned(&self, took: Duration, commands: usize) {
        self.turn_seconds.observe(took.as_secs_f64());
        if commands > 0 {
            self.turn_commands.observe(real(commands as u64));
        }
    }

    pub(super) fn synced(&self, took: Duration, turns: u64, bytes: u64) {
        self.sync_seconds.observe(took.as_secs_f64());
        self.group_turns.observe(real(turns));
        self.group_bytes.observe(real(bytes));
    }

    pub(super) fn checkpointed(&self, took: Duration, bytes: u64) {
        self.checkpoint_seconds.observe(took.as_secs_f64());
        self.checkpoint_bytes.observe(real(bytes));
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a measurement needs no more digits"
)]
fn real(count: u64) -> f64 {
    count as f64
}
