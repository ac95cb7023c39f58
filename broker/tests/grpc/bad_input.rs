//! What each method must refuse: with which status and reason, without appending or changing anything, and with the
//! connection still usable. All the while a proper client appends over the same connection and is not harmed.

use bytes::Bytes;
use highwater_proto::batch::{BatchBuilder, Compression, Header, NewRecord, ProducerStamp};
use highwater_proto::{ApiError, ProducerId, Reason, Sequence, v1};
use prost::Message as _;
use tokio_stream::StreamExt as _;
use v1::offset_spec::Spec;
use v1::produce_item::Payload;

use crate::good_traffic::GoodTraffic;
use crate::raw_call::{call, framed};
use crate::test_broker::{TestBroker, batch, batch_of, fetch_from, named, outcome};

const NOW_AND_TWO_HOURS: i64 = 7_200_000;
/// A producer id that the broker gave out for the tests is below this.
const UNKNOWN_PRODUCER: i64 = 1 << 40;

/// What is sent.
enum Ask {
    /// By request and by stream.
    Item(v1::ProduceItem),
    Produce(v1::ProduceRequest),
    ProduceStream(v1::ProduceStreamRequest),
    InitProducerId(v1::InitProducerIdRequest),
    Fetch(v1::FetchRequest),
    ListOffsets(v1::ListOffsetsRequest),
    CreateTopic(v1::CreateTopicRequest),
    DescribeTopic(v1::DescribeTopicRequest),
    AlterTopic(v1::AlterTopicRequest),
    DeleteTopic(v1::DeleteTopicRequest),
    AddPartitions(v1::AddPartitionsRequest),
    TrimPartitions(v1::TrimPartitionsRequest),
    MoveReplicas(v1::MoveReplicasRequest),
    SetReplicationFactor(v1::SetReplicationFactorRequest),
    CancelMoves(v1::CancelMovesRequest),
    ListMoves(v1::ListMovesRequest),
    TransferLeader(v1::TransferLeaderRequest),
    DecommissionBroker(v1::DecommissionBrokerRequest),
    CancelDecommission(v1::CancelDecommissionRequest),
    ReplaceBroker(v1::ReplaceBrokerRequest),
    DescribeLeaderless(v1::DescribeLeaderlessRequest),
    RecoverPartition(v1::RecoverPartitionRequest),
    GetMetadata(v1::GetMetadataRequest),
    WatchMetadata(v1::WatchMetadataRequest),
    Raw {
        path: &'static str,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
    },
}

/// One row: what is sent, and the reason for which it is refused.
struct Row {
    name: &'static str,
    ask: Ask,
    reason: Reason,
}

fn row(name: &'static str, reason: Reason, ask: Ask) -> Row {
    Row { name, ask, reason }
}

/// Sends it; an error of an item counts as that of the request.
async fn send(broker: &TestBroker, ask: Ask) -> Result<(), ApiError> {
    let of_item = |error: Option<v1::Error>| error.map_or(Ok(()), |error| Err(error.into()));
    match ask {
        Ask::Item(item) => produce_item(broker, item).await,
        Ask::Produce(request) => produce(broker, request).await,
        Ask::ProduceStream(request) => produce_stream(broker, request).await,
        Ask::InitProducerId(request) => done(broker.producer().init_producer_id(request).await),
        Ask::Fetch(request) => of_item(broker.fetch(request).await?.remove(0).error),
        Ask::ListOffsets(request) => {
            let listed = broker.offsets().list_offsets(request).await;
            of_item(
                listed
                    .map_err(ApiError::from)?
                    .into_inner()
                    .offsets
                    .remove(0)
                    .error,
            )
        }
        Ask::CreateTopic(request) => done(broker.admin().create_topic(request).await),
        Ask::DescribeTopic(request) => done(broker.admin().describe_topic(request).await),
        Ask::AlterTopic(request) => done(broker.admin().alter_topic(request).await),
        Ask::DeleteTopic(request) => done(broker.admin().delete_topic(request).await),
        Ask::AddPartitions(request) => done(broker.admin().add_partitions(request).await),
        Ask::TrimPartitions(request) => {
            let trimmed = broker.admin().trim_partitions(request).await;
            of_item(
                trimmed
                    .map_err(ApiError::from)?
                    .into_inner()
                    .outcomes
                    .remove(0)
                    .error,
            )
        }
        Ask::MoveReplicas(request) => done(broker.placement().move_replicas(request).await),
        Ask::SetReplicationFactor(request) => {
            done(broker.placement().set_replication_factor(request).await)
        }
        Ask::CancelMoves(request) => done(broker.placement().cancel_moves(request).await),
        Ask::ListMoves(request) => done(broker.placement().list_moves(request).await),
        Ask::TransferLeader(request) => done(broker.placement().transfer_leader(request).await),
        Ask::DecommissionBroker(request) => {
            done(broker.placement().decommission_broker(request).await)
        }
        Ask::CancelDecommission(request) => {
            done(broker.placement().cancel_decommission(request).await)
        }
        Ask::ReplaceBroker(request) => done(broker.placement().replace_broker(request).await),
        Ask::DescribeLeaderless(request) => {
            done(broker.recovery().describe_leaderless(request).await)
        }
        Ask::RecoverPartition(request) => done(broker.recovery().recover_partition(request).await),
        Ask::GetMetadata(request) => done(broker.cluster().get_metadata(request).await),
        Ask::WatchMetadata(request) => done(broker.cluster().watch_metadata(request).await),
        Ask::Raw {
            path,
            headers,
            body,
        } => {
            let headers: Vec<_> = headers
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            call(&broker.channel, path, &headers, body).await
        }
    }
}

