//! Errors that are final.
//!
//! After a failed write or sync the kernel may hold pages that it calls clean and that the disk does not have. Nothing that is done
//! later can tell, so nothing later counts as success: the first error stays until the process ends.

use std::sync::{Arc, OnceLock};

use crate::error::{Error, Result, Scope};

/// The first final error of a log or directory, if there was one.
#[derive(Debug, Default)]
pub(crate) struct Poison(OnceLock<Arc<str>>);

impl Poison {
    /// Notes a final error; the first one stays. Returns what every later call will return.
    pub(crate) fn set(&self, scope: Scope, error: &dyn std::fmt::Display) -> Error {
        let reason = self.0.get_or_init(|| {
            let reason = error.to_string();
            tracing::error!(%scope, %reason, "a write failed: no more writes are accepted");
            reason.into()
        });
        Error::Poisoned {
            scope,
            reason: Arc::clone(reason),
        }
    }

    /// # Errors
    /// [`Error::Poisoned`] when there was a final error.
    pub(crate) fn check(&self, scope: Scope) -> Result<()> {
        match self.reason() {
            Some(reason) => Err(Error::Poisoned { scope, reason }),
            None => Ok(()),
        }
    }

    /// The first final error.
    pub(crate) fn reason(&self) -> Option<Arc<str>> {
        self.0.get().cloned()
    }
}
