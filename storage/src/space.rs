//! Whether there is room for more.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::fs::Fs;

/// The room on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that can still be allocated.
    pub free_bytes: u64,
    /// Bytes below which produce is refused.
    pub floor_bytes: u64,
    /// Whether produce is refused now.
    pub refusing: bool,
}

/// Watches the floor: bytes of the disk that are left for what must go on when produce is refused.
#[derive(Debug)]
pub(crate) struct Gauge {
    fs: Arc<dyn Fs>,
    floor_bytes: u64,
}

impl Gauge {
    pub(crate) fn new(fs: Arc<dyn Fs>, floor_bytes: u64) -> Self {
        Self { fs, floor_bytes }
    }

    /// The room there is now; none, when the disk does not tell.
    pub(crate) fn read(&self) -> Space {
        let free_bytes = self.fs.free_bytes().unwrap_or_else(|error| {
            tracing::warn!(%error, "the disk does not tell how much is free");
            0
        });
        Space {
            free_bytes,
            floor_bytes: self.floor_bytes,
            refusing: free_bytes < self.floor_bytes,
        }
    }

    /// # Errors
    /// [`Error::NoSpace`] when `bytes` more would go below the floor.
    pub(crate) fn check(&self, bytes: u64) -> Result<()> {
        let space = self.read();
        if space.free_bytes < self.floor_bytes.saturating_add(bytes) {
            return Err(Error::NoSpace {
                reason: format!(
                    "{} bytes are free, {} must stay free, {bytes} are needed",
                    space.free_bytes, self.floor_bytes
                ),
            });
        }
        Ok(())
    }
}
