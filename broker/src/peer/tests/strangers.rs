//! What others than brokers of the cluster say, and brokers that are not known yet.

use bytes::{Buf, BufMut, Bytes};
use highwater_proto::internal::v1;
use highwater_proto::internal::v1::peer_service_client::PeerServiceClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::*;
use crate::controller_client::CONTROLLER_GROUP;
use crate::peer::me::uuid_bytes;
use crate::peer::wire;

async fn channel(broker: &TestBroker) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", broker.address)).unwrap();
    endpoint.connect().await.unwrap()
}

fn hello(broker: u32) -> v1::Hello {
    v1::Hello {
        cluster_id: uuid_bytes(CLUSTER),
        broker_id: broker,
        incarnation_id: uuid_bytes(incarnation(broker)),
        run_id: 77,
        to_broker_id: 1,
    }
}

fn first(hello: v1::Hello) -> v1::DataRequest {
    v1::DataRequest {
        hello: Some(hello),
        messages: Vec::new(),
    }
}

/// Opens the data lane with these messages and says how it ended.
async fn data(broker: &TestBroker, requests: Vec<v1::DataRequest>) -> Result<(), Status> {
    let mut client = PeerServiceClient::new(channel(broker).await);
    let opened = client.data(tokio_stream::iter(requests)).await;
    let mut answers = opened?.into_inner();
    in_time(answers.message()).await.map(drop)
}

