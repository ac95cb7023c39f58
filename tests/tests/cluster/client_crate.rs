//! The client crate's producer and consumer while brokers are killed and frozen.

use highwater_tests::checker::{Circumstances, check};
use highwater_tests::workload::client_run::ClientRun;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::scene::{BROKERS, Scene, calm, lingering, rounds};

fn finish(run: ClientRun<'_>, circumstances: &Circumstances) {
    run.wait_for_acks(500).unwrap();
    let (history, finals) = run.finish().unwrap();
    let verdict = check(&history.ledger(), &finals, circumstances);
    println!("{}", verdict.summary);
    verdict.assert_clean();
    let summary = verdict.summary;
    assert_eq!(summary.unknown, 0, "every record was delivered: {summary}");
    assert_eq!(summary.acked, summary.final_records, "{summary}");
}

#[test]
fn the_client_crate_goes_on_by_itself_when_any_broker_is_killed() {
    let mut scene = Scene::new();
    let places = scene.topic("events", 3);
    let addresses = scene.cluster.addresses();
    let run = ClientRun::start(&scene.runtime, addresses, "events", places).unwrap();
    let mut random = StdRng::seed_from_u64(5);
    for _ in 0..rounds() {
        run.wait_for_acks(random.random_range(100..2_000)).unwrap();
        let victim = random.random_range(1..=BROKERS);
        scene.cluster.kill(victim).unwrap();
        // More than can be on its way: every partition has its leader again.
        run.wait_for_acks(4_000).unwrap();
        scene.cluster.start(victim).unwrap();
    }
    finish(run, &calm());
}

#[test]
fn the_client_crate_goes_on_by_itself_when_brokers_are_restarted_in_turn() {
    let mut scene = Scene::new();
    let places = scene.topic("events", 3);
    let addresses = scene.cluster.addresses();
    let run = ClientRun::start(&scene.runtime, addresses, "events", places).unwrap();
    for number in scene.cluster.numbers() {
        run.wait_for_acks(1_000).unwrap();
        scene.cluster.terminate(number).unwrap();
        // More than can be on its way: every partition has its leader again.
        run.wait_for_acks(4_000).unwrap();
        scene.cluster.start(number).unwrap();
    }
    finish(run, &calm());
}

#[test]
fn the_client_crate_leaves_a_frozen_leader() {
    let scene = Scene::new();
    let places = scene.topic("events", 3);
    let addresses = scene.cluster.addresses();
    let run = ClientRun::start(&scene.runtime, addresses, "events", places.clone()).unwrap();
    run.wait_for_acks(500).unwrap();
    let leader = scene.leader(places[0]);
    scene.cluster.freeze(leader).unwrap();
    run.wait_for_acks(4_000).unwrap();
    scene.cluster.thaw(leader).unwrap();
    finish(run, &lingering());
}
