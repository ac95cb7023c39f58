//! What a start gives back after stops and crashes.

use super::*;

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

#[test]
fn group_torn_by_power_loss_is_as_if_it_never_was() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let store = &opened.store;
    let mut log = create(store, 7);
    append_synced(store, &mut log, &[batch(1, 1, 100)]);
    let expected = entries(&log);
    let steps = fs.steps();
    append(store, &mut log, &[batch(2, 1, 9000)]);
    // The write of the group is done, its sync is not.
    fs.crash_at(steps + 2);
    store.sync().unwrap_err();
    for seed in 0..50 {
        let reopened = open(&fs.crash(CrashMode::PowerTorn, seed));
        let log = &reopened.logs[0];
        assert_eq!(log.damage, None, "seed {seed}");
        let found = entries(&log.log);
        assert!(
            found == expected || found.len() == 2,
            "seed {seed}: {found:?}"
        );
    }
}

#[test]
fn damaged_checkpoint_gives_way_to_the_one_before() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let store = &opened.store;
    let mut log = create(store, 7);
    for index in 1..30 {
        append_synced(store, &mut log, &[batch(index, 1, 700)]);
        if index % 10 == 0 {
            checkpoint(store, &mut [&mut log], index);
        }
    }
    vote(store, &mut log, 4, 2, 29);
    let expected = entries(&log);
    let fs = crash(&fs, CrashMode::PowerDropped);
    let newest = fs
        .files()
        .keys()
        .filter(|path| path.ends_with(".checkpoint"))
        .max()
        .cloned()
        .unwrap();
    fs.corrupt(&newest, |bytes| *bytes.last_mut().unwrap() ^= 1);

    let reopened = open(&fs);
    assert_eq!(reopened.logs[0].damage, None);
    assert_eq!(entries(&reopened.logs[0].log), expected);
    assert_eq!(reopened.logs[0].applied.index, RaftIndex(10));
    assert_eq!(
        reopened.logs[0].log.hard_state(),
        HardState {
            term: Term(4),
            vote: 2,
            commit: RaftIndex(29)
        }
    );

    // The checkpoint that was written then is as good as any.
    let fs = crash(&fs, CrashMode::PowerDropped);
    assert_eq!(entries(&open(&fs).logs[0].log), expected);
}

#[test]
fn start_without_any_whole_checkpoint_is_refused() {
    let fs = SimFs::new(1);
    drop(open(&fs));
    let fs = crash(&fs, CrashMode::PowerKept);
    for path in fs
        .files()
        .keys()
        .filter(|path| path.ends_with(".checkpoint"))
    {
        fs.corrupt(path, |bytes| bytes[20] ^= 1);
    }
    assert!(matches!(try_open(&fs), Err(Error::Corrupt { .. })));
}

#[test]
fn directory_without_identity_but_with_logs_is_refused() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let mut log = create(&opened.store, 7);
    append_synced(&opened.store, &mut log, &[no_op(1, 1)]);
    checkpoint(&opened.store, &mut [&mut log], 1);
    let fs = crash(&fs, CrashMode::PowerDropped);
    fs.remove_file(Path::new("identity")).unwrap();
    assert!(matches!(try_open(&fs), Err(Error::Corrupt { path, .. }) if path == "identity"));
}

#[test]
fn second_store_is_kept_out() {
    let fs = SimFs::new(1);
    let _opened = open(&fs);
    assert!(matches!(try_open(&fs), Err(Error::Locked { .. })));
}

#[test]
fn identity_is_given_once() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let cluster = Uuid::from_u128(5);
    let identity = opened.store.adopt(cluster, 3).unwrap();
    assert_eq!(identity.incarnation, opened.identity.incarnation);
    assert_eq!(opened.store.adopt(cluster, 3).unwrap(), identity);
    assert!(matches!(
        opened.store.adopt(cluster, 4),
        Err(Error::Invalid { .. })
    ));
    assert_eq!(
        open(&crash(&fs, CrashMode::PowerDropped)).identity,
        identity
    );
}

