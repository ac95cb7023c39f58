//! Replicas whose files are damaged, gone or old: the others go on, and rebuild them.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use highwater_client::{Admin, Moves};
use highwater_proto::{Offset, Reason, v1};
use highwater_tests::cluster::Cluster;
use highwater_tests::data_files::{FileKind, copy_folder, files, flip_bit};
use highwater_tests::process::Broker;
use highwater_tests::stamp::Place;
use highwater_tests::workload::Load;
use highwater_tests::workload::api::{Api, named};
use v1::fetched_partition::Data;

use crate::controller_damage::reasons;
use crate::scene::{BROKERS, Scene, calm, lingering, setup, wait_for_acks_in};

/// The directories of a broker's replicas of a partition.
pub(crate) fn replicas(scene: &Scene, broker: u32, place: Place) -> BTreeSet<PathBuf> {
    let data_dir = scene.cluster.broker(broker).data_dir();
    let topic = data_dir.join("topics").join(place.topic.to_string());
    let prefix = format!("{}-", place.partition);
    let entries = fs::read_dir(topic).into_iter().flatten();
    let paths = entries.map(|entry| entry.unwrap().path());
    let is_replica = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&prefix) && path.is_dir()
    };
    paths.filter(is_replica).collect()
}

/// Everything that a broker serves of a partition up to an offset, as it is on its disk. `None` where it cannot serve that now.
pub(crate) fn held(scene: &Scene, broker: u32, place: Place, upto: Offset) -> Option<Vec<Bytes>> {
    let _context = scene.runtime.enter();
    let api = Api::new(scene.cluster.broker(broker).address());
    let mut batches = Vec::new();
    let mut from = 0;
    while from < upto.0 {
        let wanted = v1::FetchPartition {
            partition: Some(named(place)),
            offset: from,
            max_bytes: 0,
            leader_epoch: None,
        };
        let request = v1::FetchRequest {
            partitions: vec![wanted],
            min_bytes: 0,
            max_bytes: 1 << 20,
            max_wait_ms: 0,
            format: v1::RecordFormat::Batches.into(),
            allow_follower: true,
        };
        let answer = scene.runtime.block_on(api.fetch(request)).ok()?;
        let fetched = answer.partitions.into_iter().next()?;
        if let Some(error) = fetched.error {
            println!("broker {broker} from {from}: {}", error.message);
            return None;
        }
        let Some(Data::RecordBatches(data)) = fetched.data else {
            return None;
        };
        batches.extend(data.batches);
        from = fetched.next_offset;
    }
    Some(batches)
}

/// Two brokers that do not hold the same served different records, or not all.
pub(crate) fn assert_equal_replicas(scene: &Scene, places: &[Place]) {
    let mut router = scene.router();
    for place in places {
        let end = scene.wait_for("the end", || {
            let asked = async { router.leader(*place).await.latest(*place).await };
            scene.runtime.block_on(asked).ok()
        });
        let mut all = scene.cluster.numbers().map(|broker| {
            let held = || held(scene, broker, *place, end);
            (broker, scene.wait_for("all that was committed", held))
        });
        let (_, first) = all.next().unwrap();
        for (broker, other) in all {
            assert!(
                first == other,
                "broker {broker} holds other records of {place:?}"
            );
        }
    }
}

/// A cluster with a load, and a broker that follows in the first partition and in the controller's group.
struct Hurt {
    scene: Scene,
    places: Vec<Place>,
    load: Load,
    victim: u32,
}

impl Hurt {
    fn new() -> Self {
        Self::on(Scene::new())
    }

    fn on(scene: Scene) -> Self {
        let places = scene.topic("events", 3);
        let load = scene.load(places.clone());
        wait_for_acks_in(&load, &places, 200);
        let leader = scene.leader(places[0]);
        let controller = scene.wait_for("a controller", || {
            let api = scene.router().any();
            let metadata = scene.runtime.block_on(api.metadata()).ok()?;
            metadata.controller_broker_id
        });
        let mut brokers = scene.cluster.numbers();
        let victim = brokers.find(|broker| ![leader, controller].contains(broker));
        let victim = victim.unwrap();
        Self {
            scene,
            places,
            load,
            victim,
        }
    }

    fn wait_for_acks(&self) {
        wait_for_acks_in(&self.load, &self.places, 50);
    }

