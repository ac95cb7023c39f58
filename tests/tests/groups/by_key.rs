//! Many records at a time, by the members of a group.

use std::convert::Infallible;
use std::sync::Arc;

use highwater_client::{ConsumedRecord, Offset, Processed, Start};
use tokio::sync::{AcquireError, Semaphore};

use crate::stage::{Diary, GROUP, SESSION, SHORT, Stage, TOPIC, in_time, places, receive, until};

#[tokio::test]
async fn a_partition_is_drained_before_it_is_given_away() {
    let stage = Stage::filled(2, &["k", "k", "k"]).await;
    let (diary, gate) = (Diary::default(), Arc::new(Semaphore::new(0)));
    let mut first = stage.group_noted(&diary, "first").build().await.unwrap();
    let working = tokio::spawn({
        let (diary, gate) = (diary.clone(), Arc::clone(&gate));
        async move {
            let mut work = first.process_by_key(8, |record| {
                let (diary, gate) = (diary.clone(), Arc::clone(&gate));
                async move {
                    let place = format!("{}/{}", record.partition, record.offset);
                    diary.note(format!("begun {place}"));
                    gate.acquire().await?.forget();
                    diary.note(format!("finished {place}"));
                    Ok::<(), AcquireError>(())
                }
            });
            loop {
                work.next().await.unwrap();
            }
        }
    });
    until("both partitions in work", async || {
        diary.place("begun 0/0").is_some() && diary.place("begun 1/0").is_some()
    })
    .await;

    let mut second = stage.group_noted(&diary, "second").build().await.unwrap();
    let revoked = |partition: u32| diary.place(&format!("first revoked {partition}"));
    let asked_back = async || revoked(0).is_some() || revoked(1).is_some();
    tokio::select! {
        () = until("a partition to be asked back", asked_back) => {}
        record = second.recv() => panic!("it is in work elsewhere: {record:?}"),
    }
    let given = u32::from(revoked(1).is_some());
    gate.add_permits(2);
    let received = places(&receive(&mut second, 2).await);
    assert_eq!(
        received,
        [(given, 1), (given, 2)],
        "what waited is left to the next owner"
    );
    let finished = diary.place(&format!("finished {given}/0")).unwrap();
    let assigned = diary.place(&format!("second assigned {given}")).unwrap();
    assert!(finished < assigned, "{diary:?}");
    assert_eq!(diary.place(&format!("begun {given}/1")), None, "{diary:?}");

    // The other partition went on all the time.
    gate.add_permits(2);
    until("the kept partition to be done", async || {
        diary.place(&format!("finished {}/2", 1 - given)).is_some()
    })
    .await;
    working.abort();
}

#[tokio::test]
async fn after_a_crash_exactly_what_was_not_committed_comes_again() {
    let stage = Stage::new(1).await;
    stage
        .produce(0, &["a", "b", "slow", "c", "slow", "b"])
        .await;
    let group = stage.group().session_timeout(SESSION).no_auto_commit();
    let mut first = group.build().await.unwrap();
    let (done, is_done) = (Arc::new(Semaphore::new(0)), Diary::default());
    let mut work = first.process_by_key(8, |record| {
        let (done, is_done) = (Arc::clone(&done), is_done.clone());
        async move {
            if record.key.unwrap() == "slow" {
                done.acquire().await.unwrap().forget();
            }
            is_done.note(record.offset.to_string());
            Ok::<(), Infallible>(())
        }
    });
    while in_time("the first two", work.next()).await.unwrap().offset < Offset(2) {}
    tokio::select! {
        () = until("all that is not slow", async || is_done.pages().len() == 4) => {}
        beyond = work.next() => panic!("offset 2 is not done: {beyond:?}"),
    }
    work.commit().await.unwrap();
    assert_eq!(
        stage.committed().await,
        [(0, 2)],
        "below the lowest unfinished"
    );
    // It ends without a word.
    drop(work);
    drop(first);

    let mut second = stage.member().await;
    let again = places(&receive(&mut second, 4).await);
    assert_eq!(again, [(0, 2), (0, 3), (0, 4), (0, 5)]);
}

#[tokio::test]
async fn who_stops_in_the_middle_goes_on_with_what_was_not_processed() {
    let stage = Stage::new(1).await;
    stage.produce(0, &["a", "stuck", "b", "b"]).await;
    let mut member = stage.member().await;
    let is_done = Diary::default();
    let mut work = member.process_by_key(4, |record| {
        let is_done = is_done.clone();
        async move {
            if record.key.unwrap() == "stuck" {
                std::future::pending::<()>().await;
            }
            is_done.note(record.offset.to_string());
            Ok::<(), Infallible>(())
        }
    });
    assert_eq!(
        in_time("the first", work.next()).await.unwrap().offset,
        Offset(1)
    );
    tokio::select! {
        () = until("the others", async || is_done.pages().len() == 3) => {}
        beyond = work.next() => panic!("offset 1 is not done: {beyond:?}"),
    }
    drop(work);
    member.commit().await.unwrap();
    assert_eq!(stage.committed().await, [(0, 1)]);
    let again = places(&receive(&mut member, 3).await);
    assert_eq!(again, [(0, 1), (0, 2), (0, 3)]);
    member.close().await.unwrap();
    assert_eq!(stage.committed().await, [(0, 4)]);
}

