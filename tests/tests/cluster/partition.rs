//! Networks that are cut, in both directions and in one.

use std::time::Duration;

use crate::scene::{Scene, lingering, rounds, wait_for_acks_in};

#[test]
fn a_leader_that_is_cut_off_is_replaced_and_acknowledges_nothing_more() {
    let scene = Scene::new();
    let places = scene.topic("events", 3);
    let load = scene.load(places.clone());
    for _ in 0..rounds().div_ceil(2) {
        wait_for_acks_in(&load, &places, 20);
        let leader = scene.leader(places[0]);
        scene.cluster.network().isolate(leader);
        wait_for_acks_in(&load, &places, 20);
        scene.cluster.network().heal();
        wait_for_acks_in(&load, &places, 20);
    }
    Scene::judge(load, &lingering());
}

#[test]
fn a_leader_that_is_not_heard_is_replaced() {
    let scene = Scene::new();
    let places = scene.topic("events", 3);
    let load = scene.load(places.clone());
    for round in 0..rounds().div_ceil(2) {
        wait_for_acks_in(&load, &places, 20);
        let leader = scene.leader(places[0]);
        for other in scene.cluster.numbers().filter(|other| *other != leader) {
            match round % 2 {
                0 => scene.cluster.network().cut(leader, other),
                _ => scene.cluster.network().cut(other, leader),
            }
        }
        wait_for_acks_in(&load, &places, 20);
        scene.cluster.network().heal();
        wait_for_acks_in(&load, &places, 20);
    }
    Scene::judge(load, &lingering());
}

#[test]
fn two_brokers_that_do_not_reach_each_other_go_on_through_the_third() {
    let scene = Scene::new();
    let places = scene.topic("events", 3);
    let load = scene.load(places.clone());
    for (one, other) in [(1, 2), (2, 3), (1, 3)] {
        wait_for_acks_in(&load, &places, 20);
        scene.cluster.network().part(&[one], &[other]);
        wait_for_acks_in(&load, &places, 20);
        scene.cluster.network().heal();
    }
    wait_for_acks_in(&load, &places, 20);
    Scene::judge(load, &lingering());
}

#[test]
fn broken_connections_and_delays_cost_nothing_but_time() {
    let scene = Scene::new();
    let places = scene.topic("events", 3);
    let load = scene.load(places.clone());
    scene.cluster.network().delay(Duration::from_millis(5));
    for _ in 0..rounds() {
        for (one, other) in [(1, 2), (2, 3), (1, 3)] {
            wait_for_acks_in(&load, &places, 5);
            scene.cluster.network().break_connections(one, other);
        }
    }
    scene.cluster.network().heal();
    wait_for_acks_in(&load, &places, 20);
    Scene::judge(load, &lingering());
}
