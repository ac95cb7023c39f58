//! The task that carries a producer's batches to brokers: it does what the core says, and reports what came of it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::future::BoxFuture;
use highwater_proto::batch::{self, BatchBuilder, Compression, Compressor};
use highwater_proto::{ApiError, BrokerId, ProducerEpoch, ProducerId, Reason, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use v1::produce_service_client::ProduceServiceClient;

use super::Shared;
use super::builder::Acks;
use super::core::{Core, Rules};
use super::outcome::Stored;
use super::pipeline::{ConnectionId, Identity};
use super::plan::{Body, Plan, Resolutions, Send};
use crate::Error;
use crate::cluster::{Cluster, MAX_RESPONSE_BYTES, Repeat};
use crate::metadata::Metadata;
use crate::retry::Backoff;
use crate::watch::Watch;

/// Bytes of batches that are gathered into one request, unless a single batch is larger.
const REQUEST_BYTES: usize = 1 << 20;
/// Batches in one request. Brokers allow a few thousand.
const REQUEST_BATCHES: usize = 1_000;
/// Requests that wait for the network on one connection. More only adds memory: the link is busy with these.
const QUEUED_REQUESTS: usize = 4;
/// Metadata is asked for at most this often.
const REFRESH_INTERVAL: Duration = Duration::from_millis(100);
/// Metadata older than this is asked for again, so that new partitions are found.
const METADATA_MAX_AGE: Duration = Duration::from_secs(60);

/// A produce stream to one broker. Dropping it ends the stream.
struct Connection {
    id: ConnectionId,
    requests: mpsc::Sender<v1::ProduceStreamRequest>,
    /// Requests that found the queue full.
    outbox: VecDeque<v1::ProduceStreamRequest>,
    _task: AbortOnDropHandle<()>,
}

impl Connection {
    fn has_room(&self) -> bool {
        self.outbox.is_empty() && self.requests.capacity() > 0
    }

    /// Moves requests from the outbox into the queue as far as there is room.
    fn pump(&mut self) {
        while let Some(request) = self.outbox.pop_front() {
            match self.requests.try_send(request) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(request)) => {
                    self.outbox.push_front(request);
                    return;
                }
                // The stream is over. Its end is reported by its own task.
                Err(mpsc::error::TrySendError::Closed(_)) => return,
            }
        }
    }
}

/// See the module.
pub(super) struct Task {
    shared: Arc<Shared>,
    cluster: Arc<Cluster>,
    compressor: Compressor,
    acks: v1::Acks,
    request_timeout: Duration,
    backoff: Backoff,
    connections: HashMap<BrokerId, Connection>,
    next_connection: u64,
    /// A request for an identity, while one is under way.
    identity: Option<BoxFuture<'static, Result<Identity, Error>>>,
    /// A request for metadata, while one is under way.
    refresh: Option<BoxFuture<'static, Result<Arc<Metadata>, Error>>>,
    refreshed_at: Instant,
    watch: Option<Watch>,
}

impl Task {
    pub(super) fn new(
        shared: Arc<Shared>,
        cluster: Arc<Cluster>,
        compression: Compression,
        acks: Acks,
        rules: &Rules,
    ) -> Self {
        Self {
            shared,
            cluster,
            compressor: Compressor::new(compression),
            acks: acks.into(),
            request_timeout: rules.request_timeout,
            backoff: rules.backoff,
            connections: HashMap::new(),
            next_connection: 0,
            identity: None,
            refresh: None,
            refreshed_at: Instant::now(),
            watch: None,
        }
    }

