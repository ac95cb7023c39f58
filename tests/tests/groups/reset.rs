//! Where a member begins in a partition of which nothing is committed, or not what is there.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use highwater_client::{GroupConsumerBuilder, Offset, OffsetReset, Reason, Record};

use crate::stage::{GROUP, Stage, TOPIC, in_time, places, receive, turn_until};

fn group(stage: &Stage, reset: OffsetReset) -> GroupConsumerBuilder {
    let consumer = stage.client.consumer().offset_reset(reset);
    consumer.group(GROUP).topics([TOPIC])
}

#[tokio::test]
async fn a_duration_begins_with_what_is_no_older() {
    let stage = Stage::new(1).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_millis()).unwrap();
    let producer = stage.client.producer().build().unwrap();
    for hours in [5, 3, 1] {
        let record = Record::to(TOPIC).partition(0).value("x");
        let record = record.timestamp_ms(now - hours * 3_600_000);
        producer.send(record).await.unwrap().await.unwrap();
    }
    let two_hours = OffsetReset::Ago(Duration::from_secs(2 * 3_600));
    let mut member = group(&stage, two_hours).build().await.unwrap();
    assert_eq!(places(&receive(&mut member, 1).await), [(0, 2)]);
    drop(member);

    let since = OffsetReset::Timestamp(now - 4 * 3_600_000);
    let other = stage.client.consumer().offset_reset(since).group("other");
    let mut member = other.topics([TOPIC]).build().await.unwrap();
    assert_eq!(places(&receive(&mut member, 1).await), [(0, 1)]);
}

#[tokio::test]
async fn who_begins_at_the_end_commits_where_that_was() {
    let stage = Stage::new(1).await;
    stage.produce(0, &["old"]).await;
    let latest = group(&stage, OffsetReset::Latest).auto_commit(Duration::from_millis(20));
    let mut member = latest.build().await.unwrap();
    turn_until(&mut member, "a commit", async || {
        stage.committed().await == [(0, 1)]
    })
    .await;
    member.close().await.unwrap();
    stage.produce(0, &["between"]).await;
    let mut next = group(&stage, OffsetReset::Latest).build().await.unwrap();
    assert_eq!(places(&receive(&mut next, 1).await), [(0, 1)]);
}

#[tokio::test]
async fn a_member_can_refuse_to_choose_where_to_begin() {
    let stage = Stage::new(1).await;
    let mut member = group(&stage, OffsetReset::Fail).build().await.unwrap();
    let error = in_time("a failure", member.recv()).await.unwrap_err();
    assert_eq!(error.reason(), Reason::OffsetOutOfRange);
}

#[tokio::test]
async fn what_retention_left_is_read_though_the_group_was_further_back() {
    let stage = Stage::new(1).await;
    stage.produce(0, &["a"; 10]).await;
    let admin = stage.client.admin();
    admin
        .set_group_offsets(GROUP, &[(TOPIC.to_owned(), 0, Offset(2))])
        .await
        .unwrap();
    let start = admin
        .trim_partition(TOPIC, 0, Some(Offset(6)))
        .await
        .unwrap();
    for reset in [OffsetReset::Latest, OffsetReset::Earliest] {
        let mut member = group(&stage, reset).no_auto_commit().build().await.unwrap();
        assert_eq!(
            places(&receive(&mut member, 1).await),
            [(0, start.0)],
            "{reset:?}"
        );
        member.close().await.unwrap();
    }
}