    /// Stops the victim, damages its files and starts it. `damage` is given its data directory and the first partition. The stop
    /// is in order: what its last checkpoint covers is in segments only, and cannot be had from the journal again.
    fn damage(&mut self, damage: impl FnOnce(&Path, Place)) -> BTreeSet<PathBuf> {
        let stopped = self.scene.cluster.change(self.victim, Broker::terminate);
        stopped.unwrap();
        self.wait_for_acks();
        let before = replicas(&self.scene, self.victim, self.places[0]);
        damage(
            self.scene.cluster.broker(self.victim).data_dir(),
            self.places[0],
        );
        self.scene.cluster.start(self.victim).unwrap();
        before
    }

    /// Waits until a new replica has taken the place of those that were here.
    fn wait_until_rebuilt(&self, before: &BTreeSet<PathBuf>) {
        self.scene.wait_for("another replica", || {
            let now = replicas(&self.scene, self.victim, self.places[0]);
            (!now.is_empty() && now.is_disjoint(before)).then_some(())
        });
        self.wait_until_well();
    }

    /// Waits until nothing is to be rebuilt any more.
    fn wait_until_well(&self) {
        let address = self.scene.cluster.broker(self.victim).address();
        let api = {
            let _context = self.scene.runtime.enter();
            Api::new(address)
        };
        self.scene.wait_for("a broker that is well", || {
            let described = self.scene.runtime.block_on(api.describe_cluster()).ok()?;
            let ill = ["LOG_DAMAGED", "LOG_FAILED", "REPLICA_REBUILDING"];
            let mut findings = described.findings.iter();
            (!findings.any(|finding| ill.contains(&&*finding.reason))).then_some(())
        });
    }

    /// The rebuilt replica counts: another broker can go, and nothing is lost.
    fn judge(self) {
        let Self {
            mut scene,
            places,
            load,
            victim,
        } = self;
        let other = victim % BROKERS + 1;
        scene.cluster.kill(other).unwrap();
        wait_for_acks_in(&load, &places, 50);
        scene.cluster.start(other).unwrap();
        wait_for_acks_in(&load, &places, 50);
        Scene::judge(load, &calm());
        assert_equal_replicas(&scene, &places);
    }
}

#[test]
fn a_replica_with_a_truncated_segment_is_rebuilt() {
    let mut hurt = Hurt::new();
    let before = hurt.damage(|data_dir, place| {
        let segments = files(data_dir, FileKind::Segment(place)).unwrap();
        let file = OpenOptions::new().write(true).open(&segments[0]).unwrap();
        file.set_len(4096).unwrap();
    });
    hurt.wait_until_rebuilt(&before);
    hurt.judge();
}

#[test]
fn a_replica_with_a_missing_segment_is_rebuilt() {
    let mut hurt = Hurt::new();
    let before = hurt.damage(|data_dir, place| {
        let segments = files(data_dir, FileKind::Segment(place)).unwrap();
        fs::remove_file(&segments[0]).unwrap();
    });
    hurt.wait_until_rebuilt(&before);
    hurt.judge();
}

#[test]
fn a_replica_with_flipped_bits_is_rebuilt_once_they_are_read() {
    let mut hurt = Hurt::new();
    let before = hurt.damage(|data_dir, place| {
        let segments = files(data_dir, FileKind::Segment(place)).unwrap();
        flip_bit(&segments[0], 0.5).unwrap();
    });
    let (victim, place) = (hurt.victim, hurt.places[0]);
    // The damaged batch is never served, and who asks for it is sent elsewhere.
    hurt.scene.wait_for("damage", || {
        let end = Offset(200);
        held(&hurt.scene, victim, place, end)
            .is_none()
            .then_some(())
    });
    hurt.wait_until_rebuilt(&before);
    hurt.judge();
}

#[test]
fn what_a_damaged_journal_held_is_rebuilt() {
    // Nothing is in a checkpoint: everything of the last run is in the journal only.
    let setup = setup().set("storage.checkpoint_interval_bytes", 1 << 30);
    let mut hurt = Hurt::on(Scene::around(Cluster::started(&setup, BROKERS).unwrap()));
    let victim = hurt.victim;
    hurt.scene.cluster.kill(victim).unwrap();
    hurt.wait_for_acks();
    let data_dir = hurt.scene.cluster.broker(victim).data_dir().to_owned();
    let journal = files(&data_dir, FileKind::Journal).unwrap();
    flip_bit(&journal[journal.len() / 2], 0.5).unwrap();
    hurt.scene.cluster.start(victim).unwrap();
    let found = reasons(&hurt.scene, victim);
    assert!(found.contains("JOURNAL_DAMAGED"), "{found:?}");
    hurt.wait_until_well();
    hurt.judge();
}

/// Waits until the replicas of a partition move, or do not any more.
fn wait_for_moves(scene: &Scene, admin: &Admin, what: &str, wanted: impl Fn(&[v1::Move]) -> bool) {
    scene.wait_for(what, || {
        let moves = scene.runtime.block_on(admin.moves(Some("events")));
        moves.ok().filter(|moves| wanted(moves))
    });
}

