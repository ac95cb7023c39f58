//! Who stays a member, who does not, and what happens to partitions then.

use std::time::Duration;

use highwater_client::Reason;

use crate::stage::{Diary, SESSION, SHORT, Stage, in_time, places, receive, turn_until, until};

#[tokio::test]
async fn a_slow_handler_costs_no_membership() {
    let stage = Stage::new(1).await;
    stage.produce(0, &["a", "b"]).await;
    let mut slow = stage
        .group()
        .session_timeout(SESSION)
        .build()
        .await
        .unwrap();
    receive(&mut slow, 1).await;
    // While the record is handled, two others fall silent one after the other, and each is missed only after a whole session.
    for _ in 0..2 {
        let mut silent = stage
            .group()
            .session_timeout(SESSION)
            .build()
            .await
            .unwrap();
        turn_until(&mut silent, "the other to join", async || {
            stage.members().await == 2
        })
        .await;
        drop(silent);
        until("the end of a session", async || stage.members().await == 1).await;
    }
    slow.commit().await.unwrap();
    assert_eq!(stage.committed().await, [(0, 1)]);
    assert_eq!(places(&receive(&mut slow, 1).await), [(0, 1)]);
}

#[tokio::test]
async fn who_stays_away_while_others_wait_is_removed() {
    let stage = Stage::filled(2, &["a"]).await;
    let diary = Diary::default();
    let group = stage.group_noted(&diary, "away");
    let mut away = group.rebalance_timeout(SHORT).build().await.unwrap();
    receive(&mut away, 2).await;
    let mut other = stage.member().await;
    receive(&mut other, 2).await;
    let error = away.commit().await.unwrap_err();
    assert!(
        matches!(
            error.reason(),
            Reason::UnknownMemberId | Reason::FencedMemberEpoch
        ),
        "{error}"
    );
    // Its task has heard of it too, and joined again.
    until("the next heartbeat", async || stage.members().await == 2).await;
    // It is a member again, and was told what it lost.
    tokio::select! {
        () = until("the return", async || {
            diary.pages().iter().filter(|page| page.starts_with("away assigned")).count() == 3
        }) => {}
        record = away.recv() => panic!("nothing is left: {record:?}"),
        record = other.recv() => panic!("nothing is left: {record:?}"),
    }
    assert!(diary.place("away lost 0").is_some() && diary.place("away lost 1").is_some());
}

#[tokio::test]
async fn what_was_received_is_committed_before_it_is_given_away() {
    let stage = Stage::filled(2, &["a", "a"]).await;
    let group = stage.group().auto_commit(Duration::from_secs(3_600));
    let mut first = group.build().await.unwrap();
    receive(&mut first, 4).await;
    let diary = Diary::default();
    let mut second = stage.group_noted(&diary, "second").build().await.unwrap();
    tokio::select! {
        () = until("a share for the second", async || !diary.pages().is_empty()) => {}
        _ = async { tokio::join!(first.recv(), second.recv()) } => panic!("there is nothing"),
    }
    stage.produce(0, &["b"]).await;
    stage.produce(1, &["b"]).await;
    let (of_first, of_second) = in_time("both", async {
        tokio::join!(receive(&mut first, 1), receive(&mut second, 1))
    })
    .await;
    // Each record once: the second went on where the first was.
    let mut received = places(&[of_first, of_second].concat());
    received.sort_unstable();
    assert_eq!(received, [(0, 2), (1, 2)]);
}

#[tokio::test]
async fn who_joins_has_its_share_as_soon_as_others_have_let_go() {
    let stage = Stage::with_rare_heartbeats(2).await;
    let diary = Diary::default();
    let mut first = stage.group_noted(&diary, "first").build().await.unwrap();
    let is_shared_out = async || diary.place("first assigned 1").is_some();
    turn_until(&mut first, "both partitions", is_shared_out).await;
    let mut second = stage.group_noted(&diary, "second").build().await.unwrap();
    tokio::select! {
        () = until("a share for the second", async || {
            diary.pages().iter().any(|page| page.starts_with("second assigned"))
        }) => {}
        _ = async { tokio::join!(first.recv(), second.recv()) } => panic!("there is nothing"),
    }
}

#[tokio::test]
async fn a_static_member_comes_back_to_its_partitions() {
    let stage = Stage::new(2).await;
    let diary = Diary::default();
    let group = stage.group_noted(&diary, "static");
    let mut fixed = group.instance_id("i").build().await.unwrap();
    turn_until(&mut fixed, "both partitions", async || {
        diary.pages().len() == 2
    })
    .await;
    let mut other = stage.group_noted(&diary, "other").build().await.unwrap();
    let share = |member: &str| {
        let pages = diary.pages();
        let prefix = format!("{member} assigned ");
        pages
            .iter()
            .rev()
            .find_map(|page| page.strip_prefix(&prefix).map(str::to_owned))
    };
    tokio::select! {
        () = until("a share for both", async || share("other").is_some()) => {}
        _ = async { tokio::join!(fixed.recv(), other.recv()) } => panic!("there is nothing"),
    }
    let kept = if share("other").unwrap() == "0" { 1 } else { 0 };
    fixed.close().await.unwrap();

    let group = stage.group_noted(&diary, "back");
    let mut back = group.instance_id("i").build().await.unwrap();
    tokio::select! {
        () = until("its return", async || share("back").is_some()) => {}
        _ = async { tokio::join!(back.recv(), other.recv()) } => panic!("there is nothing"),
    }
    assert_eq!(share("back"), Some(kept.to_string()));
    let moved = diary
        .pages()
        .iter()
        .filter(|page| page.starts_with("other "))
        .count();
    assert_eq!(moved, 1, "nobody else is touched: {diary:?}");
}
