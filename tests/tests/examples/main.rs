//! The examples in other languages, as their READMEs say to run them, against three brokers of which one is killed.
//!
//! A language that is not there, or whose packages are not (`examples/setup` gets them), is skipped, and the test says why.
//! Nothing is downloaded here.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod language;
mod scene;

use language::{GO, Language, PYTHON, Program};
use scene::Scene;

const TOPIC: &str = "orders";
const GROUP: &str = "billing";

/// What both have, or nothing where one of them cannot run.
fn programs(languages: [Language; 2]) -> Option<[&'static Program; 2]> {
    let [one, other] = languages;
    Some([one.program()?, other.program()?])
}

/// Produces and consumes with one program each, then shares a group between them while a broker is killed.
fn goes_round([one, other]: [&'static Program; 2]) {
    let mut scene = Scene::new(TOPIC);
    let mut lines = scene::lines(0..2_000);
    assert_eq!(scene.produce(one, TOPIC, &lines), "2000 records produced\n");
    let consumed = scene.consume(other, TOPIC);
    scene::assert_in_order(&lines, &consumed);
    assert_eq!(consumed, scene.consume_with_the_client_crate(TOPIC));
    let refusal = scene.refusal(one, "nonesuch");
    assert!(
        refusal.starts_with("UNKNOWN_TOPIC_OR_PARTITION: "),
        "{refusal}"
    );

    let mut first = scene.join(one, TOPIC, GROUP);
    first.wait_until_it_says("owns [0 1 2 3]");
    first.wait_for_records(2_000);
    let mut second = scene.join(other, TOPIC, GROUP);
    second.wait_until_it_owns(2);
    first.wait_until_it_owns(2);

    // The one that leads the first partition is gone when more comes: producer and members must find the new leaders.
    scene.kill_leader(TOPIC, 0);
    let more = scene::lines(2_000..4_000);
    assert_eq!(
        scene.produce(other, TOPIC, &more),
        "2000 records produced\n"
    );
    lines.extend(more);
    scene::wait_for_all(&[&first, &second], 4_000);

    first.stop();
    second.wait_until_it_says("owns [0 1 2 3]");
    let last = scene::lines(4_000..4_500);
    assert_eq!(scene.produce(one, TOPIC, &last), "500 records produced\n");
    lines.extend(last);
    scene::wait_for_all(&[&first, &second], 4_500);
    second.stop();

    scene::assert_in_order(&lines, &scene.consume(one, TOPIC));
    scene.assert_all_committed(TOPIC, GROUP);
}

#[test]
fn the_python_example_goes_round() {
    if let Some(programs) = programs([PYTHON, PYTHON]) {
        goes_round(programs);
    }
}

#[test]
fn the_go_example_goes_round() {
    if let Some(programs) = programs([GO, GO]) {
        goes_round(programs);
    }
}

#[test]
fn examples_in_two_languages_share_topic_and_group() {
    if let Some(programs) = programs([PYTHON, GO]) {
        goes_round(programs);
    }
}
