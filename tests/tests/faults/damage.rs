//! Files whose bytes changed while the broker was stopped.
//!
//! Whatever changed: what the broker serves is right, what it cannot serve it says, and other partitions go on.

use std::collections::BTreeMap;
use std::path::Path;

use highwater_proto::{Offset, v1};
use highwater_tests::checker::FinalLog;
use highwater_tests::data_files::{FileKind, copy_folder, files, flip_bit};
use highwater_tests::history::{ReadOutcome, ReadRecord};
use highwater_tests::process::{Broker, Setup};
use highwater_tests::stamp::Place;
use highwater_tests::workload::api::named;
use highwater_tests::workload::read_once;

use crate::scene::{Scene, setup};

/// A stopped broker's files and what they held.
struct Original {
    broker: Broker,
    victim: FinalLog,
    bystander: FinalLog,
}

/// How a broker is stopped before its files are damaged.
#[derive(Clone, Copy)]
enum End {
    Terminate,
    Kill,
    /// Killed before any checkpoint: everything stands in the journal.
    KillEarly,
}

fn small(setup: Setup) -> Setup {
    setup.tiny().set("upkeep.retention_check_ms", 60_000)
}

impl Original {
    fn new(end: End) -> Self {
        let setup = match end {
            End::KillEarly => small(setup()).set("storage.checkpoint_interval_bytes", 1 << 30),
            _ => small(setup()),
        };
        let mut scene = Scene::new(setup);
        let configs = [("segment.bytes", "65536")];
        let victim = scene.topic("victim", 1, &configs);
        let bystander = scene.topic("bystander", 1, &configs);
        let load = scene.load([victim, bystander].concat()).everything();
        load.wait_for_acks(4_000).unwrap();
        let (_, finals) = Scene::judge(load, &[]);
        match end {
            End::Terminate => scene.broker.terminate().unwrap(),
            End::Kill | End::KillEarly => scene.broker.kill().unwrap(),
        }
        let [victim, bystander] = <[FinalLog; 2]>::try_from(finals).unwrap();
        Self {
            broker: scene.broker,
            victim,
            bystander,
        }
    }
}

/// What a partition gives back.
#[derive(Default)]
struct Found {
    records: BTreeMap<Offset, ReadRecord>,
    /// Why reads failed.
    reasons: Vec<String>,
}

/// Reads a partition offset by offset where it has to, so that a hole does not hide what is behind it.
fn read_around(scene: &Scene, expected: &FinalLog) -> Found {
    let mut found = Found::default();
    let mut from = expected.log_start;
    let mut router = scene.router();
    while from < expected.high_watermark {
        let read = scene
            .runtime
            .block_on(read_once(&mut router, expected.place, from));
        match read {
            ReadOutcome::Records(page) if page.next_offset > from => {
                let records = page.records.into_iter();
                found
                    .records
                    .extend(records.map(|record| (record.offset, record)));
                from = page.next_offset;
            }
            ReadOutcome::Failed {
                retriable: true, ..
            } => {}
            other => {
                found.reasons.push(format!("{from}: {other:?}"));
                from = from.plus(1);
            }
        }
    }
    found
}

/// Everything that was served is what was written.
fn assert_nothing_wrong(found: &Found, expected: &FinalLog, context: &str) {
    for record in &expected.records {
        if let Some(served) = found.records.get(&record.offset) {
            assert_eq!(served.stamp, record.stamp, "{context}");
        }
    }
}

fn findings(scene: &Scene) -> Vec<v1::HealthFinding> {
    let described = scene.call(|| scene.api.describe_cluster()).unwrap();
    described.findings
}

/// What became of a broker on damaged files.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// It did not start, and said why.
    Refused,
    /// It serves everything and knows of no damage: it was in bytes that nothing needs any more.
    Whole,
    /// It tells of damage, whether or not records are missing.
    Reported,
}

