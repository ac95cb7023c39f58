//! Records on several brokers.

use crate::cluster::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn records_outlive_any_one_broker() {
    for lost in 1..=3 {
        let mut cluster = Cluster::running(3).await;
        cluster.client(3).create("t", 3, 3).await.unwrap();
        for partition in 0..3 {
            assert_eq!(cluster.produce("t", partition, "a").await, 0);
        }
        cluster.stop(&[lost]).await;
        let left: Vec<_> = (1..=3).filter(|id| *id != lost).collect();
        for partition in 0..3 {
            assert_eq!(cluster.produce("t", partition, "b").await, 1);
            assert_eq!(cluster.values("t", partition).await, ["a", "b"]);
        }
        // The controller goes on, too, and puts replicas where brokers are, once it is known which those are.
        cluster.until_down(lost).await;
        cluster.client(left[0]).create("u", 1, 2).await.unwrap();
        assert_eq!(cluster.produce("u", 0, "c").await, 0);
        cluster.start(&[lost]).await;
        for partition in 0..3 {
            assert_eq!(cluster.produce("t", partition, "d").await, 2);
        }
        cluster.stop(&[1, 2, 3]).await;
    }
}
