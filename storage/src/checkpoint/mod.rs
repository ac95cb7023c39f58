//! Checkpoints: what lets the journal be forgotten.

use crate::error::Result;

/// A checkpoint on its way. Its steps: [`crate::Store::begin_checkpoint`], [`Checkpoint::sync_segments`] on any thread, then
/// [`crate::Log::capture`] of each log that changed on the log's own thread, then [`Checkpoint::finish`].
#[derive(Debug)]
pub struct Checkpoint {}

impl Checkpoint {
    /// Syncs every segment that was written before the checkpoint began. Blocks.
    ///
    /// # Errors
    /// The checkpoint is off. A segment that failed has poisoned its log and is left out by the next one.
    pub fn sync_segments(&mut self) -> Result<()> {
        unimplemented!()
    }

    /// Writes the checkpoint and makes it the newest. Logs that are not in `captured` keep what the last checkpoint says of them.
    /// Blocks. Files that no kept checkpoint or journal names any more are pooled or removed.
    ///
    /// # Errors
    /// [`crate::Error::Poisoned`]: the directory takes no more writes.
    pub fn finish(self, _captured: Vec<CapturedLog>) -> Result<()> {
        unimplemented!()
    }
}

/// What a checkpoint says of one log.
#[derive(Debug)]
pub struct CapturedLog {}
