//! A broker in memory, over real connections, that can be stopped, started and made to fail on purpose. Several can be
//! one cluster: they share their logs, and each answers only for the partitions that it leads.
//!
//! It keeps the rules a client relies on: batches are validated, numbered batches are stored once and in order, offsets
//! are dense, fetches wait.

// Each test binary uses a part of it.
#![allow(dead_code, clippy::unwrap_used)]

mod groups;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{FutureExt, Stream, StreamExt};
use highwater_proto::batch::{self, BatchHeader, Limits, Records};
use highwater_proto::{ApiError, Offset, REMEMBERED_BATCHES, Reason, v1};
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};
use v1::admin_service_server::{AdminService, AdminServiceServer};
use v1::cluster_service_server::{ClusterService, ClusterServiceServer};
use v1::fetch_service_server::{FetchService, FetchServiceServer};
use v1::groups_service_server::GroupsServiceServer;
use v1::offsets_service_server::{OffsetsService, OffsetsServiceServer};
use v1::produce_service_server::{ProduceService, ProduceServiceServer};

const FOREVER: Duration = Duration::from_secs(3_600);
/// Calls that one connection carries at a time.
const MAX_CONCURRENT_STREAMS: u32 = 20;

type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What happens to one batch instead of the usual.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// It is stored, and the connection breaks before the answer.
    LoseAnswer,
    /// The connection breaks before it is stored.
    LoseRequest,
    /// It is refused.
    Refuse(Reason),
    /// It is stored, and the answer says that nobody knows.
    StoreAndRefuse(Reason),
}

pub(crate) struct Log {
    /// Broker that leads it, and since when.
    pub(crate) leader: u32,
    pub(crate) epoch: u64,
    pub(crate) batches: Vec<(u64, Bytes)>,
    pub(crate) start: u64,
    pub(crate) next: u64,
    /// By producer id: sequence after the last, and the last batches (sequence, base offset).
    producers: HashMap<i64, (i32, VecDeque<(i32, u64)>)>,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            leader: 1,
            epoch: 1,
            batches: Vec::new(),
            start: 0,
            next: 0,
            producers: HashMap::new(),
        }
    }
}

#[derive(Default)]
pub(crate) struct State {
    /// By id, from 1.
    brokers: Vec<SocketAddr>,
    /// Brokers that answer nothing.
    pub(crate) frozen: BTreeSet<u32>,
    /// Brokers do not say who leads what they do not.
    pub(crate) give_no_hints: bool,
    topics: BTreeMap<String, (Bytes, Vec<Log>)>,
    pub(crate) faults: VecDeque<Option<Fault>>,
    pub(crate) next_producer_id: i64,
    /// Batches are neither stored nor answered while this is set.
    pub(crate) stuck: bool,
    /// Produce streams opened so far.
    pub(crate) streams: usize,
    /// Subscriptions opened so far.
    pub(crate) subscriptions: usize,
    /// Subscriptions that have not ended.
    pub(crate) open_subscriptions: usize,
    /// So many subscriptions break when they next have something to do.
    pub(crate) cut_subscriptions: usize,
    /// Metadata watches are refused.
    pub(crate) refuse_watches: bool,
    /// Bytes of batches pushed so far.
    pub(crate) pushed_bytes: u64,
    pub(crate) group: groups::Group,
}

impl State {
    pub(crate) fn add_partition(&mut self, topic: &str) {
        self.topics.get_mut(topic).unwrap().1.push(Log::default());
    }

    pub(crate) fn log(&mut self, topic: &str, partition: u32) -> &mut Log {
        &mut self.topics.get_mut(topic).unwrap().1[partition as usize]
    }
}

#[derive(Clone)]
struct Service {
    id: u32,
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
    address: SocketAddr,
}

/// See the module.
pub(crate) struct FakeBroker {
    service: Service,
    /// Runs the server and its connections, so that stopping ends them all.
    runtime: Option<Runtime>,
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl FakeBroker {
    /// Starts a broker on a free port.
    pub(crate) async fn start() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        Self::serve(socket, state, watch::Sender::new(0)).await
    }

