//! Changes of who leads the partitions of a broker, as one number that grows.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

/// Counts the changes of leaders and terms of all partitions on a broker, and wakes who waits for one.
#[derive(Debug)]
pub struct Leaderships {
    version: watch::Sender<u64>,
}

impl Default for Leaderships {
    fn default() -> Self {
        Self {
            version: watch::Sender::new(0),
        }
    }
}

impl Leaderships {
    /// Counts from the microseconds of `start` on, so that a version after a restart is above all versions before it.
    pub fn since(start: SystemTime) -> Self {
        let since = start.duration_since(UNIX_EPOCH).unwrap_or_default();
        let micros = u64::try_from(since.as_micros()).unwrap_or(u64::MAX / 2);
        Self {
            version: watch::Sender::new(micros),
        }
    }

    /// What is looked at after this call is at least as new as the version that it returns.
    pub fn version(&self) -> u64 {
        *self.version.borrow()
    }

    /// The versions from now on.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// To be called after a change can be seen.
    pub(crate) fn changed(&self) {
        self.version.send_modify(|version| *version += 1);
    }
}
