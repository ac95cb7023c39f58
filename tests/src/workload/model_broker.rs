//! A broker in a few lines, in memory, that keeps its promises or breaks one of them on purpose.
//!
//! It answers the four kinds of calls that load consists of. Calls fail at random, with and without effect, as those of
//! a real broker do when it is killed.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use highwater_proto::batch::{BatchBuilder, BatchHeader, Compression, Header, NewRecord, Records};
use highwater_proto::{Offset, PartitionIndex, Reason, TopicId, v1};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use crate::stamp::Place;

/// The promise that the broker breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// None.
    None,
    /// Now and then a batch is acknowledged and not stored.
    LosesAcks,
    /// A batch that is sent again is stored again.
    ForgetsProducers,
    /// Now and then a batch is stored and then refused for certain.
    RefusesWhatItStored,
    /// Now and then a reader gets one batch less in the middle.
    SkipsBatches,
    /// Now and then a stored record changes.
    RotsBits,
}

/// One share in how many things goes wrong: of calls always, by the flaw where there is one.
const ODDS: u32 = 20;

#[derive(Default)]
struct Partition {
    batches: Vec<(BatchHeader, Bytes)>,
    next_offset: u64,
    /// Of each producer the first sequences of its last batches, with their offsets.
    producers: HashMap<i64, VecDeque<(i32, u64)>>,
}

struct State {
    flaw: Flaw,
    random: StdRng,
    partitions: BTreeMap<Place, Partition>,
    next_producer: i64,
}

#[derive(Clone)]
pub(super) struct ModelBroker {
    state: Arc<Mutex<State>>,
}

/// What becomes of a call.
enum Luck {
    Good,
    /// It has its effect, and nobody is told.
    AnswerLost,
    /// It has no effect, and nobody is told.
    RequestLost,
    /// It is refused.
    Refused,
}