#[test]
fn deleted_log_goes_with_its_files_and_another_may_take_its_place() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let store = &opened.store;
    let (mut gone, mut kept) = (create(store, 7), create(store, 8));
    append_synced(store, &mut gone, &[batch(1, 1, 100)]);
    append_synced(store, &mut kept, &[batch(1, 1, 100)]);
    checkpoint(store, &mut [&mut gone, &mut kept], 1);
    let mut turn = store.turn();
    store.delete_log(&mut turn, gone);
    store.submit(turn);
    store.sync().unwrap();
    assert_eq!(
        files_in(&fs, "topics/t/7"),
        1,
        "the last checkpoint names it"
    );
    let after_delete = crash(&fs, CrashMode::PowerDropped);
    let reopened = open(&after_delete);
    assert_eq!(reopened.logs.len(), 1);
    assert_eq!(files_in(&after_delete, "topics/t/7"), 0);
    assert_eq!(reopened.unknown_directories, Vec::<String>::new());

    checkpoint(store, &mut [], 0);
    assert_eq!(
        files_in(&fs, "topics/t/7"),
        1,
        "the checkpoint before names it"
    );
    checkpoint(store, &mut [], 0);
    assert_eq!(files_in(&fs, "topics/t/7"), 0);
    let mut turn = store.turn();
    let applied = AppliedState::default();
    let mut other = store
        .create_log(&mut turn, LogId(9), spec("t/7"), applied)
        .unwrap();
    store.submit(turn);
    append_synced(store, &mut other, &[batch(1, 9, 100)]);
    let reopened = open(&crash(&fs, CrashMode::PowerDropped));
    assert_eq!(
        entries(&reopened.logs[1].log),
        [(1, 9, 0)],
        "the directory is another log's now"
    );
}

#[test]
fn trimmed_segments_leave_after_two_checkpoints_and_their_files_are_used_again() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let store = &opened.store;
    let mut log = create(store, 7);
    for index in 1..200 {
        append_synced(store, &mut log, &[batch(index, 1, 1000)]);
    }
    vote(store, &mut log, 1, 7, 199);
    let before = files_in(&fs, "topics");
    let reader = log.reader();
    log.set_log_start(Offset(200));
    checkpoint(store, &mut [&mut log], 199);
    assert_eq!(files_in(&fs, "topics"), before);
    assert!(log.first_index() > RaftIndex(1) && log.first_index() <= RaftIndex(101));
    assert_eq!(
        log.term_at(log.first_index().previous()).unwrap(),
        Some(Term(1))
    );
    assert!(matches!(
        log.term_at(RaftIndex(1)),
        Err(Error::Compacted { .. })
    ));
    assert!(matches!(
        reader.read(Offset(0), Offset(10), 1),
        Err(Error::OffsetOutOfRange { .. })
    ));
    let expected = entries(&log);
    checkpoint(store, &mut [], 0);
    assert!(files_in(&fs, "topics") < before);
    let pooled = files_in(&fs, "recycled");
    let reopened = open(&crash(&fs, CrashMode::PowerDropped));
    assert_eq!(entries(&reopened.logs[0].log), expected);
    assert_eq!(reopened.logs[0].log.log_start(), Offset(200));

    // Bytes of the files' former life are never taken for frames.
    for index in 200..300 {
        append_synced(store, &mut log, &[batch(index, 2, 1000)]);
    }
    assert!(files_in(&fs, "recycled") < pooled);
    let expected = entries(&log);
    for mode in [CrashMode::Process, CrashMode::PowerDropped] {
        let reopened = open(&crash(&fs, mode));
        assert_eq!(entries(&reopened.logs[0].log), expected);
        assert_eq!(reopened.logs[0].damage, None);
    }
}

#[test]
fn compacted_frames_of_an_event_log_leave_with_the_checkpoint() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let store = &opened.store;
    let mut log = create(store, 7);
    let events = |index| NewFrame {
        kind: FrameKind::Events,
        payload: vec![7; 500].into(),
        ..no_op(index, 1)
    };
    for index in 1..200 {
        append_synced(store, &mut log, &[events(index)]);
    }
    vote(store, &mut log, 1, 7, 199);
    log.compact(RaftIndex(190));
    checkpoint(store, &mut [&mut log], 150);
    let first = log.first_index();
    assert!(
        first > RaftIndex(1) && first <= RaftIndex(151),
        "nothing that is not applied leaves: {first}"
    );
    assert_eq!(entries(&log).len() as u64, 200 - first.0);
    let reopened = open(&crash(&fs, CrashMode::PowerDropped));
    assert_eq!(reopened.logs[0].log.first_index(), first);
    assert_eq!(
        reopened.logs[0].log.term_at(first.previous()).unwrap(),
        Some(Term(1))
    );
}

