//! A producer against a broker that fails on purpose.

#![allow(clippy::unwrap_used)]

mod fake_broker;

use std::time::Duration;

use fake_broker::{FakeBroker, Fault};
use futures::FutureExt;
use highwater_client::{
    Client, Compression, Error, Header, Producer, ProducerBuilder, Reason, Record,
};
use highwater_proto::batch::Records;

/// Small batches, so that every test sends many.
fn small(client: &Client) -> ProducerBuilder {
    client
        .producer()
        .batch_bytes(200)
        .linger(Duration::from_millis(1))
}

async fn broker_and_client(partitions: usize) -> (FakeBroker, Client) {
    let broker = FakeBroker::start().await;
    broker.add_topic("t", partitions);
    let client = Client::connect(&broker.address()).await.unwrap();
    (broker, client)
}

/// What a partition holds, as text, in order.
fn stored(broker: &FakeBroker, partition: u32) -> Vec<String> {
    let mut state = broker.state();
    let batches = state.log("t", partition).batches.clone();
    batches
        .into_iter()
        .flat_map(|(_, batch)| Records::open(batch, 1 << 20).unwrap())
        .map(|record| String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap())
        .collect()
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| format!("record {number:05}")).collect()
}

/// Sends the records to partition 0; their deliveries must resolve to their places.
async fn send_all(producer: &Producer, values: &[String]) {
    let mut deliveries = Vec::new();
    for value in values {
        let record = Record::to("t").partition(0).value(value);
        deliveries.push(producer.send(record).await.unwrap());
    }
    for (delivery, place) in deliveries.into_iter().zip(0..) {
        assert_eq!(delivery.await.unwrap().offset, place);
    }
}

#[tokio::test]
async fn every_record_resolves_to_its_offset() {
    let (broker, client) = broker_and_client(1).await;
    let producer = small(&client).build().unwrap();
    send_all(&producer, &numbers(0..200)).await;
    assert_eq!(stored(&broker, 0), numbers(0..200));
    assert_eq!(producer.buffered_bytes(), 0);
    producer.close().await.unwrap();
}

#[tokio::test]
async fn lost_answers_and_lost_requests_neither_lose_nor_double_a_record() {
    let (broker, client) = broker_and_client(1).await;
    broker.change(|state| {
        state.faults = [
            None,
            Some(Fault::LoseAnswer),
            None,
            Some(Fault::LoseRequest),
            Some(Fault::StoreAndRefuse(Reason::RequestTimedOut)),
            Some(Fault::LoseAnswer),
            None,
            None,
            Some(Fault::Refuse(Reason::Throttled)),
            Some(Fault::Refuse(Reason::NotLeaderOrFollower)),
            None,
            Some(Fault::StoreAndRefuse(Reason::StorageError)),
            Some(Fault::LoseRequest),
        ]
        .into();
    });
    let producer = small(&client).build().unwrap();
    send_all(&producer, &numbers(0..300)).await;
    assert!(broker.state().faults.is_empty());
    assert_eq!(stored(&broker, 0), numbers(0..300));
    producer.close().await.unwrap();
}

#[tokio::test]
async fn a_restarted_broker_goes_on_where_it_was() {
    let (mut broker, client) = broker_and_client(1).await;
    let producer = small(&client).build().unwrap();
    for round in 0..4 {
        for value in numbers(round * 100..round * 100 + 100) {
            let record = Record::to("t").partition(0).value(&value);
            // Its failure would show in the flush.
            drop(producer.send(record).await.unwrap());
        }
        broker.stop().await;
        for value in numbers(1000 + round * 100..1000 + round * 100 + 50) {
            drop(
                producer
                    .send(Record::to("t").partition(0).value(&value))
                    .await
                    .unwrap(),
            );
        }
        broker.restart().await;
    }
    producer.close().await.unwrap();
    let expected: Vec<String> = (0..4)
        .flat_map(|round| {
            let sent_up = numbers(round * 100..round * 100 + 100);
            let sent_down = numbers(1000 + round * 100..1000 + round * 100 + 50);
            [sent_up, sent_down].concat()
        })
        .collect();
    assert_eq!(stored(&broker, 0), expected);
}