    /// Runs until stopped.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            let wake_at = self.step();
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.shared.wake.notified() => {}
                () = tokio::time::sleep_until(wake_at.into()) => {}
                identity = pending_or(&mut self.identity) => self.identified(identity),
                metadata = pending_or(&mut self.refresh) => self.refreshed(metadata),
            }
        }
    }

    /// Does all that can be done now; returns when to come back.
    fn step(&mut self) -> Instant {
        let now = Instant::now();
        for connection in self.connections.values_mut() {
            connection.pump();
        }
        let plan = self.plan(now);
        if plan.wants_identity && self.identity.is_none() {
            let cluster = Arc::clone(&self.cluster);
            self.identity = Some(Box::pin(init_producer_id(cluster, self.backoff)));
        }
        let aged = self.refreshed_at + METADATA_MAX_AGE;
        if (plan.wants_metadata || now >= aged) && self.refresh.is_none() {
            self.start_refresh(now);
        }
        if let Some(topics) = plan.watch {
            let shared = Arc::clone(&self.shared);
            self.watch = Watch::start(Arc::clone(&self.cluster), topics, move |metadata| {
                shared.settle(|core| core.learn_all(metadata));
                shared.wake.notify_one();
            });
        }
        for connection in plan.hung {
            self.hang_up(now, connection);
        }
        self.shared.resolve(plan.resolutions);
        self.send(plan.sends);
        plan.wake_at
            .map_or(aged, |wake_at| wake_at.min(aged))
            .max(now)
    }

    fn plan(&mut self, now: Instant) -> Plan {
        let metadata = self.cluster.metadata();
        let shared = Arc::clone(&self.shared);
        let mut connect = |broker: BrokerId, address: &str| {
            let over = |connection: &Connection| connection.requests.is_closed();
            if self.connections.get(&broker).is_none_or(over) {
                let connection = self.open(address);
                self.connections.insert(broker, connection);
            }
            let connection = &self.connections[&broker];
            connection.has_room().then_some(connection.id)
        };
        shared.core().poll(now, &metadata, &mut connect)
    }

    fn open(&mut self, address: &str) -> Connection {
        let id = ConnectionId(self.next_connection);
        self.next_connection += 1;
        let (requests, queue) = mpsc::channel(QUEUED_REQUESTS);
        let conversation = Conversation {
            shared: Arc::clone(&self.shared),
            cluster: Arc::clone(&self.cluster),
            connection: id,
            address: address.to_owned(),
            carried: false,
        };
        Connection {
            id,
            requests,
            outbox: VecDeque::new(),
            _task: AbortOnDropHandle::new(tokio::spawn(conversation.run(queue))),
        }
    }

    fn hang_up(&mut self, now: Instant, hung: ConnectionId) {
        self.connections
            .retain(|_, connection| connection.id != hung);
        let error = ApiError::new(
            Reason::RequestTimedOut,
            format!("no answer within {} s", self.request_timeout.as_secs_f64()),
        );
        self.shared
            .settle(|core| core.disconnected(now, hung, &error, true));
        self.shared.wake.notify_one();
    }

    /// Encodes batches outside the lock, and hands them to their connections in requests of a decent size.
    fn send(&mut self, sends: Vec<Send>) {
        if sends.is_empty() {
            return;
        }
        let mut made = Vec::new();
        let mut requests = Requests::new(self.acks, self.request_timeout);
        for send in sends {
            match encode(send.body, &mut self.compressor) {
                Ok(encoded) => {
                    let payload = encoded.payload.clone();
                    let item = item(
                        send.correlation,
                        &send.topic,
                        *send.topic_id.as_bytes(),
                        send.partition,
                        encoded.payload,
                    );
                    requests.add(send.connection, item, payload.len());
                    if encoded.is_new {
                        made.push((send.correlation, payload, encoded.builder));
                    }
                }
                Err(error) => {
                    let (now, error) = (Instant::now(), ApiError::from(&error));
                    self.shared
                        .settle(|core| core.refused(now, send.connection, send.correlation, error));
                }
            }
        }
        let mut core = self.shared.core();
        for (correlation, payload, builder) in made {
            core.encoded(correlation, payload, builder);
        }
        drop(core);
        for (connection, request) in requests.finished() {
            let of_id = |c: &&mut Connection| c.id == connection;
            if let Some(connection) = self.connections.values_mut().find(of_id) {
                connection.outbox.push_back(request);
                connection.pump();
            }
        }
    }

    fn identified(&mut self, identity: Result<Identity, Error>) {
        self.identity = None;
        match identity {
            Ok(identity) => self.shared.core().identify(identity),
            Err(error) if error.is_retriable() => {
                tracing::debug!(%error, "no producer id yet");
            }
            Err(error) => self.shared.settle(|core| core.close(error)),
        }
    }

    fn start_refresh(&mut self, now: Instant) {
        let cluster = Arc::clone(&self.cluster);
        let topics = self.shared.core().topics();
        let not_before = self.refreshed_at + REFRESH_INTERVAL;
        self.refreshed_at = now.max(not_before);
        self.refresh = Some(Box::pin(async move {
            tokio::time::sleep_until(not_before.into()).await;
            cluster.refresh(&topics).await
        }));
    }

    fn refreshed(&mut self, metadata: Result<Arc<Metadata>, Error>) {
        self.refresh = None;
        match metadata {
            Ok(metadata) => self.shared.settle(|core| core.learn_all(&metadata)),
            Err(error) => tracing::debug!(%error, "cannot refresh metadata"),
        }
    }
}

