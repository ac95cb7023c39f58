//! A consumer against a broker that fails on purpose.

#![allow(clippy::unwrap_used)]

mod fake_broker;

use bytes::BytesMut;
use fake_broker::FakeBroker;
use futures::{FutureExt, StreamExt};
use highwater_client::{
    Assignment, Client, Compression, Consumer, ConsumerBuilder, Error, Offset, OffsetReset, Reason,
    Record, Start,
};

/// A broker with `count` records in partition 0 of topic `t`, several batches of them, and timestamps 0, 10, 20 ...
async fn filled(count: u32) -> (FakeBroker, Client) {
    let broker = FakeBroker::start().await;
    broker.add_topic("t", 2);
    let client = Client::connect(&broker.address()).await.unwrap();
    produce(&client, 0, 0..count).await;
    (broker, client)
}

async fn produce(client: &Client, partition: u32, numbers: std::ops::Range<u32>) {
    for (codec, chunk) in Compression::ALL
        .into_iter()
        .cycle()
        .zip(numbers.collect::<Vec<_>>().chunks(7))
    {
        let producer = client.producer().compression(codec).build().unwrap();
        for number in chunk {
            let record = Record::to("t").partition(partition);
            let value = number.to_string();
            let record = record.value(&value).timestamp_ms(i64::from(*number) * 10);
            drop(producer.send(record).await.unwrap());
        }
        producer.close().await.unwrap();
    }
}

/// Small limits, so that every test fetches often.
fn small(client: &Client) -> ConsumerBuilder {
    client
        .consumer()
        .buffer_bytes(400)
        .partition_fetch_bytes(150)
}

async fn read(consumer: &mut Consumer, count: usize) -> Vec<(u64, String)> {
    let mut records = Vec::new();
    while records.len() < count {
        let record = consumer.recv().await.unwrap();
        let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
        records.push((record.offset, value));
    }
    records
}

fn numbered(range: std::ops::Range<u64>) -> Vec<(u64, String)> {
    range.map(|number| (number, number.to_string())).collect()
}

#[tokio::test]
async fn a_partition_is_read_from_its_start_in_order() {
    let (_broker, client) = filled(100).await;
    let mut consumer = small(&client)
        .assign("t", 0, Start::Earliest)
        .build()
        .await
        .unwrap();
    assert_eq!(read(&mut consumer, 100).await, numbered(0..100));
    assert_eq!(consumer.position("t", 0), Some(Offset(100)));
    assert!(consumer.recv().now_or_never().is_none());
}

#[tokio::test]
async fn reading_begins_at_an_offset_a_time_or_the_end() {
    let (_broker, client) = filled(50).await;
    for (start, first) in [
        (Start::Offset(Offset(17)), 17),
        (Start::Timestamp(233), 24),
        (Start::Timestamp(-1), 0),
    ] {
        let mut consumer = small(&client).assign("t", 0, start).build().await.unwrap();
        assert_eq!(read(&mut consumer, 20).await, numbered(first..first + 20));
    }
    for start in [Start::Latest, Start::Timestamp(500)] {
        let mut consumer = small(&client).assign("t", 0, start).build().await.unwrap();
        while consumer.position("t", 0).is_none() {
            tokio::task::yield_now().await;
        }
        let from = consumer.position("t", 0).unwrap().0;
        let more = u32::try_from(from).unwrap();
        produce(&client, 0, more..more + 10).await;
        assert_eq!(read(&mut consumer, 10).await, numbered(from..from + 10));
    }
}

#[tokio::test]
async fn partitions_are_read_together_each_in_order() {
    let (_broker, client) = filled(40).await;
    produce(&client, 1, 0..40).await;
    let mut consumer = small(&client)
        .assign("t", 0, Start::Earliest)
        .assign("t", 1, Start::Offset(Offset(30)))
        .build()
        .await
        .unwrap();
    let mut next = [0, 30];
    for _ in 0..50 {
        let record = consumer.next().await.unwrap().unwrap();
        let expected = &mut next[record.partition as usize];
        assert_eq!(record.offset, *expected);
        *expected += 1;
    }
    assert_eq!(next, [40, 40]);
}

#[tokio::test]
async fn after_a_restart_reading_goes_on_behind_the_last_record() {
    let (mut broker, client) = filled(60).await;
    let mut consumer = small(&client)
        .assign("t", 0, Start::Earliest)
        .build()
        .await
        .unwrap();
    assert_eq!(read(&mut consumer, 25).await, numbered(0..25));
    broker.stop().await;
    // What was fetched before can still be read; then there is nothing to read, and no error either.
    let mut seen = 25;
    while let Some(record) = consumer.recv().now_or_never() {
        assert_eq!(record.unwrap().offset, seen);
        seen += 1;
    }
    assert!(seen < 60);
    broker.restart().await;
    let rest = usize::try_from(60 - seen).unwrap();
    assert_eq!(read(&mut consumer, rest).await, numbered(seen..60));
}