#[tokio::test]
async fn a_refused_batch_fails_alone_and_what_follows_is_stored() {
    let (broker, client) = broker_and_client(1).await;
    broker.change(|state| {
        state.faults = [None, Some(Fault::Refuse(Reason::InvalidRecord))].into();
    });
    let producer = small(&client).batch_bytes(100).build().unwrap();
    let mut outcomes = Vec::new();
    for value in numbers(0..40) {
        let record = Record::to("t").partition(0).value(&value);
        outcomes.push(producer.send(record).await.unwrap());
    }
    let error = producer.flush().await.unwrap_err();
    assert_eq!(error.reason(), Reason::InvalidRecord);
    assert!(error.is_definite() && !error.is_retriable());
    producer.flush().await.unwrap();
    let mut expected = Vec::new();
    let mut failed = 0;
    for (outcome, value) in outcomes.into_iter().zip(numbers(0..40)) {
        match outcome.await {
            Ok(receipt) => {
                assert_eq!(receipt.offset, expected.len() as u64);
                expected.push(value);
            }
            Err(_) => failed += 1,
        }
    }
    assert!(failed > 0 && failed < 10, "{failed}");
    assert_eq!(stored(&broker, 0), expected);
    assert_eq!(broker.state().next_producer_id, 2);
}

#[tokio::test]
async fn a_full_buffer_makes_send_wait_for_acknowledgements() {
    let (broker, client) = broker_and_client(1).await;
    broker.change(|state| state.stuck = true);
    let producer = small(&client).buffer_bytes(2_000).build().unwrap();
    let value = "x".repeat(100);
    let record = Record::to("t").value(&value);
    drop(producer.send(record).await.unwrap());
    let mut waiting = loop {
        let mut sending = Box::pin(producer.send(record));
        if sending.as_mut().now_or_never().is_none() {
            break sending;
        }
    };
    assert!(producer.buffered_bytes() <= 2_000);
    assert!(waiting.as_mut().now_or_never().is_none());
    broker.change(|state| state.stuck = false);
    waiting.await.unwrap().await.unwrap();
    producer.close().await.unwrap();
}

#[tokio::test]
async fn without_a_broker_a_record_fails_in_time_and_is_surely_not_stored() {
    let (mut broker, client) = broker_and_client(1).await;
    let producer = small(&client)
        .delivery_timeout(Duration::from_millis(300))
        .build()
        .unwrap();
    producer
        .send(Record::to("t").value("first"))
        .await
        .unwrap()
        .await
        .unwrap();
    broker.stop().await;
    // The first connection is known to be gone once something was sent on it.
    let lost = producer.send(Record::to("t").value("lost")).await.unwrap();
    assert!(matches!(lost.await, Err(Error::DeliveryTimeout { .. })));
    for _ in 0..3 {
        let delivery = producer.send(Record::to("t").value("late")).await.unwrap();
        let error = delivery.await.unwrap_err();
        assert!(matches!(error, Error::DeliveryTimeout { .. }), "{error}");
        assert!(error.is_definite() && error.is_retriable(), "{error}");
    }
    broker.restart().await;
    // However long it was away: that it is back is noticed within the time that a record has.
    let receipt = producer.send(Record::to("t").value("again")).await.unwrap();
    receipt.await.unwrap();
    assert_eq!(stored(&broker, 0).last().unwrap(), "again");
}

#[tokio::test]
async fn a_broker_that_does_not_answer_is_asked_again_on_another_connection() {
    let (broker, client) = broker_and_client(1).await;
    broker.change(|state| state.stuck = true);
    let producer = small(&client)
        .request_timeout(Duration::from_millis(100))
        .build()
        .unwrap();
    let delivery = producer.send(Record::to("t").value("once")).await.unwrap();
    broker.until(|state| state.streams >= 3).await;
    broker.change(|state| state.stuck = false);
    assert_eq!(delivery.await.unwrap().offset, 0);
    producer.close().await.unwrap();
    assert_eq!(stored(&broker, 0), ["once"]);
}

#[tokio::test]
async fn keys_land_where_kafka_puts_them() {
    let (broker, client) = broker_and_client(8).await;
    let producer = small(&client).build().unwrap();
    for (key, partition) in [("foobar", 6), ("21", 4), ("abc", 3)] {
        let record = Record::to("t").key(key).value(key);
        let receipt = producer.send(record).await.unwrap().await.unwrap();
        assert_eq!(receipt.partition, partition);
        assert_eq!(stored(&broker, partition), [key]);
    }
}