#[test]
fn large_snapshots_are_files_that_go_with_their_checkpoints() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let store = &opened.store;
    let mut log = create(store, 7);
    for index in 1..5 {
        append_synced(store, &mut log, &[no_op(index, 1)]);
        let mut begun = store.begin_checkpoint().unwrap();
        begun.sync_segments().unwrap();
        let snapshot = Bytes::from(vec![u8::try_from(index).unwrap(); 5000]);
        let (index, term) = (RaftIndex(index), Term(1));
        let applied = AppliedState {
            index,
            term,
            conf_state: Bytes::new(),
            snapshot,
        };
        begun.finish(vec![log.capture(applied)]).unwrap();
    }
    assert_eq!(
        fs.files()
            .keys()
            .filter(|path| path.ends_with(".snapshot"))
            .count(),
        2
    );
    let reopened = open(&crash(&fs, CrashMode::PowerDropped));
    assert_eq!(reopened.logs[0].applied.snapshot, vec![4; 5000]);
}

#[test]
fn changed_log_that_is_not_captured_stops_the_checkpoint() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let mut log = create(&opened.store, 7);
    append_synced(&opened.store, &mut log, &[no_op(1, 1)]);
    let begun = opened.store.begin_checkpoint().unwrap();
    assert_eq!(begun.changed(), [LogId(7)]);
    assert!(
        matches!(opened.store.begin_checkpoint(), Err(Error::Invalid { .. })),
        "one at a time"
    );
    assert!(matches!(begun.finish(vec![]), Err(Error::Invalid { .. })));
    checkpoint(&opened.store, &mut [&mut log], 1);
}

#[test]
fn pressure_rises_with_what_is_written_and_falls_with_a_checkpoint() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let store = &opened.store;
    let mut log = create(store, 7);
    let mut index = 0;
    for pressure in [Pressure::Due, Pressure::TurnsMustWait] {
        while store.checkpoint_pressure() < pressure {
            index += 1;
            append_synced(store, &mut log, &[batch(index, 1, 5000)]);
        }
    }
    checkpoint(store, &mut [&mut log], index);
    assert_eq!(store.checkpoint_pressure(), Pressure::None);
}

#[test]
fn unknown_directory_is_reported_and_kept() {
    let fs = SimFs::new(1);
    drop(open(&fs));
    fs.create_dir_all(Path::new("topics/a/1")).unwrap();
    fs.create(Path::new("topics/a/1/0000000001.segment"), 4096)
        .unwrap();
    assert_eq!(open(&fs).unknown_directories, ["topics/a/1"]);
    assert_eq!(files_in(&fs, "topics/a/1"), 1);
}

#[test]
fn idle_journal_says_that_its_last_group_was_synced() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let store = &opened.store;
    let mut log = create(store, 7);
    assert!(store.has_unsynced());
    append_synced(store, &mut log, &[no_op(1, 1)]);
    assert!(!store.has_unsynced() && store.needs_heartbeat());
    store.heartbeat_journal().unwrap();
    assert!(!store.needs_heartbeat());
    let steps = fs.steps();
    store.heartbeat_journal().unwrap();
    assert_eq!(fs.steps(), steps, "once is enough");

    let mut turn = store.turn();
    log.set_hard_state(
        &mut turn,
        HardState {
            commit: RaftIndex(1),
            ..log.hard_state()
        },
    );
    assert!(turn.is_empty());
    assert_eq!(
        store.submit(turn),
        store.synced(),
        "a commit index waits for nobody"
    );
    assert!(!store.has_unsynced() && store.needs_heartbeat());
    store.heartbeat_journal().unwrap();
    assert_eq!(
        open(&crash(&fs, CrashMode::PowerDropped)).logs[0]
            .log
            .hard_state()
            .commit,
        RaftIndex(1)
    );
}

