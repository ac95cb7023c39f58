//! The controller's own replicas whose files are damaged, gone or old: the others go on, and give the broker another one.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::path::Path;

use highwater_tests::data_files::{FileKind, copy_folder, files, flip_bit};
use highwater_tests::process::Broker;
use highwater_tests::workload::api::Api;

use crate::damage::{assert_equal_replicas, replicas};
use crate::scene::{BROKERS, Scene, calm, wait_for_acks_in};

/// What a broker says that somebody should know.
pub(crate) fn reasons(scene: &Scene, broker: u32) -> BTreeSet<String> {
    let _context = scene.runtime.enter();
    let api = Api::new(scene.cluster.broker(broker).address());
    let described = scene.wait_for("an answer", || {
        scene.runtime.block_on(api.describe_cluster()).ok()
    });
    let findings = described.findings.into_iter();
    findings.map(|finding| finding.reason).collect()
}

/// Has a broker create a topic, which takes a majority of the controllers.
fn create(scene: &Scene, broker: u32, topic: &str, replicas: u32) {
    let _context = scene.runtime.enter();
    let api = Api::new(scene.cluster.broker(broker).address());
    scene.wait_for("a topic", || {
        let creating = api.create_topic(topic, 1, replicas, &[]);
        match scene.runtime.block_on(creating) {
            Ok(_) => Some(()),
            // It was created by an earlier try whose answer was lost.
            Err(failure) if failure.reason == "TOPIC_ALREADY_EXISTS" => Some(()),
            Err(failure) => {
                assert!(failure.retriable, "{failure:?}");
                None
            }
        }
    });
}

/// What happens to a data directory.
type Damage = fn(&Path);

/// The directories of a broker's replicas of the controller.
fn controller_logs(data_dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(data_dir.join("controller"));
    let names = entries
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name());
    names
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

fn flip(data_dir: &Path) {
    flip_bit(&files(data_dir, FileKind::Controller).unwrap()[0], 0.5).unwrap();
}

fn truncate(data_dir: &Path) {
    let segments = files(data_dir, FileKind::Controller).unwrap();
    let file = OpenOptions::new().write(true).open(&segments[0]).unwrap();
    file.set_len(64).unwrap();
}

fn remove(data_dir: &Path) {
    fs::remove_dir_all(data_dir.join("controller")).unwrap();
}

#[test]
fn a_damaged_replica_of_the_controller_is_replaced_and_the_data_of_partitions_stays() {
    let mut scene = Scene::new();
    let places = scene.topic("events", 3);
    // Makes the controller's log so long that it has files.
    scene.topic("wide", 120);
    let load = scene.load(places.clone());
    wait_for_acks_in(&load, &places, 50);
    let damages: [(u32, Damage); 3] = [(1, flip), (2, truncate), (3, remove)];
    for (victim, damage) in damages {
        scene.cluster.change(victim, Broker::terminate).unwrap();
        wait_for_acks_in(&load, &places, 20);
        let data_dir = scene.cluster.broker(victim).data_dir().to_owned();
        let before = (
            controller_logs(&data_dir),
            replicas(&scene, victim, places[0]),
        );
        damage(&data_dir);
        scene.cluster.start(victim).unwrap();
        assert!(
            reasons(&scene, victim).contains("CONTROLLER_REPLICA_REPLACED"),
            "{:?}",
            reasons(&scene, victim)
        );
        assert_eq!(replicas(&scene, victim, places[0]), before.1);
        wait_for_acks_in(&load, &places, 20);
        scene.wait_for("only another log", || {
            let now = controller_logs(&data_dir);
            now.is_disjoint(&before.0).then_some(())
        });
    }
    // Each of the new ones votes: with any of the brokers down the others are a majority of the controller.
    for down in 1..=BROKERS {
        scene.cluster.kill(down).unwrap();
        create(
            &scene,
            down % BROKERS + 1,
            &format!("without-{down}"),
            BROKERS,
        );
        scene.cluster.start(down).unwrap();
        assert!(!reasons(&scene, down).contains("CONTROLLER_REPLICA_REPLACED"));
    }
    wait_for_acks_in(&load, &places, 20);
    Scene::judge(load, &calm());
    assert_equal_replicas(&scene, &places);
}