    /// Starts one more broker of this one's cluster.
    pub(crate) async fn another(&self) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let Service { state, changed, .. } = self.service.clone();
        Self::serve(socket, state, changed).await
    }

    async fn serve(
        socket: TcpSocket,
        state: Arc<Mutex<State>>,
        changed: watch::Sender<u64>,
    ) -> Self {
        let address = socket.local_addr().unwrap();
        let id = {
            let mut state = state.lock().unwrap();
            state.brokers.push(address);
            u32::try_from(state.brokers.len()).unwrap()
        };
        let service = Service {
            id,
            state,
            changed,
            address,
        };
        let mut broker = Self {
            service,
            runtime: None,
        };
        drop(socket);
        broker.restart().await;
        broker
    }

    /// Makes this broker the leader of a partition.
    pub(crate) fn lead(&self, topic: &str, partition: u32) {
        let id = self.service.id;
        self.change(|state| {
            let log = state.log(topic, partition);
            log.leader = id;
            log.epoch += 1;
        });
    }

    /// Lets this broker answer nothing, or go on.
    pub(crate) fn freeze(&self, frozen: bool) {
        let id = self.service.id;
        self.change(|state| match frozen {
            true => drop(state.frozen.insert(id)),
            false => drop(state.frozen.remove(&id)),
        });
    }

    pub(crate) fn address(&self) -> String {
        self.service.address.to_string()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.service.state.lock().unwrap()
    }

    pub(crate) fn add_topic(&self, name: &str, partitions: usize) {
        let mut state = self.state();
        let id = u8::try_from(state.topics.len() + 1).unwrap();
        let logs = (0..partitions).map(|_| Log::default()).collect();
        let topic = (Bytes::from(vec![id; 16]), logs);
        state.topics.insert(name.to_owned(), topic);
    }

    /// Gives the member of the group these partitions, and no others.
    pub(crate) fn assign(&self, topic: &str, partitions: &[u32]) {
        self.change(|state| {
            let of_topic = v1::TopicPartitions {
                topic: topic.to_owned(),
                topic_id: state.topics[topic].0.clone(),
                partitions: partitions.to_vec(),
            };
            let is_some = !partitions.is_empty();
            state.group.assigned = is_some.then_some(of_topic).into_iter().collect();
        });
    }

    /// Changes the state and wakes whoever waits for it.
    pub(crate) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.service.changed.send_modify(|version| *version += 1);
    }

    /// Waits until the state is so.
    pub(crate) async fn until(&self, so: impl Fn(&State) -> bool) {
        let so = |state: &mut State| so(state).then_some(());
        self.service.wait_for(FOREVER, so).await.unwrap();
    }

    /// Cuts all connections and refuses new ones. What was stored stays.
    pub(crate) async fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            let stop = move || runtime.shutdown_timeout(Duration::from_secs(10));
            tokio::task::spawn_blocking(stop).await.unwrap();
        }
    }

    /// Serves again, on the same port.
    pub(crate) async fn restart(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let service = self.service.clone();
        let (ready, is_ready) = oneshot::channel();
        runtime.spawn(async move {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_reuseaddr(true).unwrap();
            socket.bind(service.address).unwrap();
            let incoming = TcpListenerStream::new(socket.listen(64).unwrap());
            ready.send(()).unwrap();
            let server = tonic::transport::Server::builder()
                .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
                .add_service(ClusterServiceServer::new(service.clone()))
                .add_service(ProduceServiceServer::new(service.clone()))
                .add_service(FetchServiceServer::new(service.clone()))
                .add_service(OffsetsServiceServer::new(service.clone()))
                .add_service(GroupsServiceServer::new(service.clone()))
                .add_service(AdminServiceServer::new(service));
            server.serve_with_incoming(incoming).await.unwrap();
        });
        is_ready.await.unwrap();
        self.runtime = Some(runtime);
    }
}

