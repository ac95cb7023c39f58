//! Subscriptions: pushed batches, byte credits, assignments.

use highwater_proto::{ApiError, Reason, v1};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use v1::subscribe_request::Request as Asked;

use crate::test_broker::{TestBroker, config, fetch_from, values_of};

struct Subscriber {
    requests: mpsc::Sender<v1::SubscribeRequest>,
    responses: Streaming<v1::SubscribeResponse>,
}

impl Subscriber {
    /// Opens a subscription whose first messages are `first`.
    async fn open(broker: &TestBroker, first: Vec<Asked>) -> Self {
        let (requests, receiver) = mpsc::channel(16);
        for asked in first {
            send(&requests, asked).await;
        }
        let responses = broker
            .fetcher()
            .subscribe(ReceiverStream::new(receiver))
            .await;
        Self {
            requests,
            responses: responses.unwrap().into_inner(),
        }
    }

    async fn next(&mut self) -> Result<v1::SubscribeResponse, ApiError> {
        let next = self.responses.next().await.expect("the stream goes on");
        next.map_err(ApiError::from)
    }
}

async fn send(requests: &mpsc::Sender<v1::SubscribeRequest>, asked: Asked) {
    let request = v1::SubscribeRequest {
        request: Some(asked),
    };
    requests.send(request).await.unwrap();
}

fn assign(assignment_id: u64, partitions: Vec<v1::FetchPartition>) -> Asked {
    Asked::Assign(v1::SubscribeAssign {
        assignment_id,
        partitions,
        format: v1::RecordFormat::Records.into(),
        allow_follower: false,
    })
}

