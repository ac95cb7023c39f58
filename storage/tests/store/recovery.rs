//! What a store that was opened after a crash must hold.

use std::sync::Arc;

use highwater_storage::fs::{CrashMode, Fs, SimFs};
use highwater_storage::{
    Config, Error, Frame, HardState, Log, LogId, Offset, Opened, RaftIndex, RecoveredLog, Store,
};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

use crate::model::{Change, Contents, LogModel, Model};

/// Limits so small that files roll, recycle and run out all the time.
pub(crate) fn tiny() -> Config {
    Config {
        journal_file_bytes: 16 << 10,
        checkpoint_interval_bytes: 48 << 10,
        min_free_bytes: 0,
        reserve_bytes: 8 << 10,
        first_segment_bytes: 8 << 10,
        head_bytes: 512,
        pool_bytes: 64 << 10,
        inline_snapshot_bytes: 48,
        max_payload_bytes: 1 << 20,
        ..Config::default()
    }
}

pub(crate) fn open(fs: &SimFs, seed: u64) -> Result<Opened, Error> {
    let mut random = StdRng::seed_from_u64(seed);
    Store::open(
        Arc::new(fs.clone()) as Arc<dyn Fs>,
        Box::new(move || random.next_u64()),
        tiny(),
    )
}

/// All frames of a log.
pub(crate) fn frames_of(log: &Log) -> Vec<Frame> {
    let mut frames: Vec<Frame> = Vec::new();
    let end = log.last_index().next();
    loop {
        let from = frames
            .last()
            .map_or(log.first_index(), |frame| frame.index.next());
        if from >= end {
            return frames;
        }
        let read = log
            .read(from, end, 10_000)
            .unwrap_or_else(|error| panic!("log {} at {from}: {error}", log.id()));
        assert!(
            !read.is_empty(),
            "log {} has nothing at {from} below {end}",
            log.id()
        );
        frames.extend(read);
    }
}

/// The frames of a damaged log that can be read, and whether that is all of them.
pub(crate) fn readable_frames_of(log: &Log) -> (Vec<Frame>, bool) {
    let mut frames: Vec<Frame> = Vec::new();
    let mut is_whole = true;
    let mut next = log.first_index();
    while next <= log.last_index() {
        match log.read(next, log.last_index().next(), 4_000) {
            Ok(read) => {
                next = read
                    .last()
                    .unwrap_or_else(|| panic!("nothing at {next}"))
                    .index
                    .next();
                frames.extend(read);
            }
            Err(Error::Damaged { .. }) => {
                is_whole = false;
                next = next.next();
            }
            Err(error) => panic!("log {} at {next}: {error}", log.id()),
        }
    }
    (frames, is_whole)
}

/// All frames with records, as a consumer gets them.
pub(crate) fn records_of(log: &Log, first: Offset) -> Vec<Frame> {
    let reader = log.reader();
    let mut frames: Vec<Frame> = Vec::new();
    loop {
        let from = frames.last().map_or(first, Frame::next_offset);
        if from >= log.next_offset() {
            return frames;
        }
        let read = reader
            .read(from, log.next_offset(), 5_000)
            .unwrap_or_else(|error| panic!("log {} at {from}: {error}", log.id()));
        assert!(
            !read.frames.is_empty(),
            "log {} has nothing at offset {from}",
            log.id()
        );
        frames.extend(read.frames);
    }
}

/// Compares what was found after a crash with what was promised before it.
pub(crate) fn check(model: &Model, step: u64, mode: CrashMode, opened: &Opened) {
    let done = model.done_at(step);
    for (id, log) in &model.logs {
        let recovered = opened
            .logs
            .iter()
            .find(|recovered| recovered.log.id() == *id);
        let was_created = log.created.is_promised(step, done);
        let may_be_deleted = log.deleted.is_some_and(|deleted| deleted.step < step);
        let was_deleted = may_be_deleted
            && log
                .deleted
                .is_some_and(|deleted| deleted.is_promised(step, done));
        match recovered {
            None => assert!(!was_created || may_be_deleted, "log {id} is lost"),
            Some(_) if was_deleted => panic!("log {id} is back though its deletion was promised"),
            Some(_) if log.created.step >= step => panic!("log {id} was not asked for yet"),
            Some(recovered) => check_log(log, model, step, mode, recovered),
        }
    }
    for recovered in &opened.logs {
        assert!(
            model.logs.contains_key(&recovered.log.id()),
            "log {} comes from nowhere",
            recovered.log.id()
        );
    }
}

