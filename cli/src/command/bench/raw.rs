//! Producing without the client's producer: batches that were made before, sent over produce streams again and again.
//!
//! Nothing is gathered, numbered, compressed or repeated meanwhile, so what is measured is the broker and the gRPC
//! between. A batch that is refused is an error.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use highwater_client::{ApiError, Client};
use highwater_proto::batch::{BatchBuilder, NewRecord};
use highwater_proto::v1;
use highwater_proto::v1::produce_service_client::ProduceServiceClient;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

use super::generator::now_ms;
use super::observer::Counter;
use super::payload::Payload;
use super::produce::BatchShape;
use super::records;
use super::tally::Tally;
use super::topic::Topic;
use super::window::Window;
use crate::explain::explain;
use crate::failure::Failure;

/// Batches that are made, and then sent in turn.
const BATCHES: u64 = 64;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the broker may wait for an acknowledgement, in milliseconds.
const ACK_TIMEOUT_MS: u32 = 30_000;

/// Bytes that may be on their way to this side: acknowledgements are small.
const WINDOW_BYTES: u32 = 1 << 20;

/// What failed, in every failure to start.
const CANNOT_START: &str = "cannot open a produce stream";

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load<'a> {
    pub(super) topic: &'a Topic,
    pub(super) records: &'a records::Options,
    /// Streams to each broker that leads a partition.
    pub(super) streams: u32,
    /// Batches that each stream keeps unacknowledged.
    pub(super) in_flight: u32,
    pub(super) window: Window,
}

/// Connects to the leaders of the topic and begins to send.
pub(super) async fn start(
    load: Load<'_>,
    client: &Client,
    counter: &Arc<Counter>,
) -> Result<JoinSet<Tally>, Failure> {
    let batches = Arc::new(Batches::new(load.records)?);
    let leaders = leaders(client, &load.topic.name).await?;
    let mut generators = JoinSet::new();
    for (address, partitions) in leaders {
        for _ in 0..load.streams {
            let stream = Stream {
                channel: connect(&address).await?,
                topic: load.topic.name.clone(),
                partitions: partitions.clone(),
                batches: Arc::clone(&batches),
                in_flight: load.in_flight as usize,
                window: load.window,
                counter: Arc::clone(counter),
            };
            generators.spawn(stream.run());
        }
    }
    Ok(generators)
}

/// The addresses of leaders, with the partitions that each leads.
async fn leaders(client: &Client, topic: &str) -> Result<BTreeMap<String, Vec<u32>>, Failure> {
    let metadata = client
        .admin()
        .metadata(&[topic.to_owned()])
        .await
        .map_err(|error| explain(CANNOT_START, &error))?;
    let addresses: BTreeMap<u32, String> = metadata
        .brokers
        .iter()
        .map(|broker| (broker.broker_id, format!("{}:{}", broker.host, broker.port)))
        .collect();
    let mut leaders: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for partition in metadata.topics.iter().flat_map(|topic| &topic.partitions) {
        let leader = partition.leader_broker_id.and_then(|id| addresses.get(&id));
        let Some(address) = leader else {
            let why = format!("partition {} has no leader", partition.partition);
            return Err(Failure::new(CANNOT_START, why));
        };
        leaders
            .entry(address.clone())
            .or_default()
            .push(partition.partition);
    }
    Ok(leaders)
}

async fn connect(address: &str) -> Result<Channel, Failure> {
    let connected = async {
        Endpoint::from_shared(format!("http://{address}"))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .connect()
            .await
    };
    connected
        .await
        .map_err(|error| Failure::new(format!("{CANNOT_START} to {address}"), error))
}

/// Finished batches of one shape.
#[derive(Debug)]
struct Batches {
    encoded: Vec<Bytes>,
    /// Records of each.
    records: u64,
    /// Bytes of a record's value.
    record_bytes: u64,
}

