//! A leader whose process stands still: SIGSTOP.

use crate::scene::{Scene, lingering, rounds, wait_for_acks_in};

#[test]
fn a_frozen_leader_is_replaced_and_acknowledges_nothing_when_it_thaws() {
    let scene = Scene::new();
    let places = scene.topic("events", 3);
    let load = scene.load(places.clone());
    for _ in 0..rounds().div_ceil(2) {
        wait_for_acks_in(&load, &places, 20);
        let leader = scene.leader(places[0]);
        scene.cluster.freeze(leader).unwrap();
        // What it acknowledged before may be on its way to the clients still.
        scene.wait_for("another leader", || {
            (scene.leader(places[0]) != leader).then_some(())
        });
        wait_for_acks_in(&load, &places, 20);
        scene.cluster.thaw(leader).unwrap();
        wait_for_acks_in(&load, &places, 20);
    }
    Scene::judge(load, &lingering());
}
