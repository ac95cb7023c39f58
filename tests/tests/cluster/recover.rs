//! Partitions whose majority of replicas is gone for good: what is left of them begins again, and what comes back too late
//! takes no part.

use std::fs::OpenOptions;

use highwater_client::{Admin, Client, LostPartition, Offset, Producer, Reason, Record, Start};
use highwater_proto::v1;
use highwater_tests::cluster::Cluster;
use highwater_tests::data_files::{FileKind, files};
use highwater_tests::stamp::Place;
use highwater_tests::workload::api::Api;
use highwater_tests::workload::places;

use crate::damage::held;
use crate::scene::{Scene, calm, setup, wait_for_acks_in};

/// Replicas of each partition: one of them is no majority, and two of three brokers are one of the controller.
const REPLICAS: u32 = 2;

fn client(scene: &Scene) -> Client {
    let addresses: Vec<_> = scene.cluster.addresses();
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let addresses = addresses.join(",");
    let connecting = Client::connect(&addresses);
    scene.runtime.block_on(connecting).unwrap()
}

/// The findings of all brokers that answer with this reason.
fn findings(scene: &Scene, reason: &str) -> Vec<v1::HealthFinding> {
    let _context = scene.runtime.enter();
    let brokers = scene.cluster.numbers();
    let described = brokers.filter_map(|broker| {
        let api = Api::new(scene.cluster.broker(broker).address());
        scene.runtime.block_on(api.describe_cluster()).ok()
    });
    let all = described.flat_map(|described| described.findings);
    all.filter(|finding| finding.reason == reason).collect()
}

fn lost(scene: &Scene, admin: &Admin) -> Vec<LostPartition> {
    scene.wait_for("an answer of all that are up", || {
        scene.runtime.block_on(admin.lost_partitions(&[])).ok()
    })
}

/// A topic of two replicas, and its partitions.
fn topic(scene: &Scene) -> Vec<Place> {
    let mut router = scene.router();
    let configs = [("segment.bytes", "65536")];
    let created = scene.wait_for("a topic", || {
        let creating = router.any();
        let creating = creating.create_topic("events", 3, REPLICAS, &configs);
        scene.runtime.block_on(creating).ok()
    });
    let places = places(created, 3);
    for place in &places {
        scene.leader(*place);
    }
    places
}

#[test]
fn partitions_begin_again_without_a_broker_that_is_gone_and_that_comes_back_too_late() {
    let mut scene = Scene::new();
    let places = topic(&scene);
    let admin = scene.admin();
    let load = scene.load(places.clone());
    wait_for_acks_in(&load, &places, 100);
    assert_eq!(lost(&scene, &admin), [], "everything is led");

    scene.cluster.kill(3).unwrap();
    let doomed = scene.wait_for("partitions without a leader", || {
        let doomed = lost(&scene, &admin);
        (doomed.len() == 2).then_some(doomed)
    });
    for partition in &doomed {
        assert_eq!(partition.lost, [3]);
        let survivor = partition.survivor.as_ref().unwrap();
        assert!(survivor.high_watermark <= survivor.log_end_offset);
        assert!(survivor.high_watermark > 0);
    }
    for partition in &doomed {
        let recovering = admin.recover_partition(partition);
        scene.runtime.block_on(recovering).unwrap();
        let again = scene.runtime.block_on(admin.recover_partition(partition));
        assert!(again.is_err(), "it was looked at before it began again");
    }
    wait_for_acks_in(&load, &places, 50);
    let told = scene.wait_for("findings", || {
        let told = findings(&scene, "PARTITION_RECOVERED");
        (told.len() == doomed.len()).then_some(told)
    });
    for partition in &doomed {
        let end = partition.survivor.as_ref().unwrap().log_end_offset;
        let says = format!("from offset {end} on");
        assert!(
            told.iter().any(|finding| finding.message.contains(&says)),
            "{told:?}"
        );
    }

    // Its replicas are of groups that are no more: they are kept, shown, and elect nobody.
    scene.cluster.start(3).unwrap();
    scene.wait_for("replicas that nothing places there", || {
        (!findings(&scene, "UNKNOWN_REPLICA").is_empty()).then_some(())
    });
    wait_for_acks_in(&load, &places, 50);

    let growing = admin.set_replication_factor("events", REPLICAS);
    scene.runtime.block_on(growing).unwrap();
    scene.wait_for("all replicas again", || {
        findings(&scene, "PARTITION_RECOVERED")
            .is_empty()
            .then_some(())
    });
    wait_for_acks_in(&load, &places, 50);
    Scene::judge(load, &calm());
}

