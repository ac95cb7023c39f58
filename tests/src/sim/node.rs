//! One simulated broker: its disk, which outlives it, and the process that runs on it.

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_broker::raft::machine::Timestamp;
use highwater_broker::raft::{GroupId, Members, ReplicaId};
use highwater_storage::fs::CrashMode;
use highwater_storage::{HardState, LogId, Opened, RecoveredLog, Repair, Store};

use super::bug::Bug;
use super::chance::Chance;
use super::disk::SimDisk;
use super::plan::{NodeId, Plan};
use super::process::Process;
use super::schedule::{MS, SECOND, Time};
use super::violation::{Check, Checked, broken};

/// The wall clock when a run begins, in milliseconds since the Unix epoch.
const EPOCH_MS: i64 = 1_700_000_000_000;
/// Clocks differ by up to an hour: nothing may depend on them.
const MOST_SKEW_MS: u64 = 3_600_000;

/// One broker. See the module's documentation.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) disk: SimDisk,
    /// `None` while it is down.
    pub(super) process: Option<Process>,
    /// Counts its processes: what was planned for one does not happen to the next.
    pub(super) life: u64,
    /// Until then nothing happens to it, as with SIGSTOP.
    pub(super) paused_until: Time,
    /// Until then its syncs take seconds.
    pub(super) slow_until: Time,
    /// Whether its disk was made to fail, so that its replicas may stop.
    pub(super) is_excused: bool,
    /// Whether its disk was made too small, so that it may not start.
    pub(super) is_full: bool,
    /// Whether its journal was damaged since its last start.
    pub(super) is_journal_damaged: bool,
    /// The replicas whose logs were synced here once.
    durable_logs: BTreeSet<ReplicaId>,
    /// Microseconds between two ticks, by its own idea of a tick.
    pub(super) tick_interval: u64,
    skew_ms: i64,
    chance: Chance,
    bug: Option<Bug>,
}

/// A replica that a broker is to have.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) group: GroupId,
    pub(super) replica: ReplicaId,
    pub(super) node: NodeId,
    /// The members with which its log begins; nobody, where it joins later.
    pub(super) first_members: Members,
    pub(super) segment_bytes: u64,
    /// Whether another replica on the same broker is taking its place: it does not run.
    pub(super) is_aside: bool,
    /// Whether its group went on without it: it is to be deleted.
    pub(super) is_removed: bool,
}

impl Placed {
    /// Where its files are.
    pub(super) fn directory(&self) -> String {
        format!("topics/{}/{}", self.group.0, self.replica.0)
    }
}

impl Node {
    pub(super) fn new(id: NodeId, plan: &Plan, mut chance: Chance, bug: Option<Bug>) -> Self {
        let tick = plan.raft.tick_interval_ms * MS;
        let skew = chance.within(0..=2 * MOST_SKEW_MS).cast_signed();
        Self {
            id,
            disk: SimDisk::new(chance.next(), bug),
            process: None,
            life: 0,
            paused_until: Time::default(),
            slow_until: Time::default(),
            is_excused: false,
            is_full: false,
            is_journal_damaged: false,
            durable_logs: BTreeSet::new(),
            tick_interval: tick * chance.within(90..=110) / 100,
            skew_ms: skew - MOST_SKEW_MS.cast_signed(),
            chance,
            bug,
        }
    }

    /// Its wall clock.
    pub(super) fn clock(&self, now: Time) -> Timestamp {
        let passed = i64::try_from(now.0 / MS).unwrap_or(i64::MAX);
        Timestamp(EPOCH_MS + self.skew_ms + passed)
    }

    /// How long a sync that begins now takes, in microseconds.
    pub(super) fn sync_time(&mut self, plan: &Plan, now: Time) -> u64 {
        if now < self.slow_until {
            self.chance.within(200 * MS..=4 * SECOND)
        } else {
            self.chance.within(50..=plan.sync_time)
        }
    }

