//! One node of the scripts: its disk, and while it runs its store and its shard.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_storage::fs::SimFs;
use highwater_storage::{RaftIndex, Store};
use tokio::sync::oneshot;

use super::replica_of;
use crate::raft::machine::Timestamp;
use crate::raft::testing::machine::{Seen, Words};
use crate::raft::{
    Config, Error, FoundLog, GroupId, Inbox, Leadership, Operation, Origin, Receiving, Shard,
};

pub(super) struct Node {
    pub(super) compacts: bool,
    pub(super) fs: SimFs,
    /// `None` after a crash.
    pub(super) running: Option<Running>,
    /// Ticks of idleness before groups sleep.
    pub(super) sleep_ticks: u32,
    /// Whether no sync ends.
    pub(super) is_stuck: bool,
    /// By group.
    pub(super) seen: BTreeMap<u64, Seen>,
}

pub(super) struct Running {
    pub(super) store: Arc<Store>,
    pub(super) shard: Shard<Words>,
    pub(super) inbox: Inbox<Words>,
    /// Whether it wanted ticks after its last turn.
    pub(super) wants_ticks: bool,
    /// Reads that wait for their index.
    pub(super) reads: Vec<Answered<RaftIndex>>,
    /// Handovers of leadership that are not over.
    pub(super) leaving: Vec<oneshot::Receiver<usize>>,
    /// Leaderships that were announced since anybody asked.
    pub(super) announced: Vec<Leadership>,
    /// What is being pulled for its replicas.
    pub(super) pulls: Vec<Receiving>,
}

pub(super) type Answered<T> = oneshot::Receiver<Result<T, Error>>;

impl Node {
    pub(super) fn new(number: u64, compacts: bool, sleep_ticks: u32) -> Self {
        Self {
            sleep_ticks,
            compacts,
            fs: SimFs::new(number),
            running: None,
            is_stuck: false,
            seen: BTreeMap::new(),
        }
    }

    /// Opens the disk and starts what is on it.
    pub(super) fn open(&mut self, number: u64) -> Result<(), String> {
        let mut draws = number;
        let random = Box::new(move || {
            draws += 1;
            draws
        });
        let opened = Store::open(Arc::new(self.fs.clone()), random.clone(), storage_config())
            .map_err(|error| error.to_string())?;
        let shard = Shard::new(
            Arc::clone(&opened.store),
            Arc::new(config(self.sleep_ticks)),
            random,
        );
        self.running = Some(Running {
            store: opened.store,
            shard,
            inbox: Inbox::default(),
            wants_ticks: false,
            reads: Vec::new(),
            leaving: Vec::new(),
            announced: Vec::new(),
            pulls: Vec::new(),
        });
        for log in opened.logs {
            let group = log.log.id().0 / 100 + 1;
            self.start(number, group, Origin::Recovered(FoundLog::new(log)))?;
        }
        Ok(())
    }

    pub(super) fn start(&mut self, number: u64, group: u64, origin: Origin) -> Result<(), String> {
        let seen = self.seen.entry(group).or_default().clone();
        let compacts = self.compacts;
        let running = self.running.as_mut().ok_or("the node is down")?;
        let (answer, mut started) = oneshot::channel();
        running.inbox.operations.push(Operation::Start {
            group: GroupId(group),
            replica: replica_of(number, group),
            origin,
            build: Box::new(move |_, applied| {
                Ok(if compacts {
                    Words::everything(&applied.snapshot, seen)
                } else {
                    Words::new(&applied.snapshot, seen)
                })
            }),
            answer,
        });
        running.shard.turn(&mut running.inbox, Timestamp(0));
        let started = started.try_recv().map_err(|_| "no answer to the start")?;
        started.map(drop).map_err(|error| error.to_string())
    }
}

/// Small limits, so that scripts reach them.
fn config(sleep_ticks: u32) -> Config {
    Config {
        sleep_ticks,
        election_ticks: 5,
        heartbeat_ticks: 1,
        election_jitter_ticks: 3,
        sync_stall_ticks: 6,
        append_message_bytes: 64,
        uncommitted_bytes: 256,
        inflight_messages: 4,
        apply_bytes: 64,
        handovers: 1,
        catch_ups: 1,
        snapshot_ticks: 4,
        seeding_ticks: 4,
        catchup_bytes: 0,
        ..Config::default()
    }
}

fn storage_config() -> highwater_storage::Config {
    highwater_storage::Config {
        journal_file_bytes: 256 << 10,
        checkpoint_interval_bytes: 128 << 10,
        min_free_bytes: 0,
        reserve_bytes: 0,
        first_segment_bytes: 8 << 10,
        ..highwater_storage::Config::default()
    }
}
