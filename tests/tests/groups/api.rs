//! What a member can ask for.

use std::collections::BTreeSet;

use futures::StreamExt;
use highwater_client::{GroupPartition, Offset, Record, Start};

use crate::stage::{GROUP, Stage, TOPIC, in_time, places, receive, turn_until, until};

fn partition(number: u32) -> GroupPartition {
    GroupPartition {
        topic: TOPIC.into(),
        partition: number,
    }
}

#[tokio::test]
async fn records_come_as_a_stream() {
    let stage = Stage::new(1).await;
    stage.produce(0, &["a", "b", "c"]).await;
    let mut member = stage.member().await;
    let mut stream = std::pin::pin!(member.stream().take(3));
    for offset in 0..3 {
        let record = in_time("a record", stream.next()).await.unwrap().unwrap();
        assert_eq!(record.offset, offset);
    }
}

#[tokio::test]
async fn a_member_knows_where_it_is_and_what_is_left() {
    let stage = Stage::new(2).await;
    stage.produce(0, &["a", "b", "c"]).await;
    let mut member = stage.member().await;
    receive(&mut member, 1).await;
    let owned = BTreeSet::from([partition(0), partition(1)]);
    assert_eq!(member.assignment(), owned);
    assert_eq!(member.position(TOPIC, 0), Some(Offset(1)));
    let lag = member.lag().await.unwrap();
    assert_eq!(lag.get(&partition(0)), Some(&2));
    assert!(lag.get(&partition(1)).is_none_or(|lag| *lag == 0));
}

#[tokio::test]
async fn a_commit_in_the_background_is_durable_in_the_end() {
    let stage = Stage::new(1).await;
    stage.produce(0, &["a", "b"]).await;
    let mut member = stage.group().no_auto_commit().build().await.unwrap();
    receive(&mut member, 2).await;
    member.commit_async();
    until("the commit", async || stage.committed().await == [(0, 2)]).await;
    drop(member);
}

#[tokio::test]
async fn who_seeks_goes_on_there_and_so_do_others() {
    let stage = Stage::new(1).await;
    stage.produce(0, &["a", "b", "c", "d"]).await;
    let mut member = stage.member().await;
    receive(&mut member, 4).await;
    member.commit().await.unwrap();
    member.seek(TOPIC, 0, Start::Offset(Offset(1))).unwrap();
    member.commit().await.unwrap();
    assert_eq!(
        stage.committed().await,
        [(0, 1)],
        "before a record was received"
    );
    assert_eq!(places(&receive(&mut member, 1).await), [(0, 1)]);
    member.close().await.unwrap();
    assert_eq!(stage.committed().await, [(0, 2)]);
}

#[tokio::test]
async fn a_paused_partition_stays_and_its_records_wait() {
    let stage = Stage::new(2).await;
    stage.produce(0, &["a"]).await;
    let mut member = stage.member().await;
    receive(&mut member, 1).await;
    member.pause(TOPIC, 0).unwrap();
    stage.produce(0, &["b"]).await;
    stage.produce(1, &["c"]).await;
    assert_eq!(places(&receive(&mut member, 1).await), [(1, 0)]);
    assert!(member.assignment().contains(&partition(0)));
    member.resume(TOPIC, 0).unwrap();
    assert_eq!(places(&receive(&mut member, 1).await), [(0, 1)]);
}

#[tokio::test]
async fn topics_that_match_are_read_also_when_they_come_later() {
    let stage = Stage::new(1).await;
    let group = stage.client.consumer().group(GROUP).topic_regex("order.*");
    let mut member = group.build().await.unwrap();
    turn_until(&mut member, "the first topic", async || {
        let admin = stage.client.admin();
        let group = admin.describe_group(GROUP).await;
        group.is_ok_and(|group| {
            group
                .members
                .iter()
                .any(|member| !member.assigned.is_empty())
        })
    })
    .await;
    stage.topic("orders-eu", 1).await;
    stage.topic("invoices", 1).await;
    let producer = stage.client.producer().build().unwrap();
    for topic in ["invoices", "orders-eu"] {
        let record = Record::to(topic).partition(0).value("x");
        producer.send(record).await.unwrap().await.unwrap();
    }
    let received = receive(&mut member, 1).await;
    assert_eq!(&*received[0].topic, "orders-eu");
}
