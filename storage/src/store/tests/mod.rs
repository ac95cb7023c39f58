//! The store as its users see it, on a simulated disk.

mod caching;
mod damage;
mod disk;
mod inspect;
mod recovery;
mod repair;
mod staging;

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
        reserve_bytes: 128 << 10,
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