impl Batches {
    fn new(options: &records::Options) -> Result<Self, Failure> {
        let record_bytes = options.record_size.as_usize();
        let shape = BatchShape::new(record_bytes, options.batch_size.as_usize());
        let payload = Payload::new(record_bytes);
        let timestamp_ms = now_ms();
        let mut builder = BatchBuilder::with_capacity(shape.bytes);
        let mut make = |batch: u64| {
            for record in 0..shape.records {
                builder.append(&NewRecord {
                    timestamp_ms,
                    value: Some(payload.record(batch * shape.records + record)),
                    ..NewRecord::default()
                })?;
            }
            builder.finish(options.compression, None)
        };
        let encoded: Result<_, highwater_proto::batch::Error> =
            (0..BATCHES).map(&mut make).collect();
        Ok(Self {
            encoded: encoded.map_err(|error| Failure::new("cannot make batches", error))?,
            records: shape.records,
            record_bytes: payload.record_bytes(),
        })
    }
}

/// One produce stream.
struct Stream {
    channel: Channel,
    topic: String,
    partitions: Vec<u32>,
    batches: Arc<Batches>,
    in_flight: usize,
    window: Window,
    counter: Arc<Counter>,
}

impl Stream {
    async fn run(self) -> Tally {
        let mut tally = Tally::new(self.window);
        if let Err(status) = self.converse(&mut tally).await {
            tally.failed(1, ApiError::from(status));
        }
        tally
    }

    /// Sends a batch for each that is acknowledged, until the window ends; then waits for the rest.
    async fn converse(&self, tally: &mut Tally) -> Result<(), tonic::Status> {
        // A place for each batch on its way: its number goes with it and comes back.
        let mut sent_at = vec![Instant::now(); self.in_flight];
        let mut free: Vec<usize> = (0..self.in_flight).collect();
        let (requests, queue) = mpsc::channel(self.in_flight);
        let mut client = ProduceServiceClient::new(self.channel.clone());
        let mut responses = client
            .produce_stream(ReceiverStream::new(queue))
            .await?
            .into_inner();
        let mut batches = self.batches.encoded.iter().cycle();
        let mut partitions = self.partitions.iter().cycle();
        loop {
            while Instant::now() < self.window.to
                && let Some(place) = free.pop()
            {
                let batch = batches.next().expect("there are batches, in a cycle");
                let partition = partitions.next().expect("a leader leads a partition");
                sent_at[place] = Instant::now();
                let request = self.request(place, *partition, batch.clone());
                requests
                    .send(request)
                    .await
                    .map_err(|_closed| tonic::Status::unavailable("the stream has ended"))?;
            }
            if free.len() == self.in_flight {
                return Ok(());
            }
            let response = responses.message().await?;
            let response = response
                .ok_or_else(|| tonic::Status::unavailable("the broker ended the stream"))?;
            let now = Instant::now();
            for outcome in response.outcomes {
                let place = usize::try_from(outcome.correlation_id).unwrap_or(usize::MAX);
                let Some(at) = sent_at.get(place) else {
                    return Err(tonic::Status::internal("an answer to nothing"));
                };
                self.count(tally, *at, now, outcome.outcome);
                free.push(place);
            }
        }
    }

    fn request(&self, place: usize, partition: u32, batch: Bytes) -> v1::ProduceStreamRequest {
        v1::ProduceStreamRequest {
            acks: v1::Acks::Quorum.into(),
            timeout_ms: ACK_TIMEOUT_MS,
            items: vec![v1::ProduceStreamItem {
                correlation_id: place as u64,
                item: Some(v1::ProduceItem {
                    partition: Some(v1::TopicPartition {
                        topic: self.topic.clone(),
                        partition,
                        ..v1::TopicPartition::default()
                    }),
                    payload: Some(v1::produce_item::Payload::RecordBatch(batch)),
                }),
            }],
        }
    }

    fn count(
        &self,
        tally: &mut Tally,
        sent_at: Instant,
        now: Instant,
        outcome: Option<v1::ProduceOutcome>,
    ) {
        let records = self.batches.records;
        match outcome.and_then(|outcome| outcome.outcome) {
            Some(v1::produce_outcome::Outcome::Ack(_)) => {
                let bytes = records * self.batches.record_bytes;
                self.counter.add(records, bytes);
                tally.done(now, records, bytes);
                tally.took(sent_at, now, records);
            }
            Some(v1::produce_outcome::Outcome::Error(error)) => {
                tally.failed(records, ApiError::from(error));
            }
            None => tally.failed(records, "the broker sent an outcome that says nothing"),
        }
    }
}