impl Service {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn changed(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    /// Waits until `ready` gives something, or the time is over.
    async fn wait_for<T>(
        &self,
        wait: Duration,
        mut ready: impl FnMut(&mut State) -> Option<T>,
    ) -> Option<T> {
        let mut changes = self.changed.subscribe();
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            changes.borrow_and_update();
            if let Some(found) = ready(&mut self.state()) {
                return Some(found);
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep_until(deadline) => return None,
            }
        }
    }

    /// Waits as long as this broker is frozen.
    async fn thawed(&self) {
        let id = self.id;
        self.wait_for(FOREVER, |state| (!state.frozen.contains(&id)).then_some(()))
            .await;
    }

    /// Stores a batch or answers what became of it. `Err` breaks the connection.
    async fn produce_one(&self, item: v1::ProduceItem) -> Result<v1::ProduceOutcome, Status> {
        self.thawed().await;
        self.wait_for(FOREVER, |state| (!state.stuck).then_some(()))
            .await;
        let mut state = self.state();
        let fault = state.faults.pop_front().flatten();
        let broken = || Status::unavailable("connection reset");
        let outcome = match fault {
            Some(Fault::LoseRequest) => return Err(broken()),
            Some(Fault::Refuse(reason)) => Err(ApiError::new(reason, "on purpose")),
            Some(Fault::LoseAnswer) => {
                let _ = append(&mut state, self.id, item);
                drop(state);
                self.changed();
                return Err(broken());
            }
            Some(Fault::StoreAndRefuse(reason)) => {
                let _ = append(&mut state, self.id, item);
                Err(ApiError::new(reason, "on purpose"))
            }
            None => append(&mut state, self.id, item),
        };
        drop(state);
        self.changed();
        Ok(v1::ProduceOutcome {
            outcome: Some(match outcome {
                Ok(ack) => v1::produce_outcome::Outcome::Ack(ack),
                Err(error) => v1::produce_outcome::Outcome::Error(error.into()),
            }),
        })
    }
}

/// The partition, at the broker that leads it.
fn find<'a>(
    state: &'a mut State,
    me: u32,
    partition: Option<&v1::TopicPartition>,
) -> Result<&'a mut Log, ApiError> {
    let wanted = partition.unwrap();
    let unknown = |reason| ApiError::new(reason, "no such topic or partition");
    let (id, logs) = state
        .topics
        .get_mut(&wanted.topic)
        .ok_or_else(|| unknown(Reason::UnknownTopicOrPartition))?;
    if !wanted.topic_id.is_empty() && wanted.topic_id != *id {
        return Err(unknown(Reason::UnknownTopicId));
    }
    let log = logs
        .get_mut(wanted.partition as usize)
        .ok_or_else(|| unknown(Reason::UnknownTopicOrPartition))?;
    if log.leader == me {
        return Ok(log);
    }
    let error = ApiError::new(Reason::NotLeaderOrFollower, "another broker leads it");
    Err(match state.give_no_hints {
        true => error,
        false => error
            .with("leader_broker_id", log.leader)
            .with("leader_epoch", log.epoch),
    })
}

fn append(state: &mut State, me: u32, item: v1::ProduceItem) -> Result<v1::ProduceAck, ApiError> {
    let log = find(state, me, item.partition.as_ref())?;
    let Some(v1::produce_item::Payload::RecordBatch(bytes)) = item.payload else {
        return Err(ApiError::new(Reason::Unsupported, "batches only"));
    };
    let header = batch::validate(&bytes, &Limits::default()).map_err(|e| ApiError::from(&e))?;
    let ack = |base_offset| v1::ProduceAck {
        base_offset,
        log_append_time_ms: -1,
        log_start_offset: 0,
    };
    let Some(stamp) = header.producer else {
        return Ok(ack(store(log, &bytes, header.record_count)));
    };
    let known = log.producers.entry(stamp.id.0).or_default();
    if let Some((_, base_offset)) = known.1.iter().find(|(s, _)| *s == stamp.sequence.0) {
        return Ok(ack(*base_offset));
    }
    if known.0 != stamp.sequence.0 {
        return Err(ApiError::new(
            Reason::OutOfOrderSequenceNumber,
            format!("{} does not follow {}", stamp.sequence, known.0),
        ));
    }
    known.0 = stamp.sequence.plus(header.record_count).0;
    known.1.push_back((stamp.sequence.0, log.next));
    if known.1.len() > REMEMBERED_BATCHES {
        known.1.pop_front();
    }
    Ok(ack(store(log, &bytes, header.record_count)))
}

