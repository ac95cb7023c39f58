//! Administration against a broker in memory.

#![allow(clippy::unwrap_used)]

mod fake_broker;

use fake_broker::FakeBroker;
use highwater_client::{Client, NewTopic, Offset, Reason, Record, Start, TopicId};

async fn broker_and_client() -> (FakeBroker, Client) {
    let broker = FakeBroker::start().await;
    let client = Client::connect(&broker.address()).await.unwrap();
    (broker, client)
}

#[tokio::test]
async fn a_created_topic_is_listed_and_can_be_produced_to() {
    let (_broker, client) = broker_and_client().await;
    let admin = client.admin();
    let created = admin
        .create_topic(NewTopic::new("t").partitions(3))
        .await
        .unwrap();
    assert_eq!(created.partitions, 3);
    let listed = admin.list_topics().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(TopicId::from_slice(&listed[0].topic_id), created.id);
    let producer = client.producer().build().unwrap();
    let record = Record::to("t").partition(2).value("x").timestamp_ms(5);
    producer.send(record).await.unwrap().await.unwrap();
    let find = |start| admin.find_offset("t", 2, start);
    assert_eq!(find(Start::Earliest).await.unwrap().offset, Offset(0));
    assert_eq!(find(Start::Latest).await.unwrap().offset, Offset(1));
    let by_time = find(Start::Timestamp(1)).await.unwrap();
    assert_eq!((by_time.offset, by_time.timestamp_ms), (Offset(0), Some(5)));
    let after_all = find(Start::Timestamp(6)).await.unwrap();
    assert_eq!(
        (after_all.offset, after_all.timestamp_ms),
        (Offset(1), None)
    );
}

#[tokio::test]
async fn refusals_keep_reason_and_facts() {
    let (broker, client) = broker_and_client().await;
    broker.add_topic("t", 1);
    let error = client
        .admin()
        .create_topic(NewTopic::new("t"))
        .await
        .unwrap_err();
    assert_eq!(error.reason(), Reason::TopicAlreadyExists);
    assert!(error.is_definite() && !error.is_retriable());
    let highwater_client::Error::Api(error) = error else {
        panic!("{error}");
    };
    assert_eq!(error.metadata["topic"], "t");
}

#[tokio::test]
async fn what_a_broker_does_not_know_is_unsupported() {
    let (_broker, client) = broker_and_client().await;
    let error = client.admin().describe_topic("t").await.unwrap_err();
    assert_eq!(error.reason(), Reason::Unsupported);
}

#[tokio::test]
async fn trimming_answers_the_new_start() {
    let (broker, client) = broker_and_client().await;
    broker.add_topic("t", 1);
    let admin = client.admin();
    let start = admin.trim_partition("t", 0, Some(Offset(0))).await.unwrap();
    assert_eq!(start, Offset(0));
    let error = admin.trim_partition("t", 9, None).await.unwrap_err();
    assert_eq!(error.reason(), Reason::UnknownTopicOrPartition);
    let error = admin.find_offset("t", 9, Start::Latest).await.unwrap_err();
    assert_eq!(error.reason(), Reason::UnknownTopicOrPartition);
}

#[tokio::test]
async fn reading_requests_outlive_a_restart() {
    let (mut broker, client) = broker_and_client().await;
    broker.add_topic("t", 1);
    broker.stop().await;
    let admin = client.admin();
    let listing = tokio::spawn(async move { admin.list_topics().await });
    broker.restart().await;
    assert_eq!(listing.await.unwrap().unwrap().len(), 1);
}
