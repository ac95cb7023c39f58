//! Replicas go from broker to broker.

use highwater_proto::{Reason, v1};

use crate::cluster::{Cluster, named, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_moves_with_its_records() {
    let mut cluster = Cluster::running(4).await;
    let first = cluster.client(1);
    first.create("t", 1, 3).await.unwrap();
    let before = first.replicas("t", 0).await;
    for (offset, value) in ["a", "b", "c"].into_iter().enumerate() {
        assert_eq!(cluster.produce("t", 0, value).await, offset as u64);
    }
    let new = (1..=4).find(|id| !before.contains(id)).unwrap();
    // The leader goes, too.
    let target = [new, before[2], before[1]];
    let planned = first.move_to("t", 0, &target).await.unwrap();
    assert_eq!(
        (
            &planned[0].from_broker_ids[..],
            &planned[0].to_broker_ids[..]
        ),
        (&before[..], &target[..])
    );
    // Where the leader goes, what it was about to write may be written twice by who does not know.
    let mut last = 2;
    for _ in 3..20 {
        let offset = cluster.produce("t", 0, "more").await;
        assert!(offset > last);
        last = offset;
    }
    first.until_moved().await;
    assert_eq!(first.replicas("t", 0).await, target);
    let other = first.move_to("t", 0, &[1, 2]).await.unwrap_err();
    assert_eq!(other.reason, Reason::InvalidReplicaAssignment);

    // The new replica counts.
    cluster.stop(&[before[1]]).await;
    assert!(cluster.produce("t", 0, "last").await > last);
    let values = cluster.values("t", 0).await;
    assert!(values.len() >= 21 && values.ends_with(&["last".to_owned()]));
    // Everything is as it was after all brokers started again.
    let left: Vec<_> = (1..=4).filter(|id| *id != before[1]).collect();
    cluster.stop(&left).await;
    cluster.start(&[1, 2, 3, 4]).await;
    assert_eq!(cluster.client(1).replicas("t", 0).await, target);
    // No broker has what it does not know.
    for id in 1..=4 {
        assert_eq!(cluster.client(id).findings().await, []);
    }
    cluster.produce("t", 0, "again").await;
    let after = cluster.values("t", 0).await;
    assert_eq!(after[..values.len()], values);
    assert!(after.ends_with(&["again".to_owned()]));
    cluster.stop(&[1, 2, 3, 4]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_gets_more_replicas_and_fewer() {
    let mut cluster = Cluster::running(3).await;
    let first = cluster.client(1);
    first.create("t", 3, 1).await.unwrap();
    for partition in 0..3 {
        assert_eq!(cluster.produce("t", partition, "a").await, 0);
    }
    for factor in [3, 1, 2] {
        let request = v1::SetReplicationFactorRequest {
            topic: "t".to_owned(),
            replication_factor: factor,
            ..Default::default()
        };
        let changed = first.placement().set_replication_factor(request).await;
        assert_eq!(changed.unwrap().into_inner().moves.len(), 3);
        first.until_moved().await;
        for partition in 0..3 {
            assert_eq!(first.replicas("t", partition).await.len(), factor as usize);
        }
        for partition in 0..3 {
            cluster.produce("t", partition, "more").await;
        }
    }
    for partition in 0..3 {
        assert_eq!(cluster.values("t", partition).await.len(), 4);
    }
    cluster.stop(&[1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_to_a_broker_that_is_down_is_cancelled() {
    let mut cluster = Cluster::running(4).await;
    let first = cluster.client(1);
    first.create("t", 1, 3).await.unwrap();
    let before = first.replicas("t", 0).await;
    let down = (1..=4).find(|id| !before.contains(id)).unwrap();
    let up: Vec<_> = before.clone();
    cluster.stop(&[down]).await;
    let client = cluster.client(up[0]);
    client.move_to("t", 0, &[up[0], up[1], down]).await.unwrap();
    let again = client.move_to("t", 0, &[up[0], up[1], down]).await;
    assert_eq!(again.unwrap_err().reason, Reason::ReassignmentInProgress);
    let moves = client.moves().await.unwrap();
    assert_eq!(moves[0].adding_broker_ids, [down]);
    assert_eq!(moves[0].removing_broker_ids, [up[2]]);
    let cancel = v1::CancelMovesRequest {
        topic: "t".to_owned(),
        partition: Some(0),
    };
    let cancelled = client.placement().cancel_moves(cancel.clone()).await;
    assert_eq!(cancelled.unwrap().into_inner().moves.len(), 1);
    client.until_moved().await;
    assert_eq!(client.replicas("t", 0).await, before);
    let nothing = client.placement().cancel_moves(cancel).await.unwrap_err();
    let nothing = highwater_proto::ApiError::from_status(&nothing);
    assert_eq!(nothing.reason, Reason::NoReassignmentInProgress);
    assert_eq!(cluster.produce("t", 0, "a").await, 0);
    // It comes back to nothing, and moves there when it is asked again.
    cluster.start(&[down]).await;
    let client = cluster.client(up[0]);
    client.move_to("t", 0, &[up[0], up[1], down]).await.unwrap();
    client.until_moved().await;
    assert_eq!(client.replicas("t", 0).await, [up[0], up[1], down]);
    assert_eq!(cluster.values("t", 0).await, ["a"]);
    cluster.stop(&[1, 2, 3, 4]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_goes_where_it_is_wanted() {
    let mut cluster = Cluster::running(3).await;
    let first = cluster.client(1);
    first.create("t", 1, 3).await.unwrap();
    cluster.produce("t", 0, "a").await;
    let leader = first.leader("t", 0).await;
    let to = (1..=3).find(|id| *id != leader).unwrap();
    let request = |to| v1::TransferLeaderRequest {
        partition: Some(named("t", 0)),
        to_broker_id: to,
    };
    let elsewhere = cluster.client(to).placement();
    let reason = within(async {
        loop {
            let refused = elsewhere.clone().transfer_leader(request(None)).await;
            let refused = highwater_proto::ApiError::from_status(&refused.unwrap_err());
            match refused.reason {
                // It may not have heard of the topic yet.
                Reason::UnknownTopicOrPartition | Reason::LeaderNotAvailable => {
                    tokio::task::yield_now().await;
                }
                reason => return reason,
            }
        }
    });
    assert_eq!(reason.await, Reason::NotLeaderOrFollower);
    let mut at_leader = cluster.client(leader).placement();
    let stranger = at_leader.transfer_leader(request(Some(9))).await;
    let stranger = highwater_proto::ApiError::from_status(&stranger.unwrap_err());
    assert_eq!(stranger.reason, Reason::InvalidReplicaAssignment);
    at_leader.transfer_leader(request(Some(to))).await.unwrap();
    within(async {
        while first.leader("t", 0).await != to {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(cluster.produce("t", 0, "b").await, 1);
    cluster.stop(&[1, 2, 3]).await;
}
