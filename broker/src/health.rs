//! Whether the broker serves, and what somebody should know of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use highwater_proto::v1::{HealthFinding, HealthState};
use highwater_storage::Store;

use crate::offline::repair_command;

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
    /// Replicas that the cluster does not know, as of the last reconciliation.
    unknown_replicas: Mutex<Vec<String>>,
    /// Replicas that could not be started, and why, as of the last reconciliation.
    failed_starts: Mutex<Vec<String>>,
}

impl Health {
    /// `found` is what the start of `store` in `data_dir` found.
    pub(crate) fn new(store: Arc<Store>, data_dir: String, found: Vec<HealthFinding>) -> Self {
        Self {
            store,
            data_dir,
            found,
            unknown_replicas: Mutex::default(),
            failed_starts: Mutex::default(),
        }
    }

    /// Replaces the replicas that are here and that the cluster does not know.
    pub(crate) fn set_unknown_replicas(&self, replicas: Vec<String>) {
        *self
            .unknown_replicas
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = replicas;
    }

    /// The data directory.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Replaces the replicas that could not be started, each with the reason.
    pub(crate) fn set_failed_starts(&self, replicas: Vec<String>) {
        *self
            .failed_starts
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = replicas;
    }

    /// Free bytes of the data directory's file system.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.store.space().free_bytes
    }

    /// All that somebody should know, worst first.
    pub(crate) fn findings(&self) -> Vec<HealthFinding> {
        let mut findings = self.found.clone();
        let health = self.store.health();
        if let Some(reason) = health.poisoned {
            findings.push(finding(
                HealthState::Critical,
                "DIRECTORY_FAILED",
                format!(
                    "the data directory failed and takes no more writes: {reason}. Nothing is acknowledged since; \
                     reads go on. Check the disk, then restart the broker"
                ),
            ));
        }
        for (log, reason) in health.poisoned_logs {
            findings.push(finding(
                HealthState::Critical,
                "LOG_FAILED",
                format!(
                    "log {log} failed and takes no more writes: {reason}. Check the disk, then restart the broker"
                ),
            ));
        }
        for (log, reason) in health.damaged_logs {
            findings.push(finding(
                HealthState::Critical,
                "LOG_DAMAGED",
                format!(
                    "a reader met damage in log {log}: {reason}. The rest of it is served, and it takes no records. Stop \
                     the broker and run `{}` to go on without what is lost",
                    repair_command(&self.data_dir)
                ),
            ));
        }
        let space = self.store.space();
        if space.refusing {
            findings.push(finding(
                HealthState::Critical,
                "DISK_FULL",
                format!(
                    "{} bytes are free and {} are kept in reserve (storage.min_free_bytes), so produce is refused. Free \
                     space, or delete or trim topics; it goes on by itself",
                    space.free_bytes, space.floor_bytes
                ),
            ));
        }
        let unknown = self
            .unknown_replicas
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        findings.extend(unknown.iter().map(|replica| {
            finding(
                HealthState::Warning,
                "UNKNOWN_REPLICA",
                format!("{replica} is here and no topic of the cluster has it. It is kept; remove it by hand when it is not needed"),
            )
        }));
        let failed = self
            .failed_starts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
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

/// Something somebody should know.
pub(crate) fn finding(state: HealthState, reason: &str, message: String) -> HealthFinding {
    HealthFinding {
        state: state.into(),
        reason: reason.to_owned(),
        message,
    }
}
