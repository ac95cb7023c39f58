//! Replicas move, and brokers come and go, while records go in and out and brokers are killed.

use highwater_client::{Admin, Moves};
use highwater_tests::cluster::Cluster;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::scene::{Scene, calm, rounds, setup, wait_for_acks_in};

const TOPIC: &str = "events";
/// One more than replicas, so that there is somewhere to go.
const BROKERS: u32 = 4;

fn scene() -> Scene {
    Scene::around(Cluster::started(&setup(), BROKERS).unwrap())
}

impl Scene {
    /// Waits until nothing moves any more.
    fn until_moved(&self, admin: &Admin) {
        self.wait_for("the end of all moves", || {
            let moves = self.runtime.block_on(admin.moves(None));
            moves.ok().filter(Vec::is_empty)
        });
    }

    fn replicas(&self, admin: &Admin, partition: u32) -> Vec<u32> {
        let described = self.runtime.block_on(admin.describe_topic(TOPIC)).unwrap();
        let mut partitions = described.partitions.into_iter();
        let found = partitions.find(|one| one.partition == partition);
        found.unwrap().replica_broker_ids
    }
}

#[test]
fn moves_end_whoever_is_killed_meanwhile() {
    let mut scene = scene();
    let places = scene.topic(TOPIC, 4);
    let load = scene.load(places.clone());
    let admin = scene.admin();
    let mut random = StdRng::seed_from_u64(7);
    for round in 0..rounds() {
        wait_for_acks_in(&load, &places, 20);
        let mut targets = Vec::new();
        let mut moves = Moves::new();
        for place in &places {
            let mut brokers: Vec<_> = (1..=BROKERS).collect();
            brokers.shuffle(&mut random);
            brokers.truncate(3);
            moves = moves.partition(TOPIC, place.partition.0, &brokers);
            targets.push(brokers);
        }
        scene.runtime.block_on(admin.move_replicas(moves)).unwrap();
        // A leader, a target or somebody else.
        let victim = if round % 2 == 0 {
            scene.leader(places[0])
        } else {
            random.random_range(1..=BROKERS)
        };
        scene.cluster.kill(victim).unwrap();
        wait_for_acks_in(&load, &places, 10);
        scene.cluster.start(victim).unwrap();
        scene.until_moved(&admin);
        for (place, target) in places.iter().zip(targets) {
            assert_eq!(scene.replicas(&admin, place.partition.0), target);
        }
    }
    wait_for_acks_in(&load, &places, 20);
    Scene::judge(load, &calm());
}

#[test]
fn a_cancelled_move_ends_whoever_is_killed_meanwhile() {
    let mut scene = scene();
    let places = scene.topic(TOPIC, 2);
    let load = scene.load(places.clone());
    let admin = scene.admin();
    for _ in 0..rounds() {
        wait_for_acks_in(&load, &places, 20);
        let before = scene.replicas(&admin, 0);
        let new = (1..=BROKERS).find(|id| !before.contains(id)).unwrap();
        let target = vec![before[0], before[1], new];
        let moving = Moves::new().partition(TOPIC, 0, &target);
        scene.runtime.block_on(admin.move_replicas(moving)).unwrap();
        let victim = scene.leader(places[0]);
        // It may be over already.
        let cancelling = admin.cancel_moves(Some(TOPIC), Some(0));
        let cancelled = scene.runtime.block_on(cancelling).is_ok();
        scene.cluster.kill(victim).unwrap();
        wait_for_acks_in(&load, &places, 10);
        scene.cluster.start(victim).unwrap();
        scene.until_moved(&admin);
        let after = scene.replicas(&admin, 0);
        assert!(after == target || cancelled && after == before, "{after:?}");
    }
    wait_for_acks_in(&load, &places, 20);
    Scene::judge(load, &calm());
}

#[test]
fn a_broker_is_decommissioned_under_load() {
    let mut scene = scene();
    let places = scene.topic(TOPIC, 4);
    let load = scene.load(places.clone());
    let admin = scene.admin();
    wait_for_acks_in(&load, &places, 20);
    let leaving = scene.leader(places[0]);
    let moved = scene.runtime.block_on(admin.decommission_broker(leaving));
    assert_eq!(moved.unwrap().len(), 3);
    // One of the others restarts meanwhile.
    let other = (1..=BROKERS).find(|id| *id != leaving).unwrap();
    scene.cluster.kill(other).unwrap();
    scene.cluster.start(other).unwrap();
    scene.until_removed(&admin, leaving);
    scene.ends_as_removed(leaving);
    wait_for_acks_in(&load, &places, 20);
    for place in &places {
        assert!(!scene.replicas(&admin, place.partition.0).contains(&leaving));
    }
    Scene::judge(load, &calm());
}

#[test]
fn a_broker_that_lost_its_disk_is_replaced_under_load() {
    let mut scene = Scene::new();
    let places = scene.topic(TOPIC, 3);
    let load = scene.load(places.clone());
    let admin = scene.admin();
    wait_for_acks_in(&load, &places, 20);
    for lost in [3, 1] {
        scene.cluster.kill(lost).unwrap();
        std::fs::remove_dir_all(scene.cluster.broker(lost).data_dir()).unwrap();
        scene.wait_for("the broker's death to be known", || {
            let allowed = scene.runtime.block_on(admin.replace_broker(lost, false));
            allowed.ok()
        });
        scene.cluster.start(lost).unwrap();
        scene.wait_for("all replicas in sync", || {
            let described = scene.runtime.block_on(admin.describe_topic(TOPIC)).ok()?;
            let mut partitions = described.partitions.iter();
            let is_whole = partitions.all(|one| one.in_sync_broker_ids.len() == 3);
            is_whole.then_some(())
        });
        scene.until_moved(&admin);
        wait_for_acks_in(&load, &places, 20);
    }
    Scene::judge(load, &calm());
}