/// Appends a batch and returns its base offset.
fn store(log: &mut Log, bytes: &[u8], record_count: u32) -> u64 {
    let mut stored = BytesMut::from(bytes);
    batch::set_position(&mut stored, Offset(log.next), 1).unwrap();
    let base_offset = log.next;
    log.batches.push((base_offset, stored.freeze()));
    log.next += u64::from(record_count);
    base_offset
}

#[tonic::async_trait]
impl ProduceService for Service {
    async fn init_producer_id(
        &self,
        _: Request<v1::InitProducerIdRequest>,
    ) -> Result<Response<v1::InitProducerIdResponse>, Status> {
        let mut state = self.state();
        state.next_producer_id += 1;
        Ok(Response::new(v1::InitProducerIdResponse {
            producer_id: state.next_producer_id,
            producer_epoch: 0,
        }))
    }

    async fn produce(
        &self,
        _: Request<v1::ProduceRequest>,
    ) -> Result<Response<v1::ProduceResponse>, Status> {
        Err(Status::unimplemented("the stream is what clients use"))
    }

    type ProduceStreamStream = BoxStream<v1::ProduceStreamResponse>;

    async fn produce_stream(
        &self,
        request: Request<Streaming<v1::ProduceStreamRequest>>,
    ) -> Result<Response<Self::ProduceStreamStream>, Status> {
        self.state().streams += 1;
        self.changed();
        let service = self.clone();
        let requests = request.into_inner();
        let answers = futures::stream::unfold(Some(requests), move |requests| {
            let service = service.clone();
            async move {
                let mut requests = requests?;
                let request = requests.message().await.ok()??;
                let mut outcomes = Vec::new();
                for item in request.items {
                    match service.produce_one(item.item.unwrap()).await {
                        Ok(outcome) => outcomes.push(v1::ProduceStreamOutcome {
                            correlation_id: item.correlation_id,
                            outcome: Some(outcome),
                        }),
                        Err(status) => return Some((Err(status), None)),
                    }
                }
                let response = v1::ProduceStreamResponse { outcomes };
                Some((Ok(response), Some(requests)))
            }
        });
        Ok(Response::new(answers.boxed()))
    }
}

#[tonic::async_trait]
impl FetchService for Service {
    async fn fetch(
        &self,
        request: Request<v1::FetchRequest>,
    ) -> Result<Response<v1::FetchResponse>, Status> {
        let request = request.into_inner();
        let wait = Duration::from_millis(request.max_wait_ms.into());
        let read = |state: &mut State| {
            let partitions: Vec<_> = request
                .partitions
                .iter()
                .map(|p| fetch_one(state, self.id, p))
                .collect();
            let found = |p: &v1::FetchedPartition| p.data.is_some() || p.error.is_some();
            partitions.iter().any(found).then_some(partitions)
        };
        let found = self.wait_for(wait, read).await;
        let partitions = found.unwrap_or_else(|| {
            let mut state = self.state();
            request
                .partitions
                .iter()
                .map(|p| fetch_one(&mut state, self.id, p))
                .collect()
        });
        Ok(Response::new(v1::FetchResponse { partitions }))
    }

    type SubscribeStream = BoxStream<v1::SubscribeResponse>;

    async fn subscribe(
        &self,
        request: Request<Streaming<v1::SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        {
            let mut state = self.state();
            state.subscriptions += 1;
            state.open_subscriptions += 1;
        }
        self.changed();
        let subscription = Subscription {
            service: self.clone(),
            requests: request.into_inner(),
            changes: self.changed.subscribe(),
            assigned: v1::SubscribeAssign::default(),
            credit: 0,
        };
        let messages = futures::stream::unfold(Some(subscription), |subscription| async {
            let mut subscription = subscription?;
            match subscription.next().await? {
                Ok(message) => Some((Ok(message), Some(subscription))),
                Err(status) => Some((Err(status), None)),
            }
        });
        Ok(Response::new(messages.boxed()))
    }
}

