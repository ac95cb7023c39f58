//! Topics that are made and deleted while brokers are killed.

use std::collections::BTreeSet;

use highwater_proto::Reason;
use highwater_proto::v1::ClusterMetadata;
use highwater_tests::cluster::Cluster;
use highwater_tests::workload::api::{Api, Failure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::scene::{BROKERS, Scene, rounds, setup};

/// Topics that are made in each round; every other one is deleted again.
const TOPICS_PER_ROUND: u32 = 6;

/// Does a change again until it is known to have been done, by this try or an earlier one of which nothing was heard.
fn surely<T>(
    scene: &Scene,
    what: &str,
    done_before: Reason,
    mut change: impl AsyncFnMut(Api) -> Result<T, Failure>,
) {
    let mut router = scene.router();
    scene.wait_for(what, || {
        match scene.runtime.block_on(change(router.any())) {
            Ok(_) => Some(()),
            Err(failure) if failure.retriable => None,
            Err(failure) if failure.is(done_before) => Some(()),
            Err(failure) => panic!("{what}: {failure:?}"),
        }
    });
}

/// Makes a topic with a replica on each broker.
fn create(scene: &Scene, name: &str) {
    let create = async |api: Api| api.create_topic(name, 2, BROKERS, &[]).await;
    surely(scene, "a topic", Reason::TopicAlreadyExists, create);
}

fn delete(scene: &Scene, name: &str) {
    let delete = async |api: Api| api.delete_topic(name).await;
    surely(scene, "a deletion", Reason::UnknownTopicOrPartition, delete);
}

fn names(metadata: ClusterMetadata) -> BTreeSet<String> {
    let topics = metadata.topics.into_iter();
    topics.map(|topic| topic.name).collect()
}

/// Waits until a broker sees these topics and no others.
fn wait_until_seen(scene: &Scene, number: u32, expected: &BTreeSet<String>) {
    let _context = scene.runtime.enter();
    let api = Api::new(scene.cluster.broker(number).address());
    scene.wait_for("the right topics", || {
        let metadata = scene.runtime.block_on(api.metadata()).ok()?;
        (names(metadata) == *expected).then_some(())
    });
}

#[test]
fn what_was_done_to_topics_stays_done_whichever_broker_is_killed() {
    let mut scene = Scene::new();
    let mut random = StdRng::seed_from_u64(9);
    let mut expected = BTreeSet::new();
    for round in 0..rounds().div_ceil(2) {
        let victim = random.random_range(1..=BROKERS);
        scene.cluster.kill(victim).unwrap();
        for topic in 0..TOPICS_PER_ROUND {
            let name = format!("topic-{round}-{topic}");
            create(&scene, &name);
            if topic % 2 == 0 {
                delete(&scene, &name);
            } else {
                expected.insert(name);
            }
        }
        scene.cluster.start(victim).unwrap();
        for number in scene.cluster.numbers() {
            wait_until_seen(&scene, number, &expected);
        }
    }
}

/// Makes a topic, asking this broker.
fn create_at(scene: &Scene, api: &Api, name: &str) {
    scene.wait_for("a topic", || {
        match scene.runtime.block_on(api.create_topic(name, 1, 1, &[])) {
            Ok(_) => Some(()),
            Err(failure) if failure.is(Reason::TopicAlreadyExists) => Some(()),
            Err(failure) if failure.retriable => None,
            Err(failure) => panic!("{failure:?}"),
        }
    });
}

#[test]
fn what_one_broker_acknowledged_another_lists_that_had_not_heard_of_it() {
    let scene = Scene::new();
    let _context = scene.runtime.enter();
    let api = |number| Api::new(scene.cluster.broker(number).address());
    let mut before = BTreeSet::new();
    for (round, lagging) in (0..rounds()).zip((1..=BROKERS).cycle()) {
        wait_until_seen(&scene, lagging, &before);
        scene.cluster.network().isolate(lagging);
        let name = format!("topic-{round}");
        create_at(&scene, &api(lagging % BROKERS + 1), &name);
        let mut after = before.clone();
        after.insert(name);
        let lagging = api(lagging);
        let asked = lagging.clone();
        let asking = async move { asked.linearizable_metadata().await };
        let listing = scene.runtime.spawn(asking);
        for _ in 0..10 {
            let known = scene.runtime.block_on(lagging.metadata()).unwrap();
            assert_eq!(names(known), before);
        }
        assert!(
            !listing.is_finished(),
            "what is listed cannot be the newest"
        );
        scene.cluster.network().heal();
        let mut listed = scene.runtime.block_on(listing).unwrap().ok();
        let listed = scene.wait_for("a list of topics", || {
            let again = || scene.runtime.block_on(lagging.linearizable_metadata()).ok();
            listed.take().or_else(again)
        });
        assert_eq!(names(listed), after);
        before = after;
    }
}

#[test]
fn a_controller_that_is_cut_off_says_so_instead_of_telling_what_was_true() {
    // How long the controller is looked for, and what must be less than that.
    let setup = setup()
        .set("requests.timeout_ms", 2_000)
        .set("produce.max_timeout_ms", 2_000)
        .set("produce.default_timeout_ms", 2_000)
        .set("admin.leader_wait_ms", 2_000)
        .set("fetch.max_wait_ms", 1_000)
        .set("fetch.leader_wait_ms", 1_000);
    let scene = Scene::around(Cluster::started(&setup, BROKERS).unwrap());
    create(&scene, "before");
    let mut router = scene.router();
    let controller = scene.wait_for("a controller", || {
        let metadata = scene.runtime.block_on(router.any().metadata()).ok()?;
        metadata.controller_broker_id
    });
    scene.cluster.network().isolate(controller);
    create(&scene, "after");
    let _context = scene.runtime.enter();
    let api = Api::new(scene.cluster.broker(controller).address());
    let refused = scene.runtime.block_on(api.linearizable_metadata());
    let refused = refused.unwrap_err();
    assert!(refused.is(Reason::NotController), "{refused:?}");
    assert!(refused.retriable && refused.definite, "{refused:?}");
    // Those who look for their way are answered all the same.
    let known = scene.runtime.block_on(api.metadata()).unwrap();
    assert_eq!(names(known), ["before".to_owned()].into());
    scene.cluster.network().heal();
    let listed = scene.wait_for("the broker to be back", || {
        scene.runtime.block_on(api.linearizable_metadata()).ok()
    });
    let both = ["before".to_owned(), "after".to_owned()];
    assert_eq!(names(listed), both.into());
}
