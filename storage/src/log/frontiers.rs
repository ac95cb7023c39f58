//! The segments that a checkpoint has to sync.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::shared::Frontier;
use crate::error::Result;
use crate::fs::Fs;
use crate::parallel;

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

    /// Makes all segments durable as far as they are written now, piece by piece: `due` is told how many are done and how many there are,
    /// and says how many to do next. One that fails poisons its log and nothing else.
    pub(crate) fn sync_all(&self, mut due: impl FnMut(usize, usize) -> usize) {
        let frontiers: Vec<_> = self
            .lock()
            .iter()
            .filter(|frontier| !frontier.is_retired() && frontier.log().check().is_ok())
            .map(Arc::clone)
            .collect();
        // Those that were not written since their last sync take no time.
        let (written, unwritten): (Vec<_>, Vec<_>) = frontiers
            .iter()
            .map(Arc::clone)
            .partition(|frontier| frontier.is_dirty());
        let mut synced = sync_bytes(&unwritten);
        let mut rest = &written[..];
        while !rest.is_empty() {
            let done = written.len() - rest.len();
            let piece = due(done, written.len()).clamp(1, rest.len());
            let (next, later) = rest.split_at(piece);
            synced = synced.and(sync_bytes(next));
            rest = later;
        }
        if let Err(error) = synced.and(self.sync_names(&frontiers)) {
            tracing::warn!(%error, "a segment could not be synced");
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
    /// The log of one of them is poisoned.
    pub(crate) fn sync(&self, frontiers: &[Arc<Frontier>]) -> Result<()> {
        let synced = sync_bytes(frontiers);
        let named = self.sync_names(frontiers);
        synced.and(named)
    }

    /// Makes the names of segments durable, and the names of the directories that lead to them.
    fn sync_names(&self, frontiers: &[Arc<Frontier>]) -> Result<()> {
        let is_wanted = |frontier: &&Arc<Frontier>| frontier.log().check().is_ok();
        let unnamed: Vec<_> = frontiers
            .iter()
            .filter(is_wanted)
            .filter_map(|frontier| Some((frontier, frontier.unsynced_directory()?)))
            .collect();
        let paths: BTreeSet<&Path> = unnamed
            .iter()
            .flat_map(|(_, directory)| directory.ancestors())
            .collect();
        let failed = Mutex::new(BTreeMap::new());
        let paths: Vec<&Path> = paths.into_iter().collect();
        // What fails is looked up below, for the logs that are concerned.
        let _told = parallel::try_for_each(&paths, |path| {
            self.fs.sync_dir(path).map_err(|error| {
                let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.insert(*path, error);
            })
        });
        let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut result = Ok(());
        for (frontier, directory) in unnamed {
            match directory.ancestors().find_map(|path| failed.get(path)) {
                None => frontier.set_named(),
                Some(error) => result = Err(frontier.log().poison(error)),
            }
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Frontier>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes what was written of some segments durable, but for their names.
fn sync_bytes(frontiers: &[Arc<Frontier>]) -> Result<()> {
    parallel::try_for_each(frontiers, |frontier| {
        if frontier.is_done() {
            return Ok(());
        }
        frontier.sync()
    })
}
