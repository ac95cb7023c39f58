//! Each broker stopped in order and started again, while it is under load.

use crate::scene::{Scene, calm, wait_for_acks_in};

#[test]
fn a_rolling_restart_loses_nothing() {
    let mut scene = Scene::new();
    let places = scene.topic("events", 4);
    let load = scene.load(places.clone());
    for number in scene.cluster.numbers() {
        wait_for_acks_in(&load, &places, 20);
        scene.cluster.terminate(number).unwrap();
        wait_for_acks_in(&load, &places, 20);
        scene.cluster.start(number).unwrap();
    }
    wait_for_acks_in(&load, &places, 20);
    Scene::judge(load, &calm());
}
