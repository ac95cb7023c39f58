//! The store as its users see it, on a simulated disk.

use bytes::Bytes;

use super::*;
use crate::fs::{CrashMode, SimFs};
use crate::{FrameKind, NewFrame, RaftIndex, Term};

/// Limits so small that every test rolls files.
fn config() -> Config {
    Config {
        journal_file_bytes: 64 << 10,
        checkpoint_interval_bytes: 256 << 10,
        min_free_bytes: 0,
        reserve_bytes: 64 << 10,
        first_segment_bytes: 16 << 10,
        head_bytes: 1024,
        pool_bytes: 1 << 20,
        inline_snapshot_bytes: 64,
        ..Config::default()
    }
}

fn open(fs: &SimFs) -> Opened {
    try_open(fs).unwrap()
}

fn try_open(fs: &SimFs) -> Result<Opened> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let random = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state
    };
    Store::open(Arc::new(fs.clone()), Box::new(random), config())
}

fn spec(name: &str) -> LogSpec {
    LogSpec {
        directory: format!("topics/{name}"),
        max_segment_bytes: 64 << 10,
        write_caching: false,
    }
}

fn batch(index: u64, term: u64, bytes: usize) -> NewFrame {
    let mut payload = vec![u8::try_from(index % 251).unwrap(); bytes.max(61)];
    let crc = crc32c::crc32c(&payload[21..]);
    payload[17..21].copy_from_slice(&crc.to_be_bytes());
    NewFrame {
        index: RaftIndex(index),
        term: Term(term),
        kind: FrameKind::Batch,
        record_count: 2,
        max_timestamp_ms: 1000 + i64::try_from(index).unwrap(),
        payload: payload.into(),
    }
}

fn no_op(index: u64, term: u64) -> NewFrame {
    NewFrame {
        index: RaftIndex(index),
        term: Term(term),
        kind: FrameKind::NoOp,
        record_count: 0,
        max_timestamp_ms: -1,
        payload: Bytes::new(),
    }
}

/// Creates a log with the members "c".
fn create(store: &Store, id: u64) -> Log {
    let mut turn = store.turn();
    let applied = AppliedState {
        conf_state: Bytes::from_static(b"c"),
        ..AppliedState::default()
    };
    let log = store
        .create_log(&mut turn, LogId(id), spec(&format!("t/{id}")), applied)
        .unwrap();
    store.submit(turn);
    log
}

fn append(store: &Store, log: &mut Log, frames: &[NewFrame]) -> Ticket {
    let mut turn = store.turn();
    log.append(&mut turn, frames).unwrap();
    store.submit(turn)
}

fn append_synced(store: &Store, log: &mut Log, frames: &[NewFrame]) {
    let ticket = append(store, log, frames);
    assert!(store.sync().unwrap() >= ticket);
}

fn vote(store: &Store, log: &mut Log, term: u64, vote: u64, commit: u64) {
    let mut turn = store.turn();
    log.set_hard_state(
        &mut turn,
        HardState {
            term: Term(term),
            vote,
            commit: RaftIndex(commit),
        },
    );
    store.submit(turn);
    store.sync().unwrap();
}

fn checkpoint(store: &Store, logs: &mut [&mut Log], applied: u64) {
    let mut checkpoint = store.begin_checkpoint().unwrap();
    checkpoint.sync_segments().unwrap();
    let captured = logs
        .iter_mut()
        .map(|log| {
            let index = RaftIndex(applied).min(log.last_index());
            let term = log.term_at(index).unwrap().unwrap();
            log.capture(AppliedState {
                index,
                term,
                conf_state: Bytes::from_static(b"c"),
                snapshot: Bytes::new(),
            })
        })
        .collect();
    checkpoint.finish(captured).unwrap();
}

fn files_in(fs: &SimFs, directory: &str) -> usize {
    fs.files()
        .keys()
        .filter(|path| path.starts_with(directory))
        .count()
}

/// The disk after a crash, opened again; the store before is gone.
fn crash(fs: &SimFs, mode: CrashMode) -> SimFs {
    fs.crash(mode, 1)
}

fn entries(log: &Log) -> Vec<(u64, u64, u64)> {
    if log.first_index() > log.last_index() {
        return vec![];
    }
    let frames = log
        .read(log.first_index(), log.last_index().next(), u64::MAX)
        .unwrap();
    frames
        .iter()
        .map(|frame| (frame.index.0, frame.term.0, frame.base_offset.0))
        .collect()
}