#[test]
fn a_broker_that_is_set_back_while_all_are_down_is_rebuilt() {
    let mut scene = Scene::new();
    let mut places = scene.topic("events", 3);
    let load = scene.load(places.clone());
    wait_for_acks_in(&load, &places, 50);
    let victim = scene.leader(places[0]);
    let backup = tempfile::tempdir().unwrap();
    let copy = backup.path().join("copy");
    scene.cluster.kill(victim).unwrap();
    let data_dir = scene.cluster.broker(victim).data_dir().to_owned();
    copy_folder(&data_dir, &copy).unwrap();
    scene.cluster.start(victim).unwrap();
    wait_for_acks_in(&load, &places, 200);
    // Its replica on the victim is not in the copy at all.
    let later = scene.topic("later", 1);
    let more = scene.load(later.clone());
    wait_for_acks_in(&more, &later, 50);
    let before: BTreeSet<_> = places
        .iter()
        .chain(&later)
        .flat_map(|place| replicas(&scene, victim, *place))
        .collect();

    for broker in scene.cluster.numbers() {
        scene.cluster.kill(broker).unwrap();
    }
    fs::remove_dir_all(&data_dir).unwrap();
    copy_folder(&copy, &data_dir).unwrap();
    for broker in scene.cluster.numbers() {
        scene.cluster.spawn(broker).unwrap();
    }
    scene.cluster.wait_ready().unwrap();
    assert!(reasons(&scene, victim).contains("DIRECTORY_SET_BACK"));
    for place in places.iter().chain(&later) {
        scene.wait_for("another replica in place of each", || {
            let now = replicas(&scene, victim, *place);
            (now.len() == 1 && now.is_disjoint(&before)).then_some(())
        });
    }
    wait_for_acks_in(&load, &places, 50);
    wait_for_acks_in(&more, &later, 50);
    // What was rebuilt counts: another broker can go.
    let other = victim % BROKERS + 1;
    scene.cluster.kill(other).unwrap();
    wait_for_acks_in(&load, &places, 50);
    scene.cluster.start(other).unwrap();
    assert!(!reasons(&scene, other).contains("DIRECTORY_SET_BACK"));
    Scene::judge(load, &calm());
    Scene::judge(more, &calm());
    places.extend(later);
    assert_equal_replicas(&scene, &places);
}

/// Runs `highwater-broker recover` on a stopped broker's data directory. What it printed.
fn recover(scene: &Scene, broker: u32, arguments: &[&str]) -> Result<String, String> {
    let broker = scene.cluster.broker(broker);
    let data_dir = broker.data_dir().to_str().unwrap();
    let finished = broker
        .run(&[&["recover", "--data-dir", data_dir], arguments].concat())
        .unwrap();
    match finished.status.success() {
        true => Ok(finished.stdout),
        false => Err(format!("{}{}", finished.stdout, finished.stderr)),
    }
}

#[test]
fn a_controller_whose_majority_is_gone_for_good_begins_again_with_the_broker_that_is_left() {
    let mut scene = Scene::new();
    let places = scene.topic("events", 3);
    let load = scene.load(places.clone());
    wait_for_acks_in(&load, &places, 50);
    for broker in [2, 3] {
        scene.cluster.kill(broker).unwrap();
    }
    scene.cluster.kill(1).unwrap();
    let shown = recover(&scene, 1, &[]).unwrap_err();
    assert!(shown.contains("controllers: brokers 1, 2, 3"), "{shown}");
    assert!(shown.contains("nothing was changed"), "{shown}");
    let nobody = recover(&scene, 1, &["--accept-loss"]).unwrap_err();
    assert!(nobody.contains("nobody to ask"), "{nobody}");
    let done = recover(&scene, 1, &["--accept-loss", "--yes"]).unwrap();
    let cluster = done.split("goes on as ").nth(1).unwrap();
    let cluster = cluster.split('.').next().unwrap().to_owned();

    scene.cluster.start(1).unwrap();
    assert!(scene.cluster.broker(1).log().contains("begins again"));
    create(&scene, 1, "later", 1);
    // The topic had three replicas in each partition, of which one is left.
    let admin = scene.admin();
    let lost = scene.wait_for("partitions without a leader", || {
        let lost = scene.runtime.block_on(admin.lost_partitions(&[])).ok()?;
        (lost.len() == places.len()).then_some(lost)
    });
    for partition in &lost {
        assert!(!partition.lost.contains(&1) && partition.lost.len() == 2);
        let recovering = admin.recover_partition(partition);
        scene.runtime.block_on(recovering).unwrap();
    }
    wait_for_acks_in(&load, &places, 50);

    // One of the old cluster reaches nobody, though it comes back with a vote of the old majority.
    scene.cluster.spawn(2).unwrap();
    scene.wait_for("a broker that is refused", || {
        let log = scene.cluster.broker(2).log();
        log.contains(&format!("belongs to cluster {cluster}"))
            .then_some(())
    });
    wait_for_acks_in(&load, &places, 50);
    scene.cluster.kill(2).unwrap();
    recover(&scene, 2, &["--follow", &cluster, "--yes"]).unwrap();
    scene.cluster.start(2).unwrap();
    create(&scene, 2, "together", 2);
    // It began again once: later starts only go on.
    scene.cluster.kill(1).unwrap();
    scene.cluster.start(1).unwrap();
    wait_for_acks_in(&load, &places, 50);
    Scene::judge(load, &calm());
}