/// Pushes one partition per message, as long as there is credit.
struct Subscription {
    service: Service,
    requests: Streaming<v1::SubscribeRequest>,
    changes: watch::Receiver<u64>,
    assigned: v1::SubscribeAssign,
    credit: i64,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.service.state().open_subscriptions -= 1;
        self.service.changed();
    }
}

impl Subscription {
    async fn next(&mut self) -> Option<Result<v1::SubscribeResponse, Status>> {
        loop {
            while let Some(request) = self.requests.next().now_or_never() {
                self.take(request?.ok()?);
            }
            self.service.thawed().await;
            self.changes.borrow_and_update();
            if self.service.state().cut_subscriptions > 0 {
                self.service.state().cut_subscriptions -= 1;
                return Some(Err(Status::unavailable("connection reset")));
            }
            if let Some(message) = self.look() {
                self.service.changed();
                return Some(Ok(message));
            }
            tokio::select! {
                request = self.requests.next() => self.take(request?.ok()?),
                _ = self.changes.changed() => {}
            }
        }
    }

    fn take(&mut self, request: v1::SubscribeRequest) {
        match request.request.unwrap() {
            v1::subscribe_request::Request::Assign(assign) => self.assigned = assign,
            v1::subscribe_request::Request::Credit(credit) => {
                self.credit += i64::try_from(credit.bytes).unwrap();
            }
        }
    }

    fn look(&mut self) -> Option<v1::SubscribeResponse> {
        let mut state = self.service.state();
        for place in 0..self.assigned.partitions.len() {
            let mut wanted = self.assigned.partitions[place].clone();
            let credit = u32::try_from(self.credit.max(0)).unwrap();
            wanted.max_bytes = wanted.max_bytes.min(credit);
            let fetched = fetch_one(&mut state, self.service.id, &wanted);
            if fetched.error.is_some() {
                self.assigned.partitions.remove(place);
            } else if fetched.data.is_some() {
                let mut read = self.assigned.partitions.remove(place);
                read.offset = fetched.next_offset;
                self.assigned.partitions.push(read);
            } else {
                continue;
            }
            let used = match &fetched.data {
                Some(v1::fetched_partition::Data::RecordBatches(data)) => {
                    data.batches.iter().map(|batch| batch.len() as u64).sum()
                }
                _ => 0,
            };
            self.credit -= i64::try_from(used).unwrap();
            state.pushed_bytes += used;
            return Some(v1::SubscribeResponse {
                assignment_id: self.assigned.assignment_id,
                partitions: vec![fetched],
                credit_used_bytes: used,
            });
        }
        None
    }
}

fn fetch_one(state: &mut State, me: u32, wanted: &v1::FetchPartition) -> v1::FetchedPartition {
    let mut answer = v1::FetchedPartition {
        partition: wanted.partition.clone(),
        next_offset: wanted.offset,
        ..v1::FetchedPartition::default()
    };
    let log = match find(state, me, wanted.partition.as_ref()) {
        Ok(log) => log,
        Err(error) => {
            answer.error = Some(error.into());
            return answer;
        }
    };
    if wanted.offset < log.start || wanted.offset > log.next {
        let error = ApiError::new(Reason::OffsetOutOfRange, "no such offset");
        answer.error = Some(error.into());
        return answer;
    }
    let mut batches = Vec::new();
    let mut bytes = 0;
    for (base_offset, batch) in &log.batches {
        let next = BatchHeader::parse(batch).map_or(base_offset + 1, |h| h.next_offset().0);
        if next <= wanted.offset || bytes >= wanted.max_bytes as usize {
            continue;
        }
        bytes += batch.len();
        answer.next_offset = next;
        batches.push(batch.clone());
    }
    answer.high_watermark = log.next;
    if !batches.is_empty() {
        let data = v1::fetched_partition::Data::RecordBatches(v1::RecordBatches { batches });
        answer.data = Some(data);
    }
    answer
}

