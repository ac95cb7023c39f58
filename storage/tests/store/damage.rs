//! Bytes that change after they were durable: found, said, and never served.

use std::collections::BTreeMap;

use highwater_storage::fs::{CrashMode, SimFs};
use highwater_storage::{AppliedState, Error, Frame, HardState, LogId, LogSpec, Opened, RaftIndex};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::model::Contents;
use crate::recovery::{open, readable_frames_of, records_of};
use crate::workload::Workload;

const PAGE_BYTES: usize = 4096;

/// What a log held when the store was closed.
struct Held {
    frames: Vec<Frame>,
    last_index: RaftIndex,
    hard_state: HardState,
    /// Also what was truncated.
    ever: Vec<Frame>,
}

/// A store that was closed when all was durable and said so, and what is in it.
struct Closed {
    fs: SimFs,
    logs: BTreeMap<LogId, Held>,
    /// The files as they were some time before.
    before: BTreeMap<String, Vec<u8>>,
}

fn closed(seed: u64) -> Closed {
    closed_after(seed, |_| ())
}

fn closed_after(seed: u64, last: impl Fn(&mut Workload)) -> Closed {
    let mut workload = Workload::without_caching(seed);
    workload.run(25).expect("a disk without faults");
    let before = workload.fs.files();
    workload.run(25).expect("a disk without faults");
    last(&mut workload);
    workload.heartbeat().expect("a disk without faults");
    let fs = workload.fs.clone();
    let held = |(id, contents): (LogId, Contents)| {
        let last_index = contents.last_index();
        let Contents {
            frames, hard_state, ..
        } = contents;
        (
            id,
            Held {
                frames,
                last_index,
                hard_state,
                ever: workload.model.logs[&id].appended(),
            },
        )
    };
    let logs = workload.contents().into_iter().map(held).collect();
    drop(workload);
    Closed {
        fs: fs.crash(CrashMode::PowerKept, seed),
        logs,
        before,
    }
}

/// What came of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// The bytes meant nothing, or stand somewhere else as well.
    Harmless,
    /// Some frames are known to be lost.
    LogDamaged,
    /// The directory does not open.
    Refused,
}

/// Opens a damaged store and checks that nothing wrong is served and nothing is missing in silence.
fn outcome(closed: &Closed, damaged: &SimFs, what: &str) -> Outcome {
    let opened = match open(damaged, 1) {
        Ok(opened) => opened,
        Err(Error::Corrupt { .. } | Error::UnsupportedFormat { .. } | Error::Damaged { .. }) => {
            return Outcome::Refused;
        }
        Err(error) => panic!("{what}: {error}"),
    };
    if opened.damage.is_some() {
        assert_kept(&opened, what);
    }
    let outcomes = closed
        .logs
        .iter()
        .map(|(id, held)| log_outcome(&opened, *id, held, what));
    outcomes.max().unwrap_or(Outcome::Harmless)
}

/// What may be a log whose creation is lost is not taken for another.
fn assert_kept(opened: &Opened, what: &str) {
    for directory in &opened.unknown_directories {
        let spec = LogSpec {
            directory: directory.clone(),
            max_segment_bytes: 8192,
            write_caching: false,
        };
        let mut turn = opened.store.turn();
        let id = LogId(u64::MAX);
        let created = opened
            .store
            .create_log(&mut turn, id, spec, AppliedState::default());
        assert!(
            matches!(created, Err(Error::Corrupt { .. })),
            "{what}: {directory}"
        );
    }
}

fn log_outcome(opened: &Opened, id: LogId, held: &Held, what: &str) -> Outcome {
    let recovered = opened
        .logs
        .iter()
        .find(|recovered| recovered.log.id() == id);
    let Some(recovered) = recovered else {
        assert!(
            opened.damage.is_some(),
            "{what}: log {id} is gone in silence"
        );
        return Outcome::LogDamaged;
    };
    let log = &recovered.log;
    let (frames, is_whole) = readable_frames_of(log);
    let first = log.first_index();
    let kept: Vec<Frame> = held
        .frames
        .iter()
        .filter(|frame| frame.index >= first)
        .cloned()
        .collect();
    if recovered.damage.is_some() {
        // What was truncated may be back when the truncation is among what was lost.
        let stranger = frames.iter().find(|frame| !held.ever.contains(frame));
        assert_eq!(
            stranger, None,
            "{what}: log {id} serves what was never written"
        );
        return Outcome::LogDamaged;
    }
    let found = log.hard_state();
    let ballot = (held.hard_state.term, held.hard_state.vote);
    assert_eq!((found.term, found.vote), ballot, "{what}: log {id}");
    assert_eq!(
        log.last_index(),
        held.last_index,
        "{what}: log {id} was cut in silence"
    );
    if is_whole {
        assert!(frames == kept, "{what}: log {id} serves what is not there");
        let records: Vec<Frame> = kept
            .into_iter()
            .filter(|frame| frame.record_count > 0)
            .collect();
        let first = records
            .first()
            .map_or(log.next_offset(), |frame| frame.base_offset);
        assert!(
            records_of(log, first) == records,
            "{what}: log {id} by offset"
        );
        return Outcome::Harmless;
    }
    let stranger = frames.iter().find(|frame| !kept.contains(frame));
    assert_eq!(stranger, None, "{what}: log {id} serves what is not there");
    Outcome::LogDamaged
}

