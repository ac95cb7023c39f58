//! The tasks of a node.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// Tasks that end together: when they are stopped, or when this is dropped.
pub(super) struct Tasks {
    running: TaskTracker,
    stop: DropGuard,
}

impl Tasks {
    pub(super) fn new() -> Self {
        Self {
            running: TaskTracker::new(),
            stop: CancellationToken::new().drop_guard(),
        }
    }

    /// Has `work` done until the stop, which drops it wherever it waits.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.token().clone();
        self.running.spawn(stop.run_until_cancelled_owned(work));
    }

    /// Has work done that ends in order when the token that it gets is cancelled.
    pub(super) fn spawn_until<W>(&self, work: impl FnOnce(CancellationToken) -> W)
    where
        W: Future<Output = ()> + Send + 'static,
    {
        self.running.spawn(work(self.stop.token().clone()));
    }

    /// Stops them, and waits until all have ended.
    pub(super) async fn stop(self) {
        self.stop.token().cancel();
        self.running.close();
        self.running.wait().await;
    }
}

/// The moments at which a task looks at something: now, and then each `period`. After a look that took longer comes the next one at
/// once, and never several in a row.
pub(super) fn every(period: Duration) -> Interval {
    let mut moments = tokio::time::interval(period);
    moments.set_missed_tick_behavior(MissedTickBehavior::Delay);
    moments
}