#[tokio::test]
async fn every_codec_headers_and_timestamps_arrive() {
    let (broker, client) = broker_and_client(1).await;
    let headers = [Header {
        key: "h".into(),
        value: None,
    }];
    for codec in Compression::ALL {
        let producer = small(&client).compression(codec).build().unwrap();
        let record = Record::to("t")
            .value("v")
            .headers(&headers)
            .timestamp_ms(77);
        let receipt = producer.send(record).await.unwrap().await.unwrap();
        assert_eq!(receipt.timestamp_ms, 77);
        let batch = broker.state().log("t", 0).batches.last().unwrap().1.clone();
        let mut records = Records::open(batch, 1_000).unwrap();
        assert_eq!(records.header().compression, codec);
        let stored = records.next().unwrap().unwrap();
        assert_eq!(stored.timestamp_ms, 77);
        assert_eq!(stored.headers.collect::<Vec<_>>(), headers);
    }
}

#[tokio::test]
async fn an_unknown_topic_is_named_and_found_once_it_exists() {
    let (broker, client) = broker_and_client(1).await;
    let producer = small(&client).build().unwrap();
    let error = producer
        .send(Record::to("nosuch").value("x"))
        .await
        .unwrap_err();
    assert_eq!(error.reason(), Reason::UnknownTopicOrPartition);
    assert!(error.to_string().contains("nosuch"));
    broker.add_topic("nosuch", 1);
    producer
        .send(Record::to("nosuch").value("x"))
        .await
        .unwrap()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_deleted_topic_is_reported_at_once_with_and_without_a_watch() {
    for refuse_watches in [false, true] {
        let (broker, client) = broker_and_client(1).await;
        broker.change(|state| state.refuse_watches = refuse_watches);
        let producer = small(&client).build().unwrap();
        let record = || Record::to("t").value("x");
        producer.send(record()).await.unwrap().await.unwrap();
        broker.change(|state| state.stuck = true);
        let delivery = producer.send(record()).await.unwrap();
        client.admin().delete_topic("t", None).await.unwrap();
        if refuse_watches {
            broker.change(|state| state.stuck = false);
        }
        let error = delivery.await.unwrap_err();
        assert_eq!(error.reason(), Reason::UnknownTopicOrPartition, "{error}");
        let error = producer.send(record()).await.unwrap_err();
        assert_eq!(error.reason(), Reason::UnknownTopicOrPartition, "{error}");
        // Made again, with fewer partitions or more, it is another topic under the same name.
        broker.change(|state| state.stuck = false);
        broker.add_topic("u", 1);
        broker.add_topic("t", 2);
        let receipt = producer.send(record()).await.unwrap().await.unwrap();
        assert_eq!(receipt.offset, 0);
    }
}

#[tokio::test]
async fn new_partitions_are_learnt_without_an_error() {
    let (broker, client) = broker_and_client(1).await;
    let producer = small(&client).build().unwrap();
    let record = Record::to("t").partition(1).value("x");
    let early = producer.send(record).await.unwrap_err();
    assert_eq!(early.reason(), Reason::UnknownTopicOrPartition);
    broker.change(|state| state.add_partition("t"));
    let delivery = loop {
        match producer.send(record).await {
            Ok(delivery) => break delivery,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    assert_eq!(delivery.await.unwrap().partition, 1);
}

#[tokio::test]
async fn without_idempotence_no_producer_id_is_asked_for_and_a_lost_answer_doubles() {
    let (broker, client) = broker_and_client(1).await;
    broker.change(|state| state.faults = [Some(Fault::LoseAnswer)].into());
    let producer = small(&client)
        .enable_idempotence(false)
        .max_in_flight(64)
        .build()
        .unwrap();
    let delivery = producer.send(Record::to("t").value("x")).await.unwrap();
    assert_eq!(delivery.await.unwrap().offset, 1);
    producer.close().await.unwrap();
    assert_eq!(stored(&broker, 0), ["x", "x"]);
    assert_eq!(broker.state().next_producer_id, 0);
}

#[tokio::test]
async fn dropping_a_producer_resolves_what_it_leaves_behind() {
    let (broker, client) = broker_and_client(1).await;
    broker.change(|state| state.stuck = true);
    let producer = small(&client).build().unwrap();
    let delivery = producer.send(Record::to("t").value("x")).await.unwrap();
    drop(producer);
    assert!(matches!(delivery.await, Err(Error::Closed)));
}

#[tokio::test]
async fn connecting_to_nothing_says_what_to_do() {
    let mut broker = FakeBroker::start().await;
    broker.stop().await;
    let error = Client::connect(&broker.address()).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    assert!(error.to_string().contains(&broker.address()));
    assert!(error.to_string().contains("highwater dev"));
}
