//! A member of a consumer group, against a coordinator that does what a test wants.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod fake_broker;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fake_broker::FakeBroker;
use highwater_client::{Client, Rebalance, Record};
use tokio::sync::Notify;

#[tokio::test]
async fn what_a_removed_member_could_not_give_back_is_told_to_be_lost() {
    let broker = FakeBroker::start().await;
    broker.add_topic("t", 1);
    broker.assign("t", &[0]);
    let client = Client::connect(&broker.address()).await.unwrap();
    let producer = client.producer().build().unwrap();
    drop(producer.send(Record::to("t").value("x")).await.unwrap());
    producer.close().await.unwrap();

    let (told, has_lost) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Notify::new()));
    let (diary, lost) = (Arc::clone(&told), Arc::clone(&has_lost));
    let consumer = client.consumer().group("g").topics(["t"]);
    let consumer = consumer
        .auto_commit(Duration::from_secs(3_600))
        .on_rebalance(move |rebalance, _| {
            diary.lock().unwrap().push(rebalance.clone());
            if matches!(rebalance, Rebalance::Lost(_)) {
                lost.notify_one();
            }
        });
    let mut consumer = consumer.build().await.unwrap();
    consumer.recv().await.unwrap();

    // It is asked for the partition, and was removed before it commits what it received.
    broker.change(|state| state.group.removes_member = true);
    broker.assign("t", &[]);
    tokio::select! {
        received = consumer.recv() => panic!("there is one record: {received:?}"),
        () = has_lost.notified() => {}
    }
    let told = told.lock().unwrap();
    let (Rebalance::Assigned(assigned), Rebalance::Revoked(revoked), Rebalance::Lost(lost)) =
        (&told[0], &told[1], &told[2])
    else {
        panic!("{told:?}");
    };
    assert_eq!((assigned.len(), revoked, lost), (1, assigned, assigned));
}