fn state_at(index: u64, term: u64) -> AppliedState {
    AppliedState {
        index: RaftIndex(index),
        term: Term(term),
        conf_state: Bytes::from_static(b"members then"),
        snapshot: Bytes::from_static(b"the state then"),
    }
}

/// A log of ten batches, of which five are committed, and a reader's slice of the first.
fn ten_batches(store: &Store) -> (Log, Bytes) {
    let mut log = create(store, 7);
    let frames: Vec<_> = (1..=10).map(|index| batch(index, 1, 3000)).collect();
    append_synced(store, &mut log, &frames);
    vote(store, &mut log, 2, 7, 5);
    let read = log.reader().read(Offset(0), Offset(2), 1).unwrap();
    (log, read.frames[0].payload.clone())
}

#[test]
fn snapshot_takes_the_place_of_the_log_when_it_is_synced() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let store = &opened.store;
    let (mut log, held) = ten_batches(store);
    let before = entries(&log);
    let seen = held.to_vec();

    let mut turn = store.turn();
    log.install_snapshot(&mut turn, state_at(30, 3), Offset(70), Offset(40))
        .unwrap();
    log.append(&mut turn, &[batch(31, 4, 100)]).unwrap();
    store.submit(turn);
    let reopened = open(&crash(&fs, CrashMode::PowerKept));
    assert_eq!(entries(&reopened.logs[0].log), before, "it is not synced");

    store.sync().unwrap();
    assert_eq!(entries(&log), [(31, 4, 70)]);
    assert_eq!(held, seen, "a reader keeps what it holds");
    let below = log.reader().read(Offset(69), Offset(72), 1);
    assert!(matches!(below, Err(Error::OffsetOutOfRange { .. })));
    for _ in 0..2 {
        let fs = crash(&fs, CrashMode::PowerDropped);
        let reopened = open(&fs);
        let recovered = &reopened.logs[0];
        assert_eq!(recovered.damage, None);
        assert_eq!(recovered.applied, state_at(30, 3));
        assert_eq!(entries(&recovered.log), [(31, 4, 70)]);
        assert_eq!(recovered.log.log_start(), Offset(40));
        let hard_state = HardState {
            term: Term(3),
            vote: 0,
            commit: RaftIndex(30),
        };
        assert_eq!(recovered.log.hard_state(), hard_state);
        assert_eq!(files_in(&fs, "topics"), 1, "what was replaced has no files");

        // The same from a checkpoint that knows it, with the journal that told of it.
        let mut checkpoint = store.begin_checkpoint().unwrap();
        checkpoint.sync_segments().unwrap();
        let captured = log.capture(state_at(30, 3));
        checkpoint.finish(vec![captured]).unwrap();
    }
    drop(held);
    append_synced(store, &mut log, &[batch(32, 4, 100)]);
    let mut last = store.begin_checkpoint().unwrap();
    last.sync_segments().unwrap();
    let captured = log.capture(state_at(30, 3));
    last.finish(vec![captured]).unwrap();
    assert_eq!(files_in(&fs, "topics"), 1);
}

#[test]
fn snapshot_never_takes_back_what_was_committed() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let store = &opened.store;
    let (mut log, _) = ten_batches(store);
    let before = entries(&log);
    let mut turn = store.turn();
    let too_large = AppliedState {
        snapshot: vec![0; 65 << 20].into(),
        ..state_at(30, 3)
    };
    for (applied, next_offset, log_start) in [
        (state_at(5, 1), 10, 0),
        (state_at(u64::MAX, 1), 10, 0),
        (state_at(6, 1), 10, 11),
        (too_large, 10, 0),
    ] {
        let refused =
            log.install_snapshot(&mut turn, applied, Offset(next_offset), Offset(log_start));
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    }
    assert!(turn.is_empty());
    assert_eq!(entries(&log), before);
    // Above the commit index a suffix that others do not have may go, even for a state of fewer entries.
    log.install_snapshot(&mut turn, state_at(6, 1), Offset(12), Offset(0))
        .unwrap();
    assert_eq!(
        (log.last_index(), log.next_offset()),
        (RaftIndex(6), Offset(12))
    );
}