/// Starts a broker on a damaged copy and looks at everything that it serves.
fn outcome_on(copy: &Path, original: &Original, context: &str) -> Outcome {
    let mut broker = Broker::new(small(setup()).data_dir(copy)).unwrap();
    if let Err(error) = broker.start() {
        let message = error.to_string();
        assert!(message.contains("exit status: 1"), "{context}: {message}");
        let log = broker.log();
        let told = log.lines().last().unwrap_or_default();
        assert!(told.starts_with("error: "), "{context}: {log}");
        assert!(log.contains("damaged"), "{context}: {log}");
        println!("{context}: {told}");
        return Outcome::Refused;
    }
    let scene = Scene::around(broker);
    let mut whole = true;
    for expected in [&original.victim, &original.bystander] {
        let found = read_around(&scene, expected);
        assert_nothing_wrong(&found, expected, context);
        let missing = expected.records.len() - found.records.len();
        if missing > 0 {
            whole = false;
            let findings = findings(&scene);
            println!(
                "{context}: {missing} missing, {:?}, {findings:?}",
                found.reasons.first()
            );
            assert!(
                !findings.is_empty(),
                "{context}: {missing} records are silently missing"
            );
        }
    }
    if whole && findings(&scene).is_empty() {
        println!("{context}: nothing is missing");
        Outcome::Whole
    } else {
        Outcome::Reported
    }
}

/// Damages copies of the files, one bit each, and counts what becomes of it.
fn outcomes(original: &Original, kind: FileKind, which: &[isize]) -> BTreeMap<Outcome, u32> {
    let mut counts = BTreeMap::new();
    for at in which {
        for share in [0.02, 0.5, 0.9] {
            let folder = tempfile::tempdir().unwrap();
            let copy = folder.path().join("data");
            copy_folder(original.broker.data_dir(), &copy).unwrap();
            let files = files(&copy, kind).unwrap();
            let at = usize::try_from(at.rem_euclid(files.len().cast_signed())).unwrap();
            let position = flip_bit(&files[at], share).unwrap();
            let context = format!("{} byte {position}", files[at].display());
            *counts
                .entry(outcome_on(&copy, original, &context))
                .or_default() += 1;
        }
    }
    counts
}

#[test]
fn damaged_segments_are_reported_and_never_served() {
    let original = Original::new(End::Terminate);
    let kind = FileKind::Segment(original.victim.place);
    let counts = outcomes(&original, kind, &[0, 1]);
    // The bytes of a full segment are all needed.
    assert_eq!(counts.get(&Outcome::Reported), Some(&6), "{counts:?}");
}

#[test]
fn damage_in_the_journal_is_reported() {
    let original = Original::new(End::KillEarly);
    let counts = outcomes(&original, FileKind::Journal, &[1, -2]);
    assert_eq!(counts.get(&Outcome::Whole), None, "{counts:?}");
}

#[test]
fn a_damaged_journal_can_be_given_up() {
    let mut original = Original::new(End::KillEarly);
    let data_dir = original.broker.data_dir().to_owned();
    let journal = files(&data_dir, FileKind::Journal).unwrap();
    flip_bit(&journal[journal.len() / 2], 0.5).unwrap();
    let refused = original.broker.start().unwrap_err();
    assert!(refused.to_string().contains("exit status: 1"), "{refused}");
    let log = original.broker.log();
    let told = log.lines().last().unwrap_or_default();
    let command = format!(
        "`highwater-broker repair --data-dir {} --accept-loss`",
        data_dir.display()
    );
    assert!(told.contains(&command), "{told}");
    repair(&original.broker, &data_dir);
    original.broker.start().unwrap();
    let scene = Scene::around(original.broker);
    for expected in [&original.victim, &original.bystander] {
        let found = read_around(&scene, expected);
        assert_nothing_wrong(&found, expected, "after the repair");
        assert!(!found.records.is_empty());
        append_one(&scene, expected.place);
    }
}

#[test]
fn a_damaged_checkpoint_is_replaced_by_the_one_before_it() {
    let original = Original::new(End::Kill);
    let counts = outcomes(&original, FileKind::Checkpoint, &[-1]);
    assert_eq!(counts, [(Outcome::Whole, 3)].into(), "{counts:?}");
}

#[test]
fn a_damaged_identity_keeps_the_broker_from_starting() {
    let original = Original::new(End::Terminate);
    let counts = outcomes(&original, FileKind::Identity, &[0]);
    assert_eq!(counts, [(Outcome::Refused, 3)].into(), "{counts:?}");
}

/// Gives up what is lost. The tool says what that is.
fn repair(broker: &Broker, data_dir: &Path) {
    let data_dir = data_dir.to_str().unwrap();
    let arguments = ["repair", "--data-dir", data_dir, "--accept-loss", "--yes"];
    let repaired = broker.run(&arguments).unwrap();
    assert!(repaired.status.success(), "{repaired:?}");
    assert!(repaired.stdout.contains("lost"), "{repaired:?}");
}

