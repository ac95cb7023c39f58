//! The task behind a consumer: it does what the core says. Subscriptions and lookups report to the core themselves.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use highwater_proto::ApiError;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::Shared;
use super::feed::FeedId;
use super::plan::{Locate, Open};
use super::subscription::Subscription;
use crate::cluster::Cluster;
use crate::doubt::FEED_PATIENCE;
use crate::metadata::Metadata;
use crate::watch::Watch;
use crate::{Error, offsets};

/// Metadata is asked for at most this often.
const REFRESH_INTERVAL: Duration = Duration::from_millis(100);

/// A subscription that is open. Dropping it ends it.
struct Feed {
    news: Arc<Notify>,
    task: AbortOnDropHandle<()>,
}

/// See the module.
pub(super) struct Task {
    shared: Arc<Shared>,
    cluster: Arc<Cluster>,
    feeds: HashMap<FeedId, Feed>,
    /// The last lookup for each place among the assigned partitions. A new one ends the one before.
    locates: HashMap<usize, AbortOnDropHandle<()>>,
    /// A request for metadata, while one is under way.
    refresh: Option<BoxFuture<'static, Result<Arc<Metadata>, Error>>>,
    refreshed_at: Instant,
    watch: Option<Watch>,
}

impl Task {
    pub(super) fn new(shared: Arc<Shared>, cluster: Arc<Cluster>) -> Self {
        Self {
            shared,
            cluster,
            feeds: HashMap::new(),
            locates: HashMap::new(),
            refresh: None,
            refreshed_at: Instant::now(),
            watch: None,
        }
    }

    /// Runs until it is dropped, with the consumer.
    pub(super) async fn run(mut self) {
        loop {
            let wake_at = self.step();
            tokio::select! {
                () = self.shared.wake.notified() => {}
                () = sleep_until(wake_at) => {}
                metadata = pending_or(&mut self.refresh) => self.refreshed(metadata),
            }
        }
    }

    /// Does all that can be done now; returns when to come back.
    fn step(&mut self) -> Option<Instant> {
        let metadata = self.cluster.metadata();
        let plan = self.shared.core().poll(Instant::now(), &metadata);
        if self.refresh.is_none() {
            if plan.wants_metadata {
                self.start_refresh();
            } else if plan.doubts {
                self.start_shared_refresh();
            }
        }
        if let Some(topics) = plan.watch {
            let shared = Arc::clone(&self.shared);
            self.watch = Watch::start(Arc::clone(&self.cluster), topics, move |metadata| {
                shared.learn(metadata);
                shared.wake.notify_one();
            });
        }
        // Those that have ended by themselves are gone from the core.
        self.feeds.retain(|_, feed| !feed.task.is_finished());
        for feed in plan.closes {
            self.feeds.remove(&feed);
        }
        for open in plan.opens {
            self.open(open);
        }
        for feed in plan.asks {
            if let Some(feed) = self.feeds.get(&feed) {
                feed.news.notify_one();
            }
        }
        self.locates.retain(|_, task| !task.is_finished());
        for planned in plan.locates {
            let place = planned.cursor.place;
            let locating = locate(Arc::clone(&self.shared), Arc::clone(&self.cluster), planned);
            let task = AbortOnDropHandle::new(tokio::spawn(locating));
            self.locates.insert(place, task);
        }
        plan.wake_at
    }

    fn open(&mut self, open: Open) {
        let feed = open.feed;
        let news = Arc::new(Notify::new());
        let subscription = Subscription {
            shared: Arc::clone(&self.shared),
            cluster: Arc::clone(&self.cluster),
            open,
            news: Arc::clone(&news),
        };
        let task = AbortOnDropHandle::new(tokio::spawn(subscription.run()));
        self.feeds.insert(feed, Feed { news, task });
    }

    fn start_refresh(&mut self) {
        let cluster = Arc::clone(&self.cluster);
        let topics = self.shared.core().topics();
        let not_before = self.refreshed_at + REFRESH_INTERVAL;
        self.refreshed_at = Instant::now().max(not_before);
        self.refresh = Some(Box::pin(async move {
            tokio::time::sleep_until(not_before.into()).await;
            cluster.refresh(&topics).await
        }));
    }

    /// Asks who leads together with the client's other consumers: their brokers may be silent too.
    fn start_shared_refresh(&mut self) {
        let cluster = Arc::clone(&self.cluster);
        let topics = self.shared.core().topics();
        self.refreshed_at = Instant::now();
        let since = self.refreshed_at.checked_sub(FEED_PATIENCE / 2);
        let since = since.unwrap_or(self.refreshed_at);
        self.refresh = Some(Box::pin(async move {
            cluster.refresh_unless_since(&topics, since).await
        }));
    }

    fn refreshed(&mut self, metadata: Result<Arc<Metadata>, Error>) {
        self.refresh = None;
        match metadata {
            Ok(metadata) => self.shared.learn(&metadata),
            Err(error) => tracing::debug!(%error, "cannot refresh metadata"),
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Waits for the future if there is one, and for ever if there is none.
async fn pending_or<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn locate(shared: Arc<Shared>, cluster: Arc<Cluster>, locate: Locate) {
    let found = offsets::find(&cluster, &locate.topic, locate.partition, locate.start).await;
    let result = found
        .map(|found| found.offset)
        .map_err(|error| match error {
            Error::Api(error) | Error::Partition { source: error, .. } => error,
            error => ApiError::new(error.reason(), error.to_string()),
        });
    shared.core().located(Instant::now(), locate.cursor, result);
    shared.arrived.wake();
    shared.wake.notify_one();
}
