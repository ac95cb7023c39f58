//! Brokers leave, and are replaced.

use highwater_proto::{ApiError, Reason, v1};

use crate::cluster::{Client, Cluster, within};

async fn decommission(client: &Client, broker_id: u32) -> Result<Vec<v1::PlannedMove>, ApiError> {
    let request = v1::DecommissionBrokerRequest {
        broker_id,
        validate_only: false,
    };
    let answer = client.placement().decommission_broker(request).await?;
    Ok(answer.into_inner().moves)
}

async fn brokers(client: &Client) -> Vec<u32> {
    let brokers = client.metadata().await.brokers;
    brokers.iter().map(|broker| broker.broker_id).collect()
}

async fn until_gone(client: &Client, broker: u32) {
    within(async {
        while brokers(client).await.contains(&broker) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decommissioned_broker_leaves_nothing_behind() {
    // The one that leads the controller, one that follows, and one that is down.
    for (leaving, is_up) in [(1, true), (4, true), (2, false)] {
        let mut cluster = Cluster::running(4).await;
        let other = cluster.client(3);
        other.create("t", 4, 3).await.unwrap();
        for partition in 0..4 {
            cluster.produce("t", partition, "a").await;
        }
        if !is_up {
            cluster.stop(&[leaving]).await;
            cluster.until_down(leaving).await;
        }
        let moves = decommission(&other, leaving).await.unwrap();
        assert_eq!(moves.len(), 3);
        until_gone(&other, leaving).await;
        for partition in 0..4 {
            assert!(!other.replicas("t", partition).await.contains(&leaving));
        }
        if is_up {
            cluster.stop(&[leaving]).await;
        }
        // Those that are left are a whole cluster, which outlives any one of them.
        let left: Vec<_> = (1..=4).filter(|id| *id != leaving).collect();
        let refused = decommission(&other, left[0]).await.unwrap_err();
        assert_eq!(refused.reason, Reason::PolicyViolation);
        let lost = if leaving == 4 { 1 } else { 4 };
        cluster.stop(&[lost]).await;
        for partition in 0..4 {
            assert_eq!(cluster.produce("t", partition, "b").await, 1);
            assert_eq!(cluster.values("t", partition).await, ["a", "b"]);
        }
        let left: Vec<_> = left.into_iter().filter(|id| *id != lost).collect();
        cluster.stop(&left).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_broker_is_replaced_where_that_was_asked_for_and_nobody_else_is() {
    let mut cluster = Cluster::running(3).await;
    let first = cluster.client(1);
    first.create("t", 2, 3).await.unwrap();
    for partition in 0..2 {
        cluster.produce("t", partition, "a").await;
    }
    let before = first.replicas("t", 0).await;
    let replace = || v1::ReplaceBrokerRequest {
        broker_id: 3,
        validate_only: false,
    };
    let up = first.placement().replace_broker(replace()).await;
    let up = ApiError::from_status(&up.unwrap_err());
    assert_eq!(up.reason, Reason::PolicyViolation);

    cluster.stop(&[3]).await;
    cluster.wipe(3);
    let refused = cluster.try_start(3).await.unwrap_err();
    let message = refused.to_string();
    let source = std::error::Error::source(&refused).map(ToString::to_string);
    let said = format!("{message} {}", source.unwrap_or_default());
    assert!(said.contains("highwater cluster replace 3"), "{said}");

    // What was refused may still be on its way out of that directory.
    cluster.wipe(3);
    cluster.until_down(3).await;
    first.placement().replace_broker(replace()).await.unwrap();
    cluster.start(&[3]).await;
    first.until_moved().await;
    within(async {
        loop {
            let described = first.describe("t").await.unwrap();
            let whole =
                |partition: &v1::PartitionDescription| partition.in_sync_broker_ids == [1, 2, 3];
            if described.partitions.iter().all(whole) {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(first.replicas("t", 0).await, before);
    // What it has now counts: any other may be lost.
    cluster.stop(&[2]).await;
    for partition in 0..2 {
        assert_eq!(cluster.produce("t", partition, "b").await, 1);
        assert_eq!(cluster.values("t", partition).await, ["a", "b"]);
    }
    cluster.stop(&[1, 3]).await;
    cluster.start(&[1, 2, 3]).await;
    for partition in 0..2 {
        assert_eq!(cluster.produce("t", partition, "c").await, 2);
    }
    cluster.stop(&[1, 2, 3]).await;
}