/// Waits for the future if there is one, and for ever if there is none.
async fn pending_or<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn init_producer_id(cluster: Arc<Cluster>, backoff: Backoff) -> Result<Identity, Error> {
    let answer = cluster
        .ask_with(backoff, Repeat::Safe, |channel| {
            let request = cluster.request(v1::InitProducerIdRequest::default());
            async move {
                let mut client = ProduceServiceClient::new(channel);
                client.init_producer_id(request).await
            }
        })
        .await?;
    match i16::try_from(answer.producer_epoch) {
        Ok(epoch) if answer.producer_id >= 0 && epoch >= 0 => Ok(Identity {
            id: ProducerId(answer.producer_id),
            epoch: ProducerEpoch(epoch),
        }),
        _ => Err(Error::Api(ApiError::new(
            Reason::UnknownServerError,
            "the broker gave a producer identity that is none",
        ))),
    }
}

struct Encoded {
    payload: Bytes,
    /// The core does not have the bytes yet.
    is_new: bool,
    builder: Option<BatchBuilder>,
}

fn encode(body: Body, compressor: &mut Compressor) -> Result<Encoded, batch::Error> {
    match body {
        Body::Gathered(mut builder, stamp) => Ok(Encoded {
            payload: builder.finish_with(compressor, stamp)?,
            is_new: true,
            builder: Some(builder),
        }),
        Body::Encoded(payload) => Ok(Encoded {
            payload,
            is_new: false,
            builder: None,
        }),
        Body::Restamp(payload, stamp) => {
            let mut payload = BytesMut::from(&payload[..]);
            batch::set_producer(&mut payload, Some(stamp))?;
            Ok(Encoded {
                payload: payload.freeze(),
                is_new: true,
                builder: None,
            })
        }
    }
}

fn item(
    correlation_id: u64,
    topic: &str,
    topic_id: [u8; 16],
    partition: u32,
    payload: Bytes,
) -> v1::ProduceStreamItem {
    v1::ProduceStreamItem {
        correlation_id,
        item: Some(v1::ProduceItem {
            partition: Some(v1::TopicPartition {
                topic: topic.to_owned(),
                topic_id: Bytes::copy_from_slice(&topic_id),
                partition,
            }),
            payload: Some(v1::produce_item::Payload::RecordBatch(payload)),
        }),
    }
}

/// Batches gathered into requests, in order per connection.
struct Requests {
    acks: v1::Acks,
    timeout_ms: u32,
    open: HashMap<ConnectionId, (v1::ProduceStreamRequest, usize)>,
    finished: Vec<(ConnectionId, v1::ProduceStreamRequest)>,
}

impl Requests {
    fn new(acks: v1::Acks, timeout: Duration) -> Self {
        Self {
            acks,
            timeout_ms: ack_timeout_ms(timeout),
            open: HashMap::new(),
            finished: Vec::new(),
        }
    }

    fn add(&mut self, connection: ConnectionId, item: v1::ProduceStreamItem, bytes: usize) {
        let empty = || {
            let request = v1::ProduceStreamRequest {
                acks: self.acks.into(),
                timeout_ms: self.timeout_ms,
                items: Vec::new(),
            };
            (request, 0)
        };
        let open = self.open.entry(connection).or_insert_with(empty);
        let (request, held_bytes) = &*open;
        let is_full = held_bytes + bytes > REQUEST_BYTES || request.items.len() == REQUEST_BATCHES;
        if is_full && !request.items.is_empty() {
            let full = std::mem::replace(open, empty());
            self.finished.push((connection, full.0));
        }
        open.0.items.push(item);
        open.1 += bytes;
    }

    fn finished(mut self) -> Vec<(ConnectionId, v1::ProduceStreamRequest)> {
        let open = self.open.into_iter();
        self.finished
            .extend(open.map(|(connection, (request, _))| (connection, request)));
        self.finished
    }
}

/// How long the broker may wait for an acknowledgement: it should say that one partition is stuck before this side gives
/// up the connection, which would hold up all others. Brokers refuse to wait for much longer than the limit here.
fn ack_timeout_ms(request_timeout: Duration) -> u32 {
    const LONGEST_MS: u32 = 30_000;
    let two_thirds = request_timeout.as_millis() * 2 / 3;
    u32::try_from(two_thirds).map_or(LONGEST_MS, |ms| ms.clamp(1, LONGEST_MS))
}

/// One produce stream, from connecting to its end.
struct Conversation {
    shared: Arc<Shared>,
    cluster: Arc<Cluster>,
    connection: ConnectionId,
    address: String,
    /// The connection was established, so that batches may have reached the broker.
    carried: bool,
}

