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

#[tokio::test]
async fn who_closes_is_told_that_all_is_revoked_and_may_commit_before_it_leaves() {
    for commits_by_itself in [false, true] {
        let stage = Stage::filled(2, &["a", "b", "c"]).await;
        let committed: Arc<Mutex<Vec<Committed>>> = Arc::default();
        let kept = Arc::clone(&committed);
        let group = stage.group().on_rebalance(move |rebalance, commits| {
            let Rebalance::Revoked(partitions) = rebalance else {
                return;
            };
            // Of the other one nothing is said.
            let named = partitions.iter().find(|one| one.partition == 0).unwrap();
            assert_eq!(commits.position(named), Some(Offset(3)));
            let asked = commits.commit([(named.clone(), Offset(2))]).unwrap();
            kept.lock().unwrap().push(asked);
        });
        let group = match commits_by_itself {
            true => group,
            false => group.no_auto_commit(),
        };
        let mut member = group.build().await.unwrap();
        receive(&mut member, 6).await;
        member.close().await.unwrap();
        let mut expected = vec![(0, 2)];
        expected.extend(commits_by_itself.then_some((1, 3)));
        assert_eq!(stage.committed().await, expected);
        assert_eq!(stage.members().await, 0);
        let asked = committed.lock().unwrap().pop().unwrap();
        in_time("the end of the commit", asked).await.unwrap();
        assert!(committed.lock().unwrap().is_empty(), "it is told once");
    }
}

#[tokio::test]
async fn who_was_removed_is_told_of_the_loss_when_it_closes() {
    let stage = Stage::filled(2, &["a"]).await;
    let diary = Diary::default();
    let group = stage.group_noted(&diary, "away").rebalance_timeout(SHORT);
    let mut away = group.no_auto_commit().build().await.unwrap();
    receive(&mut away, 2).await;
    let mut other = stage.member().await;
    receive(&mut other, 2).await;
    // The other one may hear of the loss before.
    let members = async || stage.members().await == 2;
    until("the one that was away to join again", members).await;
    away.close().await.unwrap();
    let lost = (0..2).filter(|partition| diary.place(&format!("away lost {partition}")).is_some());
    assert_eq!(lost.count(), 2, "{diary:?}");
}