#[tonic::async_trait]
impl OffsetsService for Service {
    async fn list_offsets(
        &self,
        request: Request<v1::ListOffsetsRequest>,
    ) -> Result<Response<v1::ListOffsetsResponse>, Status> {
        self.thawed().await;
        let mut state = self.state();
        let list = |item: v1::ListOffsetsItem| {
            let mut answer = v1::ListedOffset {
                partition: item.partition.clone(),
                timestamp_ms: -1,
                ..v1::ListedOffset::default()
            };
            match find(&mut state, self.id, item.partition.as_ref()) {
                Err(error) => answer.error = Some(error.into()),
                Ok(log) => match item.spec.unwrap().spec.unwrap() {
                    v1::offset_spec::Spec::Earliest(_) => answer.offset = Some(log.start),
                    v1::offset_spec::Spec::Latest(_) => answer.offset = Some(log.next),
                    v1::offset_spec::Spec::TimestampMs(time) => {
                        let is_found = |_, found| found >= time;
                        if let Some((offset, found)) = first(log, is_found) {
                            (answer.offset, answer.timestamp_ms) = (Some(offset), found);
                        }
                    }
                    v1::offset_spec::Spec::AtOffset(at) => {
                        let is_found = |offset, _| offset >= at;
                        if let Some((offset, found)) = first(log, is_found) {
                            (answer.offset, answer.timestamp_ms) = (Some(offset), found);
                        }
                    }
                },
            }
            answer
        };
        let offsets = request.into_inner().items.into_iter().map(list).collect();
        Ok(Response::new(v1::ListOffsetsResponse { offsets }))
    }
}

/// The first record that is meant, by offset and timestamp.
fn first(log: &Log, is_meant: impl Fn(u64, i64) -> bool) -> Option<(u64, i64)> {
    let batches = log.batches.iter().map(|(_, batch)| batch.clone());
    let mut records = batches.flat_map(|batch| Records::open(batch, 1 << 20).unwrap());
    records.find_map(|record| {
        let record = record.unwrap();
        let (offset, timestamp_ms) = (record.offset.0, record.timestamp_ms);
        is_meant(offset, timestamp_ms).then_some((offset, timestamp_ms))
    })
}

fn metadata(state: &State, wanted: &[String]) -> v1::ClusterMetadata {
    let topics = state
        .topics
        .iter()
        .filter(|(name, _)| wanted.is_empty() || wanted.contains(name))
        .map(|(name, (id, logs))| v1::TopicMetadata {
            name: name.clone(),
            topic_id: id.clone(),
            partitions: (0..)
                .zip(logs)
                .map(|(partition, log)| v1::PartitionMetadata {
                    partition,
                    leader_broker_id: Some(log.leader),
                    leader_epoch: log.epoch,
                    replica_broker_ids: vec![log.leader],
                })
                .collect(),
        })
        .collect();
    let brokers = state.brokers.iter().zip(1..);
    v1::ClusterMetadata {
        brokers: brokers
            .map(|(address, broker_id)| v1::Broker {
                broker_id,
                host: address.ip().to_string(),
                port: address.port().into(),
                rack: String::new(),
                alive: true,
                state: v1::BrokerState::Active.into(),
            })
            .collect(),
        topics,
        ..v1::ClusterMetadata::default()
    }
}

#[tonic::async_trait]
impl ClusterService for Service {
    async fn get_metadata(
        &self,
        request: Request<v1::GetMetadataRequest>,
    ) -> Result<Response<v1::GetMetadataResponse>, Status> {
        self.thawed().await;
        let wanted = request.into_inner().topics;
        let metadata = metadata(&self.state(), &wanted);
        Ok(Response::new(v1::GetMetadataResponse {
            metadata: Some(metadata),
        }))
    }

    type WatchMetadataStream = BoxStream<v1::WatchMetadataResponse>;

