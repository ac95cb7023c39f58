//! Whether the broker serves, and what somebody should know of it.

mod first_found;
mod log_finding;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use highwater_proto::v1::{HealthFinding, HealthState};
use highwater_storage::{LogId, Store};

use self::first_found::FirstFound;
use crate::offline::repair_command;
use crate::wall_clock::now_ms;

pub(crate) use log_finding::{Help, LogFinding, Trouble};

/// Whether clients are served; shared by all that tell others. Begins with no.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readiness(Arc<AtomicBool>);

impl Readiness {
    pub(crate) fn is_ready(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }
}

/// How this broker fares: what its storage says now, and what was found at start and by reconciling.
#[derive(Debug)]
pub(crate) struct Health {
    store: Arc<Store>,
    data_dir: String,
    /// Found at start; holds until the next.
    found: Vec<HealthFinding>,
    /// Logs found damaged at start, and how. Those deleted since are no longer here.
    found_damaged: Mutex<BTreeMap<LogId, String>>,
    /// What is done about replicas that failed, as of the last look at them.
    failed_replicas: Mutex<BTreeMap<LogId, HealthFinding>>,
    /// Partitions that began again with less, and how the controller's replica fares, as of the last look at them.
    told: Mutex<Vec<HealthFinding>>,
    /// That the cluster has removed this broker, once it has.
    removed: Mutex<Option<HealthFinding>>,
    /// Replicas that the cluster does not know, as of the last reconciliation.
    unknown_replicas: Mutex<BTreeMap<LogId, String>>,
    /// Replicas that could not be started, and why, as of the last reconciliation.
    failed_starts: Mutex<Vec<String>>,
    /// When what is wrong with the disk or with logs was first found.
    first_found: Mutex<FirstFound>,
}

impl Health {
    /// `found` is what the start of `store` in `data_dir` found, `damaged` which logs were damaged then.
    pub(crate) fn new(
        store: Arc<Store>,
        data_dir: String,
        found: Vec<HealthFinding>,
        damaged: BTreeMap<LogId, String>,
    ) -> Self {
        Self {
            store,
            data_dir,
            found,
            found_damaged: Mutex::new(damaged),
            failed_replicas: Mutex::default(),
            told: Mutex::default(),
            removed: Mutex::default(),
            unknown_replicas: Mutex::default(),
            failed_starts: Mutex::default(),
            first_found: Mutex::default(),
        }
    }

    /// The command that gives up what the data directory has lost.
    pub(crate) fn repair_command(&self) -> String {
        repair_command(&self.data_dir)
    }

    /// Replaces the replicas that are here and that the cluster does not know.
    pub(crate) fn set_unknown_replicas(&self, replicas: BTreeMap<LogId, String>) {
        *lock(&self.unknown_replicas) = replicas;
    }

    /// Replaces what is done about replicas that failed. For their logs this is said instead of what the storage says.
    pub(crate) fn set_failed_replicas(&self, findings: BTreeMap<LogId, HealthFinding>) {
        *lock(&self.failed_replicas) = findings;
    }

    /// Replaces what was given up in partitions that began again, and what is wrong with the replica of the controller.
    pub(crate) fn set_told(&self, findings: Vec<HealthFinding>) {
        *lock(&self.told) = findings;
    }

    /// The cluster has removed this broker.
    pub(crate) fn set_removed(&self, finding: HealthFinding) {
        *lock(&self.removed) = Some(finding);
    }

    /// A log was deleted: nothing is wrong with it any more.
    pub(crate) fn log_deleted(&self, log: LogId) {
        lock(&self.found_damaged).remove(&log);
    }

    /// Logs that are here and damaged, and how.
    pub(crate) fn damaged_logs(&self) -> Vec<(LogId, String)> {
        let found = lock(&self.found_damaged).clone();
        let met = self.store.health().damaged_logs.into_iter();
        let met = met.map(|(log, reason)| (log, reason.to_string()));
        found.into_iter().chain(met).collect()
    }

    /// The data directory.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Replaces the replicas that could not be started, each with the reason.
    pub(crate) fn set_failed_starts(&self, replicas: Vec<String>) {
        *lock(&self.failed_starts) = replicas;
    }