#[test]
fn a_rebuilding_that_is_cancelled_while_its_broker_is_away_begins_again_in_the_same_run() {
    const SPARE: u32 = 4;
    // The first broker decides, so that two others can be away.
    let setup = setup()
        .set("cluster.moves_at_once", 1)
        .set("cluster.controller_voters", 1);
    let mut scene = Scene::around(Cluster::started(&setup, SPARE).unwrap());
    let places = scene.topic("events", 2);
    let admin = scene.admin();
    let move_to = |scene: &Scene, partition, brokers: &[u32]| {
        let moves = Moves::new().partition("events", partition, brokers);
        scene.wait_for("a move to begin", || {
            let moving = admin.move_replicas(moves.clone());
            match scene.runtime.block_on(moving) {
                Ok(_) => Some(()),
                // An earlier try of which nothing was heard.
                Err(error) if error.reason() == Reason::ReassignmentInProgress => Some(()),
                Err(error) if error.is_retriable() => None,
                Err(error) => panic!("{error}"),
            }
        });
    };
    for partition in 0..2 {
        move_to(&scene, partition, &[1, 2, 3]);
    }
    wait_for_moves(&scene, &admin, "the end of the moves", <[_]>::is_empty);
    for place in &places {
        scene.wait_for("the first broker to lead", || {
            let transfer = admin.transfer_leader("events", place.partition.0, Some(1));
            scene.runtime.block_on(transfer).ok()?;
            (scene.leader(*place) == 1).then_some(())
        });
    }
    let load = scene.load(places.clone());
    wait_for_acks_in(&load, &places, 200);
    let victim = 3;
    scene.cluster.change(victim, Broker::terminate).unwrap();
    let segments = files(
        scene.cluster.broker(victim).data_dir(),
        FileKind::Segment(places[0]),
    );
    fs::remove_file(&segments.unwrap()[0]).unwrap();
    // The leader makes one move at a time, and this one does not come to an end.
    scene.cluster.kill(SPARE).unwrap();
    move_to(&scene, 1, &[1, 2, SPARE]);
    let before = replicas(&scene, victim, places[0]);
    scene.cluster.start(victim).unwrap();
    wait_for_moves(&scene, &admin, "a rebuilding", |moves| {
        let is_rebuilding = |at: &v1::Move| at.partition == 0 && at.adding_broker_ids == [victim];
        moves.iter().any(is_rebuilding)
    });

    let cancel = |scene: &Scene, partition| {
        let cancelling = admin.cancel_moves(Some("events"), Some(partition));
        let cancelled = scene.runtime.block_on(cancelling);
        cancelled.map_err(|error| error.reason())
    };
    assert_eq!(cancel(&scene, 0), Err(Reason::PolicyViolation));
    scene.cluster.freeze(victim).unwrap();
    scene.wait_for("its absence to be known", || cancel(&scene, 0).ok());
    wait_for_moves(&scene, &admin, "the end of the rebuilding", |moves| {
        moves.iter().all(|at| at.partition != 0)
    });
    scene.cluster.thaw(victim).unwrap();
    scene.wait_for("the old replica", || {
        let log = scene.cluster.broker(victim).log();
        log.contains("replica is back in its place").then_some(())
    });
    cancel(&scene, 1).unwrap();
    scene.wait_for("another replica", || {
        let now = replicas(&scene, victim, places[0]);
        (!now.is_empty() && now.is_disjoint(&before)).then_some(())
    });
    let log = scene.cluster.broker(victim).log();
    assert_eq!(log.matches("--- start ").count(), 2, "{log}");
    wait_for_acks_in(&load, &places, 50);
    Scene::judge(load, &lingering());
}

#[test]
fn a_broker_that_is_set_back_to_an_old_copy_is_rebuilt() {
    let mut hurt = Hurt::new();
    let backup = tempfile::tempdir().unwrap();
    let copy = backup.path().join("copy");
    hurt.scene.cluster.kill(hurt.victim).unwrap();
    copy_folder(hurt.scene.cluster.broker(hurt.victim).data_dir(), &copy).unwrap();
    hurt.scene.cluster.start(hurt.victim).unwrap();
    wait_for_acks_in(&hurt.load, &hurt.places, 200);
    let before = hurt.damage(|data_dir, _| {
        fs::remove_dir_all(data_dir).unwrap();
        copy_folder(&copy, data_dir).unwrap();
    });
    hurt.wait_until_rebuilt(&before);
    hurt.judge();
}