/// The folder of a file, which says what kind it is.
fn kind_of(path: &str) -> &str {
    path.split(['/', '-']).next().unwrap_or(path)
}

/// Damages each file of some closed stores in `damages` ways, and counts what came of it for each kind of file.
fn damage_everywhere(
    damage: impl Fn(&mut [u8], Option<&Vec<u8>>, &mut StdRng) -> String,
) -> BTreeMap<(String, Outcome), u32> {
    let mut counts = BTreeMap::new();
    for seed in 0..6 {
        let closed = closed(seed);
        assert_eq!(
            outcome(
                &closed,
                &closed.fs.crash(CrashMode::Process, 0),
                "undamaged"
            ),
            Outcome::Harmless
        );
        let mut random = StdRng::seed_from_u64(seed);
        for path in closed.fs.files().into_keys() {
            for round in 0..12 {
                let damaged = closed.fs.crash(CrashMode::Process, 0);
                let stale = closed.before.get(&path);
                let mut done = String::new();
                damaged.corrupt(&path, |bytes| {
                    if !bytes.is_empty() {
                        done = damage(bytes, stale, &mut random);
                    }
                });
                let what = format!("seed {seed}, {path}, round {round}, {done}");
                let outcome = outcome(&closed, &damaged, &what);
                *counts
                    .entry((kind_of(&path).to_owned(), outcome))
                    .or_default() += 1;
            }
        }
    }
    println!("{counts:?}");
    counts
}

fn reported(counts: &BTreeMap<(String, Outcome), u32>, kind: &str) -> u32 {
    let of_kind = counts
        .iter()
        .filter(|((of, outcome), _)| of == kind && *outcome != Outcome::Harmless);
    of_kind.map(|(_, count)| count).sum()
}

fn page(bytes: &[u8], random: &mut StdRng) -> std::ops::Range<usize> {
    let at = random.random_range(0..bytes.len().div_ceil(PAGE_BYTES)) * PAGE_BYTES;
    at..(at + PAGE_BYTES).min(bytes.len())
}

#[test]
fn damage_of_the_newest_checkpoint_costs_nothing() {
    for seed in 0..40 {
        // What left the log with this checkpoint, the one before still needs.
        let closed = closed_after(seed, |workload| workload.checkpoint().unwrap());
        let newest = closed
            .fs
            .files()
            .into_keys()
            .filter(|path| path.ends_with(".checkpoint"));
        let newest = newest.max().expect("there is one");
        let damaged = closed.fs.crash(CrashMode::Process, 0);
        damaged.corrupt(&newest, |bytes| bytes[20] ^= 1);
        let what = format!("seed {seed}, {newest}");
        assert_eq!(
            outcome(&closed, &damaged, &what),
            Outcome::Harmless,
            "{what}"
        );
    }
}

#[test]
fn flipped_bits_are_said_or_mean_nothing() {
    let counts = damage_everywhere(|bytes, _, random| {
        // Most of a file may be empty: half of the flips go where something is.
        let written: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
        let at = match random.random_range(0..2) {
            0 if !written.is_empty() => written[random.random_range(0..written.len())],
            _ => random.random_range(0..bytes.len()),
        };
        bytes[at] ^= 1 << random.random_range(0..8);
        format!("a bit of byte {at}")
    });
    assert!(
        reported(&counts, "topics") > 0 && reported(&counts, "journal") > 0,
        "{counts:?}"
    );
}

#[test]
fn zeroed_pages_are_said_or_mean_nothing() {
    let counts = damage_everywhere(|bytes, _, random| {
        let page = page(bytes, random);
        bytes[page.clone()].fill(0);
        format!("zeros in {page:?}")
    });
    assert!(
        reported(&counts, "topics") > 0 && reported(&counts, "journal") > 0,
        "{counts:?}"
    );
}

#[test]
fn stale_pages_are_said_or_mean_nothing() {
    let counts = damage_everywhere(|bytes, before, random| {
        let page = page(bytes, random);
        let stale = before
            .and_then(|before| before.get(page.clone()))
            .map(<[u8]>::to_vec);
        bytes[page.clone()].copy_from_slice(&stale.unwrap_or_else(|| vec![0; page.len()]));
        format!("old bytes in {page:?}")
    });
    assert!(reported(&counts, "journal") > 0, "{counts:?}");
}

#[test]
fn pages_of_elsewhere_are_said_or_mean_nothing() {
    let counts = damage_everywhere(|bytes, _, random| {
        let (from, to) = (page(bytes, random), page(bytes, random));
        if from.len() == to.len() {
            bytes.copy_within(from.clone(), to.start);
        }
        format!("bytes of {from:?} in {to:?}")
    });
    assert!(reported(&counts, "topics") > 0, "{counts:?}");
}