    /// What is wrong with logs, each said once.
    fn findings_by_log(&self) -> BTreeMap<LogId, HealthFinding> {
        let mut told = lock(&self.failed_replicas).clone();
        let mut tell = |log: LogId, trouble: Trouble<'_>, help: Help<'_>| {
            told.entry(log).or_insert_with(|| {
                let partition = None;
                LogFinding {
                    log,
                    partition,
                    trouble,
                    help,
                }
                .into()
            });
        };
        for (log, reason) in self.store.health().poisoned_logs {
            tell(log, Trouble::Failed(&reason), Help::CheckDisk);
        }
        // What belongs to nothing any more may be damaged.
        let unknown = lock(&self.unknown_replicas);
        let damaged = self.damaged_logs().into_iter();
        let repair_command = &self.repair_command();
        for (log, reason) in damaged.filter(|(log, _)| !unknown.contains_key(log)) {
            let help = Help::RebuildOrAcceptLoss { repair_command };
            tell(log, Trouble::Damaged(&reason), help);
        }
        told
    }

    /// What is wrong with a log that failed or is damaged.
    pub(crate) fn finding_of(&self, log: LogId) -> Option<HealthFinding> {
        let mut finding = self.findings_by_log().remove(&log)?;
        lock(&self.first_found).date(Some(log), &mut finding, now_ms());
        Some(finding)
    }

    /// Free bytes of the data directory's file system.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.store.space().free_bytes
    }

    /// What is wrong with the data directory and with logs, with since when. To be called from time to time, so that this is true.
    pub(crate) fn look_at_store(&self) -> Vec<HealthFinding> {
        // Whoever looks later finds what is later.
        let mut first_found = lock(&self.first_found);
        let of_logs = self.findings_by_log().into_iter();
        let mut found: Vec<_> = of_logs.map(|(log, finding)| (Some(log), finding)).collect();
        if let Some(reason) = self.store.health().poisoned {
            let message = format!(
                "the data directory failed and takes no more writes: {reason}. Nothing is acknowledged since; \
                 reads go on. Check the disk, then restart the broker"
            );
            let failed = finding(HealthState::Critical, "DIRECTORY_FAILED", message);
            found.insert(0, (None, failed));
        }
        let space = self.store.space();
        if space.refusing {
            let message = format!(
                "{} bytes are free and {} are kept in reserve (storage.min_free_bytes), so produce is refused. Free \
                 space, or delete or trim topics; it goes on by itself",
                space.free_bytes, space.floor_bytes
            );
            let full = finding(HealthState::Critical, "DISK_FULL", message);
            found.push((None, full));
        }
        first_found.date_all(&mut found, now_ms());
        found.into_iter().map(|(_, finding)| finding).collect()
    }

    /// All that somebody should know, worst first.
    pub(crate) fn findings(&self) -> Vec<HealthFinding> {
        let mut findings = self.found.clone();
        findings.extend(lock(&self.removed).clone());
        findings.extend(self.look_at_store());
        findings.extend(lock(&self.told).iter().cloned());
        let unknown = lock(&self.unknown_replicas);
        findings.extend(unknown.values().map(|replica| {
            finding(
                HealthState::Warning,
                "UNKNOWN_REPLICA",
                format!("{replica} is here and no topic of the cluster has it. It is kept; remove it by hand when it is not needed"),
            )
        }));
        let failed = lock(&self.failed_starts);
        findings.extend(failed.iter().map(|replica| {
            finding(
                HealthState::Critical,
                "REPLICA_NOT_STARTED",
                format!(
                    "{replica}. It is tried again from time to time; the other partitions are served"
                ),
            )
        }));
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.state));
        findings
    }
}

/// Each value is replaced as a whole: a panic elsewhere left the one before.
fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Something somebody should know.
pub(crate) fn finding(state: HealthState, reason: &str, message: String) -> HealthFinding {
    HealthFinding {
        state: state.into(),
        reason: reason.to_owned(),
        message,
        since_ms: None,
    }
}
