//! A member of a consumer group, against a coordinator that does what a test wants.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod fake_broker;

use std::time::Duration;

use fake_broker::FakeBroker;
use highwater_client::{Client, GroupConsumer, Rebalance, Record};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// A member that received the only record of its partition, is asked to give it back, and is removed before it commits; and what it is
/// told.
async fn removed_member() -> (FakeBroker, GroupConsumer, UnboundedReceiver<Rebalance>) {
    let broker = FakeBroker::start().await;
    broker.add_topic("t", 1);
    broker.assign("t", &[0]);
    let client = Client::connect(&broker.address()).await.unwrap();
    let producer = client.producer().build().unwrap();
    drop(producer.send(Record::to("t").value("x")).await.unwrap());
    producer.close().await.unwrap();

    let (tell, told) = unbounded_channel();
    let consumer = client.consumer().group("g").topics(["t"]);
    let consumer = consumer
        .auto_commit(Duration::from_secs(3_600))
        .on_rebalance(move |rebalance, _| tell.send(rebalance.clone()).unwrap());
    let mut consumer = consumer.build().await.unwrap();
    consumer.recv().await.unwrap();
    broker.change(|state| state.group.removes_member = true);
    broker.assign("t", &[]);
    (broker, consumer, told)
}

/// What the member is told next.
async fn next(consumer: &mut GroupConsumer, told: &mut UnboundedReceiver<Rebalance>) -> Rebalance {
    tokio::select! {
        received = consumer.recv() => panic!("there is one record: {received:?}"),
        rebalance = told.recv() => rebalance.unwrap(),
    }
}

#[tokio::test]
async fn what_a_removed_member_could_not_give_back_is_told_to_be_lost() {
    let (_broker, mut consumer, mut told) = removed_member().await;
    let Rebalance::Assigned(assigned) = next(&mut consumer, &mut told).await else {
        panic!("it is assigned first");
    };
    assert_eq!(assigned.len(), 1);
    let revoked = next(&mut consumer, &mut told).await;
    assert_eq!(revoked, Rebalance::Revoked(assigned.clone()));
    let lost = next(&mut consumer, &mut told).await;
    assert_eq!(lost, Rebalance::Lost(assigned));
}

#[tokio::test]
async fn a_removed_member_that_is_closed_is_not_told_again_what_is_revoked() {
    let (_broker, mut consumer, mut told) = removed_member().await;
    next(&mut consumer, &mut told).await;
    let revoked = next(&mut consumer, &mut told).await;
    assert!(matches!(revoked, Rebalance::Revoked(_)), "{revoked:?}");
    consumer.close().await.unwrap_err();
    assert_eq!(told.recv().await, None, "the listener is gone");
}