fn done<T>(answer: Result<tonic::Response<T>, tonic::Status>) -> Result<(), ApiError> {
    answer.map(drop).map_err(ApiError::from)
}

/// The metadata without leaders, who come and go by themselves.
async fn what_it_consists_of(broker: &TestBroker) -> v1::ClusterMetadata {
    let mut metadata = broker.metadata().await;
    metadata.version = 0;
    let topics = metadata.topics.iter_mut();
    for partition in topics.flat_map(|topic| &mut topic.partitions) {
        partition.leader_epoch = 0;
    }
    metadata
}

/// Sends each row to a broker with the topic `t`, and looks at it afterwards.
async fn refuse_all(rows: Vec<Row>) {
    let broker = TestBroker::start().await;
    broker.create("t", 2).await;
    broker.append_values("t", 0, &["a", "b", "c"]).await;
    let trim = v1::TrimPartitionsRequest {
        items: vec![v1::TrimItem {
            partition: Some(named("t", 0)),
            before_offset: Some(1),
        }],
    };
    broker.admin().trim_partitions(trim).await.unwrap();
    let good = GoodTraffic::start(&broker).await;
    let before = what_it_consists_of(&broker).await;
    for row in rows {
        let name = row.name;
        let error = send(&broker, row.ask).await.expect_err(name);
        assert_eq!(error.reason, row.reason, "{name}: {error}");
        assert_eq!(error.code(), row.reason.code(), "{name}");
        assert!(!error.message.is_empty(), "{name}");
        assert_eq!(broker.high_watermark("t", 0).await, 3, "{name} appended");
        assert_eq!(broker.high_watermark("t", 1).await, 0, "{name} appended");
        let after = what_it_consists_of(&broker).await;
        assert_eq!(after, before, "{name} changed something");
    }
    good.end(&broker).await;
    assert_eq!(broker.append_values("t", 0, &["d"]).await, 3);
    broker.broker.shutdown().await;
}

fn item(payload: Option<Payload>) -> v1::ProduceItem {
    v1::ProduceItem {
        partition: Some(named("t", 0)),
        payload,
    }
}

async fn produce(broker: &TestBroker, request: v1::ProduceRequest) -> Result<(), ApiError> {
    let response = broker
        .producer()
        .produce(request)
        .await
        .map_err(ApiError::from)?;
    for one in response.into_inner().outcomes {
        outcome(one)?;
    }
    Ok(())
}

/// The same item by request and by stream.
async fn produce_item(broker: &TestBroker, item: v1::ProduceItem) -> Result<(), ApiError> {
    let stream = v1::ProduceStreamRequest {
        items: vec![v1::ProduceStreamItem {
            correlation_id: 1,
            item: Some(item.clone()),
        }],
        ..Default::default()
    };
    let streamed = produce_stream(broker, stream)
        .await
        .expect_err("the stream");
    let request = v1::ProduceRequest {
        items: vec![item],
        ..Default::default()
    };
    let error = produce(broker, request).await.expect_err("the request");
    assert_eq!(streamed.reason, error.reason);
    Err(error)
}

async fn produce_stream(
    broker: &TestBroker,
    message: v1::ProduceStreamRequest,
) -> Result<(), ApiError> {
    let messages = tokio_stream::iter([message]);
    let responses = broker
        .producer()
        .produce_stream(messages)
        .await
        .map_err(ApiError::from)?;
    let mut responses = responses.into_inner();
    while let Some(response) = responses.next().await {
        for one in response.map_err(ApiError::from)?.outcomes {
            outcome(one.outcome.expect("an outcome"))?;
        }
    }
    Ok(())
}

fn batch_row(name: &'static str, reason: Reason, batch: Bytes) -> Row {
    row(
        name,
        reason,
        Ask::Item(item(Some(Payload::RecordBatch(batch)))),
    )
}

/// A batch with `bytes` written at `at` and the checksum made to fit.
fn tampered(at: usize, bytes: &[u8]) -> Bytes {
    let mut batch = batch(&["a", "b", "c"]).to_vec();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}

fn record_batch(record: &NewRecord<'_>) -> Bytes {
    let mut builder = BatchBuilder::new();
    builder.append(record).unwrap();
    builder.finish(Compression::None, None).unwrap()
}

