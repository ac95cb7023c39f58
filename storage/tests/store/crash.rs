//! Crashes after every step of a workload, and crashes while recovering from them.

use std::panic::resume_unwind;

use highwater_storage::fs::{CrashMode, Image, SimFs};
use highwater_storage::{
    AppliedState, HardState, LogId, LogSpec, Opened, RecoveredLog, Store, Term, Turn,
};

use crate::model::{Model, expected, new_batch};
use crate::recovery::{check, describe, open, readable_frames_of};
use crate::workload::Workload;

/// Each step is followed by a torn power loss and by one of these.
const MODES: [CrashMode; 3] = [
    CrashMode::Process,
    CrashMode::PowerDropped,
    CrashMode::PowerKept,
];

/// Turns of one workload.
const TURNS: usize = 60;

/// What the default run does. A failure says its seed: run that one alone with `CRASH_SEEDS`.
const DEFAULT_SEEDS: std::ops::Range<u64> = 0..8;

/// How many crashes the default run has to see.
const LEAST_CRASHES: u64 = 10_000;

/// Every crash of the workload of `seed`. Says how many there were.
fn crash_everywhere(seed: u64) -> u64 {
    let mut workload = Workload::new(seed);
    workload.fs.record_images();
    workload.run(TURNS).expect("a disk without faults");
    let images = workload.fs.take_images();
    let mut crashes = 0;
    for image in &images {
        let other = MODES[usize::try_from(image.step % 3).unwrap()];
        for mode in [CrashMode::PowerTorn, other] {
            let crash_seed = seed ^ (image.step << 8);
            crashes += 1 + crash_once(&workload.model, image, mode, crash_seed);
        }
    }
    crashes
}

/// One crash, the recovery from it, and a crash somewhere in that recovery. Says how many crashes came after the first.
fn crash_once(model: &Model, image: &Image, mode: CrashMode, seed: u64) -> u64 {
    let _told = Told(format!("{image:?}, {mode:?}, crash seed {seed}"));
    let fs = image.crash(mode, seed);
    fs.record_images();
    let opened = open(&fs, seed).unwrap_or_else(|error| panic!("{error}"));
    check(model, image.step, mode, &opened);
    let recovering = fs.take_images();
    works_on(fs, opened, seed);
    let Some(second) =
        recovering.get(usize::try_from(seed >> 8).unwrap_or(0) % recovering.len().max(1))
    else {
        return 0;
    };
    let _told = Told(format!("and again {second:?}"));
    let fs = second.crash(CrashMode::PowerTorn, seed);
    let opened = open(&fs, seed).unwrap_or_else(|error| panic!("{error}"));
    let worst = if mode == CrashMode::Process {
        CrashMode::PowerTorn
    } else {
        mode
    };
    check(model, image.step, worst, &opened);
    1
}

/// The store takes frames, keeps them over another power loss, and has lost nothing that it showed before.
fn works_on(fs: SimFs, opened: Opened, seed: u64) {
    let Opened {
        store, mut logs, ..
    } = opened;
    let mut kept = Vec::new();
    let mut turn = store.turn();
    let mut open_logs = Vec::new();
    for directory in opened.unknown_directories {
        logs.push(create_again(&store, &mut turn, directory));
    }
    logs.sort_by_key(|recovered| recovered.log.id());
    for mut recovered in logs {
        let log = &mut recovered.log;
        let (mut frames, _) = readable_frames_of(log);
        if recovered.damage.is_none() {
            let term = Term(
                log.hard_state()
                    .term
                    .0
                    .max(frames.last().map_or(0, |frame| frame.term.0))
                    + 1,
            );
            let new = new_batch(log.last_index().next(), term, 2, 100, seed);
            frames.push(expected(&new, log.next_offset()));
            log.set_hard_state(
                &mut turn,
                HardState {
                    term,
                    vote: 1,
                    ..log.hard_state()
                },
            );
            log.append(&mut turn, &[new])
                .unwrap_or_else(|error| panic!("{error}"));
        }
        kept.push((log.id(), log.hard_state(), frames, log.write_caching()));
        open_logs.push(recovered);
    }
    store.submit(turn);
    store.sync().unwrap_or_else(|error| panic!("{error}"));
    drop((open_logs, store));
    let opened = open(&fs.crash(CrashMode::PowerDropped, seed), seed)
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(opened.logs.len(), kept.len());
    for (recovered, (id, hard_state, frames, caching)) in opened.logs.iter().zip(kept) {
        let log = &recovered.log;
        assert_eq!(log.id(), id);
        assert_eq!(
            (log.hard_state().term, log.hard_state().vote),
            (hard_state.term, hard_state.vote),
            "log {id}"
        );
        assert!(
            log.hard_state().commit >= hard_state.commit.min(log.last_index()),
            "log {id}"
        );
        let (found, _) = readable_frames_of(log);
        if recovered.damage.is_some() {
            assert!(caching, "log {id}: {:?}", recovered.damage);
        } else if caching {
            assert!(
                found.len() + 1 >= frames.len() && frames.starts_with(&found),
                "log {id} held {}, now {}: {:?}",
                describe(&frames),
                describe(&found),
                recovered.damage
            );
        } else {
            assert_eq!(found, frames, "log {id}");
        }
    }
}

/// Creates the log whose creation a crash undid.
fn create_again(store: &Store, turn: &mut Turn, directory: String) -> RecoveredLog {
    let id = directory.rsplit('/').next().and_then(|id| id.parse().ok());
    let spec = LogSpec {
        directory,
        max_segment_bytes: 8192,
        write_caching: false,
    };
    let applied = AppliedState::default();
    let created = store.create_log(turn, LogId(id.expect("its name")), spec, applied.clone());
    RecoveredLog {
        log: created.unwrap_or_else(|error| panic!("{error}")),
        applied,
        damage: None,
    }
}

/// Says where a test was when it panicked.
struct Told(String);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0);
        }
    }
}

/// Runs the seeds of one part of the default run.
fn run_seeds(seeds: std::ops::Range<u64>) -> u64 {
    let mut crashes = 0;
    for seed in seeds {
        let _told = Told(format!("workload seed {seed}"));
        crashes += crash_everywhere(seed);
    }
    crashes
}

/// The seeds to run: `CRASH_SEEDS=from..to` in the environment, or the default.
fn seeds() -> std::ops::Range<u64> {
    let asked = std::env::var("CRASH_SEEDS").ok();
    let parse = |asked: String| {
        let (from, to) = asked.split_once("..")?;
        Some(from.parse().ok()?..to.parse().ok()?)
    };
    asked.map_or(DEFAULT_SEEDS, |asked| {
        parse(asked).expect("CRASH_SEEDS is from..to")
    })
}

#[test]
fn everything_promised_survives_a_crash_after_any_step() {
    let seeds = seeds();
    let middle = seeds.start.midpoint(seeds.end);
    let crashes: u64 = std::thread::scope(|scope| {
        let halves = [seeds.start..middle, middle..seeds.end];
        let halves = halves.map(|seeds| scope.spawn(|| run_seeds(seeds)));
        let joined = halves.map(|half| half.join().unwrap_or_else(|panic| resume_unwind(panic)));
        joined.into_iter().sum()
    });
    println!("{crashes} crashes");
    assert!(
        seeds != DEFAULT_SEEDS || crashes >= LEAST_CRASHES,
        "only {crashes} crashes"
    );
}
