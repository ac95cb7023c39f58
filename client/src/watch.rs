//! News of the metadata: a broker is asked once, and tells of each change.
//!
//! Without it everything would work as well, later: a moved leader or a deleted topic would be noticed when a request
//! fails. So a watch that cannot be had is not an error.

use std::sync::Arc;

use highwater_proto::{ApiError, Reason, v1};
use tokio_util::task::AbortOnDropHandle;
use v1::cluster_service_client::ClusterServiceClient;

use crate::cluster::{Cluster, MAX_RESPONSE_BYTES};
use crate::metadata::Metadata;

/// A watch on some topics. Dropping it ends it.
pub(crate) struct Watch {
    _task: AbortOnDropHandle<()>,
}

impl Watch {
    /// Watches `topics` and calls `on_news` with what is known after each change. Must be called inside a Tokio runtime.
    /// `None` when there is no topic to watch.
    pub(crate) fn start(
        cluster: Arc<Cluster>,
        topics: Vec<String>,
        on_news: impl Fn(&Metadata) + Send + Sync + 'static,
    ) -> Option<Self> {
        if topics.is_empty() {
            return None;
        }
        let task = tokio::spawn(follow(cluster, topics, on_news));
        Some(Self {
            _task: AbortOnDropHandle::new(task),
        })
    }
}

/// Keeps a watch open, at one broker after the other, until they say that there cannot be one.
async fn follow(cluster: Arc<Cluster>, topics: Vec<String>, on_news: impl Fn(&Metadata)) {
    let mut failures = 0;
    for turn in 0_usize.. {
        let addresses = cluster.addresses();
        let Some(address) = addresses.get(turn % addresses.len().max(1)) else {
            return;
        };
        let error = match listen(&cluster, address, &topics, &on_news, &mut failures).await {
            Ok(()) => ApiError::new(Reason::NetworkException, "the broker ended the watch"),
            Err(error) => error,
        };
        tracing::debug!(address, %error, "metadata watch ended");
        if !error.is_retriable() {
            return;
        }
        failures += 1;
        let backoff = cluster.settings.backoff;
        tokio::time::sleep(backoff.wait_after(&error, failures, rand::random())).await;
    }
}

async fn listen(
    cluster: &Cluster,
    address: &str,
    topics: &[String],
    on_news: &impl Fn(&Metadata),
    failures: &mut u32,
) -> Result<(), ApiError> {
    let channel = cluster
        .channel(address)
        .map_err(|error| ApiError::new(Reason::BrokerNotAvailable, error.to_string()))?;
    let mut client =
        ClusterServiceClient::new(channel).max_decoding_message_size(MAX_RESPONSE_BYTES);
    let request = v1::WatchMetadataRequest {
        topics: topics.to_vec(),
    };
    let mut messages = client.watch_metadata(request).await?.into_inner();
    while let Some(message) = messages.message().await? {
        *failures = 0;
        let metadata = cluster.update(topics, message.metadata.unwrap_or_default());
        on_news(&metadata);
    }
    Ok(())
}
