//! A broker that was away for so long that the others do not keep what it needs to go on from where it was.

use highwater_client::Client;
use highwater_proto::Offset;
use highwater_proto::v1;
use highwater_proto::v1::groups_service_client::GroupsServiceClient;
use highwater_tests::checker::Circumstances;
use highwater_tests::stamp::Place;
use highwater_tests::workload::router::Router;

use crate::scene::{BROKERS, Scene, wait_for_acks_in};

fn earliest(scene: &Scene, router: &mut Router, place: Place) -> Option<Offset> {
    scene.runtime.block_on(router.earliest(place)).ok()
}

fn latest(scene: &Scene, router: &mut Router, place: Place) -> Option<Offset> {
    let asked = async {
        let leader = router.leader(place).await;
        leader.latest(place).await
    };
    let latest = scene.runtime.block_on(asked);
    if latest.is_err() {
        router.failed(place);
    }
    latest.ok()
}

/// Waits until nothing is left of what the partitions hold now.
fn wait_until_all_has_expired(scene: &Scene, places: &[Place]) {
    let mut router = scene.router();
    for place in places {
        let end = scene.wait_for("a high watermark", || latest(scene, &mut router, *place));
        scene.wait_for("retention", || {
            earliest(scene, &mut router, *place).filter(|start| *start > end)
        });
    }
}

#[test]
fn a_broker_that_missed_more_than_the_others_keep_catches_up_and_counts() {
    let mut scene = Scene::new();
    let places = scene.topic_with("events", 2, &[("retention.bytes", "131072")]);
    let load = scene.load(places.clone());
    // Each is away once, and is needed when another one is gone after that.
    for away in scene.cluster.numbers() {
        wait_for_acks_in(&load, &places, 20);
        scene.cluster.kill(away).unwrap();
        wait_until_all_has_expired(&scene, &places);
        scene.cluster.start(away).unwrap();
        let other = away % BROKERS + 1;
        scene.cluster.kill(other).unwrap();
        wait_for_acks_in(&load, &places, 20);
        scene.cluster.start(other).unwrap();
    }
    wait_for_acks_in(&load, &places, 20);
    let circumstances = Circumstances {
        expiring: places.into_iter().collect(),
        ..Circumstances::default()
    };
    Scene::judge(load, &circumstances);
}

const GROUP: &str = "billing";
/// Metadata of one commit: large, so that few of them are more than a leader's log keeps for those that are behind.
const METADATA_BYTES: usize = 4_000;
/// So many that their entries are several times as long as that.
const COMMITS: u64 = 1_200;

/// Commits offset 0 so many times, the last time with `word` beside it.
async fn commit(address: &str, commits: u64, word: &str) {
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}"));
    let mut groups = GroupsServiceClient::new(channel.unwrap().connect_lazy());
    for number in 1..=commits {
        let metadata = if number == commits {
            word.to_owned()
        } else {
            "x".repeat(METADATA_BYTES)
        };
        let request = v1::CommitOffsetsRequest {
            group_id: GROUP.to_owned(),
            offsets: vec![v1::OffsetToCommit {
                partition: Some(v1::TopicPartition {
                    topic: "orders".to_owned(),
                    ..Default::default()
                }),
                metadata,
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = groups.commit_offsets(request).await.unwrap().into_inner();
        assert_eq!(answer.results[0].error, None);
    }
}

#[test]
fn a_coordinator_that_missed_more_than_the_log_keeps_takes_a_snapshot_and_counts() {
    let mut scene = Scene::new();
    scene.topic("orders", 1);
    let addresses = scene.cluster.addresses();
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let connecting = addresses.join(",");
    let client = scene
        .runtime
        .block_on(Client::connect(&connecting))
        .unwrap();
    let admin = client.admin();
    let first = [("orders".to_owned(), 0, Offset(0))];
    let begun = admin.set_group_offsets(GROUP, &first);
    scene.runtime.block_on(begun).unwrap();
    let coordinator = |scene: &Scene| {
        scene.wait_for("a coordinator", || {
            let described = scene.runtime.block_on(admin.describe_group(GROUP));
            Some(described.ok()?.coordinator_broker_id)
        })
    };
    let leads = coordinator(&scene);
    let away = leads % BROKERS + 1;
    let other = away % BROKERS + 1;
    scene.cluster.kill(away).unwrap();
    let at = &addresses[leads as usize - 1];
    scene.runtime.block_on(commit(at, COMMITS, "away"));
    scene.cluster.start(away).unwrap();
    scene.wait_for("a snapshot", || {
        let log = scene.cluster.broker(away).log();
        log.contains("began anew after a snapshot").then_some(())
    });
    // Nothing is committed now without the one that was away.
    scene.cluster.kill(other).unwrap();
    let at = &addresses[coordinator(&scene) as usize - 1];
    scene.runtime.block_on(commit(at, 1, "back"));
    scene.cluster.start(other).unwrap();
    // And with what it has it can go on when the first is gone.
    scene.cluster.kill(leads).unwrap();
    coordinator(&scene);
    let offsets = scene.runtime.block_on(admin.group_offsets(GROUP)).unwrap();
    assert_eq!(offsets[0].metadata, "back");
}
