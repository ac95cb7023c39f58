//! Producers, consumers and admins on a cluster of two brokers whose leaders move, die and freeze.

#![allow(clippy::unwrap_used)]

mod fake_broker;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use fake_broker::FakeBroker;
use highwater_client::{Client, Consumer, NewTopic, Producer, Record, Start};
use highwater_proto::batch::Records;

/// Longer than it takes to leave a broker that is frozen, and shorter than a request may take.
const SOON: Duration = Duration::from_secs(15);

/// Two brokers of one cluster. The first leads the only partition of topic `t`.
struct Pair {
    first: FakeBroker,
    second: FakeBroker,
    client: Client,
}

impl Pair {
    async fn new() -> Self {
        let first = FakeBroker::start().await;
        let second = first.another().await;
        first.add_topic("t", 1);
        let addresses = format!("{},{}", first.address(), second.address());
        let client = Client::connect(&addresses).await.unwrap();
        Self {
            first,
            second,
            client,
        }
    }

    fn producer(&self) -> Producer {
        let builder = self.client.producer().batch_bytes(200);
        builder.linger(Duration::from_millis(1)).build().unwrap()
    }

    async fn consumer(&self) -> Consumer {
        let builder = self.client.consumer().assign("t", 0, Start::Earliest);
        builder.build().await.unwrap()
    }

    /// What the partition holds, in order.
    fn stored(&self) -> Vec<u32> {
        let batches = self.first.state().log("t", 0).batches.clone();
        batches
            .into_iter()
            .flat_map(|(_, batch)| Records::open(batch, 1 << 20).unwrap())
            .map(|record| number(&record.unwrap().value.unwrap()))
            .collect()
    }
}

fn number(value: &[u8]) -> u32 {
    std::str::from_utf8(value).unwrap().parse().unwrap()
}

/// Sends numbers and does not wait for them.
async fn send(producer: &Producer, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let value = number.to_string();
        drop(producer.send(Record::to("t").value(&value)).await.unwrap());
    }
}

async fn flushed(producer: &Producer) {
    let flushed = tokio::time::timeout(SOON, producer.flush()).await;
    flushed.expect("in time").unwrap();
}

async fn expect(consumer: &mut Consumer, numbers: std::ops::Range<u32>) {
    for expected in numbers {
        let record = tokio::time::timeout(SOON, consumer.recv()).await;
        let record = record.expect("in time").unwrap();
        assert_eq!(number(&record.value.unwrap()), expected);
    }
}

#[tokio::test]
async fn a_leader_that_moves_to_and_fro_is_followed() {
    let pair = Pair::new().await;
    for give_no_hints in [false, true] {
        pair.first
            .change(|state| state.give_no_hints = give_no_hints);
        let before = u32::try_from(pair.stored().len()).unwrap();
        let producer = pair.producer();
        let mut consumer = pair.consumer().await;
        for round in 0..6 {
            let from = before + round * 100;
            send(&producer, from..from + 100).await;
            match round % 2 {
                0 => pair.second.lead("t", 0),
                _ => pair.first.lead("t", 0),
            }
        }
        flushed(&producer).await;
        expect(&mut consumer, 0..before + 600).await;
        assert_eq!(pair.stored(), (0..before + 600).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_leader_that_dies_is_replaced() {
    let mut pair = Pair::new().await;
    let producer = pair.producer();
    let mut consumer = pair.consumer().await;
    send(&producer, 0..100).await;
    flushed(&producer).await;
    pair.first.stop().await;
    send(&producer, 100..200).await;
    pair.second.lead("t", 0);
    flushed(&producer).await;
    expect(&mut consumer, 0..200).await;
    // A broker that is back gets its share again.
    pair.first.restart().await;
    pair.first.lead("t", 0);
    pair.second.stop().await;
    send(&producer, 200..300).await;
    flushed(&producer).await;
    expect(&mut consumer, 200..300).await;
    assert_eq!(pair.stored(), (0..300).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_leader_that_freezes_is_left_within_seconds() {
    let pair = Pair::new().await;
    let producer = pair.producer();
    let mut consumer = pair.consumer().await;
    send(&producer, 0..100).await;
    flushed(&producer).await;
    expect(&mut consumer, 0..100).await;
    pair.first.freeze(true);
    send(&producer, 100..200).await;
    pair.second.lead("t", 0);
    let moved_at = Instant::now();
    flushed(&producer).await;
    expect(&mut consumer, 100..200).await;
    assert!(moved_at.elapsed() < SOON);
    // It thaws, and hears that it leads no more.
    pair.first.freeze(false);
    send(&producer, 200..300).await;
    flushed(&producer).await;
    expect(&mut consumer, 200..300).await;
    assert_eq!(pair.stored(), (0..300).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_client_finds_the_living_among_the_addresses_it_was_given() {
    let broker = FakeBroker::start().await;
    // Takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let addresses = format!(
        "{dead},{},{}",
        silent.local_addr().unwrap(),
        broker.address()
    );
    let connecting = Client::connect(&addresses);
    let client = tokio::time::timeout(SOON, connecting)
        .await
        .unwrap()
        .unwrap();
    let admin = client.admin();
    let topics = admin.list_topics();
    assert!(
        tokio::time::timeout(SOON, topics)
            .await
            .unwrap()
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_change_is_made_at_another_broker_where_one_cannot_be_reached() {
    let mut pair = Pair::new().await;
    for round in 0..2 {
        let gone = match round {
            0 => &mut pair.first,
            _ => &mut pair.second,
        };
        gone.stop().await;
        let admin = pair.client.admin();
        let topic = format!("round-{round}");
        // Nothing was sent to the one that is gone, so that the change is made once.
        let created = admin.create_topic(NewTopic::new(&topic).partitions(1));
        created.await.unwrap();
        match round {
            0 => pair.first.restart().await,
            _ => pair.second.restart().await,
        }
    }
    let topics = pair.client.admin().list_topics().await.unwrap();
    assert_eq!(topics.len(), 3);
}
