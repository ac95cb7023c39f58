//! Faults of all kinds, one after the other and on top of each other, from one seed.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::scene::{BROKERS, Scene, lingering, rounds, wait_for_acks_in};

/// What is wrong with a broker.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Killed,
    Stopped,
    Frozen,
    CutOff,
    /// It hears nobody.
    Deaf,
    /// Nobody hears it.
    Mute,
}

const FAULTS: [Fault; 6] = [
    Fault::Killed,
    Fault::Stopped,
    Fault::Frozen,
    Fault::CutOff,
    Fault::Deaf,
    Fault::Mute,
];

fn inflict(scene: &mut Scene, fault: Fault, on: u32) {
    let cut = |from, to| scene.cluster.network().cut(from, to);
    let others = scene.cluster.numbers().filter(|other| *other != on);
    match fault {
        Fault::Killed => scene.cluster.kill(on).unwrap(),
        Fault::Stopped => scene.cluster.terminate(on).unwrap(),
        Fault::Frozen => scene.cluster.freeze(on).unwrap(),
        Fault::CutOff => scene.cluster.network().isolate(on),
        Fault::Deaf => others.for_each(|other| cut(other, on)),
        Fault::Mute => others.for_each(|other| cut(on, other)),
    }
}

fn mend(scene: &mut Scene, fault: Fault, on: u32) {
    match fault {
        Fault::Killed | Fault::Stopped => scene.cluster.spawn(on).unwrap(),
        Fault::Frozen => scene.cluster.thaw(on).unwrap(),
        Fault::CutOff | Fault::Deaf | Fault::Mute => scene.cluster.network().heal(),
    }
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled_in_a_chain_of_faults() {
    let mut scene = Scene::new();
    let places = scene.topic("events", 4);
    let load = scene.load(places.clone());
    let mut random = StdRng::seed_from_u64(8);
    let mut sick = random.random_range(1..=BROKERS);
    for _ in 0..rounds() {
        let fault = FAULTS[random.random_range(0..FAULTS.len())];
        println!("broker {sick} is {fault:?}");
        inflict(&mut scene, fault, sick);
        wait_for_acks_in(&load, &places, 10);
        mend(&mut scene, fault, sick);
        // The next fault strikes before the last one is got over, or after that.
        if random.random_bool(0.5) {
            scene.cluster.wait_ready().unwrap();
            wait_for_acks_in(&load, &places, 10);
        }
        sick = (sick + random.random_range(0..BROKERS - 1)) % BROKERS + 1;
    }
    scene.cluster.wait_ready().unwrap();
    wait_for_acks_in(&load, &places, 10);
    Scene::judge(load, &lingering());
}