/// Tries to append a record.
fn try_append(scene: &Scene, place: Place) -> Option<v1::produce_outcome::Outcome> {
    let records = vec![v1::Record::default()];
    let item = v1::ProduceItem {
        partition: Some(named(place)),
        payload: Some(v1::produce_item::Payload::Records(v1::Records { records })),
    };
    let mut outcomes = scene
        .call(|| scene.api.produce(vec![item.clone()]))
        .unwrap();
    outcomes.remove(0).outcome
}

/// Appends a record and returns where it stands.
fn append_one(scene: &Scene, place: Place) -> Offset {
    match try_append(scene, place) {
        Some(v1::produce_outcome::Outcome::Ack(ack)) => Offset(ack.base_offset),
        other => panic!("{other:?}"),
    }
}

/// Records for a damaged partition are refused, and whoever asks for its health hears the same and what to do.
fn assert_refused(scene: &Scene, place: Place, data_dir: &str) {
    match try_append(scene, place) {
        Some(v1::produce_outcome::Outcome::Error(error)) => {
            assert_eq!(error.reason, "STORAGE_ERROR", "{error:?}");
            assert!(error.message.contains("offsets"), "{error:?}");
        }
        other => panic!("{other:?}"),
    }
    let findings = findings(scene);
    let told = findings
        .iter()
        .find(|finding| finding.reason == "LOG_DAMAGED");
    let message = &told.unwrap_or_else(|| panic!("{findings:?}")).message;
    let command = format!("highwater-broker repair --data-dir {data_dir} --accept-loss");
    assert!(message.contains(&command), "{message}");
}

#[test]
fn inspect_shows_what_is_there() {
    let original = Original::new(End::Terminate);
    let data_dir = original.broker.data_dir().to_str().unwrap();
    let inspected = original
        .broker
        .run(&["inspect", "--data-dir", data_dir])
        .unwrap();
    assert!(inspected.status.success(), "{}", inspected.stderr);
    let text = inspected.stdout;
    for word in ["identity", "checkpoint", "journal", "segment"] {
        assert!(text.contains(word), "{word} is not in:\n{text}");
    }
    let topic = original.victim.place.topic.to_string();
    assert!(text.contains(&topic), "{topic} is not in:\n{text}");
}

#[test]
fn repair_gives_up_what_is_lost_and_nothing_else() {
    let original = Original::new(End::Terminate);
    let data_dir = original.broker.data_dir().to_owned();
    let place: Place = original.victim.place;
    let segments = files(&data_dir, FileKind::Segment(place)).unwrap();
    flip_bit(&segments[1], 0.5).unwrap();
    // A start finds and reports it; records for the damaged partition are refused.
    let mut scene = Scene::around(Broker::started(small(setup()).data_dir(&data_dir)).unwrap());
    let before = read_around(&scene, &original.victim);
    assert!(!before.reasons.is_empty(), "the damage was not noticed");
    assert_nothing_wrong(&before, &original.victim, "before the repair");
    let directory = data_dir.to_str().unwrap();
    assert_refused(&scene, place, directory);
    let bystander = original.bystander.place;
    assert_eq!(
        append_one(&scene, bystander),
        original.bystander.high_watermark
    );
    let again = read_around(&scene, &original.victim);
    assert_eq!(again.records, before.records, "reads go on");
    // The next start knows, before anybody reads.
    scene.broker.terminate().unwrap();
    scene.broker.start().unwrap();
    let mut scene = Scene::around(scene.broker);
    assert_refused(&scene, place, directory);
    scene.broker.terminate().unwrap();

    let shown = scene
        .broker
        .run(&["repair", "--data-dir", directory])
        .unwrap();
    assert!(!shown.status.success());
    assert!(shown.stdout.contains("are lost, with offsets"), "{shown:?}");
    assert!(shown.stderr.contains("--accept-loss"), "{shown:?}");
    repair(&scene.broker, &data_dir);

    scene.broker.start().unwrap();
    let after = read_around(&scene, &original.victim);
    assert_nothing_wrong(&after, &original.victim, "after the repair");
    assert_eq!(
        after.records, before.records,
        "the repair lost or found records"
    );
    // The partition takes records again, behind everything that was there.
    let latest = scene.call(|| scene.api.latest(place)).unwrap();
    assert_eq!(latest, original.victim.high_watermark);
    assert_eq!(append_one(&scene, place), original.victim.high_watermark);
}