fn check_log(
    model: &LogModel,
    whole: &Model,
    step: u64,
    mode: CrashMode,
    recovered: &RecoveredLog,
) {
    let log = &recovered.log;
    let id = log.id();
    let (must, may) = model.window(step, whole.done_at(step));
    let is_cached = model.is_cached(must, may);
    let may_lack_tail = is_cached && mode != CrashMode::Process;
    let states: Vec<Contents> = (must..=may).map(|count| model.contents(count)).collect();
    if let Some(damage) = &recovered.damage {
        // What was journaled is never in doubt.
        let was_said = is_cached && whole.poisoned.contains(&id);
        assert!(may_lack_tail || was_said, "log {id}: {damage:?}");
        check_ballot(&states, log.hard_state(), id);
        let appended = model.appended();
        let strange = readable_frames_of(log)
            .0
            .into_iter()
            .find(|frame| !appended.contains(frame));
        assert_eq!(strange, None, "log {id}");
        return;
    }
    let frames = frames_of(log);
    let leaving = model.leaving(step);
    let fits =
        |contents: &Contents| is_what_is_left(&frames, log, contents, leaving, may_lack_tail);
    // What is journaled goes to disk by whole turns; a cached append may be cut short.
    let mut appends = states.windows(2).zip(&model.changes[must..may]);
    let is_cut_short = appends.any(|(pair, (_, change))| {
        is_cached
            && matches!(change, Change::Append(_))
            && log.last_index() >= pair[0].last_index()
            && is_what_is_left(&frames, log, &pair[1], leaving, true)
    });
    assert!(
        states.iter().any(fits) || is_cut_short,
        "log {id} (cached: {}, next offset {}) holds {} after changes {must}..={may}, which should leave {}",
        is_cached,
        log.next_offset(),
        describe(&frames),
        states
            .iter()
            .map(|contents| describe(&contents.frames))
            .collect::<Vec<_>>()
            .join(" or "),
    );
    if is_cached && mode == CrashMode::Process {
        let floor = model.cached_floor(step, whole.done_at(step));
        assert!(
            log.last_index() >= floor,
            "log {id} ends at {} below {floor}",
            log.last_index()
        );
    }
    check_hard_state(
        &states,
        log.hard_state(),
        log.last_index(),
        recovered.applied.index,
        id,
    );
    check_applied(model, step, may, recovered);
    let records: Vec<Frame> = frames
        .iter()
        .filter(|frame| frame.record_count > 0)
        .cloned()
        .collect();
    let first = records
        .first()
        .map_or(log.next_offset(), |frame| frame.base_offset);
    assert_eq!(records_of(log, first), records, "log {id} by offset");
}

/// Whether `frames` are `contents` but for a first part that may have left, and a last part if that may be lost.
fn is_what_is_left(
    frames: &[Frame],
    log: &Log,
    contents: &Contents,
    leaving: (Offset, RaftIndex),
    may_lack_tail: bool,
) -> bool {
    let first = log.first_index();
    let base = contents.base;
    let (left, kept): (Vec<&Frame>, Vec<&Frame>) = contents
        .frames
        .iter()
        .partition(|frame| frame.index < first);
    let lawfully_left = left
        .iter()
        .all(|frame| frame.index < leaving.1 || frame.next_offset() <= leaving.0);
    let lawfully_kept = kept.iter().zip(frames).all(|(kept, frame)| *kept == frame)
        && frames.len() <= kept.len()
        && (may_lack_tail || frames.len() == kept.len());
    let next_offset = frames
        .last()
        .or(left.last().copied())
        .map_or(base.offset, Frame::next_offset);
    let previous_term = left.last().map_or(base.term, |frame| frame.term);
    let knows_previous_term = log.term_at(first.previous()).ok() == Some(Some(previous_term));
    let begins_there = first > base.index;
    begins_there
        && lawfully_left
        && lawfully_kept
        && log.next_offset() == next_offset
        && knows_previous_term
}

fn check_ballot(states: &[Contents], found: HardState, id: LogId) {
    let ballot = |hard_state: HardState| (hard_state.term, hard_state.vote);
    assert!(
        states
            .iter()
            .any(|contents| ballot(contents.hard_state) == ballot(found)),
        "log {id}: term and vote {found:?} are none of {:?}",
        states
            .iter()
            .map(|contents| contents.hard_state)
            .collect::<Vec<_>>()
    );
}

fn check_hard_state(
    states: &[Contents],
    found: HardState,
    last: RaftIndex,
    applied: RaftIndex,
    id: LogId,
) {
    check_ballot(states, found, id);
    let highest = states
        .iter()
        .map(|contents| contents.hard_state.commit)
        .max()
        .unwrap_or_default();
    let floor = states[0].commit_floor;
    assert!(
        found.commit <= last,
        "log {id}: commit {} is above the last index {last}",
        found.commit
    );
    assert!(
        found.commit <= highest,
        "log {id}: commit {} was never set, only {highest}",
        found.commit
    );
    assert!(
        found.commit >= floor,
        "log {id}: commit {} went back below {floor}",
        found.commit
    );
    assert!(
        found.commit >= applied,
        "log {id}: commit {} is below what was applied, {applied}",
        found.commit
    );
}

fn check_applied(model: &LogModel, step: u64, may: usize, recovered: &RecoveredLog) {
    let id = recovered.log.id();
    let captures: Vec<_> = model
        .captures
        .iter()
        .filter(|capture| capture.begun < step)
        .collect();
    let finished = captures
        .iter()
        .filter(|capture| capture.finished.is_some_and(|at| at <= step));
    let newest = finished
        .map(|capture| capture.applied.index)
        .max()
        .unwrap_or_default();
    assert!(
        recovered.applied.index >= newest,
        "log {id}: applied {} is older than {newest}",
        recovered.applied.index
    );
    let installed = model.changes[..may]
        .iter()
        .filter_map(|(_, change)| match change {
            Change::Install(applied, ..) => Some(applied),
            _ => None,
        });
    let known = captures
        .iter()
        .map(|capture| &capture.applied)
        .chain(installed)
        .chain([&model.initial]);
    assert!(
        known
            .into_iter()
            .any(|applied| *applied == recovered.applied),
        "log {id}: {:?} was never captured",
        recovered.applied
    );
    assert!(
        recovered.applied.index <= recovered.log.last_index(),
        "log {id}: applied is above the last index"
    );
    assert!(
        recovered.applied.index.next() >= recovered.log.first_index(),
        "log {id}: what follows the applied state is gone"
    );
}

/// Term and index of each frame.
pub(crate) fn describe(frames: &[Frame]) -> String {
    let runs = frames
        .iter()
        .map(|frame| format!("{}@{}", frame.term, frame.index));
    format!("[{}]", runs.collect::<Vec<_>>().join(" "))
}
