//! Topics that are made and deleted while brokers are killed.

use std::collections::BTreeSet;

use highwater_proto::Reason;
use highwater_tests::workload::api::{Api, Failure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::scene::{BROKERS, Scene, rounds};

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

/// Waits until a broker sees these topics and no others.
fn wait_until_seen(scene: &Scene, number: u32, expected: &BTreeSet<String>) {
    let _context = scene.runtime.enter();
    let api = Api::new(scene.cluster.broker(number).address());
    scene.wait_for("the right topics", || {
        let metadata = scene.runtime.block_on(api.metadata()).ok()?;
        let topics = metadata.topics.into_iter();
        let seen: BTreeSet<_> = topics.map(|topic| topic.name).collect();
        (seen == *expected).then_some(())
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