impl ModelBroker {
    /// Serves as long as the runtime lives.
    pub(super) async fn serve(flaw: Flaw, seed: u64) -> SocketAddr {
        let model = Self {
            state: Arc::new(Mutex::new(State {
                flaw,
                random: StdRng::seed_from_u64(seed),
                partitions: BTreeMap::new(),
                next_producer: 0,
            })),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        use v1::fetch_service_server::FetchServiceServer;
        use v1::offsets_service_server::OffsetsServiceServer;
        use v1::produce_service_server::ProduceServiceServer;
        let server = tonic::transport::Server::builder()
            .add_service(ProduceServiceServer::new(model.clone()))
            .add_service(FetchServiceServer::new(model.clone()))
            .add_service(OffsetsServiceServer::new(model));
        tokio::spawn(server.serve_with_incoming(incoming));
        address
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn append(&self, item: v1::ProduceItem) -> v1::ProduceOutcome {
        use v1::produce_outcome::Outcome;
        let outcome = match self.state().append(item) {
            Ok(base_offset) => Outcome::Ack(v1::ProduceAck {
                base_offset,
                log_append_time_ms: -1,
                log_start_offset: 0,
            }),
            Err(reason) => Outcome::Error(error(reason)),
        };
        v1::ProduceOutcome {
            outcome: Some(outcome),
        }
    }

    fn fetch_one(&self, wanted: v1::FetchPartition, records: bool) -> v1::FetchedPartition {
        let mut state = self.state();
        let place = place_of(wanted.partition.as_ref().unwrap());
        let skip = state.flaw == Flaw::SkipsBatches && state.is_unlucky();
        let partition = state.partitions.entry(place).or_default();
        let mut fetched = v1::FetchedPartition {
            partition: wanted.partition,
            high_watermark: partition.next_offset,
            leader_epoch: 1,
            next_offset: wanted.offset,
            ..v1::FetchedPartition::default()
        };
        if wanted.offset > partition.next_offset {
            fetched.error = Some(error(Reason::OffsetOutOfRange));
            return fetched;
        }
        let mut batches: Vec<_> = partition
            .batches
            .iter()
            .filter(|(header, _)| {
                header.base_offset.0 + u64::from(header.record_count) > wanted.offset
            })
            .take(5)
            .collect();
        if let Some((header, _)) = batches.last() {
            fetched.next_offset = header.base_offset.0 + u64::from(header.record_count);
        }
        if skip && batches.len() > 2 {
            batches.remove(1);
        }
        let batches = batches.into_iter().map(|(_, bytes)| bytes.clone());
        use v1::fetched_partition::Data;
        fetched.data = Some(if records {
            let plain = batches.flat_map(decoded);
            Data::Records(v1::Records {
                records: plain
                    .filter(|found| found.offset >= wanted.offset)
                    .collect(),
            })
        } else {
            Data::RecordBatches(v1::RecordBatches {
                batches: batches.collect(),
            })
        });
        fetched
    }
}

impl State {
    fn is_unlucky(&mut self) -> bool {
        self.random.random_ratio(1, ODDS)
    }

    fn luck(&mut self) -> Luck {
        match self.random.random_range(0..ODDS) {
            0 => Luck::AnswerLost,
            1 => Luck::RequestLost,
            2 => Luck::Refused,
            _ => Luck::Good,
        }
    }

    fn append(&mut self, item: v1::ProduceItem) -> Result<u64, Reason> {
        let unlucky = self.is_unlucky();
        let (flaw, place) = (self.flaw, place_of(item.partition.as_ref().unwrap()));
        let partition = self.partitions.entry(place).or_default();
        let mut bytes = match item.payload.unwrap() {
            v1::produce_item::Payload::RecordBatch(bytes) => BytesMut::from(&bytes[..]),
            v1::produce_item::Payload::Records(records) => encoded(records),
        };
        let base_offset = partition.next_offset;
        highwater_proto::batch::set_position(&mut bytes, Offset(base_offset), 1).unwrap();
        let header = BatchHeader::parse(&bytes).unwrap();
        if let Some(stamp) = header.producer {
            let known = partition.producers.entry(stamp.id.0).or_default();
            let same = known.iter().find(|(first, _)| *first == stamp.sequence.0);
            if let Some((_, offset)) = same
                && flaw != Flaw::ForgetsProducers
            {
                return Ok(*offset);
            }
            known.push_back((stamp.sequence.0, base_offset));
            if known.len() > 5 {
                known.pop_front();
            }
        }
        if unlucky && flaw == Flaw::LosesAcks {
            return Ok(base_offset);
        }
        if unlucky && flaw == Flaw::RotsBits {
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
        }
        partition.next_offset += u64::from(header.record_count);
        partition.batches.push((header, bytes.freeze()));
        if unlucky && flaw == Flaw::RefusesWhatItStored && header.producer.is_none() {
            return Err(Reason::DiskFull);
        }
        Ok(base_offset)
    }
}

#[tonic::async_trait]
impl v1::produce_service_server::ProduceService for ModelBroker {
    type ProduceStreamStream = ReceiverStream<Result<v1::ProduceStreamResponse, Status>>;

    async fn init_producer_id(
        &self,
        _: Request<v1::InitProducerIdRequest>,
    ) -> Result<Response<v1::InitProducerIdResponse>, Status> {
        let mut state = self.state();
        state.next_producer += 1;
        Ok(Response::new(v1::InitProducerIdResponse {
            producer_id: state.next_producer,
            producer_epoch: 0,
        }))
    }

    async fn produce(
        &self,
        request: Request<v1::ProduceRequest>,
    ) -> Result<Response<v1::ProduceResponse>, Status> {
        let luck = self.state().luck();
        let items = request.into_inner().items;
        match luck {
            Luck::RequestLost => return Err(Status::unavailable("lost")),
            Luck::Refused => return Err(refusal()),
            Luck::Good | Luck::AnswerLost => {}
        }
        let outcomes = items.into_iter().map(|item| self.append(item)).collect();
        match luck {
            Luck::Good => Ok(Response::new(v1::ProduceResponse { outcomes })),
            _ => Err(Status::unavailable("lost")),
        }
    }

    async fn produce_stream(
        &self,
        request: Request<Streaming<v1::ProduceStreamRequest>>,
    ) -> Result<Response<Self::ProduceStreamStream>, Status> {
        let (answers, stream) = mpsc::channel(16);
        let (model, mut requests) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                let luck = model.state().luck();
                if matches!(luck, Luck::RequestLost | Luck::Refused) {
                    return;
                }
                let outcomes = request
                    .items
                    .into_iter()
                    .map(|item| v1::ProduceStreamOutcome {
                        correlation_id: item.correlation_id,
                        outcome: Some(model.append(item.item.unwrap())),
                    })
                    .collect();
                let answer = Ok(v1::ProduceStreamResponse { outcomes });
                if matches!(luck, Luck::AnswerLost) || answers.send(answer).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

#[tonic::async_trait]
impl v1::fetch_service_server::FetchService for ModelBroker {
    type SubscribeStream = ReceiverStream<Result<v1::SubscribeResponse, Status>>;

    async fn fetch(
        &self,
        request: Request<v1::FetchRequest>,
    ) -> Result<Response<v1::FetchResponse>, Status> {
        let request = request.into_inner();
        let records = request.format == i32::from(v1::RecordFormat::Records);
        if !matches!(self.state().luck(), Luck::Good) {
            return Err(Status::unavailable("lost"));
        }
        let partitions = request.partitions.into_iter();
        Ok(Response::new(v1::FetchResponse {
            partitions: partitions
                .map(|wanted| self.fetch_one(wanted, records))
                .collect(),
        }))
    }

    async fn subscribe(
        &self,
        request: Request<Streaming<v1::SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let (answers, stream) = mpsc::channel(16);
        let (model, mut requests) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            let Ok(Some(first)) = requests.message().await else {
                return;
            };
            let Some(v1::subscribe_request::Request::Assign(mut assign)) = first.request else {
                return;
            };
            let mut ticks = tokio::time::interval(Duration::from_millis(2));
            loop {
                ticks.tick().await;
                if matches!(model.state().luck(), Luck::RequestLost) {
                    return;
                }
                let mut partitions = Vec::new();
                for wanted in &mut assign.partitions {
                    let fetched = model.fetch_one(wanted.clone(), false);
                    if fetched.next_offset > wanted.offset {
                        wanted.offset = fetched.next_offset;
                        partitions.push(fetched);
                    }
                }
                let answer = v1::SubscribeResponse {
                    assignment_id: assign.assignment_id,
                    partitions,
                    credit_used_bytes: 1,
                };
                if answers.send(Ok(answer)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

#[tonic::async_trait]
impl v1::offsets_service_server::OffsetsService for ModelBroker {
    async fn list_offsets(
        &self,
        request: Request<v1::ListOffsetsRequest>,
    ) -> Result<Response<v1::ListOffsetsResponse>, Status> {
        let items = request.into_inner().items.into_iter();
        Ok(Response::new(v1::ListOffsetsResponse {
            offsets: items
                .map(|item| v1::ListedOffset {
                    partition: item.partition,
                    offset: Some(0),
                    ..v1::ListedOffset::default()
                })
                .collect(),
        }))
    }
}

fn place_of(named: &v1::TopicPartition) -> Place {
    Place {
        topic: TopicId::from_slice(&named.topic_id).unwrap(),
        partition: PartitionIndex(named.partition),
    }
}

fn error(reason: Reason) -> v1::Error {
    v1::Error {
        reason: reason.name().to_owned(),
        retriable: reason.is_retriable(),
        definite: reason.is_definite(),
        ..v1::Error::default()
    }
}

fn refusal() -> Status {
    highwater_proto::ApiError::new(Reason::Throttled, "not now").into_status()
}

fn encoded(records: v1::Records) -> BytesMut {
    let mut builder = BatchBuilder::new();
    for record in records.records {
        let headers: Vec<_> = record
            .headers
            .into_iter()
            .map(|header| Header {
                key: header.key,
                value: header.value,
            })
            .collect();
        let record = NewRecord {
            timestamp_ms: record.timestamp_ms.unwrap(),
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
        };
        builder.append(&record).unwrap();
    }
    BytesMut::from(&builder.finish(Compression::None, None).unwrap()[..])
}

fn decoded(batch: Bytes) -> Vec<v1::Record> {
    let Ok(records) = Records::open(batch, 1 << 20) else {
        return Vec::new();
    };
    records
        .map_while(Result::ok)
        .map(|record| v1::Record {
            key: record.key,
            value: record.value,
            headers: record
                .headers
                .map(|header| v1::Header {
                    key: header.key,
                    value: header.value,
                })
                .collect(),
            timestamp_ms: Some(record.timestamp_ms),
            offset: record.offset.0,
        })
        .collect()
}