fn raft_message(message: PeerMessage) -> v1::RaftMessage {
    wire::encode(message).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_is_told_who_a_broker_is() {
    let broker = TestBroker::start(Spec {
        cluster_id: None,
        ..Spec::of(1)
    })
    .await;
    let mut client = PeerServiceClient::new(channel(&broker).await);
    let described = client
        .describe(v1::DescribeRequest::default())
        .await
        .unwrap();
    let described = described.into_inner();
    assert_eq!((described.broker_id, described.run_id), (1, 1));
    assert!(described.cluster_id.is_empty());
    broker.peers.enter_cluster(CLUSTER);
    let described = client
        .describe(v1::DescribeRequest::default())
        .await
        .unwrap();
    assert_eq!(described.into_inner().cluster_id, uuid_bytes(CLUSTER));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_of_another_cluster_is_refused_on_both_lanes() {
    let broker = TestBroker::start(Spec::of(1)).await;
    let foreign = v1::Hello {
        cluster_id: uuid_bytes(Uuid::from_u128(1)),
        ..hello(2)
    };
    let refused = data(&broker, vec![first(foreign.clone())]).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    let mut client = PeerServiceClient::new(channel(&broker).await);
    let request = v1::ControlRequest {
        hello: Some(foreign),
        ..v1::ControlRequest::default()
    };
    let refused = client.control(tokio_stream::iter([request])).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(broker.refused("hello"), 2);

    let wrong = v1::Hello {
        to_broker_id: 9,
        ..hello(2)
    };
    let refused = data(&broker, vec![first(wrong)]).await;
    assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);
    for silent in [vec![], vec![v1::DataRequest::default()]] {
        let refused = data(&broker, silent).await;
        assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_not_known_speaks_for_the_controller_group_only() {
    let mut broker = TestBroker::start(Spec::of(1)).await;
    let commands = commands(&[&broker]);
    broker.apply(commands);
    let (group, own) = broker.replicas_on(BrokerId(1)).pop_first().unwrap();
    let stranger = ReplicaId(1 << 40);
    let of_partition = message(MessageType::MsgHeartbeat, group, stranger, own);
    let controller = broker
        .image()
        .broker(BrokerId(1))
        .unwrap()
        .controller_replica;
    let of_all = message(
        MessageType::MsgHeartbeat,
        CONTROLLER_GROUP,
        stranger,
        controller,
    );
    let request = v1::DataRequest {
        hello: None,
        messages: [of_partition, of_all.clone()].map(raft_message).into(),
    };
    data(&broker, vec![first(hello(9)), request]).await.unwrap();
    assert_eq!(broker.receives(1).await[0], of_all);
    assert_eq!(broker.refused("unregistered"), 1);
    // Where the replica is was learned: another broker cannot speak for it, and answers find it.
    let request = v1::DataRequest {
        hello: None,
        messages: vec![raft_message(of_all)],
    };
    data(&broker, vec![first(hello(8)), request]).await.unwrap();
    assert_eq!(broker.refused("elsewhere"), 1);
    let table = broker.peers.routes().read();
    assert_eq!(table.broker_of(stranger), Some(BrokerId(9)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_speaks_for_its_own_replicas_and_with_its_own_data_directory() {
    let (a, b) = pair().await;
    let honest = b.messages_to(a.id(), MessageType::MsgHeartbeat)[0].clone();
    let speak = |hello: v1::Hello, message: PeerMessage| {
        let request = v1::DataRequest {
            hello: None,
            messages: vec![raft_message(message)],
        };
        data(&a, vec![first(hello), request])
    };
    let other_directory = v1::Hello {
        incarnation_id: uuid_bytes(incarnation(5)),
        ..hello(2)
    };
    speak(other_directory, honest.clone()).await.unwrap();
    assert_eq!(a.refused("unregistered"), 1);
    let mut of_nobody = honest.clone();
    of_nobody.message.from = 1 << 40;
    speak(hello(2), of_nobody).await.unwrap();
    assert_eq!(a.refused("unknown"), 1);
    let mut of_ours = honest.clone();
    of_ours.message.from = a.replicas_on(a.id()).pop_last().unwrap().1.0;
    speak(hello(2), of_ours).await.unwrap();
    assert_eq!(a.refused("elsewhere"), 1);
    speak(hello(2), honest.clone()).await.unwrap();
    assert_eq!(a.receives(1).await, [honest]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_pulls_frames_for_its_own_replicas_only() {
    let (a, b) = pair().await;
    let (group, own) = a.replicas_on(a.id()).pop_first().unwrap();
    let others = b.replicas_on(b.id())[&group];
    let ask = async |hello: Option<v1::Hello>, change: fn(&mut v1::SeedRequest)| {
        let mut request = v1::SeedRequest {
            hello,
            group_id: group.0,
            from_replica_id: own.0,
            to_replica_id: others.0,
            next_index: 0,
            upto_index: 9,
            staged_bytes: 0,
        };
        change(&mut request);
        let mut client = PeerServiceClient::new(channel(&a).await);
        in_time(client.seed(request)).await.unwrap_err().code()
    };
    let foreign = v1::Hello {
        cluster_id: uuid_bytes(Uuid::from_u128(5)),
        ..hello(2)
    };
    let other_directory = v1::Hello {
        incarnation_id: uuid_bytes(incarnation(5)),
        ..hello(2)
    };
    assert_eq!(ask(None, |_| {}).await, Code::InvalidArgument);
    assert_eq!(ask(Some(foreign), |_| {}).await, Code::PermissionDenied);
    assert_eq!(ask(Some(other_directory), |_| {}).await, Code::Unavailable);
    assert_eq!(ask(Some(hello(3)), |_| {}).await, Code::PermissionDenied);
    let no_such_replica = ask(Some(hello(2)), |request| request.to_replica_id = 1 << 40);
    assert_eq!(no_such_replica.await, Code::Unavailable);
    for change in [
        (|request| request.upto_index = 0) as fn(&mut v1::SeedRequest),
        |request| request.upto_index = u64::MAX,
        |request| request.next_index = 11,
    ] {
        assert_eq!(ask(Some(hello(2)), change).await, Code::InvalidArgument);
    }
    // Lawful, but nothing runs behind these brokers.
    assert_eq!(ask(Some(hello(2)), |_| {}).await, Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_message_costs_no_other() {
    let (a, b) = pair().await;
    let honest = b.messages_to(a.id(), MessageType::MsgHeartbeat)[0].clone();
    let good = raft_message(honest.clone());
    let bad = |change: fn(&mut v1::RaftMessage)| {
        let mut message = good.clone();
        change(&mut message);
        message
    };
    let request = v1::DataRequest {
        hello: None,
        messages: vec![
            bad(|m| m.r#type = 99),
            bad(|m| m.term = u64::MAX),
            bad(|m| m.entries = vec![v1::LogEntry::default()]),
            good,
        ],
    };
    data(&a, vec![first(hello(2)), request]).await.unwrap();
    assert_eq!(a.receives(1).await, [honest]);
    for cause in ["type", "term", "entries"] {
        assert_eq!(a.refused(cause), 1, "{cause}");
    }
}

/// Sends bytes as they are in the place of messages.
#[derive(Clone, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(length)))
    }
}

/// Calls a streaming method with these bytes as messages.
async fn call_raw(broker: &TestBroker, path: &'static str, messages: Vec<Bytes>) -> Code {
    let mut client = tonic::client::Grpc::new(channel(broker).await);
    client.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static(path);
    let request = tonic::Request::new(tokio_stream::iter(messages));
    let answered = async {
        let mut answers = client.streaming(request, path, Raw).await?.into_inner();
        while answers.message().await?.is_some() {}
        Ok::<_, Status>(())
    };
    in_time(answered)
        .await
        .map_or_else(|status| status.code(), |()| Code::Ok)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_full_of_empty_ones_is_refused_before_it_is_decoded() {
    use prost::Message as _;

    let (a, b) = pair().await;
    let hello = first(hello(2)).encode_to_vec();
    // Two bytes make a message of some hundred, and of an entry inside of one.
    let messages = [0x12, 0].repeat(1 << 20);
    let mut message = v1::RaftMessage::default().encode_to_vec();
    message.extend([0x6a, 0].repeat(1 << 20));
    let mut entries = vec![0x12];
    prost::encoding::encode_varint(message.len() as u64, &mut entries);
    entries.extend(message);
    let path = "/highwater.internal.v1.PeerService/Data";
    for (refused, many) in (1..).zip([messages, entries]) {
        let stream = vec![Bytes::from(hello.clone()), Bytes::from(many)];
        let code = call_raw(&a, path, stream).await;
        assert_eq!(code, Code::ResourceExhausted);
        assert_eq!(a.refused("elements"), refused);
    }
    let sent = b.messages_to(a.id(), MessageType::MsgHeartbeat);
    b.send(sent.clone());
    assert_eq!(a.receives(sent.len()).await.len(), sent.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_ends_its_stream_and_nothing_else() {
    use prost::Message as _;

    let (a, b) = pair().await;
    a.sees_up(&[2]).await;
    let valid = Bytes::from(first(hello(2)).encode_to_vec());
    let garbage = Bytes::from_static(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
    for path in [
        "/highwater.internal.v1.PeerService/Data",
        "/highwater.internal.v1.PeerService/Control",
    ] {
        for messages in [
            vec![garbage.clone()],
            vec![valid.clone(), garbage.clone()],
            vec![valid.slice(..valid.len() - 1)],
        ] {
            assert_ne!(call_raw(&a, path, messages).await, Code::Ok);
        }
    }
    let unknown = "/highwater.internal.v1.PeerService/Nothing";
    assert_eq!(call_raw(&a, unknown, vec![]).await, Code::Unimplemented);
    for nonsense in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096]] {
        let mut stream = TcpStream::connect(a.address.to_string()).await.unwrap();
        stream.write_all(nonsense).await.unwrap();
        let mut answer = Vec::new();
        drop(in_time(stream.read_to_end(&mut answer)).await);
    }
    let sent = b.messages_to(a.id(), MessageType::MsgHeartbeat);
    b.send(sent.clone());
    assert_eq!(a.receives(sent.len()).await.len(), sent.len());
    a.sees_up(&[2]).await;
}