#[test]
fn synced_frames_survive_power_loss() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let store = &opened.store;
    let mut log = create(store, 7);
    vote(store, &mut log, 1, 7, 0);
    append_synced(store, &mut log, &[no_op(1, 1)]);
    for index in 2..40 {
        append_synced(store, &mut log, &[batch(index, 1, 1000)]);
    }
    append(store, &mut log, &[batch(40, 1, 1000)]);
    let expected: Vec<_> = entries(&log)
        .into_iter()
        .filter(|(index, ..)| *index < 40)
        .collect();
    assert!(log.segments().len() > 1, "segments were rolled");

    let fs = crash(&fs, CrashMode::PowerDropped);
    let reopened = open(&fs);
    let recovered = &reopened.logs[0];
    assert_eq!(recovered.damage, None);
    assert_eq!(entries(&recovered.log), expected);
    assert_eq!(recovered.log.hard_state().vote, 7);
    assert_eq!(recovered.applied.conf_state, "c");
    assert_eq!(recovered.log.next_offset(), Offset(76));
}

#[test]
fn checkpoint_lets_the_journal_go_and_keeps_the_log() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let store = &opened.store;
    let mut log = create(store, 7);
    let mut idle = create(store, 8);
    append_synced(store, &mut idle, &[no_op(1, 1)]);
    for index in 1..100 {
        append_synced(store, &mut log, &[batch(index, 1, 1000)]);
        if index % 20 == 0 {
            vote(store, &mut log, 1, 7, index);
            checkpoint(
                store,
                &mut [&mut log, &mut idle][..if index == 20 { 2 } else { 1 }],
                index,
            );
        }
    }
    let expected = entries(&log);
    assert_eq!(
        files_in(&fs, "journal"),
        4,
        "two since the older checkpoint, two since the newer"
    );

    let fs = crash(&fs, CrashMode::PowerDropped);
    let reopened = open(&fs);
    assert_eq!(entries(&reopened.logs[0].log), expected);
    assert_eq!(reopened.logs[0].applied.index, RaftIndex(80));
    assert_eq!(reopened.logs[0].log.hard_state().commit, RaftIndex(80));
    assert_eq!(
        entries(&reopened.logs[1].log),
        [(1, 1, 0)],
        "carried forward"
    );
    assert!(reopened.logs.iter().all(|log| log.damage.is_none()));
}

#[test]
fn log_without_a_batch_has_no_file() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let mut log = create(&opened.store, 7);
    append_synced(&opened.store, &mut log, &[no_op(1, 1)]);
    checkpoint(&opened.store, &mut [&mut log], 1);
    append_synced(&opened.store, &mut log, &[no_op(2, 3)]);
    assert_eq!(files_in(&fs, "topics"), 0);

    let fs = crash(&fs, CrashMode::PowerDropped);
    let mut opened = open(&fs);
    let log = &mut opened.logs[0].log;
    assert_eq!(entries(log), [(1, 1, 0), (2, 3, 0)]);
    append_synced(&opened.store, log, &[batch(3, 3, 100)]);
    assert_eq!(entries(log), [(1, 1, 0), (2, 3, 0), (3, 3, 0)]);
    assert_eq!(files_in(&fs, "topics"), 1);

    let reopened = open(&crash(&fs, CrashMode::PowerDropped));
    assert_eq!(
        entries(&reopened.logs[0].log),
        [(1, 1, 0), (2, 3, 0), (3, 3, 0)]
    );
    assert_eq!(
        reopened.logs[0].log.term_at(RaftIndex(1)).unwrap(),
        Some(Term(1))
    );
}

/// Figure 8 of the Raft paper: entries of equal sizes are overwritten by another leader's.
#[test]
fn truncated_suffix_never_comes_back() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let store = &opened.store;
    let mut log = create(store, 7);
    let old: Vec<_> = (1..10).map(|index| batch(index, 1, 200)).collect();
    append_synced(store, &mut log, &old);
    let mut turn = store.turn();
    log.truncate_suffix(&mut turn, RaftIndex(5)).unwrap();
    log.append(&mut turn, &[batch(5, 2, 200), batch(6, 2, 200)])
        .unwrap();
    store.submit(turn);
    store.sync().unwrap();
    let expected = entries(&log);
    assert_eq!(expected.len(), 6);
    for mode in [
        CrashMode::Process,
        CrashMode::PowerDropped,
        CrashMode::PowerKept,
    ] {
        let fs = crash(&fs, mode);
        let mut reopened = open(&fs);
        assert_eq!(entries(&reopened.logs[0].log), expected);
        // And once more, cut to where the first segment was cut, without a new frame.
        let mut turn = reopened.store.turn();
        reopened.logs[0]
            .log
            .truncate_suffix(&mut turn, RaftIndex(3))
            .unwrap();
        reopened.store.submit(turn);
        reopened.store.sync().unwrap();
        let reopened = open(&crash(&fs, mode));
        assert_eq!(entries(&reopened.logs[0].log), expected[..2]);
        assert_eq!(reopened.logs[0].log.next_offset(), Offset(4));
    }
}