fn credit(bytes: u64) -> Asked {
    Asked::Credit(v1::SubscribeCredit { bytes })
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_pushed_as_they_come_while_credit_lasts() {
    let broker = TestBroker::start().await;
    broker.create("t", 2).await;
    broker.append_values("t", 0, &["a"]).await;
    let partitions = vec![fetch_from("t", 0, 0), fetch_from("t", 1, 0)];
    let first = vec![assign(7, partitions), credit(1)];
    let mut subscriber = Subscriber::open(&broker, first).await;
    let pushed = subscriber.next().await.unwrap();
    assert_eq!(pushed.assignment_id, 7);
    assert_eq!(values_of(&pushed.partitions[0]), ["a"]);
    assert!(pushed.credit_used_bytes > 1);

    // That batch took more than the credit. A look at all partitions finds the error of one and gives nothing of the other.
    broker.append_values("t", 1, &["b"]).await;
    let partitions = vec![
        fetch_from("t", 1, 0),
        fetch_from("none", 0, 0),
        fetch_from("t", 0, 1),
    ];
    send(&subscriber.requests, assign(8, partitions)).await;
    let without_credit = subscriber.next().await.unwrap();
    assert_eq!(without_credit.partitions.len(), 1);
    assert!(without_credit.partitions[0].error.is_some());
    send(
        &subscriber.requests,
        credit(pushed.credit_used_bytes + 10_000),
    )
    .await;
    let pushed = subscriber.next().await.unwrap();
    assert_eq!(values_of(&pushed.partitions[0]), ["b"]);
    broker.append_values("t", 0, &["c"]).await;
    let pushed = subscriber.next().await.unwrap();
    assert_eq!(values_of(&pushed.partitions[0]), ["c"]);
    assert_eq!(pushed.partitions[0].next_offset, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_assignment_replaces_the_old_one() {
    let broker = TestBroker::start().await;
    broker.create("t", 2).await;
    for partition in [0, 1] {
        broker.append_values("t", partition, &["a", "b"]).await;
    }
    let first = vec![assign(1, vec![fetch_from("t", 0, 0)]), credit(1 << 20)];
    let mut subscriber = Subscriber::open(&broker, first).await;
    assert_eq!(subscriber.next().await.unwrap().assignment_id, 1);
    send(&subscriber.requests, assign(2, vec![fetch_from("t", 1, 1)])).await;
    let pushed = subscriber.next().await.unwrap();
    assert_eq!(pushed.assignment_id, 2);
    assert_eq!(values_of(&pushed.partitions[0]), ["b"]);
    broker.append_values("t", 0, &["unseen"]).await;
    broker.append_values("t", 1, &["c"]).await;
    let pushed = subscriber.next().await.unwrap();
    assert_eq!(values_of(&pushed.partitions[0]), ["c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_ends_its_partition_and_no_other() {
    let broker = TestBroker::start().await;
    broker.create("t", 2).await;
    let partitions = vec![
        fetch_from("t", 0, 99),
        fetch_from("none", 0, 0),
        fetch_from("t", 1, 0),
    ];
    let first = vec![assign(1, partitions), credit(1 << 20)];
    let mut subscriber = Subscriber::open(&broker, first).await;
    let pushed = subscriber.next().await.unwrap();
    let reasons: Vec<_> = pushed
        .partitions
        .iter()
        .map(|fetched| fetched.error.clone().unwrap().reason)
        .collect();
    assert_eq!(
        reasons,
        ["OFFSET_OUT_OF_RANGE", "UNKNOWN_TOPIC_OR_PARTITION"]
    );
    broker.append_values("t", 1, &["a"]).await;
    let pushed = subscriber.next().await.unwrap();
    assert_eq!(pushed.partitions.len(), 1);
    assert_eq!(values_of(&pushed.partitions[0]), ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_ends_when_its_client_ends_it() {
    let broker = TestBroker::start().await;
    broker.create("t", 1).await;
    let first = vec![assign(1, vec![fetch_from("t", 0, 0)])];
    let Subscriber {
        requests,
        mut responses,
    } = Subscriber::open(&broker, first).await;
    drop(requests);
    assert!(responses.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_make_no_sense_end_the_subscription() {
    let broker = TestBroker::start().await;
    broker.create("t", 1).await;
    let from_start = || fetch_from("t", 0, 0);
    let other_format = Asked::Assign(v1::SubscribeAssign {
        assignment_id: 2,
        partitions: Vec::new(),
        format: v1::RecordFormat::Batches.into(),
        allow_follower: false,
    });
    let cases = [
        ("credit first", vec![credit(1)], Reason::InvalidRequest),
        (
            "too much credit",
            vec![assign(1, vec![from_start()]), credit(u64::MAX)],
            Reason::LimitExceeded,
        ),
        (
            "a partition twice",
            vec![assign(1, vec![from_start(), from_start()])],
            Reason::InvalidRequest,
        ),
        (
            "too many partitions",
            vec![assign(1, vec![from_start(); 11])],
            Reason::LimitExceeded,
        ),
        (
            "another format",
            vec![assign(1, vec![from_start()]), other_format],
            Reason::InvalidRequest,
        ),
    ];
    for (name, first, reason) in cases {
        let mut subscriber = Subscriber::open(&broker, first).await;
        let error = subscriber.next().await.unwrap_err();
        assert_eq!(error.reason, reason, "{name}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_does_not_read_loses_its_connection() {
    let mut config = config();
    config.server.stall_timeout_ms = 200;
    config.fetch.max_credit_bytes = 8 << 20;
    let broker = TestBroker::start_with(config).await;
    broker.create("t", 1).await;
    // More than the client's window, of 2 MiB, takes.
    let large = "x".repeat(900_000);
    for _ in 0..6 {
        broker.append_values("t", 0, &[&large]).await;
    }
    let first = vec![assign(1, vec![fetch_from("t", 0, 0)]), credit(8 << 20)];
    let Subscriber {
        requests,
        mut responses,
    } = Subscriber::open(&broker, first).await;
    // The transport drops the requests when the connection is gone.
    requests.closed().await;
    while let Some(response) = responses.next().await {
        if response.is_err() {
            return;
        }
    }
    panic!("the subscription ended in order");
}
