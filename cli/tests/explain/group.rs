//! Why groups do or do not move on.

use highwater_broker::Broker;
use highwater_client::{NewTopic, Offset};
use highwater_proto::v1;

use crate::stage::{Cluster, Member, Stage, of_group, run, topics, until};

const GROUP: [&str; 3] = ["group", "explain", "g"];

/// The group `g` without members has committed this in the first partition of `t`.
async fn commit(stage: &Stage, offset: u64) {
    let offsets = [("t".to_owned(), 0, Offset(offset))];
    stage.admin.set_group_offsets("g", &offsets).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_there_is_not() {
    let stage = Stage::start(Broker::builder().in_memory()).await;
    let address = stage.address();
    let said = until(&address, &GROUP, (None, None), "group_unknown").await;
    assert!(said.contains("nobody ever joined group g"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_without_members() {
    let stage = Stage::with_topic(1, &["a", "b", "c"]).await;
    commit(&stage, 1).await;
    let said = of_group(&stage.address(), "g", 0, "no_member").await;
    assert!(
        said.contains("2 records are left to read, the oldest of which is"),
        "{said}"
    );
    assert!(said.contains("highwater consume t -g g"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_reads_pauses_and_catches_up() {
    let stage = Stage::with_topic(1, &["a", "b", "c"]).await;
    let address = stage.address();
    let consumer = stage.client.consumer().group("g").topics(["t"]);
    let mut consumer = consumer.no_auto_commit().build().await.unwrap();
    consumer.recv().await.unwrap();
    let said = of_group(&address, "g", 0, "never_committed").await;
    assert!(
        said.contains("3 records are there from offset 0 on"),
        "{said}"
    );

    consumer.commit().await.unwrap();
    let said = of_group(&address, "g", 0, "consuming").await;
    assert!(said.contains("2 records are left to read"), "{said}");

    // Who commits seldom is not stuck: how seldom, the user says.
    let impatient = ["group", "explain", "g", "--commit-within", "1ms"];
    let place = (Some("t"), Some(0));
    let said = until(&address, &impatient, place, "not_committing").await;
    assert!(said.contains("has committed nothing for"), "{said}");
    assert!(said.contains("its heartbeats come"), "{said}");

    consumer.pause("t", 0).unwrap();
    let said = of_group(&address, "g", 0, "paused").await;
    assert!(
        said.contains("has paused it, as the coordinator has known for "),
        "{said}"
    );

    consumer.resume("t", 0).unwrap();
    consumer.recv().await.unwrap();
    consumer.recv().await.unwrap();
    consumer.commit().await.unwrap();
    let said = of_group(&address, "g", 0, "caught_up").await;
    assert!(said.contains("everything up to offset 3"), "{said}");
    consumer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_change_hands() {
    let stage = Stage::with_topic(2, &["a"]).await;
    let address = stage.address();
    let mut first = Member::join(&stage, "first", topics(&["t"])).await;
    first.beat().await;
    let second = Member::join(&stage, "second", topics(&["t"])).await;
    // Which of the two partitions is to go, the assignor says.
    let described = stage.admin.describe_group("g").await.unwrap();
    let of_second = described
        .members
        .iter()
        .find(|one| one.member_id == "second");
    let goes = of_second.unwrap().target[0].partitions[0];
    let place = (Some("t"), Some(u64::from(goes)));
    let said = until(&address, &GROUP, place, "waiting_for_revocation").await;
    assert!(said.contains("with its next heartbeat"), "{said}");

    first.beat().await;
    let said = until(&address, &GROUP, place, "waiting_for_revocation").await;
    let expected = "member second (program) is to read it and waits until member first (program) has let it go";
    assert!(said.starts_with(expected), "{said}");
    assert!(said.contains("has been asked to for"), "{said}");

    first.keep_only(1 - goes);
    first.beat().await;
    let said = until(&address, &GROUP, place, "waiting_for_member").await;
    assert!(
        said.contains("member second (program) is given it"),
        "{said}"
    );
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_falls_silent_is_fenced() {
    let stage = Stage::with_topic(1, &["a", "b"]).await;
    let address = stage.address();
    let session = |request: &mut v1::HeartbeatRequest| request.session_timeout_ms = 8_000;
    let _member = Member::join_as(&stage, "m", topics(&["t"]), session).await;
    let said = of_group(&address, "g", 0, "member_silent").await;
    assert!(said.contains("it is removed in"), "{said}");
    let said = of_group(&address, "g", 0, "member_fenced").await;
    assert!(said.contains("member m (program) was removed"), "{said}");
    assert!(
        said.contains("was not heard for its session timeout"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_that_left_for_a_while() {
    let stage = Stage::with_topic(1, &["a"]).await;
    let named = |request: &mut v1::HeartbeatRequest| request.instance_id = "reader-1".to_owned();
    let member = Member::join_as(&stage, "m", topics(&["t"]), named).await;
    member.leave_for_a_while().await;
    let said = of_group(&stage.address(), "g", 0, "static_member_away").await;
    assert!(
        said.starts_with("member reader-1 (program, m) left for a while"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn members_with_nothing_to_read() {
    let stage = Stage::with_topic(1, &["a"]).await;
    let address = stage.address();
    let _reader = Member::join(&stage, "m1", topics(&["t"])).await;
    let _spare = Member::join(&stage, "m2", topics(&["t"])).await;
    let said = until(&address, &GROUP, (None, None), "spare_member").await;
    assert!(said.contains("2 members and fewer partitions"), "{said}");

    let subscription = v1::Subscription {
        topic_regex: "nothing-.*".to_owned(),
        ..Default::default()
    };
    let other = |request: &mut v1::HeartbeatRequest| request.group_id = "other".to_owned();
    let _member = Member::join_as(&stage, "m3", subscription, other).await;
    let command = ["group", "explain", "other"];
    let said = until(&address, &command, (None, None), "regex_matches_nothing").await;
    assert!(said.contains("\"nothing-.*\""), "{said}");
    // A topic that nobody in the group reads.
    let command = ["group", "explain", "other", "--topics", "t|u"];
    let said = until(&address, &command, (Some("t"), Some(0)), "no_subscriber").await;
    assert!(
        said.contains("1 member and none reads this topic"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_there_are_not() {
    let stage = Stage::with_topic(1, &["a"]).await;
    let address = stage.address();
    stage
        .admin
        .create_topic(NewTopic::new("gone"))
        .await
        .unwrap();
    let offsets = [("gone".to_owned(), 0, Offset(0))];
    stage.admin.set_group_offsets("g", &offsets).await.unwrap();
    stage.admin.delete_topic("gone", None).await.unwrap();
    let said = until(&address, &GROUP, (None, None), "topic_deleted").await;
    assert!(
        said.contains("1 partition of topics that were deleted"),
        "{said}"
    );

    let _member = Member::join(&stage, "m", topics(&["t", "missing"])).await;
    let said = until(&address, &GROUP, (Some("missing"), None), "topic_unknown").await;
    assert!(said.contains("highwater topic create missing"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_retention_took() {
    let stage = Stage::with_topic(1, &["a", "b", "c"]).await;
    commit(&stage, 1).await;
    let trimmed = stage
        .admin
        .trim_partition("t", 0, Some(Offset(3)))
        .await
        .unwrap();
    assert_eq!(trimmed, Offset(3));
    let _member = Member::join(&stage, "m", topics(&["t"])).await;
    let said = of_group(&stage.address(), "g", 0, "records_lost").await;
    assert!(
        said.contains("deleted 2 records that the group had not read"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_whose_brokers_are_down() {
    let mut cluster = Cluster::start().await;
    let addresses = cluster.addresses();
    let create = ["topic", "create", "t", "-p", "1", "-r", "3"];
    run(&addresses, &create).await;
    let seek = ["group", "seek", "g", "--to", "start", "--topics", "t"];
    run(&addresses, &seek).await;
    of_group(&addresses, "g", 0, "no_member").await;
    cluster.stop(2).await;
    cluster.stop(3).await;
    let addresses = cluster.addresses();
    let said = until(&addresses, &GROUP, (None, None), "coordinator_unavailable").await;
    assert!(
        said.contains("bring the brokers back that are down"),
        "{said}"
    );
    cluster.stop(1).await;
}