#[tokio::test]
async fn seeking_drops_what_was_fetched() {
    let (_broker, client) = filled(60).await;
    let mut consumer = small(&client)
        .assign("t", 0, Start::Earliest)
        .build()
        .await
        .unwrap();
    read(&mut consumer, 10).await;
    consumer.seek("t", 0, Start::Offset(Offset(41))).unwrap();
    assert_eq!(consumer.position("t", 0), Some(Offset(41)));
    assert_eq!(read(&mut consumer, 19).await, numbered(41..60));
    consumer.seek("t", 0, Start::Earliest).unwrap();
    assert_eq!(read(&mut consumer, 60).await, numbered(0..60));
    let error = consumer.seek("t", 1, Start::Earliest).unwrap_err();
    assert!(matches!(error, Error::NotAssigned { partition: 1, .. }));
}

#[tokio::test]
async fn seeking_again_and_again_gives_nothing_of_an_old_position() {
    let (_broker, client) = filled(60).await;
    let mut consumer = small(&client)
        .assign("t", 0, Start::Earliest)
        .build()
        .await
        .unwrap();
    for round in 0..200 {
        let from = round * 37 % 58;
        consumer.seek("t", 0, Start::Offset(Offset(from))).unwrap();
        // Nothing is waited for in some rounds: the assignment before may not even have been sent.
        let count = round % 3;
        assert_eq!(
            read(&mut consumer, usize::try_from(count).unwrap()).await,
            numbered(from..from + count)
        );
    }
}

#[tokio::test]
async fn going_back_to_the_start_again_and_again_leaves_nothing_open() {
    let (broker, client) = filled(20).await;
    let mut consumer = small(&client)
        .assign("t", 0, Start::Earliest)
        .build()
        .await
        .unwrap();
    // More often than one connection carries subscriptions: the start is looked up, and nothing is read meanwhile.
    for _ in 0..100 {
        assert_eq!(read(&mut consumer, 20).await, numbered(0..20));
        consumer.seek("t", 0, Start::Earliest).unwrap();
    }
    assert!(broker.state().subscriptions > 20);
    drop(consumer);
    broker.until(|state| state.open_subscriptions == 0).await;
}

#[tokio::test]
async fn a_broken_subscription_goes_on_behind_the_last_record() {
    let (broker, client) = filled(60).await;
    let mut consumer = small(&client)
        .assign("t", 0, Start::Earliest)
        .build()
        .await
        .unwrap();
    for round in 0..6 {
        assert_eq!(
            read(&mut consumer, 10).await,
            numbered(round * 10..round * 10 + 10)
        );
        broker.change(|state| state.cut_subscriptions = 1);
    }
    produce(&client, 0, 60..70).await;
    assert_eq!(read(&mut consumer, 10).await, numbered(60..70));
    assert!(broker.state().subscriptions > 1);
}

#[tokio::test]
async fn a_paused_partition_gives_nothing_and_goes_on_without_a_gap() {
    let (_broker, client) = filled(40).await;
    produce(&client, 1, 0..40).await;
    let mut consumer = small(&client)
        .assign("t", 0, Start::Earliest)
        .assign("t", 1, Start::Earliest)
        .build()
        .await
        .unwrap();
    let mut next = [0, 0];
    let expect = async |consumer: &mut Consumer, next: &mut [u64; 2]| {
        let record = consumer.recv().await.unwrap();
        let expected = &mut next[record.partition as usize];
        assert_eq!(record.offset, *expected);
        *expected += 1;
    };
    // Not at the border of a batch.
    while next[0] != 3 {
        expect(&mut consumer, &mut next).await;
    }
    consumer.pause("t", 0).unwrap();
    while next[1] != 40 {
        expect(&mut consumer, &mut next).await;
    }
    assert!(consumer.recv().now_or_never().is_none());
    assert_eq!(next, [3, 40]);
    consumer.resume("t", 0).unwrap();
    while next[0] != 40 {
        expect(&mut consumer, &mut next).await;
    }
    assert!(matches!(
        consumer.pause("u", 0),
        Err(Error::NotAssigned { .. })
    ));
}

#[tokio::test]
async fn brokers_push_no_more_than_there_is_room_for() {
    let (broker, client) = filled(100).await;
    let mut consumer = small(&client)
        .assign("t", 0, Start::Earliest)
        .build()
        .await
        .unwrap();
    consumer.recv().await.unwrap();
    // One batch may go beyond the credit that is left.
    broker.until(|state| state.pushed_bytes >= 400).await;
    assert!(broker.state().pushed_bytes < 400 + 400);
}