#[test]
fn creation_that_a_crash_undid_can_be_repeated() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let mut log = create(&opened.store, 7);
    append(&opened.store, &mut log, &[batch(1, 1, 300)]);
    // The file and its name reach the disk, the journal does not.
    let fs = crash(&fs, CrashMode::PowerKept);
    let opened = open(&fs);
    assert!(opened.logs.is_empty() && opened.damage.is_none());
    assert_eq!(opened.unknown_directories, ["topics/t/7"]);
    assert_eq!(files_in(&fs, "topics/t/7"), 1, "nobody asked for it yet");
    let mut log = create(&opened.store, 7);
    assert_eq!(files_in(&fs, "topics/t/7"), 0);
    append_synced(&opened.store, &mut log, &[batch(1, 4, 300)]);
    let opened = open(&crash(&fs, CrashMode::PowerDropped));
    assert_eq!(entries(&opened.logs[0].log), [(1, 4, 0)]);
}

#[test]
fn directory_without_a_log_is_kept_where_a_checkpoint_was_damaged() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let mut log = create(&opened.store, 7);
    append(&opened.store, &mut log, &[batch(1, 1, 300)]);
    let fs = crash(&fs, CrashMode::PowerKept);
    drop(open(&fs));
    let checkpoints = fs
        .files()
        .into_keys()
        .filter(|path| path.ends_with(".checkpoint"));
    let newest = checkpoints.max().unwrap();
    fs.corrupt(&newest, |bytes| bytes[20] ^= 1);
    for _ in 0..2 {
        let opened = open(&fs);
        let mut turn = opened.store.turn();
        let applied = AppliedState::default();
        let created = opened
            .store
            .create_log(&mut turn, LogId(7), spec("t/7"), applied);
        assert!(matches!(created, Err(Error::Corrupt { .. })), "{created:?}");
        assert_eq!(files_in(&fs, "topics/t/7"), 2, "the segment and the mark");
    }
}

#[test]
fn tail_of_a_log_begins_with_a_whole_segment() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let mut log = create(&opened.store, 7);
    append_synced(&opened.store, &mut log, &[no_op(1, 1)]);
    assert_eq!(log.tail_start(1), RaftIndex(1), "a head counts");
    for index in 2..60 {
        append_synced(&opened.store, &mut log, &[batch(index, 1, 1000)]);
    }
    let segments = log.segments();
    let [.., before, last] = &segments[..] else {
        panic!("{segments:?}");
    };
    assert_eq!(log.tail_start(0), RaftIndex(60));
    // Two records for each index from the second on.
    let index_of = |offset: Offset| RaftIndex(2 + offset.0 / 2);
    assert_eq!(log.tail_start(1), index_of(last.base_offset));
    assert_eq!(log.tail_start(last.bytes), index_of(last.base_offset));
    let one_more = log.tail_start(last.bytes + 1);
    assert_eq!(one_more, index_of(before.base_offset));
    assert_eq!(log.tail_start(1 << 30), RaftIndex(1));
}

#[test]
fn commit_index_stays_while_the_first_batch_opens_a_file_under_a_checkpoint() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let store = &opened.store;
    let mut log = create(store, 7);
    append_synced(store, &mut log, &[no_op(1, 1)]);
    vote(store, &mut log, 1, 7, 1);
    let mut checkpoint = store.begin_checkpoint().unwrap();
    checkpoint.sync_segments().unwrap();
    append_synced(store, &mut log, &[batch(2, 1, 300)]);
    let captured = log.capture(AppliedState {
        conf_state: Bytes::from_static(b"c"),
        ..AppliedState::default()
    });
    checkpoint.finish(vec![captured]).unwrap();
    let reopened = open(&crash(&fs, CrashMode::PowerDropped));
    let log = &reopened.logs[0].log;
    assert_eq!(log.hard_state().commit, RaftIndex(1));
    assert_eq!(entries(log), [(1, 1, 0), (2, 1, 0)]);
}