    /// Starts a process on what the disk holds. False when the disk fails at it, which may be tried again.
    /// Nothing but the replicas in `damaged` may have lost what was durable.
    pub(super) fn start(
        &mut self,
        plan: &Plan,
        placed: &[Placed],
        damaged: &BTreeSet<ReplicaId>,
    ) -> Checked<bool> {
        let mut draws = self.chance.split();
        self.plant_in_disk(plan, &draws);
        let random = Box::new(move || draws.next());
        let opened = Store::open(Arc::new(self.disk.clone()), random, plan.storage.clone());
        let opened = match opened {
            Ok(opened) => opened,
            Err(_) if self.is_excused || self.is_full => return Ok(false),
            Err(error) => {
                let node = self.id;
                return broken(
                    Check::LogsComeBack,
                    format!("{node} does not open its directory: {error}"),
                );
            }
        };
        self.check_damage(&opened, damaged)?;
        self.is_journal_damaged = false;
        self.life += 1;
        let mut logs = opened.logs;
        self.plant_in_logs(&opened.store, &mut logs)?;
        let mut process = Process::new(opened.store, plan, self.chance.split(), self.bug);
        for placed in placed.iter().filter(|placed| placed.node == self.id) {
            let log = LogId(placed.replica.0);
            let found = logs.iter().position(|found| found.log.id() == log);
            let found = found.map(|at| logs.swap_remove(at));
            if placed.is_removed {
                // A deletion that was not durable is done again.
                if let Some(found) = found {
                    process.keep_aside(placed, found);
                    process.delete_replica(placed);
                }
                continue;
            }
            if found.is_none() && self.was_durable(placed.replica) {
                if damaged.contains(&placed.replica) {
                    // Under its id nothing may begin anew.
                    continue;
                }
                return broken(
                    Check::LogsComeBack,
                    format!("{} lost the log of replica {}", self.id, placed.replica.0),
                );
            }
            match found {
                Some(found) if placed.is_aside => process.keep_aside(placed, found),
                None if placed.is_aside => {}
                found => process.start_replica(placed, found),
            }
        }
        self.process = Some(process);
        Ok(true)
    }

    fn check_damage(&self, opened: &Opened, damaged: &BTreeSet<ReplicaId>) -> Checked {
        let is_known = |found: &&RecoveredLog| damaged.contains(&ReplicaId(found.log.id().0));
        let well = opened.logs.iter().filter(|found| !is_known(found));
        let of_logs = well.filter_map(|found| {
            let damage = found.damage.as_ref()?;
            Some(format!("log {}: {}", found.log.id(), damage.reason))
        });
        let of_journal = opened.damage.clone().filter(|_| !self.is_journal_damaged);
        let damage: Vec<_> = of_journal.into_iter().chain(of_logs).collect();
        if damage.is_empty() {
            return Ok(());
        }
        let detail = format!("{} is damaged: {}", self.id, damage.join("; "));
        broken(Check::LogsComeBack, detail)
    }

    /// Bugs of what is done before a start.
    fn plant_in_disk(&self, plan: &Plan, draws: &Chance) {
        if self.bug != Some(Bug::DamageAccepted) {
            return;
        }
        let mut draws = draws.clone();
        let random = Box::new(move || draws.next());
        let disk = Arc::new(self.disk.clone());
        let repair = Repair::plan(disk, random, plan.storage.clone());
        // What fails here fails again when it is opened.
        drop(repair.and_then(Repair::execute));
    }

    /// Bugs of a restart.
    fn plant_in_logs(&self, store: &Store, logs: &mut [RecoveredLog]) -> Checked {
        if self.bug != Some(Bug::VoteNotPersisted) {
            return Ok(());
        }
        let mut turn = store.turn();
        for found in logs {
            let hard_state = HardState {
                vote: 0,
                ..found.log.hard_state()
            };
            found.log.set_hard_state(&mut turn, hard_state);
        }
        store.submit(turn);
        Ok(())
    }

    /// Whether the log of a replica was durable here once.
    pub(super) fn was_durable(&self, replica: ReplicaId) -> bool {
        self.durable_logs.contains(&replica)
    }

    /// Notes that the logs of these replicas are durable.
    pub(super) fn logs_synced(&mut self, replicas: impl IntoIterator<Item = ReplicaId>) {
        self.durable_logs.extend(replicas);
    }

    /// Ends the process; the disk is what such a crash leaves.
    pub(super) fn crash(&mut self, mode: CrashMode) {
        let seed = self.chance.next();
        let before = std::mem::replace(&mut self.disk, SimDisk::new(seed, self.bug));
        self.disk = before.crash(mode, seed);
        if self.bug == Some(Bug::IdentityReused) && mode != CrashMode::Process {
            self.disk = SimDisk::new(seed, self.bug);
            self.durable_logs.clear();
        }
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }
}
