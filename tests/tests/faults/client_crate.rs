//! The client crate's producer and consumer while the broker is killed.

use highwater_tests::workload::client_run::ClientRun;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::scene::{Scene, rounds, setup};

#[test]
fn the_client_crate_delivers_each_record_once_and_in_order_over_kills() {
    let mut scene = Scene::new(setup().tiny());
    let places = scene.topic("events", 3, &[("segment.bytes", "65536")]);
    let addresses = vec![scene.broker.address()];
    let run = ClientRun::start(&scene.runtime, addresses, "events", places).unwrap();
    let mut random = StdRng::seed_from_u64(5);
    for _ in 0..rounds() {
        run.wait_for_acks(random.random_range(100..2_000)).unwrap();
        scene.broker.kill().unwrap();
        scene.broker.start().unwrap();
    }
    run.wait_for_acks(500).unwrap();
    let (history, finals) = run.finish().unwrap();
    let summary = Scene::verdict(&history, &finals, &[]);
    println!("{summary}");
    assert_eq!(summary.unknown, 0, "every record was delivered: {summary}");
    assert_eq!(summary.acked, summary.final_records, "{summary}");
}
