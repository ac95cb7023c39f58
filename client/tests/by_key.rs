//! Records processed by key, from a broker.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod fake_broker;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use fake_broker::FakeBroker;
use highwater_client::{Client, Consumer, Offset, ProcessingError, Record, Start};
use tokio::sync::{Notify, Semaphore};

/// A consumer of partition 0 of topic `t`, whose records have these keys and their offsets as values.
async fn consumer_of(keys: &[&str]) -> (FakeBroker, Consumer) {
    let broker = FakeBroker::start().await;
    broker.add_topic("t", 1);
    let client = Client::connect(&broker.address()).await.unwrap();
    let producer = client.producer().build().unwrap();
    for (number, key) in keys.iter().enumerate() {
        let value = number.to_string();
        let record = Record::to("t").partition(0).key(*key).value(&value);
        drop(producer.send(record).await.unwrap());
    }
    producer.close().await.unwrap();
    let assigned = client.consumer().assign("t", 0, Start::Earliest);
    (broker, assigned.build().await.unwrap())
}

#[tokio::test]
async fn keys_go_side_by_side_and_each_in_order() {
    let keys: Vec<_> = (0..400)
        .map(|number| ["a", "b", "c", "d", "e"][number % 5])
        .collect();
    let (_broker, mut consumer) = consumer_of(&keys).await;
    let seen: Arc<Mutex<HashMap<_, Vec<u64>>>> = Arc::default();
    let (at_once, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut work = consumer.process_by_key(4, |record| {
        let (seen, at_once, most) = (Arc::clone(&seen), Arc::clone(&at_once), Arc::clone(&most));
        async move {
            most.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            seen.lock()
                .unwrap()
                .entry(record.key.unwrap())
                .or_default()
                .push(record.offset);
            at_once.fetch_sub(1, Ordering::SeqCst);
            Ok::<(), std::convert::Infallible>(())
        }
    });
    let mut last = Offset(0);
    while last < Offset(400) {
        let processed = work.next().await.unwrap();
        assert!(processed.offset > last, "progress only goes forward");
        last = processed.offset;
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen.values().map(Vec::len).sum::<usize>(), 400);
    assert!(seen.values().all(|offsets| offsets.is_sorted()));
    assert_eq!(most.load(Ordering::SeqCst), 4, "as many as may");
}

#[tokio::test]
async fn a_slow_key_holds_up_the_progress_and_not_the_others() {
    let (_broker, mut consumer) = consumer_of(&["slow", "a", "slow", "b", "a"]).await;
    let gate = Arc::new(Semaphore::new(0));
    let (others, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let mut work = consumer.process_by_key(3, |record| {
        let (gate, others, done) = (Arc::clone(&gate), Arc::clone(&others), Arc::clone(&done));
        async move {
            if record.key.unwrap() == "slow" {
                gate.acquire().await?.forget();
            } else if others.fetch_add(1, Ordering::SeqCst) == 2 {
                done.notify_one();
            }
            Ok::<(), tokio::sync::AcquireError>(())
        }
    });
    tokio::select! {
        early = work.next() => panic!("the first record is not done: {early:?}"),
        () = done.notified() => {}
    }
    gate.add_permits(1);
    assert_eq!(work.next().await.unwrap().offset, Offset(2));
    gate.add_permits(1);
    assert_eq!(work.next().await.unwrap().offset, Offset(5));
}

#[tokio::test]
async fn what_fails_is_named_and_never_counts_as_processed() {
    let (_broker, mut consumer) = consumer_of(&["a", "bad", "a", "worse", "bad"]).await;
    let mut work = consumer.process_by_key(1, |record| async move {
        match &record.key.unwrap()[..] {
            b"bad" => Err("no"),
            b"worse" => panic!("the handler does"),
            _ => Ok(()),
        }
    });
    assert_eq!(work.next().await.unwrap().offset, Offset(1));
    let failed = work.next().await.unwrap_err();
    assert!(
        matches!(
            failed,
            ProcessingError::Handler {
                offset: 1,
                source: "no",
                ..
            }
        ),
        "{failed}"
    );
    let failed = work.next().await.unwrap_err();
    assert!(
        matches!(failed, ProcessingError::Panicked { offset: 3, .. }),
        "{failed}"
    );
}