fn stamp(id: i64, epoch: i16, sequence: i32) -> Option<ProducerStamp> {
    Some(ProducerStamp {
        id: ProducerId(id),
        epoch: epoch.into(),
        sequence: Sequence(sequence),
    })
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn produce_refuses_batches_that_are_not_what_they_say() {
    let (corrupt, invalid) = (Reason::CorruptMessage, Reason::InvalidRecord);
    let whole = batch(&["a", "b", "c"]);
    let mut flipped = whole.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    let longer = [&whole[..], &[0]].concat();
    let twice = [&whole[..], &whole[..]].concat();
    let headers: Vec<_> = (0..11)
        .map(|_| Header {
            key: "h".to_owned(),
            value: None,
        })
        .collect();
    let long_header = [Header {
        key: "h".repeat(1_001),
        value: None,
    }];
    let long_key = "k".repeat(1_001);
    let large = "v".repeat(1_100_000);
    let keyed = |key| NewRecord {
        key,
        ..NewRecord::default()
    };
    let with_headers = |headers| NewRecord {
        headers,
        ..NewRecord::default()
    };
    let late = NewRecord {
        timestamp_ms: now_ms() + NOW_AND_TWO_HOURS,
        ..NewRecord::default()
    };
    let too_large = Reason::MessageTooLarge;
    refuse_all(vec![
        batch_row("no bytes", corrupt, Bytes::new()),
        batch_row("a header cut short", corrupt, whole.slice(..60)),
        batch_row(
            "a record cut short",
            corrupt,
            whole.slice(..whole.len() - 1),
        ),
        batch_row("trailing bytes", corrupt, longer.into()),
        batch_row("two batches in one", corrupt, twice.into()),
        batch_row("a flipped bit", corrupt, flipped.into()),
        batch_row("a base offset", invalid, tampered(7, &[1])),
        batch_row("a negative base offset", invalid, tampered(0, &[0xff; 8])),
        batch_row("a negative length", corrupt, tampered(8, &[0xff; 4])),
        batch_row("a leader epoch", invalid, tampered(12, &[0, 0, 0, 1])),
        batch_row("magic 0", invalid, tampered(16, &[0])),
        batch_row("magic 1", invalid, tampered(16, &[1])),
        batch_row("magic 3", invalid, tampered(16, &[3])),
        batch_row("an unknown codec", invalid, tampered(22, &[5])),
        batch_row("unknown attributes", invalid, tampered(21, &[1])),
        batch_row(
            "append time by the client",
            Reason::InvalidTimestamp,
            tampered(22, &[8]),
        ),
        batch_row("a transaction", Reason::Unsupported, tampered(22, &[16])),
        batch_row("a control batch", invalid, tampered(22, &[32])),
        batch_row("a transaction marker", invalid, tampered(22, &[48])),
        batch_row("a delete horizon", invalid, tampered(22, &[64])),
        batch_row("a wrong last delta", invalid, tampered(26, &[7])),
        batch_row("a negative last delta", invalid, tampered(23, &[0xff; 4])),
        batch_row(
            "a wrong max timestamp",
            Reason::InvalidTimestamp,
            tampered(42, &[9]),
        ),
        batch_row(
            "a producer without sequence",
            invalid,
            tampered(43, &[0; 8]),
        ),
        batch_row(
            "a sequence without producer",
            invalid,
            tampered(53, &[0; 4]),
        ),
        batch_row("a negative producer", invalid, tampered(50, &[0xfe])),
        batch_row("a count of 0", invalid, tampered(57, &[0; 4])),
        batch_row("a negative count", invalid, tampered(57, &[0xff; 4])),
        batch_row(
            "a count of 2^31-1",
            invalid,
            tampered(57, &[0x7f, 0xff, 0xff, 0xff]),
        ),
        batch_row("a record of negative length", invalid, tampered(61, &[1])),
        batch_row(
            "a record longer than the batch",
            invalid,
            tampered(61, &[0x7e]),
        ),
        batch_row("record attributes", invalid, tampered(62, &[1])),
        batch_row("offset deltas not from 0", invalid, tampered(64, &[2])),
        batch_row(
            "a date in two hours",
            Reason::InvalidTimestamp,
            record_batch(&late),
        ),
        batch_row(
            "a long key",
            too_large,
            record_batch(&keyed(Some(long_key.as_bytes()))),
        ),
        batch_row(
            "many headers",
            too_large,
            record_batch(&with_headers(&headers)),
        ),
        batch_row(
            "a long header",
            too_large,
            record_batch(&with_headers(&long_header)),
        ),
        batch_row("more than max.message.bytes", too_large, batch(&[&large])),
        batch_row(
            "an unknown producer in the middle",
            Reason::UnknownProducerId,
            batch_of(&["a"], stamp(UNKNOWN_PRODUCER, 0, 5)),
        ),
    ])
    .await;
}

/// A good batch for another place.
fn to(partition: Option<v1::TopicPartition>) -> Ask {
    Ask::Item(v1::ProduceItem {
        partition,
        payload: Some(Payload::RecordBatch(batch(&["a"]))),
    })
}

fn by_id(topic: &str, id: &[u8]) -> Option<v1::TopicPartition> {
    Some(v1::TopicPartition {
        topic: topic.to_owned(),
        topic_id: Bytes::copy_from_slice(id),
        partition: 0,
    })
}

fn good_items(count: usize) -> Vec<v1::ProduceItem> {
    vec![item(Some(Payload::RecordBatch(batch(&["a"])))); count]
}

#[tokio::test(flavor = "multi_thread")]
async fn produce_refuses_requests_that_make_no_sense() {
    let with_acks = |acks| v1::ProduceRequest {
        acks,
        items: good_items(1),
        ..Default::default()
    };
    let stream_with = |acks, timeout_ms| v1::ProduceStreamRequest {
        acks,
        timeout_ms,
        items: vec![v1::ProduceStreamItem {
            correlation_id: 1,
            item: good_items(1).pop(),
        }],
    };
    let slow = v1::ProduceRequest {
        timeout_ms: u32::MAX,
        items: good_items(1),
        ..Default::default()
    };
    let many = v1::ProduceRequest {
        items: good_items(101),
        ..Default::default()
    };
    let many_streamed = v1::ProduceStreamRequest {
        items: vec![v1::ProduceStreamItem::default(); 101],
        ..Default::default()
    };
    let without_item = v1::ProduceStreamRequest {
        items: vec![v1::ProduceStreamItem::default()],
        ..Default::default()
    };
    let transactional = v1::InitProducerIdRequest {
        transactional_id: "x".to_owned(),
    };
    let no_records = Payload::Records(v1::Records::default());
    let unknown = Reason::UnknownTopicOrPartition;
    let (invalid, unsupported) = (Reason::InvalidRequest, Reason::Unsupported);
    refuse_all(vec![
        row(
            "no records",
            Reason::InvalidRecord,
            Ask::Item(item(Some(no_records))),
        ),
        row("no payload", invalid, Ask::Item(item(None))),
        row("no partition", invalid, to(None)),
        row("no topic", invalid, to(Some(named("", 0)))),
        row("an unknown topic", unknown, to(Some(named("none", 0)))),
        row(
            "a name that is none",
            unknown,
            to(Some(named("../../etc/passwd\n", 0))),
        ),
        row("a partition too far", unknown, to(Some(named("t", 2)))),
        row(
            "the last partition",
            unknown,
            to(Some(named("t", u32::MAX))),
        ),
        row("an id of 15 bytes", invalid, to(by_id("", &[7; 15]))),
        row(
            "an unknown id",
            Reason::UnknownTopicId,
            to(by_id("", &[7; 16])),
        ),
        row(
            "the name with another id",
            Reason::UnknownTopicId,
            to(by_id("t", &[7; 16])),
        ),
        row("unknown acks", invalid, Ask::Produce(with_acks(77))),
        row(
            "unknown acks on a stream",
            invalid,
            Ask::ProduceStream(stream_with(-1, 0)),
        ),
        row(
            "a long timeout on a stream",
            invalid,
            Ask::ProduceStream(stream_with(0, u32::MAX)),
        ),
        row("a long timeout", invalid, Ask::Produce(slow)),
        row("too many items", Reason::LimitExceeded, Ask::Produce(many)),
        row(
            "too many items on a stream",
            Reason::LimitExceeded,
            Ask::ProduceStream(many_streamed),
        ),
        row(
            "a stream item of nothing",
            invalid,
            Ask::ProduceStream(without_item),
        ),
        row(
            "a transactional id",
            unsupported,
            Ask::InitProducerId(transactional),
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idempotent_producers_are_refused_out_of_order_and_when_fenced() {
    let broker = TestBroker::start().await;
    broker.create("t", 1).await;
    let id = broker
        .producer()
        .init_producer_id(v1::InitProducerIdRequest::default())
        .await
        .unwrap()
        .into_inner()
        .producer_id;
    let send = async |epoch, sequence| {
        let batch = batch_of(&["a", "b"], stamp(id, epoch, sequence));
        broker
            .append("t", 0, batch)
            .await
            .map(|ack| ack.base_offset)
    };
    assert_eq!(send(1, 0).await.unwrap(), 0);
    let gap = send(1, 3).await.unwrap_err();
    assert_eq!(gap.reason, Reason::OutOfOrderSequenceNumber);
    assert_eq!(gap.metadata["expected_sequence"], "2");
    let fenced = send(0, 2).await.unwrap_err();
    assert_eq!(fenced.reason, Reason::InvalidProducerEpoch);
    assert_eq!(broker.high_watermark("t", 0).await, 2);
    assert_eq!(send(1, 2).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_item_fails_alone() {
    let broker = TestBroker::start().await;
    broker.create("t", 1).await;
    let mut items = good_items(3);
    items[1].payload = Some(Payload::RecordBatch(tampered(16, &[1])));
    let request = v1::ProduceRequest {
        items,
        ..Default::default()
    };
    let response = broker
        .producer()
        .produce(request)
        .await
        .unwrap()
        .into_inner();
    let offsets: Vec<_> = response
        .outcomes
        .into_iter()
        .map(|one| {
            outcome(one)
                .map(|ack| ack.base_offset)
                .map_err(|error| error.reason)
        })
        .collect();
    assert_eq!(offsets, [Ok(0), Err(Reason::InvalidRecord), Ok(1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fetch_refuses_what_it_cannot_answer() {
    let fetch = |partitions| v1::FetchRequest {
        partitions,
        max_bytes: 1_000,
        ..Default::default()
    };
    let from = |offset| fetch(vec![fetch_from("t", 0, offset)]);
    let knowing = |leader_epoch| {
        let mut partition = fetch_from("t", 0, 1);
        partition.leader_epoch = Some(leader_epoch);
        fetch(vec![partition])
    };
    let with = |change: fn(&mut v1::FetchRequest)| {
        let mut request = from(1);
        change(&mut request);
        request
    };
    let (invalid, range) = (Reason::InvalidRequest, Reason::OffsetOutOfRange);
    let unknown = Reason::UnknownTopicOrPartition;
    let nowhere = v1::FetchPartition::default();
    let fetch_rows = vec![
        (
            "max_bytes 0",
            invalid,
            with(|request| request.max_bytes = 0),
        ),
        (
            "max_bytes above the cap",
            invalid,
            with(|request| request.max_bytes = 5 << 20),
        ),
        (
            "a wait above the cap",
            invalid,
            with(|request| request.max_wait_ms = u32::MAX),
        ),
        (
            "more at least than at most",
            invalid,
            with(|request| request.min_bytes = 1_001),
        ),
        (
            "an unknown format",
            invalid,
            with(|request| request.format = 9),
        ),
        (
            "a partition twice",
            invalid,
            fetch(vec![fetch_from("t", 0, 1); 2]),
        ),
        ("no partition named", invalid, fetch(vec![nowhere])),
        (
            "too many partitions",
            Reason::LimitExceeded,
            fetch(vec![fetch_from("t", 0, 1); 11]),
        ),
        (
            "an unknown topic",
            unknown,
            fetch(vec![fetch_from("none", 0, 0)]),
        ),
        (
            "an unknown partition",
            unknown,
            fetch(vec![fetch_from("t", 9, 0)]),
        ),
        ("below the log start", range, from(0)),
        ("above the log end", range, from(4)),
        ("the last offset there is", range, from(u64::MAX)),
        (
            "a newer leader epoch",
            Reason::NotLeaderOrFollower,
            knowing(u64::MAX),
        ),
        (
            "an older leader epoch",
            Reason::FencedLeaderEpoch,
            knowing(0),
        ),
    ];
    let rows = fetch_rows
        .into_iter()
        .map(|(name, reason, request)| row(name, reason, Ask::Fetch(request)));
    refuse_all(rows.collect()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offset_and_metadata_requests_are_limited() {
    let list = |partition, spec| {
        Ask::ListOffsets(v1::ListOffsetsRequest {
            items: vec![v1::ListOffsetsItem {
                partition,
                spec: Some(v1::OffsetSpec { spec }),
            }],
        })
    };
    let t = || Some(named("t", 0));
    let many_items = v1::ListOffsetsRequest {
        items: vec![v1::ListOffsetsItem::default(); 11],
    };
    let latest = || Some(Spec::Latest(v1::LatestOffset {}));
    let names = vec!["t".to_owned(); 11];
    let get = v1::GetMetadataRequest {
        topics: names.clone(),
        linearizable: false,
    };
    let watch = v1::WatchMetadataRequest { topics: names };
    let (invalid, limit) = (Reason::InvalidRequest, Reason::LimitExceeded);
    let unknown = Reason::UnknownTopicOrPartition;
    refuse_all(vec![
        row("no spec", invalid, list(t(), None)),
        row(
            "a time of -2",
            invalid,
            list(t(), Some(Spec::TimestampMs(-2))),
        ),
        row(
            "the least time",
            invalid,
            list(t(), Some(Spec::TimestampMs(i64::MIN))),
        ),
        row("no partition", invalid, list(None, latest())),
        row(
            "an unknown topic",
            unknown,
            list(Some(named("none", 0)), latest()),
        ),
        row(
            "an unknown partition",
            unknown,
            list(Some(named("t", 2)), latest()),
        ),
        row("too many questions", limit, Ask::ListOffsets(many_items)),
        row("too many names", limit, Ask::GetMetadata(get)),
        row("too many names to watch", limit, Ask::WatchMetadata(watch)),
    ])
    .await;
}

fn create(name: &str) -> v1::CreateTopicRequest {
    v1::CreateTopicRequest {
        name: name.to_owned(),
        partitions: 1,
        ..Default::default()
    }
}

fn create_with(key: &str, value: &str) -> Ask {
    Ask::CreateTopic(v1::CreateTopicRequest {
        configs: [(key.to_owned(), value.to_owned())].into(),
        ..create("new")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_not_created_under_bad_names_or_with_bad_configs() {
    let named = |name: &str| Ask::CreateTopic(create(name));
    let sized = |partitions, replication_factor| {
        Ask::CreateTopic(v1::CreateTopicRequest {
            partitions,
            replication_factor,
            ..create("new")
        })
    };
    let configs = (0..6).map(|n| (format!("c{n}"), String::new())).collect();
    let many = v1::CreateTopicRequest {
        configs,
        ..create("new")
    };
    let (invalid, exists) = (Reason::InvalidTopic, Reason::TopicAlreadyExists);
    let (config, unsupported) = (Reason::InvalidConfig, Reason::Unsupported);
    let factor = Reason::InvalidReplicationFactor;
    refuse_all(vec![
        row("no name", invalid, named("")),
        row("a dot", invalid, named(".")),
        row("two dots", invalid, named("..")),
        row("250 characters", invalid, named(&"x".repeat(250))),
        row("a space", invalid, named("a b")),
        row("a slash", invalid, named("a/b")),
        row("a zero byte", invalid, named("a\0b")),
        row("an umlaut", invalid, named("ä")),
        row("a reserved name", invalid, named("__offsets")),
        row("a name that exists", exists, named("t")),
        row(
            "too many partitions",
            Reason::InvalidPartitions,
            sized(21, 1),
        ),
        row(
            "most partitions",
            Reason::InvalidPartitions,
            sized(u32::MAX, 1),
        ),
        row("more replicas than brokers", factor, sized(1, 2)),
        row("most replicas", factor, sized(1, u32::MAX)),
        row(
            "an unknown config",
            config,
            create_with("retention.msec", "1"),
        ),
        row(
            "a word for a number",
            config,
            create_with("retention.ms", "week"),
        ),
        row(
            "a number out of range",
            config,
            create_with("retention.ms", "-7"),
        ),
        row("no value", config, create_with("segment.bytes", "")),
        row(
            "neither true nor false",
            config,
            create_with("write.caching", "yes"),
        ),
        row(
            "compaction",
            unsupported,
            create_with("cleanup.policy", "compact"),
        ),
        row(
            "too many configs",
            Reason::LimitExceeded,
            Ask::CreateTopic(many),
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_differ_in_dots_only_collide_and_the_cluster_has_a_cap() {
    let broker = TestBroker::start().await;
    broker.create("a.b", 20).await;
    let reason = async |request| {
        let refused = broker.admin().create_topic(request).await.unwrap_err();
        ApiError::from(refused).reason
    };
    assert_eq!(reason(create("a_b")).await, Reason::TopicAlreadyExists);
    broker.create("more", 20).await;
    let rest = v1::CreateTopicRequest {
        partitions: 11,
        ..create("rest")
    };
    assert_eq!(reason(rest).await, Reason::LimitExceeded);
    assert_eq!(broker.metadata().await.topics.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_not_changed_by_requests_that_do_not_fit_them() {
    let alter = |name: &str, set: &[(&str, &str)], unset: &[&str], id: &[u8]| {
        Ask::AlterTopic(v1::AlterTopicRequest {
            name: name.to_owned(),
            topic_id: Bytes::copy_from_slice(id),
            set: set
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            unset: unset.iter().map(|key| (*key).to_owned()).collect(),
            validate_only: false,
        })
    };
    let delete = |name: &str, id: &[u8]| {
        Ask::DeleteTopic(v1::DeleteTopicRequest {
            name: name.to_owned(),
            topic_id: Bytes::copy_from_slice(id),
        })
    };
    let add = |name: &str, total_partitions| {
        Ask::AddPartitions(v1::AddPartitionsRequest {
            name: name.to_owned(),
            total_partitions,
            ..Default::default()
        })
    };
    let describe = |name: &str| {
        Ask::DescribeTopic(v1::DescribeTopicRequest {
            name: name.to_owned(),
            ..Default::default()
        })
    };
    let (unknown, other_id) = (Reason::UnknownTopicOrPartition, Reason::UnknownTopicId);
    let (config, partitions) = (Reason::InvalidConfig, Reason::InvalidPartitions);
    let retention = [("retention.ms", "1000")];
    refuse_all(vec![
        row(
            "alter an unknown topic",
            unknown,
            alter("none", &[], &[], &[]),
        ),
        row(
            "alter another topic",
            other_id,
            alter("t", &[], &[], &[7; 16]),
        ),
        row(
            "alter by half an id",
            Reason::InvalidRequest,
            alter("t", &[], &[], &[7; 8]),
        ),
        row(
            "set an unknown config",
            config,
            alter("t", &[("x", "1")], &[], &[]),
        ),
        row(
            "unset an unknown config",
            config,
            alter("t", &[], &["x"], &[]),
        ),
        row(
            "set and unset",
            Reason::InvalidRequest,
            alter("t", &retention, &["retention.ms"], &[]),
        ),
        row(
            "unset too many",
            Reason::LimitExceeded,
            alter("t", &[], &["x"; 6], &[]),
        ),
        row("delete an unknown topic", unknown, delete("none", &[])),
        row("delete no name", unknown, delete("", &[])),
        row("delete another topic", other_id, delete("t", &[7; 16])),
        row(
            "delete by a long id",
            Reason::InvalidRequest,
            delete("t", &[7; 17]),
        ),
        row("add to an unknown topic", unknown, add("none", 5)),
        row("add none", partitions, add("t", 2)),
        row("add fewer than none", partitions, add("t", 0)),
        row("add too many", partitions, add("t", 21)),
        row("describe an unknown topic", unknown, describe("none")),
        row("describe a path", unknown, describe("../t")),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_go_only_where_they_can_be() {
    let moves = |moves: Vec<(Option<v1::TopicPartition>, &[u32])>| {
        Ask::MoveReplicas(v1::MoveReplicasRequest {
            moves: moves
                .into_iter()
                .map(|(partition, brokers)| v1::PartitionMove {
                    partition,
                    broker_ids: brokers.to_vec(),
                })
                .collect(),
            validate_only: false,
        })
    };
    let factor = |topic: &str, replication_factor, id: &[u8]| {
        Ask::SetReplicationFactor(v1::SetReplicationFactorRequest {
            topic: topic.to_owned(),
            topic_id: Bytes::copy_from_slice(id),
            replication_factor,
            validate_only: false,
        })
    };
    let cancel = |topic: &str, partition| {
        Ask::CancelMoves(v1::CancelMovesRequest {
            topic: topic.to_owned(),
            partition,
        })
    };
    let with_id = |id: &[u8]| v1::TopicPartition {
        topic_id: Bytes::copy_from_slice(id),
        ..named("t", 0)
    };
    let t = || Some(named("t", 0));
    let (unknown, other_id) = (Reason::UnknownTopicOrPartition, Reason::UnknownTopicId);
    let (invalid, replicas) = (Reason::InvalidRequest, Reason::InvalidReplicaAssignment);
    let too_many = Reason::InvalidReplicationFactor;
    let nothing = Reason::NoReassignmentInProgress;
    let list = v1::ListMovesRequest {
        topic: "none".to_owned(),
    };
    refuse_all(vec![
        row("move no partition", invalid, moves(vec![(None, &[1])])),
        row(
            "move half an id",
            invalid,
            moves(vec![(Some(with_id(&[7; 8])), &[1])]),
        ),
        row(
            "move another topic",
            other_id,
            moves(vec![(Some(with_id(&[7; 16])), &[1])]),
        ),
        row(
            "move an unknown topic",
            unknown,
            moves(vec![(Some(named("none", 0)), &[1])]),
        ),
        row(
            "move an unknown partition",
            unknown,
            moves(vec![(Some(named("t", 7)), &[1])]),
        ),
        row("move nowhere", replicas, moves(vec![(t(), &[])])),
        row("move to too many", replicas, moves(vec![(t(), &[1, 2])])),
        row("move to one twice", replicas, moves(vec![(t(), &[1, 1])])),
        row("move to a stranger", invalid, moves(vec![(t(), &[9])])),
        row(
            "move one twice",
            replicas,
            moves(vec![(t(), &[1]), (t(), &[1])]),
        ),
        row(
            "move too many",
            Reason::LimitExceeded,
            moves(vec![(t(), &[1]); 11]),
        ),
        row("no replicas", too_many, factor("t", 0, &[])),
        row("more replicas than brokers", too_many, factor("t", 2, &[])),
        row(
            "replicas of an unknown topic",
            unknown,
            factor("none", 1, &[]),
        ),
        row(
            "replicas of another topic",
            other_id,
            factor("t", 1, &[7; 16]),
        ),
        row("replicas by half an id", invalid, factor("t", 1, &[7; 8])),
        row(
            "cancel a partition of no topic",
            invalid,
            cancel("", Some(0)),
        ),
        row("cancel of an unknown topic", unknown, cancel("none", None)),
        row("cancel nothing", nothing, cancel("t", Some(0))),
        row("cancel nothing at all", nothing, cancel("", None)),
        row("moves of an unknown topic", unknown, Ask::ListMoves(list)),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_given_up_by_a_request_that_says_too_little() {
    let recover = |partition, replica_id, lost: Vec<u32>| {
        Ask::RecoverPartition(v1::RecoverPartitionRequest {
            partition,
            replica_id,
            lost_broker_ids: lost,
            ..v1::RecoverPartitionRequest::default()
        })
    };
    let t = || Some(named("t", 0));
    let (invalid, unknown) = (Reason::InvalidRequest, Reason::UnknownTopicOrPartition);
    let names = v1::DescribeLeaderlessRequest {
        topics: vec!["t".to_owned(); 10_000],
    };
    refuse_all(vec![
        row("recover no partition", invalid, recover(None, 2, vec![2])),
        row(
            "recover an unknown topic",
            unknown,
            recover(Some(named("none", 0)), 2, vec![2]),
        ),
        row(
            "recover an unknown partition",
            unknown,
            recover(Some(named("t", 7)), 2, vec![2]),
        ),
        row(
            "recover with a replica of nobody",
            invalid,
            recover(t(), 0, vec![2]),
        ),
        row(
            "recover with a replica that is not here",
            invalid,
            recover(t(), u64::MAX, vec![2]),
        ),
        row(
            "recover without more brokers than there are",
            invalid,
            recover(t(), 2, vec![9; 65]),
        ),
        row(
            "describe too many leaderless topics",
            Reason::LimitExceeded,
            Ask::DescribeLeaderless(names),
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_stay_that_are_needed_and_leaders_where_nobody_else_could_lead() {
    let transfer = |partition, to_broker_id| {
        Ask::TransferLeader(v1::TransferLeaderRequest {
            partition,
            to_broker_id,
        })
    };
    let decommission = |broker_id, validate_only| {
        Ask::DecommissionBroker(v1::DecommissionBrokerRequest {
            broker_id,
            validate_only,
        })
    };
    let stay = |broker_id| Ask::CancelDecommission(v1::CancelDecommissionRequest { broker_id });
    let replace = |broker_id| {
        Ask::ReplaceBroker(v1::ReplaceBrokerRequest {
            broker_id,
            validate_only: false,
        })
    };
    let t = || Some(named("t", 0));
    let (invalid, policy) = (Reason::InvalidRequest, Reason::PolicyViolation);
    let unknown = Reason::UnknownTopicOrPartition;
    refuse_all(vec![
        row("transfer no partition", invalid, transfer(None, None)),
        row(
            "transfer an unknown topic",
            unknown,
            transfer(Some(named("none", 0)), None),
        ),
        row(
            "transfer an unknown partition",
            unknown,
            transfer(Some(named("t", 7)), None),
        ),
        row(
            "transfer to nobody",
            Reason::InvalidReplicaAssignment,
            transfer(t(), None),
        ),
        row(
            "transfer to a stranger",
            Reason::InvalidReplicaAssignment,
            transfer(t(), Some(9)),
        ),
        row(
            "decommission the only broker",
            policy,
            decommission(1, false),
        ),
        row("decommission a stranger", invalid, decommission(9, false)),
        row("check a stranger", invalid, decommission(9, true)),
        row("keep one that stays", policy, stay(1)),
        row("keep a stranger", invalid, stay(9)),
        row("replace one that is up", policy, replace(1)),
        row("replace a stranger", invalid, replace(9)),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trims_stay_within_the_log() {
    let trim = |items: Vec<(Option<v1::TopicPartition>, Option<u64>)>| {
        Ask::TrimPartitions(v1::TrimPartitionsRequest {
            items: items
                .into_iter()
                .map(|(partition, before_offset)| v1::TrimItem {
                    partition,
                    before_offset,
                })
                .collect(),
        })
    };
    let t = || Some(named("t", 0));
    let unknown = Reason::UnknownTopicOrPartition;
    refuse_all(vec![
        row(
            "beyond the high watermark",
            Reason::OffsetOutOfRange,
            trim(vec![(t(), Some(4))]),
        ),
        row(
            "the last offset",
            Reason::OffsetOutOfRange,
            trim(vec![(t(), Some(u64::MAX))]),
        ),
        row(
            "a partition twice",
            Reason::InvalidRequest,
            trim(vec![(t(), Some(1)), (t(), Some(1))]),
        ),
        row(
            "no partition",
            Reason::InvalidRequest,
            trim(vec![(None, None)]),
        ),
        row(
            "an unknown topic",
            unknown,
            trim(vec![(Some(named("none", 0)), None)]),
        ),
        row(
            "an unknown partition",
            unknown,
            trim(vec![(Some(named("t", 7)), None)]),
        ),
        row(
            "too many",
            Reason::LimitExceeded,
            trim(vec![(t(), Some(1)); 11]),
        ),
    ])
    .await;
}

const PRODUCE: &str = "/highwater.v1.ProduceService/Produce";
const FETCH: &str = "/highwater.v1.FetchService/Fetch";
const CREATE: &str = "/highwater.v1.AdminService/CreateTopic";
const STREAM: &str = "/highwater.v1.ProduceService/ProduceStream";

fn raw(path: &'static str, body: Vec<u8>) -> Ask {
    Ask::Raw {
        path,
        headers: Vec::new(),
        body,
    }
}

fn raw_with(path: &'static str, header: (&'static str, String), body: Vec<u8>) -> Ask {
    Ask::Raw {
        path,
        headers: vec![header],
        body,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_request_are_refused_before_they_are_decoded() {
    let good = || framed(&create("new").encode_to_vec());
    let prefix = |length: u32| [&[0][..], &length.to_be_bytes()].concat();
    let mut compressed = good();
    compressed[0] = 1;
    let mut strange_flag = good();
    strange_flag[0] = 7;
    let bad_utf8 = framed(&[0x0a, 2, 0xff, 0xfe]);
    let flood = framed(&[0x0a, 0x00].repeat(2_001));
    let record_flood = {
        let records = [0x0a, 0x00].repeat(2_000);
        // items { records { records {} * 2,000 } }
        let mut inner = vec![0x12];
        prost::encoding::encode_varint(records.len() as u64, &mut inner);
        inner.extend(records);
        let mut outer = vec![0x1a];
        prost::encoding::encode_varint(inner.len() as u64, &mut outer);
        outer.extend(inner);
        framed(&outer)
    };
    let long = "x".repeat(17 << 10);
    let (invalid, limit) = (Reason::InvalidRequest, Reason::LimitExceeded);
    let unsupported = Reason::Unsupported;
    refuse_all(vec![
        row(
            "a control message above its limit",
            limit,
            raw(FETCH, prefix((64 << 10) + 1)),
        ),
        row(
            "a control message of 4 GiB",
            limit,
            raw(FETCH, prefix(u32::MAX)),
        ),
        row(
            "a batch message above its limit",
            limit,
            raw(PRODUCE, prefix((2 << 20) + 1)),
        ),
        row(
            "a stream message above its limit",
            limit,
            raw(STREAM, prefix(u32::MAX)),
        ),
        row("too many elements", limit, raw(FETCH, flood)),
        row("too many records", limit, raw(PRODUCE, record_flood)),
        row("no protobuf", invalid, raw(FETCH, framed(&[0xff; 20]))),
        row(
            "no protobuf on a stream",
            invalid,
            raw(STREAM, framed(&[0xff; 20])),
        ),
        row(
            "a field cut short",
            invalid,
            raw(FETCH, framed(&[0x0a, 9, 1])),
        ),
        row("a wrong wire type", invalid, raw(FETCH, framed(&[0x08, 1]))),
        row("bad UTF-8", invalid, raw(CREATE, bad_utf8)),
        row(
            "fewer bytes than announced",
            invalid,
            raw(CREATE, good()[..6].to_vec()),
        ),
        row("half a prefix", invalid, raw(CREATE, vec![0, 0])),
        row("a compressed message", invalid, raw(CREATE, compressed)),
        row("a strange flag", invalid, raw(CREATE, strange_flag)),
        row(
            "an unknown encoding",
            unsupported,
            raw_with(CREATE, ("grpc-encoding", "middle-out".to_owned()), good()),
        ),
        row(
            "a compressed stream",
            unsupported,
            raw_with(STREAM, ("grpc-encoding", "gzip".to_owned()), Vec::new()),
        ),
        row(
            "long metadata",
            limit,
            raw_with(CREATE, ("x-long", long), good()),
        ),
        row(
            "no time left",
            Reason::RequestTimedOut,
            raw_with(CREATE, ("grpc-timeout", "0m".to_owned()), good()),
        ),
        row(
            "an unknown method",
            unsupported,
            raw("/highwater.v1.FetchService/Steal", good()),
        ),
        row(
            "an unknown service",
            unsupported,
            raw("/highwater.v9.Service/Call", good()),
        ),
        row("a path that is none", unsupported, raw("/", good())),
    ])
    .await;
}
