//! Logs that are taken over from elsewhere.

use super::*;
use crate::{Staged, StagedFrom};

const FROM: StagedFrom = StagedFrom {
    index: RaftIndex(21),
    offset: Offset(40),
    term_before: Term(2),
};

fn state_at(index: u64, term: u64) -> AppliedState {
    AppliedState {
        index: RaftIndex(index),
        term: Term(term),
        conf_state: Bytes::from_static(b"members then"),
        snapshot: Bytes::from_static(b"the state then"),
    }
}

/// Frames 21 to 60, as another replica has them.
fn others_frames() -> Vec<NewFrame> {
    let mut frames = vec![no_op(21, 3)];
    frames.extend((22..=60).map(|index| batch(index, 3 + index / 50, 1500)));
    frames
}

fn staged(log: &mut Log) -> Staged {
    let mut staging = log.stage(FROM).unwrap();
    for frames in others_frames().chunks(7) {
        staging.append(frames).unwrap();
    }
    assert_eq!(staging.next_index(), RaftIndex(61));
    assert_eq!(staging.next_offset(), Offset(40 + 39 * 2));
    staging.finish().unwrap()
}

fn seeded_entries() -> Vec<(u64, u64, u64)> {
    let frames = others_frames().into_iter().zip(0..);
    let entry =
        |(frame, place): (NewFrame, u64)| (frame.index.0, frame.term.0, 40 + 2 * place.max(1) - 2);
    frames.map(entry).collect()
}

#[test]
fn staged_frames_and_their_state_take_the_place_of_the_log_when_that_is_synced() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let store = &opened.store;
    let mut log = create(store, 7);
    append_synced(store, &mut log, &[batch(1, 1, 300), batch(2, 1, 300)]);
    vote(store, &mut log, 3, 7, 1);
    let staged = staged(&mut log);
    // The log goes on meanwhile, in a segment of its own.
    append_synced(store, &mut log, &[batch(3, 3, 300)]);
    let before = entries(&log);

    let mut turn = store.turn();
    log.install_staged(&mut turn, staged, state_at(60, 4), Offset(44))
        .unwrap();
    log.append(&mut turn, &[batch(61, 5, 300)]).unwrap();
    store.submit(turn);
    let mut expected = seeded_entries();
    expected.push((61, 5, 118));
    assert_eq!(entries(&log), expected);
    let fs_before = crash(&fs, CrashMode::PowerKept);
    let reopened = open(&fs_before);
    assert_eq!(entries(&reopened.logs[0].log), before, "it is not synced");
    assert_eq!(files_in(&fs_before, "topics"), 2, "what was staged is gone");

    store.sync().unwrap();
    for _ in 0..2 {
        let fs = crash(&fs, CrashMode::PowerDropped);
        let reopened = open(&fs);
        let recovered = &reopened.logs[0];
        assert_eq!(recovered.damage, None);
        assert_eq!(recovered.applied, state_at(60, 4));
        assert_eq!(entries(&recovered.log), expected);
        assert_eq!(recovered.log.log_start(), Offset(44));
        let reader = recovered.log.reader();
        assert_eq!(recovered.log.term_at(RaftIndex(20)).unwrap(), Some(Term(2)));
        let read = reader.read(Offset(44), Offset(120), u64::MAX).unwrap();
        assert_eq!(read.frames.len(), 38);
        let hard_state = HardState {
            term: Term(4),
            vote: 0,
            commit: RaftIndex(60),
        };
        assert_eq!(recovered.log.hard_state(), hard_state);
        // The same from a checkpoint that knows it, with the journal that told of it.
        let mut checkpoint = store.begin_checkpoint().unwrap();
        checkpoint.sync_segments().unwrap();
        let captured = log.capture(state_at(60, 4));
        checkpoint.finish(vec![captured]).unwrap();
    }
}

#[test]
fn what_is_staged_and_not_installed_goes() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let mut log = create(&opened.store, 7);
    append_synced(&opened.store, &mut log, &[batch(1, 1, 300)]);
    let staged = staged(&mut log);
    assert!(files_in(&fs, "topics") > 2);
    drop(staged);
    assert_eq!(files_in(&fs, "topics"), 1);
    append_synced(&opened.store, &mut log, &[batch(2, 1, 300)]);
    let reopened = open(&crash(&fs, CrashMode::PowerDropped));
    assert_eq!(entries(&reopened.logs[0].log), [(1, 1, 0), (2, 1, 2)]);
}

#[test]
fn what_was_staged_is_due_to_be_synced_each_time_that_it_is_much() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let mut log = create(&opened.store, 7);
    let mut staging = log.stage(FROM).unwrap();
    let mut due = Vec::new();
    for index in 21..101 {
        staging.append(&[batch(index, 3, 1 << 20)]).unwrap();
        if let Some(unsynced) = staging.unsynced() {
            unsynced.sync().unwrap();
            due.push(index);
        }
    }
    assert_eq!(due, [52, 84], "each 32 MiB");
}

#[test]
fn frames_that_do_not_follow_are_not_staged() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let mut log = create(&opened.store, 7);
    let mut staging = log.stage(FROM).unwrap();
    let mut broken = batch(21, 3, 300);
    let mut bytes = broken.payload.to_vec();
    bytes[100] ^= 1;
    broken.payload = bytes.into();
    for frame in [
        batch(20, 3, 300),
        batch(22, 3, 300),
        batch(21, 1, 300),
        broken,
    ] {
        let refused = staging.append(&[frame]);
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    }
    staging.append(&[batch(21, 2, 300)]).unwrap();
}

#[test]
fn staged_frames_that_do_not_lead_to_the_state_are_not_installed() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let store = &opened.store;
    let (mut log, mut other) = (create(store, 7), create(store, 8));
    append_synced(store, &mut log, &[batch(1, 1, 300)]);
    let mut turn = store.turn();
    for (applied, log_start) in [
        (state_at(59, 4), 44),
        (state_at(61, 4), 44),
        (state_at(60, 3), 44),
        (state_at(60, 4), 39),
        (state_at(60, 4), 119),
    ] {
        let staged = staged(&mut log);
        let refused = log.install_staged(&mut turn, staged, applied, Offset(log_start));
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    }
    let of_another = staged(&mut other);
    let refused = log.install_staged(&mut turn, of_another, state_at(60, 4), Offset(44));
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    assert!(turn.is_empty());
    assert_eq!(entries(&log), [(1, 1, 0)]);
}

#[test]
fn state_without_any_frame_is_taken_over_where_all_before_it_has_gone() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let store = &opened.store;
    let mut log = create(store, 7);
    // It has no file, so there is no directory yet.
    append_synced(store, &mut log, &[no_op(1, 1)]);
    let from = StagedFrom {
        index: RaftIndex(61),
        offset: Offset(90),
        term_before: Term(4),
    };
    let staged = log.stage(from).unwrap().finish().unwrap();
    let mut turn = store.turn();
    log.install_staged(&mut turn, staged, state_at(60, 4), Offset(90))
        .unwrap();
    log.append(&mut turn, &[batch(61, 5, 300)]).unwrap();
    store.submit(turn);
    store.sync().unwrap();
    let reopened = open(&crash(&fs, CrashMode::PowerDropped));
    let recovered = &reopened.logs[0];
    assert_eq!(recovered.damage, None);
    assert_eq!(recovered.applied, state_at(60, 4));
    assert_eq!(entries(&recovered.log), [(61, 5, 90)]);
    assert_eq!(recovered.log.begins(), from);
}