#[tokio::test]
async fn a_partition_that_is_far_ahead_leaves_room_to_another() {
    let (broker, client) = filled(300).await;
    let mut consumer = client
        .consumer()
        .buffer_bytes(1 << 20)
        .partition_buffer_bytes(600)
        .partition_fetch_bytes(150)
        .assign("t", 0, Start::Earliest)
        .assign("t", 1, Start::Earliest)
        .build()
        .await
        .unwrap();
    // All of it would fit into the buffer.
    broker.until(|state| state.pushed_bytes > 300).await;
    produce(&client, 1, 0..1).await;
    let mut before = 0;
    while consumer.recv().await.unwrap().partition == 0 {
        before += 1;
    }
    assert!(before < 150, "{before} records came first");
    assert_eq!(
        read(&mut consumer, 300 - before).await,
        numbered(before as u64..300)
    );
}

#[tokio::test]
async fn assigning_again_replaces_what_is_read() {
    let (_broker, client) = filled(20).await;
    produce(&client, 1, 0..20).await;
    let mut consumer = small(&client)
        .assign("t", 0, Start::Earliest)
        .build()
        .await
        .unwrap();
    read(&mut consumer, 3).await;
    let assignment = |partition| Assignment {
        topic: "t".into(),
        partition,
        start: Start::Earliest,
    };
    let twice = consumer.assign(vec![assignment(1), assignment(1)]).await;
    assert!(matches!(twice, Err(Error::Config { .. })));
    assert_eq!(read(&mut consumer, 1).await, numbered(3..4));
    consumer.assign(vec![assignment(1)]).await.unwrap();
    for offset in 0..20 {
        let record = consumer.recv().await.unwrap();
        assert_eq!((record.partition, record.offset), (1, offset));
    }
    assert_eq!(consumer.position("t", 0), None);
}

#[tokio::test]
async fn a_damaged_batch_is_reported_with_its_offset_and_can_be_passed() {
    let (broker, client) = filled(21).await;
    broker.change(|state| {
        let (base_offset, damaged) = &mut state.log("t", 0).batches[1];
        assert_eq!(*base_offset, 7);
        let mut bytes = BytesMut::from(&damaged[..]);
        *bytes.last_mut().unwrap() ^= 1;
        *damaged = bytes.freeze();
    });
    let mut consumer = small(&client)
        .assign("t", 0, Start::Earliest)
        .build()
        .await
        .unwrap();
    assert_eq!(read(&mut consumer, 7).await, numbered(0..7));
    let error = consumer.recv().await.unwrap_err();
    assert_eq!(error.reason(), Reason::DataLoss);
    assert!(matches!(
        error,
        Error::BadBatch {
            offset: Offset(7),
            ..
        }
    ));
    assert!(consumer.recv().now_or_never().is_none());
    consumer.seek("t", 0, Start::Offset(Offset(14))).unwrap();
    assert_eq!(read(&mut consumer, 7).await, numbered(14..21));
}

#[tokio::test]
async fn a_batch_that_takes_too_much_memory_is_reported() {
    let (_broker, client) = filled(0).await;
    let producer = client
        .producer()
        .compression(Compression::Zstd)
        .build()
        .unwrap();
    let large = "a".repeat(100_000);
    producer
        .send(Record::to("t").partition(0).value(&large))
        .await
        .unwrap()
        .await
        .unwrap();
    let mut consumer = small(&client)
        .max_decompressed_bytes(50_000)
        .assign("t", 0, Start::Earliest)
        .build()
        .await
        .unwrap();
    let error = consumer.recv().await.unwrap_err();
    assert!(error.to_string().contains("50000 bytes"), "{error}");
}

#[tokio::test]
async fn a_trimmed_start_is_skipped_or_reported_as_configured() {
    let (broker, client) = filled(30).await;
    broker.change(|state| state.log("t", 0).start = 20);
    let start = Start::Offset(Offset(3));
    let mut consumer = small(&client).assign("t", 0, start).build().await.unwrap();
    assert_eq!(read(&mut consumer, 10).await, numbered(20..30));
    let strict = small(&client).offset_reset(OffsetReset::Fail);
    let mut consumer = strict.assign("t", 0, start).build().await.unwrap();
    let error = consumer.recv().await.unwrap_err();
    assert_eq!(error.reason(), Reason::OffsetOutOfRange);
}

#[tokio::test]
async fn a_topic_or_partition_that_does_not_exist_is_named() {
    let (_broker, client) = filled(0).await;
    for (topic, partition) in [("nosuch", 0), ("t", 2)] {
        let builder = small(&client).assign(topic, partition, Start::Earliest);
        let error = builder.build().await.unwrap_err();
        assert_eq!(error.reason(), Reason::UnknownTopicOrPartition);
        assert!(error.to_string().contains(topic), "{error}");
    }
}

#[tokio::test]
async fn a_topic_deleted_while_it_is_read_is_reported() {
    let (_broker, client) = filled(5).await;
    let mut consumer = small(&client)
        .assign("t", 0, Start::Earliest)
        .build()
        .await
        .unwrap();
    read(&mut consumer, 5).await;
    client.admin().delete_topic("t", None).await.unwrap();
    let error = consumer.recv().await.unwrap_err();
    assert_eq!(error.reason(), Reason::UnknownTopicOrPartition);
}