#[tokio::test]
async fn who_takes_too_long_to_drain_loses_all_and_its_handlers_are_ended() {
    let stage = Stage::filled(2, &["a"]).await;
    let diary = Diary::default();
    let group = stage.group_noted(&diary, "first");
    let mut first = group.rebalance_timeout(SHORT).build().await.unwrap();
    let mut work = first.process_by_key(2, |record| {
        let ended = EndNoted(diary.clone(), format!("ended {}", record.partition));
        let diary = diary.clone();
        async move {
            diary.note(format!("begun {}", record.partition));
            std::future::pending::<()>().await;
            drop(ended);
            Ok::<(), Infallible>(())
        }
    });
    let noted =
        |what: &str| (0..2).all(|number| diary.place(&format!("{what} {number}")).is_some());
    tokio::select! {
        () = until("both in work", async || noted("begun")) => {}
        processed = work.next() => panic!("nothing is processed: {processed:?}"),
    }
    let mut second = stage.member().await;
    let received = tokio::select! {
        received = receive(&mut second, 1) => received,
        processed = work.next() => panic!("nothing is processed: {processed:?}"),
    };
    assert_eq!(received[0].offset, 0, "nothing of it was committed");
    tokio::select! {
        () = until("the end of the handlers", async || noted("ended")) => {}
        processed = work.next() => panic!("nothing is processed: {processed:?}"),
    }
    assert!(noted("first lost"), "{diary:?}");
}

/// More than may wait for three handlers.
const MANY: usize = 2_000;
/// What may be fetched ahead of all of them, and of one: a batch of one that is stuck takes all of it.
const BUFFER: u32 = 1 << 10;

/// A broker whose topic has many records in two of four partitions, of a key that is stuck for whoever handles it with [`handle`],
/// behind one of another key.
async fn stage_with_stuck_keys() -> Stage {
    let stage = Stage::new(4).await;
    for partition in 0..2 {
        let mut keys = ["stuck"; MANY];
        keys[0] = "b";
        stage.produce(partition, &keys).await;
    }
    stage
}

/// Puts as many of a key that is not stuck into the other partitions.
async fn fill_others(stage: &Stage) {
    for partition in 2..4 {
        stage.produce(partition, &["a"; MANY]).await;
    }
}

/// Ends when the gate is open, where the record's key is stuck.
async fn handle(record: ConsumedRecord, gate: Arc<Semaphore>) -> Result<(), AcquireError> {
    if record.key.unwrap() == "stuck" {
        drop(gate.acquire().await?);
    }
    Ok(())
}

/// Goes on from where the partitions are until they are as far as that.
async fn until_processed(
    mut next: impl AsyncFnMut() -> Processed,
    mut processed: [u64; 4],
    far: [u64; 4],
) {
    while processed != far {
        let further = in_time("progress", next()).await;
        processed[further.partition as usize] = further.offset.0;
    }
}

/// Where the stuck ones stand, before the others are there and when they are done; and where all are done.
const STUCK: [u64; 4] = [1, 1, 0, 0];
const STUCK_ALONE: [u64; 4] = [1, 1, MANY as u64, MANY as u64];
const DONE: [u64; 4] = [MANY as u64; 4];

#[tokio::test]
async fn stuck_keys_hold_up_their_partitions_and_no_other() {
    let stage = stage_with_stuck_keys().await;
    let consumer = stage.client.consumer().buffer_bytes(BUFFER);
    let mut consumer = consumer.partition_fetch_bytes(BUFFER);
    for partition in 0..4 {
        consumer = consumer.assign(TOPIC, partition, Start::Earliest);
    }
    let mut consumer = consumer.build().await.unwrap();
    let gate = Arc::new(Semaphore::new(0));
    let mut work = consumer.process_by_key(3, |record| handle(record, Arc::clone(&gate)));
    let mut next = async || work.next().await.unwrap();
    until_processed(&mut next, [0; 4], STUCK).await;
    tokio::join!(
        fill_others(&stage),
        until_processed(&mut next, STUCK, STUCK_ALONE)
    );
    gate.add_permits(1);
    let next = async || work.next().await.unwrap();
    until_processed(next, STUCK_ALONE, DONE).await;
}

#[tokio::test]
async fn stuck_keys_hold_up_their_partitions_and_no_other_of_a_member() {
    let stage = stage_with_stuck_keys().await;
    let consumer = stage.client.consumer().buffer_bytes(BUFFER);
    let consumer = consumer.partition_fetch_bytes(BUFFER);
    let mut member = consumer.group(GROUP).topics([TOPIC]).build().await.unwrap();
    let gate = Arc::new(Semaphore::new(0));
    let mut work = member.process_by_key(3, |record| handle(record, Arc::clone(&gate)));
    let mut next = async || work.next().await.unwrap();
    until_processed(&mut next, [0; 4], STUCK).await;
    tokio::join!(
        fill_others(&stage),
        until_processed(&mut next, STUCK, STUCK_ALONE)
    );
    work.commit().await.unwrap();
    let committed = stage.committed().await.into_iter();
    let committed: Vec<_> = committed.map(|(_, offset)| offset).collect();
    assert_eq!(committed, STUCK_ALONE);
    gate.add_permits(1);
    let next = async || work.next().await.unwrap();
    until_processed(next, STUCK_ALONE, DONE).await;
}

/// Notes when it is dropped.
struct EndNoted(Diary, String);

impl Drop for EndNoted {
    fn drop(&mut self) {
        self.0.note(std::mem::take(&mut self.1));
    }
}
