//! One subscription, from its opening to its end: tells the broker what the core asks for, and the core what came.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use highwater_proto::{ApiError, Offset, Reason, TopicId, v1};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use v1::fetch_service_client::FetchServiceClient;
use v1::subscribe_request::Request as Asked;

use super::Shared;
use super::feed::FeedId;
use super::plan::{Ask, Fetched, Open, Pushed, PushedPartition, Read};
use crate::cluster::{Cluster, MAX_RESPONSE_BYTES};

/// See the module.
pub(super) struct Subscription {
    pub(super) shared: Arc<Shared>,
    pub(super) cluster: Arc<Cluster>,
    pub(super) open: Open,
    /// There may be something to tell the broker.
    pub(super) news: Arc<Notify>,
}

impl Subscription {
    pub(super) async fn run(self) {
        let error = match self.receive().await {
            Ok(()) => ApiError::new(
                Reason::NetworkException,
                "the broker ended the subscription",
            ),
            Err(error) => error,
        };
        tracing::debug!(address = self.open.address, %error, "subscription ended");
        let feed = self.open.feed;
        self.shared.core().ended(Instant::now(), feed, &error);
        self.shared.arrived.wake();
        self.shared.wake.notify_one();
    }

    async fn receive(&self) -> Result<(), ApiError> {
        let channel = self
            .cluster
            .channel(&self.open.address)
            .map_err(|error| ApiError::new(Reason::BrokerNotAvailable, error.to_string()))?;
        let mut client =
            FetchServiceClient::new(channel).max_decoding_message_size(MAX_RESPONSE_BYTES);
        // The transport keeps a call open as long as either side of it has not ended. It owns this side, and would wait
        // for ever for something to tell a broker that nobody listens to any more.
        let over = CancellationToken::new();
        let _over = over.clone().drop_guard();
        let asks = asks(Arc::clone(&self.shared), self.open.feed, self.news.clone())
            .take_until(over.cancelled_owned());
        let mut messages = client.subscribe(asks).await?.into_inner();
        while let Some(message) = messages.message().await? {
            self.take_hints(&message);
            let pushed = pushed(message);
            let had_errors = pushed.partitions.iter().any(|p| p.result.is_err());
            let has_room = {
                let mut core = self.shared.core();
                core.pushed(Instant::now(), self.open.feed, pushed);
                // What was dropped has used credit, and nobody will take it out to make room.
                core.has_room()
            };
            self.shared.arrived.wake();
            if had_errors || has_room {
                self.shared.wake.notify_one();
            }
        }
        Ok(())
    }
}

impl Subscription {
    /// Takes up who leads partitions that the broker does not lead any more.
    fn take_hints(&self, message: &v1::SubscribeResponse) {
        for fetched in &message.partitions {
            if let (Some(named), Some(error)) = (&fetched.partition, &fetched.error) {
                let error = ApiError::from(error.clone());
                self.cluster.hint(&named.topic, named.partition, &error);
            }
        }
    }
}

/// What the broker is told. It is made when the transport takes it, so that nothing queues up and it is never outdated.
fn asks(
    shared: Arc<Shared>,
    feed: FeedId,
    news: Arc<Notify>,
) -> impl Stream<Item = v1::SubscribeRequest> + Send + 'static {
    futures::stream::unfold((shared, news), move |(shared, news)| async move {
        loop {
            let ask = shared.core().ask(feed);
            match ask {
                Some(ask) => return Some((request(ask), (shared, news))),
                None => news.notified().await,
            }
        }
    })
}

fn request(ask: Ask) -> v1::SubscribeRequest {
    let request = match ask {
        Ask::Assign {
            id,
            allow_follower,
            reads,
        } => Asked::Assign(v1::SubscribeAssign {
            assignment_id: id,
            partitions: reads.iter().map(fetch_partition).collect(),
            format: v1::RecordFormat::Batches.into(),
            allow_follower,
        }),
        Ask::Credit { bytes } => Asked::Credit(v1::SubscribeCredit { bytes }),
    };
    v1::SubscribeRequest {
        request: Some(request),
    }
}

fn fetch_partition(read: &Read) -> v1::FetchPartition {
    v1::FetchPartition {
        partition: Some(v1::TopicPartition {
            topic: read.topic.to_string(),
            topic_id: Bytes::copy_from_slice(read.topic_id.as_bytes()),
            partition: read.partition,
        }),
        offset: read.offset.0,
        max_bytes: read.max_bytes,
        leader_epoch: Some(read.leader_epoch),
    }
}

fn pushed(message: v1::SubscribeResponse) -> Pushed {
    Pushed {
        assignment_id: message.assignment_id,
        credit_used_bytes: message.credit_used_bytes,
        partitions: message
            .partitions
            .into_iter()
            .filter_map(pushed_partition)
            .collect(),
    }
}

/// `None`: it does not say of what partition.
fn pushed_partition(fetched: v1::FetchedPartition) -> Option<PushedPartition> {
    let named = fetched.partition.as_ref()?;
    Some(PushedPartition {
        topic_id: TopicId::from_slice(&named.topic_id)?,
        partition: named.partition,
        result: result(fetched),
    })
}

fn result(fetched: v1::FetchedPartition) -> Result<Fetched, ApiError> {
    if let Some(error) = fetched.error {
        return Err(error.into());
    }
    let batches = match fetched.data {
        Some(v1::fetched_partition::Data::RecordBatches(batches)) => batches.batches,
        None => Vec::new(),
        Some(v1::fetched_partition::Data::Records(_)) => {
            let problem = "the broker sent plain records where batches were asked for";
            return Err(ApiError::new(Reason::UnknownServerError, problem));
        }
    };
    Ok(Fetched {
        batches,
        next_offset: Offset(fetched.next_offset),
    })
}
