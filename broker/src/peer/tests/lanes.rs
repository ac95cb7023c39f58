//! What brokers of one cluster say to each other.

use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use highwater_proto::internal::v1;
use highwater_proto::internal::v1::peer_service_server::{PeerService, PeerServiceServer};
use highwater_storage::FrameKind;
use tokio::net::TcpListener;
use tokio_stream::Stream;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use super::*;
use crate::peer::outbox::Lane;
use crate::raft::entry_from_peer;

/// An append with one entry of so many bytes.
fn append(mut message: PeerMessage, bytes: usize) -> PeerMessage {
    message.message.set_msg_type(MessageType::MsgAppend);
    let data = Bytes::from(vec![7; bytes]);
    let entry = entry_from_peer(FrameKind::Events, 1, 3, data);
    message.message.entries = vec![entry].into();
    message
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_many_groups_arrive_in_both_directions() {
    let (a, b) = pair().await;
    a.sees_up(&[2]).await;
    b.sees_up(&[1]).await;
    for (from, to) in [(&a, &b), (&b, &a)] {
        let mut sent = from.messages_to(to.id(), MessageType::MsgHeartbeat);
        let appends = from.messages_to(to.id(), MessageType::MsgAppend);
        sent.extend(appends.into_iter().map(|message| append(message, 5000)));
        assert_eq!(sent.len(), 2 * PARTITIONS as usize);
        from.send(sent.clone());
        let mut received = to.receives(sent.len()).await;
        received.sort_by_key(|message| (message.message.entries.len(), message.group));
        assert!(received == sent, "what arrived is not what was sent");
    }
    a.end().await;
    b.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_arrive_in_the_order_in_which_they_were_sent() {
    let (a, b) = pair().await;
    b.sees_up(&[1]).await;
    let one = a.messages_to(b.id(), MessageType::MsgAppend)[0].clone();
    for index in 0..1000 {
        let mut message = append(one.clone(), 10_000);
        message.message.commit = index;
        // Where the leader only says what is committed, that must not overtake the entries.
        if index % 3 == 0 {
            message.message.clear_entries();
        }
        a.send(vec![message]);
    }
    let received = b.receives(1000).await;
    let order: Vec<_> = received
        .iter()
        .map(|received| received.message.commit)
        .collect();
    assert_eq!(order, (0..1000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_restarts_is_down_then_up_and_is_sent_to_again() {
    let (a, b) = pair().await;
    a.sees_up(&[2]).await;
    let lost = a.replicas_on(b.id()).into_values();
    let mut lost: HashSet<_> = lost.collect();
    let controller = a.image().broker(b.id()).unwrap().controller_replica;
    lost.insert(controller);
    let address = b.address.to_string();
    b.end().await;

    let again = Spec {
        run_id: 22,
        address,
        ..Spec::of(2)
    };
    let mut b = TestBroker::start(again).await;
    b.apply(commands(&[&a, &b]));
    b.sees_up(&[1]).await;
    let mut losses = a.groups.lost.subscribe();
    let losses = in_time(losses.wait_for(|losses| !losses.is_empty())).await;
    assert_eq!(*losses.unwrap(), [lost]);
    a.sees_up(&[2]).await;
    let sent = a.messages_to(b.id(), MessageType::MsgHeartbeat);
    a.send(sent.clone());
    assert_eq!(b.receives(sent.len()).await.len(), sent.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_stays_away_is_down_and_its_leaders_are_lost() {
    let mut spec = Spec::of(1);
    spec.config.cluster.missed_heartbeats = 10;
    let (a, b) = pair_of(spec, Spec::of(2)).await;
    a.sees_up(&[2]).await;
    b.end().await;
    a.sees_up(&[]).await;
    assert!(!a.groups.lost.borrow().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_with_a_stuck_disk_is_down() {
    let (a, b) = pair().await;
    a.sees_up(&[2]).await;
    b.groups.pulse.lock().unwrap().sync_age_ms = 60_000;
    a.sees_up(&[]).await;
    b.sees_up(&[1]).await;
    b.groups.pulse.lock().unwrap().sync_age_ms = 0;
    a.sees_up(&[2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_is_known_everywhere_and_to_who_connects_later() {
    let (a, mut b) = pair().await;
    let (group, replica) = a.replicas_on(a.id()).pop_first().unwrap();
    a.peers
        .transport()
        .announce(vec![leadership(group, 5, replica)]);
    a.knows_leader(group, replica).await;
    b.knows_leader(group, replica).await;

    let c = TestBroker::start(Spec::of(3)).await;
    let register = Command::RegisterBroker(registration(3, &c.address));
    let mut a = a;
    a.apply([register.clone()]);
    b.apply([register]);
    // It has no image yet: whom it does not know it believes.
    assert_eq!(c.image().brokers().len(), 0);
    c.knows_leader(group, replica).await;

    // Of a replica that is elsewhere nobody takes it.
    let (other, own) = b.replicas_on(b.id()).pop_last().unwrap();
    b.peers.transport().announce(vec![
        leadership(group, 6, replica),
        leadership(other, 6, own),
    ]);
    a.knows_leader(other, own).await;
    assert_eq!(a.peers.leaders().get(group).unwrap().term, Term(5));
    assert_eq!(a.refused("leadership"), 1);
}

/// A broker that agrees to every stream and then reads nothing.
struct Stalled;

type Nothing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// An answer that never comes, and keeps the unread stream open.
fn nothing<R: Send + 'static, T: Send + 'static>(unread: R) -> Response<Nothing<T>> {
    let never = futures::stream::poll_fn(move |_| {
        let _open = &unread;
        Poll::Pending
    });
    Response::new(Box::pin(never))
}

#[tonic::async_trait]
impl PeerService for Stalled {
    type ControlStream = Nothing<v1::ControlResponse>;
    type DataStream = Nothing<v1::DataResponse>;
    type SeedStream = Nothing<v1::SeedResponse>;

    async fn describe(
        &self,
        _request: Request<v1::DescribeRequest>,
    ) -> Result<Response<v1::DescribeResponse>, Status> {
        Err(Status::unavailable("stalled"))
    }

    async fn control(
        &self,
        request: Request<Streaming<v1::ControlRequest>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        Ok(nothing(Mutex::new(request.into_inner())))
    }

    async fn data(
        &self,
        request: Request<Streaming<v1::DataRequest>>,
    ) -> Result<Response<Self::DataStream>, Status> {
        Ok(nothing(Mutex::new(request.into_inner())))
    }

    async fn seed(
        &self,
        _request: Request<v1::SeedRequest>,
    ) -> Result<Response<Self::SeedStream>, Status> {
        Err(Status::unavailable("stalled"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_broker_that_reads_nothing_stays_within_its_bounds() {
    const MESSAGES: usize = 100;
    const BYTES: usize = 500_000;
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = socket.local_addr().unwrap();
    let stalled = Server::builder()
        .add_service(PeerServiceServer::new(Stalled))
        .serve_with_incoming(TcpListenerStream::new(socket));
    let _stalled = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(stalled));

    let mut spec = Spec::of(1);
    spec.config.cluster.send_queue_bytes = BYTES;
    spec.config.cluster.send_queue_messages = MESSAGES;
    let mut a = TestBroker::start(spec).await;
    let address = Address {
        host: there.ip().to_string(),
        port: there.port(),
    };
    let mut commands = commands(&[&a]);
    commands.insert(1, Command::RegisterBroker(registration(2, &address)));
    if let Some(Command::CreateTopic(create)) = commands.last_mut() {
        create.replication_factor = Some(2);
    }
    a.apply(commands);
    let connects = || {
        let connects = &a.peers.shared.metrics.connects;
        connects.with_label_values(&["2"]).get()
    };
    in_time(async {
        while connects() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // More than the windows of the stream and the queue hold together.
    for _ in 0..20 {
        a.send(a.messages_to(BrokerId(2), MessageType::MsgHeartbeat));
        let appends = a.messages_to(BrokerId(2), MessageType::MsgAppend);
        let appends = appends.into_iter().map(|message| append(message, 10_000));
        a.send(appends.collect());
    }
    let outboxes = a.peers.shared.outboxes.load();
    let (messages, bytes) = outboxes[&BrokerId(2)].level(Lane::Data);
    assert!(0 < messages && messages <= MESSAGES, "{messages}");
    assert!(bytes <= BYTES, "{bytes}");
    let (messages, bytes) = outboxes[&BrokerId(2)].level(Lane::Control);
    assert!(
        messages <= MESSAGES && bytes <= BYTES,
        "{messages}, {bytes}"
    );
    assert!(a.peers.shared.lost.queue.get() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_without_others_keeps_nothing_for_them() {
    let mut a = TestBroker::start(Spec::of(1)).await;
    let commands = commands(&[&a]);
    a.apply(commands);
    let unknown = message(
        MessageType::MsgHeartbeat,
        GroupId(100),
        ReplicaId(5),
        ReplicaId(6),
    );
    a.send(vec![unknown]);
    assert_eq!(a.peers.shared.lost.route.get(), 1);
    assert!(a.peers.shared.outboxes.load().is_empty());
    assert!(a.peers.channel(BrokerId(2)).is_err());
    a.end().await;
}
