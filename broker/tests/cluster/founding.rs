//! How a cluster begins, grows and begins again.

use crate::cluster::{Cluster, within};

/// Waits until a broker shows so many brokers, and returns the cluster that it belongs to.
async fn cluster_of(cluster: &Cluster, id: u32, brokers: usize) -> bytes::Bytes {
    let client = cluster.client(id);
    within(async {
        loop {
            let metadata = client.metadata().await;
            if metadata.brokers.len() == brokers {
                return metadata.cluster_id;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_with_the_same_seeds_found_one_cluster_and_find_it_again() {
    let mut cluster = Cluster::running(3).await;
    let founded = cluster_of(&cluster, 1, 3).await;
    assert_eq!(founded.len(), 16);
    for id in [2, 3] {
        assert_eq!(cluster_of(&cluster, id, 3).await, founded);
    }
    cluster.client(2).create("t", 2, 3).await.unwrap();
    for id in 1..=3 {
        let described = cluster.client(id).describe("t").await.unwrap();
        assert_eq!(
            described.partitions.len(),
            2,
            "broker {id} sees what was acknowledged"
        );
    }
    cluster.produce("t", 0, "before").await;

    cluster.stop(&[1, 2, 3]).await;
    cluster.start(&[1, 2, 3]).await;
    for id in 1..=3 {
        assert_eq!(cluster_of(&cluster, id, 3).await, founded);
    }
    assert_eq!(cluster.values("t", 0).await, ["before"]);
    cluster.stop(&[1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_comes_later_joins_and_is_used() {
    let mut cluster = Cluster::of(4, 3);
    cluster.start(&[1, 2, 3]).await;
    let founded = cluster_of(&cluster, 1, 3).await;
    cluster.start(&[4]).await;
    assert_eq!(cluster_of(&cluster, 4, 4).await, founded);
    let refused = cluster.client(4).create("u", 1, 5).await.unwrap_err();
    assert_eq!(refused.reason_name(), "INVALID_REPLICATION_FACTOR");
    cluster.client(4).create("t", 4, 4).await.unwrap();
    for partition in 0..4 {
        cluster.produce("t", partition, "x").await;
    }
    cluster.stop(&[1, 2, 3, 4]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_broker_is_refused_under_its_old_id() {
    let mut cluster = Cluster::running(3).await;
    // The first seed, which would found a cluster if it did not look.
    cluster.stop(&[1]).await;
    cluster.wipe(1);
    let refused = cluster.try_start(1).await.unwrap_err().to_string();
    assert!(
        refused.contains("start it with an id that no broker of the cluster ever had"),
        "{refused}"
    );
    cluster.stop(&[2, 3]).await;
}
