//! Reads that may wait for the disk: a bounded number at once, a bounded number waiting.

use std::sync::Arc;

use highwater_proto::{ApiError, Reason};
use tokio::sync::Semaphore;

use crate::config::FetchConfig;

/// Runs blocking reads away from the threads that serve requests.
#[derive(Clone, Debug)]
pub(crate) struct ReadPool {
    running: Arc<Semaphore>,
    /// Running and waiting.
    admitted: Arc<Semaphore>,
}

impl ReadPool {
    pub(crate) fn new(config: &FetchConfig) -> Self {
        Self {
            running: Arc::new(Semaphore::new(config.read_threads)),
            admitted: Arc::new(Semaphore::new(
                config.read_threads + config.max_queued_reads,
            )),
        }
    }

    /// Runs `read` on a thread that may block.
    ///
    /// # Errors
    /// `THROTTLED` when too many reads wait already.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let Ok(_admitted) = self.admitted.try_acquire() else {
            return Err(ApiError::new(
                Reason::Throttled,
                "too many reads wait for the disk (fetch.max_queued_reads): try again shortly",
            )
            .with("limit", "fetch.max_queued_reads"));
        };
        let permit = Arc::clone(&self.running).acquire_owned().await;
        let ran = tokio::task::spawn_blocking(move || {
            // Held until the read ends, also when its caller has gone.
            let _permit = permit;
            read()
        });
        ran.await.map_err(|error| {
            ApiError::new(
                Reason::UnknownServerError,
                format!("a read was given up: {error}"),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(threads: usize, queued: usize) -> ReadPool {
        ReadPool::new(&FetchConfig {
            read_threads: threads,
            max_queued_reads: queued,
            ..FetchConfig::default()
        })
    }

    #[tokio::test]
    async fn reads_beyond_the_queue_are_refused() {
        let pool = pool(1, 1);
        let (release, held) = std::sync::mpsc::channel::<()>();
        let mut running = std::pin::pin!(pool.run(move || held.recv()));
        assert!(futures::poll!(&mut running).is_pending());
        let mut waiting = std::pin::pin!(pool.run(|| 7));
        assert!(futures::poll!(&mut waiting).is_pending());
        let refused = pool.run(|| 8).await.unwrap_err();
        assert_eq!(refused.reason, Reason::Throttled);
        release.send(()).unwrap();
        running.await.unwrap().unwrap();
        assert_eq!(waiting.await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_read_that_panics_is_an_error() {
        let error = pool(1, 1).run(|| panic!("no")).await.unwrap_err();
        assert_eq!(error.reason, Reason::UnknownServerError);
    }
}