    async fn watch_metadata(
        &self,
        request: Request<v1::WatchMetadataRequest>,
    ) -> Result<Response<Self::WatchMetadataStream>, Status> {
        if self.state().refuse_watches {
            return Err(Status::unimplemented("on purpose"));
        }
        let wanted = request.into_inner().topics;
        let service = self.clone();
        let messages = futures::stream::unfold(None, move |sent| {
            let (service, wanted) = (service.clone(), wanted.clone());
            async move {
                let differs = |state: &mut State| {
                    let now = metadata(state, &wanted);
                    (sent.as_ref() != Some(&now)).then_some(now)
                };
                let now = service.wait_for(FOREVER, differs).await?;
                service.thawed().await;
                let metadata = Some(now.clone());
                Some((Ok(v1::WatchMetadataResponse { metadata }), Some(now)))
            }
        });
        Ok(Response::new(messages.boxed()))
    }

    async fn describe_cluster(
        &self,
        _: Request<v1::DescribeClusterRequest>,
    ) -> Result<Response<v1::DescribeClusterResponse>, Status> {
        Err(Status::unimplemented("not in this broker"))
    }
}

/// Creates topics; everything else answers that it is not implemented.
#[tonic::async_trait]
impl AdminService for Service {
    async fn create_topic(
        &self,
        request: Request<v1::CreateTopicRequest>,
    ) -> Result<Response<v1::CreateTopicResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        if state.topics.contains_key(&request.name) {
            let error = ApiError::new(Reason::TopicAlreadyExists, "it exists");
            return Err(error.with("topic", request.name).into());
        }
        let id = Bytes::from(vec![u8::try_from(state.topics.len() + 1).unwrap(); 16]);
        let logs = (0..request.partitions).map(|_| Log::default()).collect();
        state.topics.insert(request.name, (id.clone(), logs));
        Ok(Response::new(v1::CreateTopicResponse {
            topic_id: id,
            partitions: request.partitions,
            replication_factor: 1,
        }))
    }

    async fn describe_topic(
        &self,
        _: Request<v1::DescribeTopicRequest>,
    ) -> Result<Response<v1::DescribeTopicResponse>, Status> {
        Err(Status::unimplemented("not in this broker"))
    }

    async fn alter_topic(
        &self,
        _: Request<v1::AlterTopicRequest>,
    ) -> Result<Response<v1::AlterTopicResponse>, Status> {
        Err(Status::unimplemented("not in this broker"))
    }

    async fn delete_topic(
        &self,
        request: Request<v1::DeleteTopicRequest>,
    ) -> Result<Response<v1::DeleteTopicResponse>, Status> {
        let name = request.into_inner().name;
        let removed = self.state().topics.remove(&name);
        self.changed();
        match removed {
            Some((topic_id, _)) => Ok(Response::new(v1::DeleteTopicResponse { topic_id })),
            None => Err(ApiError::new(Reason::UnknownTopicOrPartition, name).into()),
        }
    }

    async fn add_partitions(
        &self,
        _: Request<v1::AddPartitionsRequest>,
    ) -> Result<Response<v1::AddPartitionsResponse>, Status> {
        Err(Status::unimplemented("not in this broker"))
    }

    async fn trim_partitions(
        &self,
        request: Request<v1::TrimPartitionsRequest>,
    ) -> Result<Response<v1::TrimPartitionsResponse>, Status> {
        let mut state = self.state();
        let trim = |item: v1::TrimItem| {
            let mut outcome = v1::TrimOutcome {
                partition: item.partition.clone(),
                ..v1::TrimOutcome::default()
            };
            match find(&mut state, self.id, item.partition.as_ref()) {
                Ok(log) => {
                    log.start = item.before_offset.unwrap_or(log.next);
                    outcome.log_start_offset = log.start;
                }
                Err(error) => outcome.error = Some(error.into()),
            }
            outcome
        };
        let outcomes = request.into_inner().items.into_iter().map(trim).collect();
        Ok(Response::new(v1::TrimPartitionsResponse { outcomes }))
    }
}