#[test]
fn a_partition_that_begins_again_survives_a_crash_at_any_moment() {
    let mut scene = Scene::new();
    let places = topic(&scene);
    let admin = scene.admin();
    let load = scene.load(places.clone());
    wait_for_acks_in(&load, &places, 100);
    scene.cluster.kill(3).unwrap();
    let doomed = scene.wait_for("partitions without a leader", || {
        let doomed = lost(&scene, &admin);
        (doomed.len() == 2).then_some(doomed)
    });
    for partition in &doomed {
        let recovering = admin.recover_partition(partition);
        scene.runtime.block_on(recovering).unwrap();
        let survivor = partition.survivor.as_ref().unwrap().broker;
        // Whether the new members are in a checkpoint by now is up to chance.
        scene.cluster.kill(survivor).unwrap();
        scene.cluster.start(survivor).unwrap();
    }
    wait_for_acks_in(&load, &places, 50);
    for broker in 1..3 {
        scene.cluster.kill(broker).unwrap();
        scene.cluster.start(broker).unwrap();
        wait_for_acks_in(&load, &places, 50);
    }
    scene.cluster.start(3).unwrap();
    wait_for_acks_in(&load, &places, 50);
    Scene::judge(load, &calm());
}

#[test]
fn one_of_two_replicas_that_is_damaged_is_given_up_by_the_command_that_health_names() {
    let mut scene = Scene::new();
    let places = topic(&scene);
    let admin = scene.admin();
    let load = scene.load(places.clone());
    wait_for_acks_in(&load, &places, 100);
    scene.cluster.terminate(3).unwrap();
    let mut damaged = 0;
    for place in &places {
        let data_dir = scene.cluster.broker(3).data_dir();
        let segments = files(data_dir, FileKind::Segment(*place)).unwrap();
        if let Some(first) = segments.first() {
            let file = OpenOptions::new().write(true).open(first).unwrap();
            file.set_len(4096).unwrap();
            damaged += 1;
        }
    }
    assert_eq!(damaged, 2);
    scene.cluster.start(3).unwrap();
    let told = scene.wait_for("findings", || {
        let told = findings(&scene, "LOG_DAMAGED");
        (told.len() == damaged).then_some(told)
    });
    for finding in &told {
        assert_eq!(finding.state(), v1::HealthState::Critical);
        let names = [
            "`highwater cluster recover events`",
            "`highwater topic alter events -r 2`",
        ];
        assert!(
            names.iter().all(|name| finding.message.contains(name)),
            "{finding:?}"
        );
    }
    // On a busy machine another broker may not be heard for a moment, and counts as lost until it is.
    let doomed = scene.wait_for("partitions that have lost broker 3 alone", || {
        let doomed = lost(&scene, &admin);
        let is_so = doomed.len() == damaged && doomed.iter().all(|at| at.lost == [3]);
        is_so.then_some(doomed)
    });
    for partition in &doomed {
        let recovering = admin.recover_partition(partition);
        scene.runtime.block_on(recovering).unwrap();
    }
    wait_for_acks_in(&load, &places, 50);
    scene.wait_for("replicas that can be made anew", || {
        let growing = admin.set_replication_factor("events", REPLICAS);
        scene.runtime.block_on(growing).ok()
    });
    scene.wait_for("all replicas again", || {
        let told = ["PARTITION_RECOVERED", "LOG_DAMAGED"];
        let is_well = told
            .iter()
            .all(|reason| findings(&scene, reason).is_empty());
        is_well.then_some(())
    });
    wait_for_acks_in(&load, &places, 50);
    Scene::judge(load, &calm());
}

