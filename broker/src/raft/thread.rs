//! The thread of one shard: waits for something to do, has the shard do it, sends what comes out, sees to the sync.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use highwater_storage::{Pressure, Store};

use super::checkpoint::CheckpointSignal;
use super::cold_read::ReadPool;
use super::instruments::Instruments;
use super::journal::{Journal, SyncWaiter};
use super::machine::{Machine, Timestamp};
use super::mailbox::{Inbox, Mailbox, Take, Wait};
use super::message::PeerTransport;
use super::shard::{Shard, TurnReport};
use crate::wall_clock::now_ms;

/// What the outside knows of a shard's thread.
pub(super) struct ShardPort<M: Machine> {
    pub(super) mailbox: Mailbox<M>,
    /// Whether something in the shard waits for a sync.
    awaits_sync: AtomicBool,
}

impl<M: Machine> ShardPort<M> {
    pub(super) fn new(mailbox: Mailbox<M>) -> Self {
        Self {
            mailbox,
            awaits_sync: AtomicBool::new(false),
        }
    }
}

impl<M: Machine> SyncWaiter for ShardPort<M> {
    fn sync_ended(&self) {
        if self.awaits_sync.load(Ordering::Acquire) {
            self.mailbox.wake();
        }
    }

    fn journal_failed(&self) {
        self.mailbox.wake();
    }
}

/// Closes the mailbox when the thread ends, even by a panic, so that nobody waits for a shard that is gone.
struct Closing<M: Machine>(Arc<ShardPort<M>>);

impl<M: Machine> Drop for Closing<M> {
    fn drop(&mut self) {
        self.0.mailbox.close();
        let take = Take {
            operations_only: false,
            wait: Wait::No,
        };
        // Whatever came too late is answered by being dropped.
        self.0.mailbox.take(&mut Inbox::default(), take);
    }
}

/// The loop of one shard's thread.
pub(super) struct ShardThread<M: Machine> {
    pub(super) shard: Shard<M>,
    pub(super) port: Arc<ShardPort<M>>,
    pub(super) store: Arc<Store>,
    pub(super) journal: Arc<Journal>,
    pub(super) checkpoints: Arc<CheckpointSignal>,
    pub(super) transport: Box<dyn PeerTransport>,
    pub(super) readers: Arc<ReadPool<M>>,
    pub(super) instruments: Instruments,
    pub(super) tick_interval: Duration,
}

impl<M: Machine> ShardThread<M> {
    /// Runs until the mailbox is closed.
    pub(super) fn run(mut self) {
        let _closing = Closing(Arc::clone(&self.port));
        let mut inbox = Inbox::default();
        let mut ticks = Ticks::new(self.tick_interval);
        let mut wait = Wait::ForEver;
        loop {
            let take = Take {
                operations_only: self.must_wait(),
                wait,
            };
            if !self.port.mailbox.take(&mut inbox, take) {
                return;
            }
            let began = Instant::now();
            let commands = inbox.requests.len();
            inbox.ticks = ticks.passed(began);
            if let Some(reason) = self.journal.failure() {
                self.shard.fail(reason);
            }
            // A sync that ends from here on wakes this shard, whether or not the turn already saw its end.
            self.port.awaits_sync.store(true, Ordering::Release);
            let report = self.shard.turn(&mut inbox, Timestamp(now_ms()));
            self.instruments.turned(began.elapsed(), commands);
            wait = self.after_turn(report, &mut ticks);
        }
    }

    /// Whether the journal has no room: then only the checkpoint that makes some goes on.
    fn must_wait(&self) -> bool {
        let pressure = self.store.checkpoint_pressure();
        if pressure > Pressure::None && self.journal.failure().is_none() {
            self.checkpoints.request();
        }
        pressure == Pressure::TurnsMustWait
    }

    /// Sends, syncs or has it synced, and says how long to wait for the next turn.
    fn after_turn(&mut self, report: TurnReport, ticks: &mut Ticks) -> Wait {
        if !report.messages.is_empty() {
            self.transport.send(report.messages);
        }
        if !report.leaderships.is_empty() {
            self.transport.announce(report.leaderships);
        }
        if !report.pulls.is_empty() {
            self.transport.pull(report.pulls);
        }
        for read in report.cold_reads {
            self.readers.submit(read, &self.port);
        }
        let mailbox = &self.port.mailbox;
        mailbox.release(report.released_messages, report.released_bytes);
        if report.needs_sync && !mailbox.is_empty() {
            self.journal.request();
        } else if report.needs_sync {
            if self.journal.sync_here() {
                return Wait::No;
            }
        } else if !report.awaits_sync {
            self.port.awaits_sync.store(false, Ordering::Release);
        }
        ticks.run(report.wants_ticks);
        ticks.next.map_or(Wait::ForEver, Wait::Until)
    }
}

/// Counts ticks while somebody needs them.
struct Ticks {
    interval: Duration,
    next: Option<Instant>,
}

impl Ticks {
    fn new(interval: Duration) -> Self {
        Self {
            interval,
            next: None,
        }
    }

    /// The ticks that went by. After a pause of the whole process it is one: elections are not held for lost time.
    fn passed(&mut self, now: Instant) -> u32 {
        match self.next {
            Some(next) if next <= now => {
                self.next = Some(now + self.interval);
                1
            }
            _ => 0,
        }
    }

    fn run(&mut self, wanted: bool) {
        match (wanted, self.next) {
            (true, None) => self.next = Some(Instant::now() + self.interval),
            (false, Some(_)) => self.next = None,
            _ => {}
        }
    }
}
