//! Whether the broker serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