/// Sends records and waits until all are acknowledged. The offsets that they have.
fn send(scene: &Scene, producer: &Producer, values: &[String]) -> Vec<u64> {
    scene.runtime.block_on(async {
        let mut deliveries = Vec::new();
        for value in values {
            let record = Record::to("events").value(value);
            deliveries.push(producer.send(record).await.unwrap());
        }
        let mut offsets = Vec::new();
        for delivery in deliveries {
            offsets.push(delivery.await.unwrap().offset);
        }
        offsets
    })
}

/// The first `count` values of the partition.
fn values(scene: &Scene, client: &Client, count: usize) -> Vec<String> {
    scene.runtime.block_on(async {
        let consumer = client.consumer();
        let consumer = consumer.assign("events", 0, Start::Earliest).build();
        let mut consumer = consumer.await.unwrap();
        let mut values = Vec::new();
        while values.len() < count {
            let record = consumer.recv().await.unwrap();
            values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
        }
        values
    })
}

fn named(what: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("{what} {number}"))
        .collect()
}

#[test]
fn what_only_the_lost_majority_held_is_named_given_up_and_never_comes_back() {
    // With five controllers any two may be gone, though they are the majority of a partition.
    let setup = setup().set("cluster.controller_voters", 5);
    let mut scene = Scene::around(Cluster::started(&setup, 5).unwrap());
    let place = scene.topic("events", 1)[0];
    let (client, leader) = (client(&scene), scene.leader(place));
    let admin = client.admin();
    let described = scene.runtime.block_on(admin.describe_topic("events"));
    let holders = described.unwrap().partitions[0].replica_broker_ids.clone();
    let survivor = *holders.iter().find(|broker| **broker != leader).unwrap();
    let mut doomed = holders;
    doomed.retain(|broker| *broker != survivor);
    doomed.sort_unstable();

    let producer = {
        let _context = scene.runtime.enter();
        client.producer().build().unwrap()
    };
    let before = named("before", 30);
    send(&scene, &producer, &before);
    scene.wait_for("everything on the survivor", || {
        held(&scene, survivor, place, Offset(30))
    });
    scene.cluster.kill(survivor).unwrap();
    assert_eq!(send(&scene, &producer, &named("lost", 20))[19], 49);
    for broker in &doomed {
        scene.cluster.kill(*broker).unwrap();
    }
    scene.cluster.start(survivor).unwrap();

    let lost = scene.wait_for("a partition without a leader", || {
        // Who is asked first may not know yet that the survivor is back.
        let lost = lost(&scene, &admin).pop()?;
        lost.survivor.is_some().then_some(lost)
    });
    assert_eq!(lost.lost, doomed);
    let left = lost.survivor.as_ref().unwrap();
    assert_eq!((left.broker, left.log_end_offset), (survivor, 30));
    let recovering = admin.recover_partition(&lost);
    scene.runtime.block_on(recovering).unwrap();
    let log = scene.cluster.broker(survivor).log();
    assert!(log.contains("log_end_offset=30"), "{log}");

    // The producer hears of the loss once: what it sends comes after records that are not there. Then it goes on, and gets the
    // offsets again that the lost records had.
    let told = scene.runtime.block_on(async {
        let record = Record::to("events").value("not stored");
        producer.send(record).await.unwrap().await.unwrap_err()
    });
    assert_eq!(told.reason(), Reason::OutOfOrderSequenceNumber);
    assert!(told.is_definite(), "{told}");
    let after = named("after", 10);
    assert_eq!(send(&scene, &producer, &after)[0], 30);
    for broker in &doomed {
        scene.cluster.start(*broker).unwrap();
    }
    scene.wait_for("replicas that nothing places there", || {
        (findings(&scene, "UNKNOWN_REPLICA").len() == doomed.len()).then_some(())
    });
    let growing = admin.set_replication_factor("events", 3);
    scene.runtime.block_on(growing).unwrap();
    scene.wait_for("all replicas again", || {
        let told = findings(&scene, "PARTITION_RECOVERED");
        told.is_empty().then_some(())
    });
    let more = named("more", 10);
    assert_eq!(send(&scene, &producer, &more)[9], 49);
    let expected = [before, after, more].concat();
    assert_eq!(values(&scene, &client, expected.len()), expected);
}