impl Conversation {
    async fn run(mut self, queue: mpsc::Receiver<v1::ProduceStreamRequest>) {
        let error = match self.converse(queue).await {
            Ok(()) => ApiError::new(Reason::NetworkException, "the broker ended the stream"),
            Err(error) => error,
        };
        tracing::debug!(address = self.address, %error, "produce stream ended");
        let (now, connection, carried) = (Instant::now(), self.connection, self.carried);
        self.shared.settle(|core| {
            if is_fatal(&error) {
                return core.close(Error::Api(error));
            }
            core.disconnected(now, connection, &error, carried)
        });
        self.shared.wake.notify_one();
    }

    async fn converse(
        &mut self,
        queue: mpsc::Receiver<v1::ProduceStreamRequest>,
    ) -> Result<(), ApiError> {
        let channel = match self.cluster.connect(&self.address).await {
            Ok(channel) => channel,
            Err(error) => return Err(ApiError::new(Reason::NetworkException, error.to_string())),
        };
        self.carried = true;
        let shared = Arc::clone(&self.shared);
        let requests = ReceiverStream::new(queue).inspect(move |_| shared.wake.notify_one());
        let mut client =
            ProduceServiceClient::new(channel).max_decoding_message_size(MAX_RESPONSE_BYTES);
        let mut responses = client.produce_stream(requests).await?.into_inner();
        while let Some(response) = responses.message().await? {
            self.apply(response);
        }
        Ok(())
    }

    fn apply(&self, response: v1::ProduceStreamResponse) {
        let now = Instant::now();
        self.shared.settle(|core| {
            let mut resolutions = Resolutions::default();
            for outcome in response.outcomes {
                let correlation = outcome.correlation_id;
                let outcome = outcome.outcome.and_then(|outcome| outcome.outcome);
                resolutions.extend(match outcome {
                    Some(v1::produce_outcome::Outcome::Ack(ack)) => {
                        core.acknowledged(correlation, stored(&ack))
                    }
                    Some(v1::produce_outcome::Outcome::Error(error)) => {
                        self.refused(core, now, correlation, error.into())
                    }
                    None => {
                        let error = "the broker sent an outcome that says nothing";
                        let error = ApiError::new(Reason::UnknownServerError, error);
                        core.refused(now, self.connection, correlation, error)
                    }
                });
            }
            resolutions
        });
        self.shared.wake.notify_one();
    }
}

impl Conversation {
    /// A broker that refuses because another one leads may say who does: then the batch goes there at once.
    fn refused(
        &self,
        core: &mut Core,
        now: Instant,
        correlation: u64,
        error: ApiError,
    ) -> Resolutions {
        let place = core.place_of(correlation);
        let leader = place
            .as_ref()
            .and_then(|(topic, partition)| self.cluster.hint(topic, *partition, &error));
        let resolutions = core.refused(now, self.connection, correlation, error);
        if let (Some((topic, partition)), Some(leader)) = (place, leader) {
            core.led(&topic, partition, leader);
        }
        resolutions
    }
}

fn stored(ack: &v1::ProduceAck) -> Stored {
    Stored {
        base_offset: ack.base_offset,
        log_append_time_ms: Some(ack.log_append_time_ms).filter(|time| *time >= 0),
    }
}

/// No repetition helps: whoever answers does not know us, or is no broker.
fn is_fatal(error: &ApiError) -> bool {
    matches!(
        error.code(),
        tonic::Code::Unauthenticated | tonic::Code::PermissionDenied | tonic::Code::Unimplemented
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_keep_order_and_stay_within_bytes_and_batches() {
        let connection = ConnectionId(1);
        let split = |batches: u64, bytes: usize| {
            let mut requests = Requests::new(v1::Acks::Quorum, Duration::from_secs(30));
            for correlation in 0..batches {
                let item = item(correlation, "t", [0; 16], 0, Bytes::new());
                requests.add(connection, item, bytes);
            }
            let items: Vec<Vec<u64>> = requests
                .finished()
                .into_iter()
                .map(|(_, request)| request.items.iter().map(|i| i.correlation_id).collect())
                .collect();
            assert_eq!(items.concat(), (0..batches).collect::<Vec<_>>());
            items.iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(split(5, REQUEST_BYTES / 2), [2, 2, 1]);
        assert_eq!(split(2, REQUEST_BYTES * 3), [1, 1]);
        assert_eq!(split(2_001, 10), [1_000, 1_000, 1]);
    }

    #[test]
    fn the_broker_gives_up_before_the_client_does() {
        assert_eq!(ack_timeout_ms(Duration::from_secs(30)), 20_000);
        assert_eq!(ack_timeout_ms(Duration::from_millis(1)), 1);
        assert_eq!(ack_timeout_ms(Duration::MAX), 30_000);
    }
}
