//! Who may be a broker of the cluster: one that lost its disk, or another process, is not who it says.

use std::time::Duration;

use highwater_tests::process::Broker;

use crate::scene::{Scene, calm, setup, wait_for_acks_in};

/// Long enough to be taken in, or refused.
const REFUSED_WITHIN: Duration = Duration::from_secs(5);

/// Whether a broker that was spawned has not been taken into the cluster.
fn is_refused(broker: &mut Broker) -> bool {
    !matches!(broker.is_ready_within(REFUSED_WITHIN), Ok(true))
}

#[test]
fn a_broker_that_lost_its_disk_is_refused_under_its_old_number() {
    let mut scene = Scene::new();
    let places = scene.topic("events", 3);
    let load = scene.load(places.clone());
    wait_for_acks_in(&load, &places, 20);
    scene.cluster.kill(3).unwrap();
    std::fs::remove_dir_all(scene.cluster.broker(3).data_dir()).unwrap();
    scene.cluster.spawn(3).unwrap();
    let refused = scene.cluster.change(3, |broker| Ok(is_refused(broker)));
    assert!(
        refused.unwrap(),
        "a broker without its data took part again"
    );
    wait_for_acks_in(&load, &places, 20);
    Scene::judge(load, &calm());
}

#[test]
fn another_process_under_the_number_of_a_broker_is_refused() {
    let scene = Scene::new();
    let places = scene.topic("events", 3);
    let load = scene.load(places.clone());
    wait_for_acks_in(&load, &places, 20);
    let mut setup = scene.cluster.setup_of(&setup(), 2);
    for key in ["server.peer.address", "server.peer.advertised"] {
        setup = setup.set(key, "\"127.0.0.1:0\"");
    }
    let mut impostor = Broker::new(setup).unwrap();
    impostor.spawn().unwrap();
    assert!(is_refused(&mut impostor), "there are two brokers 2");
    wait_for_acks_in(&load, &places, 20);
    Scene::judge(load, &calm());
}
