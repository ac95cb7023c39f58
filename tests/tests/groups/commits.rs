//! Committing by hand while partitions change hands.

use std::sync::{Arc, Mutex};

use highwater_client::{Committed, Error, Offset, Rebalance};

use crate::stage::{Diary, SHORT, Stage, in_time, places, receive, until};

#[tokio::test]
async fn the_next_owner_goes_on_where_the_listener_committed_what_is_revoked() {
    let stage = Stage::filled(2, &["a", "b", "c"]).await;
    let committed: Arc<Mutex<Vec<Committed>>> = Arc::default();
    let kept = Arc::clone(&committed);
    let group = stage.group().no_auto_commit();
    let group = group.on_rebalance(move |rebalance, commits| {
        if let Rebalance::Revoked(partitions) = rebalance {
            // Of the three that were received the last one is not processed.
            let offsets = partitions.iter().map(|partition| {
                assert_eq!(commits.position(partition), Some(Offset(3)));
                (partition.clone(), Offset(2))
            });
            let offsets: Vec<_> = offsets.collect();
            kept.lock().unwrap().push(commits.commit(offsets).unwrap());
        }
    });
    let mut first = group.build().await.unwrap();
    receive(&mut first, 6).await;
    assert_eq!(stage.committed().await, []);

    let mut second = stage.group().no_auto_commit().build().await.unwrap();
    let received = tokio::select! {
        received = receive(&mut second, 1) => received,
        record = first.recv() => panic!("everything was received: {record:?}"),
    };
    let given = received[0].partition;
    assert_eq!(places(&received), [(given, 2)]);
    assert_eq!(stage.committed().await, [(given, 2)]);
    let committed = committed.lock().unwrap().pop().unwrap();
    in_time("the end of the commit", committed).await.unwrap();
}

#[tokio::test]
async fn of_what_is_lost_nothing_can_be_committed() {
    let stage = Stage::filled(2, &["a"]).await;
    let diary = Diary::default();
    let told = diary.clone();
    let group = stage.group().no_auto_commit();
    let group = group.rebalance_timeout(SHORT);
    let group = group.on_rebalance(move |rebalance, commits| {
        if let Rebalance::Lost(partitions) = rebalance {
            let offsets = partitions
                .iter()
                .map(|partition| (partition.clone(), Offset(1)));
            let error = commits.commit(offsets).unwrap_err();
            assert!(matches!(error, Error::NotAssigned { .. }), "{error}");
            told.note("refused");
        }
    });
    let mut away = group.build().await.unwrap();
    receive(&mut away, 2).await;
    // The other one waits for half of them, and gets both when the first stays away for too long.
    let mut other = stage.group().no_auto_commit().build().await.unwrap();
    receive(&mut other, 2).await;
    tokio::select! {
        () = until("the loss", async || diary.place("refused").is_some()) => {}
        record = away.recv() => panic!("there is nothing more: {record:?}"),
    }
    assert_eq!(stage.committed().await, []);
}
