//! `kill -9`, again and again.

use std::time::Duration;

use highwater_proto::Offset;
use highwater_tests::checker::FinalLog;
use highwater_tests::stamp::Place;
use highwater_tests::workload::Load;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::scene::{Scene, rounds, setup};

/// A topic whose segments are small, so that they roll all the time.
const SMALL_SEGMENTS: (&str, &str) = ("segment.bytes", "65536");

struct Topics {
    kept: Vec<Place>,
    expiring: Vec<Place>,
    trimmed: Vec<Place>,
}

impl Topics {
    fn new(scene: &Scene) -> Self {
        let little = ("retention.bytes", "131072");
        Self {
            kept: scene.topic("kept", 3, &[SMALL_SEGMENTS]),
            expiring: scene.topic("expiring", 2, &[SMALL_SEGMENTS, little]),
            trimmed: scene.topic("trimmed", 1, &[SMALL_SEGMENTS]),
        }
    }

    fn all(&self) -> Vec<Place> {
        [&self.kept[..], &self.expiring, &self.trimmed].concat()
    }
}

/// Trims half of what a partition holds. The broker is well.
fn trim(scene: &Scene, load: &Load, place: Place) {
    let earliest = scene.call(|| scene.api.earliest(place)).unwrap();
    let latest = scene.call(|| scene.api.latest(place)).unwrap();
    let before = Offset(earliest.0 + (latest.0 - earliest.0) / 2);
    let id = load
        .history()
        .note(|ledger| ledger.begin_trim(place, before));
    let log_start = scene.call(|| scene.api.trim(place, before)).unwrap();
    load.history().note(|ledger| ledger.end_trim(id, log_start));
}

fn log_start_of(finals: &[FinalLog], place: Place) -> Offset {
    let log = finals.iter().find(|log| log.place == place);
    log.expect("every partition was read").log_start
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled_by_kills() {
    let mut scene = Scene::new(setup().tiny());
    let topics = Topics::new(&scene);
    let load = scene.load(topics.all()).everything();
    let mut random = StdRng::seed_from_u64(1);
    for _ in 0..rounds() {
        load.wait_for_acks(random.random_range(200..1_500)).unwrap();
        trim(&scene, &load, topics.trimmed[0]);
        load.wait_for_acks(random.random_range(1..200)).unwrap();
        scene.broker.kill().unwrap();
        scene.broker.start().unwrap();
    }
    load.wait_for_acks(200).unwrap();
    let (summary, finals) = Scene::judge(load, &topics.expiring);
    assert!(summary.acked > u64::from(rounds()) * 200, "{summary}");
    assert!(summary.unknown > 0, "no kill hit a request: {summary}");
    assert!(
        summary.records_read > summary.acked,
        "readers kept up: {summary}"
    );
    assert!(log_start_of(&finals, topics.trimmed[0]) > Offset(0));
    for place in &topics.expiring {
        assert!(log_start_of(&finals, *place) > Offset(0), "nothing expired");
    }
    for place in &topics.kept {
        assert_eq!(log_start_of(&finals, *place), Offset(0));
    }
}

#[test]
fn kills_during_recovery_lose_nothing() {
    let mut scene = Scene::new(setup().tiny());
    let topics = Topics::new(&scene);
    let load = scene.load(topics.all()).everything();
    let mut random = StdRng::seed_from_u64(2);
    for _ in 0..rounds() {
        load.wait_for_acks(random.random_range(50..500)).unwrap();
        scene.broker.kill().unwrap();
        // Longer and longer, so that every step of a start is hit however fast the machine is.
        let mut patience = Duration::from_millis(1);
        loop {
            scene.broker.spawn().unwrap();
            if scene.broker.is_ready_within(patience).unwrap() {
                break;
            }
            scene.broker.kill().unwrap();
            patience = patience.mul_f64(random.random_range(1.2..1.8));
        }
    }
    load.wait_for_acks(200).unwrap();
    let (summary, _) = Scene::judge(load, &topics.expiring);
    assert!(summary.unknown > 0, "no kill hit a request: {summary}");
}
