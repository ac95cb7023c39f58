//! `kill -9` of one broker after the other, and of two at once.

use bytes::Bytes;
use highwater_proto::v1;
use highwater_tests::history::{Ledger, SendBatch};
use highwater_tests::stamp::Place;
use highwater_tests::workload::api::named;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::scene::{BROKERS, Scene, calm, rounds, wait_for_acks_in};

#[test]
fn nothing_acknowledged_is_lost_or_doubled_when_brokers_are_killed() {
    let mut scene = Scene::new();
    let places = scene.topic("events", 4);
    let load = scene.load(places.clone());
    let mut random = StdRng::seed_from_u64(1);
    for _ in 0..rounds() {
        load.wait_for_acks(random.random_range(100..800)).unwrap();
        let victim = random.random_range(1..=BROKERS);
        scene.cluster.kill(victim).unwrap();
        // The others go on with all partitions.
        wait_for_acks_in(&load, &places, 10);
        scene.cluster.start(victim).unwrap();
    }
    wait_for_acks_in(&load, &places, 10);
    let summary = Scene::judge(load, &calm());
    assert!(summary.acked > u64::from(rounds()) * 100, "{summary}");
    assert!(summary.unknown > 0, "no kill hit a request: {summary}");
    assert!(summary.records_read > summary.acked, "{summary}");
}

#[test]
fn all_brokers_killed_at_once_come_back_with_everything() {
    let mut scene = Scene::new();
    let places = scene.topic("events", 4);
    let load = scene.load(places.clone());
    for _ in 0..rounds() {
        wait_for_acks_in(&load, &places, 20);
        for number in scene.cluster.numbers() {
            scene.cluster.kill(number).unwrap();
        }
        for number in scene.cluster.numbers() {
            scene.cluster.spawn(number).unwrap();
        }
        scene.cluster.wait_ready().unwrap();
    }
    wait_for_acks_in(&load, &places, 20);
    Scene::judge(load, &calm());
}

/// Whether the only broker left acknowledges a record; every failure must be one that passes.
fn is_acknowledged(scene: &Scene, place: Place) -> bool {
    let records = vec![v1::Record {
        value: Some(Bytes::from_static(b"to nobody")),
        ..v1::Record::default()
    }];
    let item = v1::ProduceItem {
        partition: Some(named(place)),
        payload: Some(v1::produce_item::Payload::Records(v1::Records { records })),
    };
    let mut router = scene.router();
    let outcomes = router.produce(vec![(place, item)]);
    match scene.runtime.block_on(outcomes).remove(0) {
        Ok(_) => true,
        Err(failure) => {
            assert!(failure.retriable, "{failure:?}");
            false
        }
    }
}

#[test]
fn without_a_majority_nothing_is_acknowledged_until_one_is_back() {
    let mut scene = Scene::new();
    // Nobody else writes to it, so that the records made here do not puzzle the checker.
    let probe = scene.topic("probe", 1);
    let places = scene.topic("events", 3);
    let load = scene.load(places.clone());
    wait_for_acks_in(&load, &places, 20);
    scene.cluster.kill(2).unwrap();
    scene.cluster.kill(3).unwrap();
    let alone = load.history().note(Ledger::now);
    for _ in 0..rounds() {
        assert!(!is_acknowledged(&scene, probe[0]));
    }
    // What was sent before may have been stored, and is told late. Writers that do not repeat a batch give it up and send the next.
    let has_ended = |send: &&SendBatch| send.invoked > alone && send.outcome.is_some();
    load.wait_for("batches sent to one of three brokers to fail", |ledger| {
        ledger.sends.iter().filter(has_ended).count() >= 20
    })
    .unwrap();
    let ledger = load.history().ledger();
    let mut ended = ledger.sends.iter().filter(has_ended);
    let acked = ended.find(|send| send.acked().is_some());
    assert!(
        acked.is_none(),
        "one of three brokers acknowledged {acked:?}"
    );
    scene.cluster.start(2).unwrap();
    wait_for_acks_in(&load, &places, 20);
    scene.cluster.start(3).unwrap();
    wait_for_acks_in(&load, &places, 20);
    Scene::judge(load, &calm());
}
