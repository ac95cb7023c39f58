//! The task that fetches for a consumer: it does what the core says, and reports what came of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use highwater_proto::{ApiError, BrokerId, Offset, Reason, v1};
use v1::fetch_service_client::FetchServiceClient;

use super::Shared;
use super::core::{Cursor, Fetch, FetchItem, Fetched, Locate};
use crate::cluster::{Cluster, MAX_RESPONSE_BYTES};
use crate::metadata::Metadata;
use crate::{Error, offsets};

/// Metadata is asked for at most this often.
const REFRESH_INTERVAL: Duration = Duration::from_millis(100);

/// What came of something that was under way.
enum Done {
    Fetch(BrokerId, Vec<(Cursor, Result<Fetched, ApiError>)>),
    Locate(Cursor, Result<Offset, ApiError>),
}

/// See the module.
pub(super) struct Task {
    shared: Arc<Shared>,
    cluster: Arc<Cluster>,
    max_wait: Duration,
    under_way: FuturesUnordered<BoxFuture<'static, Done>>,
    /// A request for metadata, while one is under way.
    refresh: Option<BoxFuture<'static, Result<Arc<Metadata>, Error>>>,
    refreshed_at: Instant,
}

impl Task {
    pub(super) fn new(shared: Arc<Shared>, cluster: Arc<Cluster>, max_wait: Duration) -> Self {
        Self {
            shared,
            cluster,
            max_wait,
            under_way: FuturesUnordered::new(),
            refresh: None,
            refreshed_at: Instant::now(),
        }
    }

    /// Runs until it is dropped, with the consumer.
    pub(super) async fn run(mut self) {
        loop {
            let wake_at = self.step();
            tokio::select! {
                () = self.shared.wake.notified() => {}
                () = sleep_until(wake_at) => {}
                Some(done) = self.under_way.next(), if !self.under_way.is_empty() => self.report(done),
                metadata = pending_or(&mut self.refresh) => self.refreshed(metadata),
            }
        }
    }

    /// Does all that can be done now; returns when to come back.
    fn step(&mut self) -> Option<Instant> {
        let metadata = self.cluster.metadata();
        let plan = self.shared.core().poll(Instant::now(), &metadata);
        if plan.restart {
            self.under_way = FuturesUnordered::new();
        }
        if plan.wants_metadata && self.refresh.is_none() {
            self.start_refresh();
        }
        for planned in plan.fetches {
            let cluster = Arc::clone(&self.cluster);
            self.under_way
                .push(Box::pin(fetch(cluster, planned, self.max_wait)));
        }
        for planned in plan.locates {
            let cluster = Arc::clone(&self.cluster);
            self.under_way.push(Box::pin(locate(cluster, planned)));
        }
        plan.wake_at
    }

    fn report(&mut self, done: Done) {
        let now = Instant::now();
        match done {
            Done::Fetch(broker, results) => self.shared.core().fetched(now, broker, results),
            Done::Locate(cursor, result) => self.shared.core().located(now, cursor, result),
        }
        self.shared.arrived.wake();
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

    fn refreshed(&mut self, metadata: Result<Arc<Metadata>, Error>) {
        self.refresh = None;
        match metadata {
            Ok(metadata) => {
                self.shared.core().refreshed(Instant::now(), &metadata);
                self.shared.arrived.wake();
            }
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

async fn locate(cluster: Arc<Cluster>, locate: Locate) -> Done {
    let found = offsets::find(&cluster, &locate.topic, locate.partition, locate.start).await;
    let result = found
        .map(|found| found.offset)
        .map_err(|error| match error {
            Error::Api(error) | Error::Partition { source: error, .. } => error,
            error => ApiError::new(error.reason(), error.to_string()),
        });
    Done::Locate(locate.cursor, result)
}

async fn fetch(cluster: Arc<Cluster>, fetch: Fetch, max_wait: Duration) -> Done {
    let cursors: Vec<Cursor> = fetch.items.iter().map(|item| item.cursor).collect();
    let results = match request(&cluster, &fetch, max_wait).await {
        Ok(response) => results(&cursors, response),
        Err(error) => {
            let fail = |cursor| (cursor, Err(error.clone()));
            cursors.into_iter().map(fail).collect()
        }
    };
    Done::Fetch(fetch.broker, results)
}

async fn request(
    cluster: &Cluster,
    fetch: &Fetch,
    max_wait: Duration,
) -> Result<v1::FetchResponse, ApiError> {
    let channel = cluster
        .channel(&fetch.address)
        .map_err(|error| ApiError::new(Reason::BrokerNotAvailable, error.to_string()))?;
    let mut request = tonic::Request::new(v1::FetchRequest {
        partitions: fetch.items.iter().map(fetch_partition).collect(),
        min_bytes: 1,
        max_bytes: fetch.max_bytes,
        max_wait_ms: u32::try_from(max_wait.as_millis()).unwrap_or(u32::MAX),
        format: v1::RecordFormat::Batches.into(),
    });
    request.set_timeout(cluster.settings.request_timeout + max_wait);
    let mut client = FetchServiceClient::new(channel).max_decoding_message_size(MAX_RESPONSE_BYTES);
    Ok(client.fetch(request).await?.into_inner())
}

fn fetch_partition(item: &FetchItem) -> v1::FetchPartition {
    v1::FetchPartition {
        partition: Some(v1::TopicPartition {
            topic: item.topic.to_string(),
            topic_id: Bytes::copy_from_slice(item.topic_id.as_bytes()),
            partition: item.partition,
        }),
        offset: item.offset.0,
        max_bytes: item.max_bytes,
        leader_epoch: Some(item.leader_epoch),
    }
}

/// One result per partition asked for, in that order.
fn results(
    cursors: &[Cursor],
    response: v1::FetchResponse,
) -> Vec<(Cursor, Result<Fetched, ApiError>)> {
    let mut answered = response.partitions.into_iter();
    cursors
        .iter()
        .map(|cursor| {
            let result = match answered.next() {
                Some(partition) => result(partition),
                None => Err(no_result()),
            };
            (*cursor, result)
        })
        .collect()
}

fn result(partition: v1::FetchedPartition) -> Result<Fetched, ApiError> {
    if let Some(error) = partition.error {
        return Err(error.into());
    }
    let batches = match partition.data {
        Some(v1::fetched_partition::Data::RecordBatches(batches)) => batches.batches,
        None => Vec::new(),
        Some(v1::fetched_partition::Data::Records(_)) => return Err(no_result()),
    };
    Ok(Fetched {
        batches,
        next_offset: Offset(partition.next_offset),
    })
}

fn no_result() -> ApiError {
    let problem = "the broker did not answer what was asked of the partition";
    ApiError::new(Reason::UnknownServerError, problem)
}
