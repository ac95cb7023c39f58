//! Brokers that found their cluster, in whatever order they start.

use std::collections::BTreeSet;
use std::time::Duration;

use highwater_tests::cluster::Cluster;
use highwater_tests::workload::api::Api;

use crate::scene::{BROKERS, Scene, calm, setup, wait_for_acks_in};

/// Long enough for brokers that would not wait for the others.
const TOO_EARLY: Duration = Duration::from_secs(1);

/// The clusters that the brokers belong to, as each says itself.
fn clusters(scene: &Scene) -> BTreeSet<Vec<u8>> {
    let addresses = scene.cluster.addresses();
    let asked = addresses.into_iter().map(|address| {
        let _context = scene.runtime.enter();
        let api = Api::new(address);
        scene.wait_for("an answer", || {
            let metadata = scene.runtime.block_on(api.metadata()).ok()?;
            Some(metadata.cluster_id.to_vec())
        })
    });
    asked.collect()
}

#[test]
fn a_cluster_is_founded_once_and_not_before_all_seeds_are_there() {
    for last in 1..=BROKERS {
        let mut cluster = Cluster::new(&setup(), BROKERS).unwrap();
        let early: Vec<_> = cluster.numbers().filter(|number| *number != last).collect();
        for number in &early {
            cluster.spawn(*number).unwrap();
        }
        for number in early {
            let early =
                |broker: &mut highwater_tests::process::Broker| broker.is_ready_within(TOO_EARLY);
            assert!(
                !cluster.change(number, early).unwrap(),
                "broker {number} did not wait"
            );
        }
        cluster.spawn(last).unwrap();
        cluster.wait_ready().unwrap();
        let scene = Scene::around(cluster);
        assert_eq!(clusters(&scene).len(), 1);
        let places = scene.topic("events", 2);
        let load = scene.load(places.clone());
        wait_for_acks_in(&load, &places, 10);
        Scene::judge(load, &calm());
    }
}

#[test]
fn brokers_that_are_killed_while_they_found_their_cluster_found_one() {
    let mut cluster = Cluster::new(&setup(), BROKERS).unwrap();
    let mut patience = Duration::from_millis(5);
    // Later and later, so that each step of the founding is hit.
    for round in 0..6 {
        for number in cluster.numbers() {
            cluster.spawn(number).unwrap();
        }
        let wait = |broker: &mut highwater_tests::process::Broker| broker.is_ready_within(patience);
        cluster.change(1 + round % BROKERS, wait).unwrap();
        for number in cluster.numbers() {
            cluster.kill(number).unwrap();
        }
        patience *= 3;
    }
    for number in cluster.numbers() {
        cluster.spawn(number).unwrap();
    }
    cluster.wait_ready().unwrap();
    let scene = Scene::around(cluster);
    assert_eq!(clusters(&scene).len(), 1);
    let places = scene.topic("events", 2);
    let load = scene.load(places.clone());
    wait_for_acks_in(&load, &places, 10);
    Scene::judge(load, &calm());
}
