//! The segments that a checkpoint has to sync.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::shared::Frontier;
use crate::error::Result;
use crate::fs::Fs;

/// Every segment of the directory that may hold bytes, or have a name, that no sync covers.
#[derive(Debug)]
pub(crate) struct Frontiers {
    fs: Arc<dyn Fs>,
    open: Mutex<Vec<Arc<Frontier>>>,
}

impl Frontiers {
    pub(crate) fn new(fs: Arc<dyn Fs>) -> Self {
        Self {
            fs,
            open: Mutex::default(),
        }
    }

    pub(crate) fn add(&self, frontier: Arc<Frontier>) {
        self.lock().push(frontier);
    }

    /// Makes all segments durable as far as they are written now. One that fails poisons its log and nothing else.
    pub(crate) fn sync_all(&self) {
        let frontiers: Vec<_> = self
            .lock()
            .iter()
            .filter(|frontier| !frontier.is_retired() && frontier.log().check().is_ok())
            .map(Arc::clone)
            .collect();
        let mut synced = BTreeSet::new();
        for frontier in frontiers {
            if let Err(error) = self.sync_one(&frontier, &mut synced) {
                tracing::warn!(log = %frontier.log().id(), %error, "a segment could not be synced");
            }
        }
        self.lock().retain(|frontier| !frontier.is_done());
    }

    /// The segments of poisoned logs: no sync will cover all that they hold.
    pub(crate) fn unsynced(&self) -> Vec<Arc<Frontier>> {
        let is_unsynced = |frontier: &&Arc<Frontier>| {
            !frontier.is_done() && frontier.log().poison_reason().is_some()
        };
        self.lock()
            .iter()
            .filter(is_unsynced)
            .map(Arc::clone)
            .collect()
    }

    /// Makes some segments durable as far as they are written now.
    ///
    /// # Errors
    /// The log is poisoned.
    pub(crate) fn sync(&self, frontiers: &[Arc<Frontier>]) -> Result<()> {
        let mut synced = BTreeSet::new();
        frontiers
            .iter()
            .try_for_each(|frontier| self.sync_one(frontier, &mut synced))
    }

    fn sync_one(&self, frontier: &Frontier, synced: &mut BTreeSet<PathBuf>) -> Result<()> {
        if !frontier.is_done() {
            frontier.sync()?;
        }
        let Some(directory) = frontier.unsynced_directory() else {
            return Ok(());
        };
        // The directories above may be new, too.
        for path in directory.ancestors().map(Path::to_owned) {
            if !synced.contains(&path) {
                self.fs
                    .sync_dir(&path)
                    .map_err(|error| frontier.log().poison(&error))?;
                synced.insert(path);
            }
        }
        frontier.set_named();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Frontier>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
