//! A broker that was away for so long that the others do not keep what it needs to go on from where it was.

use highwater_proto::Offset;
use highwater_tests::checker::Circumstances;
use highwater_tests::stamp::Place;
use highwater_tests::workload::router::Router;

use crate::scene::{BROKERS, Scene, wait_for_acks_in};

fn earliest(scene: &Scene, router: &mut Router, place: Place) -> Option<Offset> {
    scene.runtime.block_on(router.earliest(place)).ok()
}

fn latest(scene: &Scene, router: &mut Router, place: Place) -> Option<Offset> {
    let asked = async {
        let leader = router.leader(place).await;
        leader.latest(place).await
    };
    let latest = scene.runtime.block_on(asked);
    if latest.is_err() {
        router.failed(place);
    }
    latest.ok()
}

/// Waits until nothing is left of what the partitions hold now.
fn wait_until_all_has_expired(scene: &Scene, places: &[Place]) {
    let mut router = scene.router();
    for place in places {
        let end = scene.wait_for("a high watermark", || latest(scene, &mut router, *place));
        scene.wait_for("retention", || {
            earliest(scene, &mut router, *place).filter(|start| *start > end)
        });
    }
}

#[test]
fn a_broker_that_missed_more_than_the_others_keep_catches_up_and_counts() {
    let mut scene = Scene::new();
    let places = scene.topic_with("events", 2, &[("retention.bytes", "131072")]);
    let load = scene.load(places.clone());
    // Each is away once, and is needed when another one is gone after that.
    for away in scene.cluster.numbers() {
        wait_for_acks_in(&load, &places, 20);
        scene.cluster.kill(away).unwrap();
        wait_until_all_has_expired(&scene, &places);
        scene.cluster.start(away).unwrap();
        let other = away % BROKERS + 1;
        scene.cluster.kill(other).unwrap();
        wait_for_acks_in(&load, &places, 20);
        scene.cluster.start(other).unwrap();
    }
    wait_for_acks_in(&load, &places, 20);
    let circumstances = Circumstances {
        expiring: places.into_iter().collect(),
        ..Circumstances::default()
    };
    Scene::judge(load, &circumstances);
}
