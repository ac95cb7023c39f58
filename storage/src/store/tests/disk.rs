//! Disks that are full or fail.

use super::*;
use crate::Scope;
use crate::fs::{Fault, Operation};

#[test]
fn full_disk_refuses_appends_without_a_trace_and_clears() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let store = &opened.store;
    let mut log = create(store, 7);
    append_synced(store, &mut log, &[batch(1, 1, 1000)]);
    fs.inject(Fault::new(Operation::Create, "topics").no_space().lasting());
    let files = fs.files().len();
    // Two segments' worth in one append: the first would still fit.
    let many: Vec<_> = (2..40).map(|index| batch(index, 1, 1000)).collect();
    let mut turn = store.turn();
    let refused = log.append(&mut turn, &many).unwrap_err();
    assert!(matches!(refused, Error::NoSpace { .. }), "{refused}");
    assert!(refused.is_retriable() && turn.is_empty());
    assert_eq!((log.last_index(), fs.files().len()), (RaftIndex(1), files));
    log.append(&mut turn, &many[..2]).unwrap();
    store.submit(turn);
    store.sync().unwrap();
    assert_eq!(
        entries(&log).len(),
        3,
        "what fits into the active segment goes on"
    );
    fs.clear_faults();
    append_synced(store, &mut log, &many[2..]);
    let expected = entries(&log);
    let reopened = open(&crash(&fs, CrashMode::PowerDropped));
    assert_eq!(entries(&reopened.logs[0].log), expected);
}

#[test]
fn votes_and_checkpoints_go_on_in_the_space_set_aside() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let store = &opened.store;
    let mut log = create(store, 7);
    append_synced(store, &mut log, &[batch(1, 1, 1000)]);
    let used = fs
        .files()
        .values()
        .map(|bytes| bytes.len() as u64)
        .sum::<u64>();
    fs.set_capacity_bytes(used);
    for term in 2..40 {
        vote(store, &mut log, term, 7, 1);
        if term % 10 == 0 {
            checkpoint(store, &mut [&mut log], 1);
        }
    }
    let reopened = open(&crash(&fs, CrashMode::PowerDropped));
    assert_eq!(reopened.logs[0].log.hard_state().term, Term(39));
}

#[test]
fn journal_without_space_keeps_what_waits() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let store = &opened.store;
    let mut log = create(store, 7);
    append_synced(store, &mut log, &[batch(1, 1, 60_000)]);
    fs.inject(
        Fault::new(Operation::Create, "journal")
            .no_space()
            .lasting(),
    );
    let mut term = 2;
    let ticket = loop {
        let mut turn = store.turn();
        let hard_state = HardState {
            term: Term(term),
            vote: 7,
            commit: RaftIndex(1),
        };
        log.set_hard_state(&mut turn, hard_state);
        let ticket = store.submit(turn);
        match store.sync() {
            Ok(_) => term += 1,
            Err(Error::NoSpace { .. }) => break ticket,
            Err(error) => panic!("{error}"),
        }
    };
    assert!(store.has_unsynced() && store.synced() < ticket);
    fs.clear_faults();
    assert_eq!(store.sync().unwrap(), ticket);
    let reopened = open(&crash(&fs, CrashMode::PowerDropped));
    assert_eq!(reopened.logs[0].log.hard_state().term, Term(term));
}

#[test]
fn a_heartbeat_without_space_leaves_nothing_to_sync() {
    // Votes and heartbeats take turns: with one more vote before them, it is the other that meets the full disk.
    let heartbeats_refused = (1..=2).filter(|votes_before| {
        let fs = SimFs::new(1);
        let opened = open(&fs);
        let store = &opened.store;
        let mut log = create(store, 7);
        for term in 1..=*votes_before {
            vote(store, &mut log, term, 7, 0);
        }
        fs.inject(
            Fault::new(Operation::Create, "journal")
                .no_space()
                .lasting(),
        );
        for term in 10.. {
            match store.heartbeat_journal() {
                Ok(()) => assert!(!store.needs_heartbeat()),
                Err(error) => {
                    assert!(matches!(error, Error::NoSpace { .. }), "{error}");
                    assert!(store.needs_heartbeat() && !store.has_unsynced());
                    return true;
                }
            }
            let mut turn = store.turn();
            let hard_state = HardState {
                term: Term(term),
                vote: 7,
                commit: RaftIndex(0),
            };
            log.set_hard_state(&mut turn, hard_state);
            store.submit(turn);
            if store.sync().is_err() {
                break;
            }
        }
        false
    });
    assert_eq!(heartbeats_refused.count(), 1);
}

#[test]
fn floor_refuses_records_and_lets_events_through() {
    let fs = SimFs::new(1);
    drop(open(&fs));
    let floor = Config {
        min_free_bytes: 1 << 20,
        ..config()
    };
    let opened = Store::open(Arc::new(fs.clone()), Box::new(|| 5), floor).unwrap();
    let store = &opened.store;
    let (mut log, mut events) = (create(store, 7), create(store, 8));
    let used = fs
        .files()
        .values()
        .map(|bytes| bytes.len() as u64)
        .sum::<u64>();
    fs.set_capacity_bytes(used + (512 << 10));
    assert!(store.space().refusing);
    let mut turn = store.turn();
    assert!(matches!(
        log.append(&mut turn, &[batch(1, 1, 100)]),
        Err(Error::NoSpace { .. })
    ));
    let event = NewFrame {
        kind: FrameKind::Events,
        payload: vec![1; 3000].into(),
        ..no_op(1, 1)
    };
    events.append(&mut turn, &[event]).unwrap();
    store.submit(turn);
    store.sync().unwrap();
    fs.set_capacity_bytes(used + (4 << 20));
    assert!(!store.space().refusing);
    append_synced(store, &mut log, &[batch(1, 1, 100)]);
}

#[test]
fn failed_sync_of_the_journal_is_final_for_the_directory() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let store = &opened.store;
    let mut log = create(store, 7);
    append_synced(store, &mut log, &[batch(1, 1, 100)]);
    fs.inject(Fault::new(Operation::SyncData, "journal"));
    let ticket = append(store, &mut log, &[batch(2, 1, 100)]);
    assert!(matches!(
        store.sync(),
        Err(Error::Poisoned {
            scope: Scope::Directory,
            ..
        })
    ));
    fs.clear_faults();
    assert!(
        matches!(store.sync(), Err(Error::Poisoned { .. })),
        "no retry counts"
    );
    assert!(store.synced() < ticket);
    let mut turn = store.turn();
    assert!(matches!(
        log.append(&mut turn, &[batch(3, 1, 100)]),
        Err(Error::Poisoned { .. })
    ));
    assert!(store.health().poisoned.is_some());
    assert!(store.begin_checkpoint().is_err());
    assert_eq!(
        log.reader()
            .read(Offset(0), Offset(2), 1)
            .unwrap()
            .frames
            .len(),
        1,
        "reads go on"
    );
}

#[test]
fn failed_write_of_a_segment_is_final_for_its_log_only() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let store = &opened.store;
    let (mut log, mut other) = (create(store, 7), create(store, 8));
    append_synced(store, &mut log, &[batch(1, 1, 100)]);
    append_synced(store, &mut other, &[batch(1, 1, 100)]);
    fs.inject(Fault::new(Operation::Write, "topics/t/7").no_space());
    let mut turn = store.turn();
    other.append(&mut turn, &[batch(2, 1, 100)]).unwrap();
    let failed = log.append(&mut turn, &[batch(2, 1, 100)]);
    assert!(
        matches!(
            failed,
            Err(Error::Poisoned {
                scope: Scope::Log(LogId(7)),
                ..
            })
        ),
        "{failed:?}"
    );
    store.submit(turn);
    store.sync().unwrap();
    let mut turn = store.turn();
    assert!(
        log.append(&mut turn, &[batch(2, 1, 100)]).is_err(),
        "sticky"
    );
    assert_eq!(store.health().poisoned_logs.len(), 1);
    let reopened = open(&crash(&fs, CrashMode::PowerDropped));
    assert_eq!(entries(&reopened.logs[0].log), [(1, 1, 0)]);
    assert_eq!(entries(&reopened.logs[1].log), [(1, 1, 0), (2, 1, 2)]);
}

#[test]
fn segment_that_cannot_be_synced_loses_nothing_and_holds_up_no_checkpoint() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let store = &opened.store;
    let (mut log, mut other) = (create(store, 7), create(store, 8));
    append_synced(store, &mut log, &[batch(1, 1, 100)]);
    append_synced(store, &mut other, &[batch(1, 1, 100)]);
    checkpoint(store, &mut [&mut log, &mut other], 1);
    append_synced(store, &mut log, &[batch(2, 1, 100)]);
    append_synced(store, &mut other, &[batch(2, 1, 100)]);
    fs.inject(Fault::new(Operation::SyncData, "topics/t/7"));
    checkpoint(store, &mut [&mut log, &mut other], 1);
    fs.clear_faults();
    assert_eq!(store.health().poisoned_logs.len(), 1);
    // The journal that had it first is given up, the checkpoint that said where it ends too.
    for index in 3..6 {
        append_synced(store, &mut other, &[batch(index, 1, 100)]);
        checkpoint(store, &mut [&mut log, &mut other], 1);
    }
    assert!(files_in(&fs, "journal") <= 3, "{:?}", fs.files().keys());
    let reopened = open(&crash(&fs, CrashMode::PowerDropped));
    assert_eq!(reopened.logs[0].damage, None);
    assert_eq!(entries(&reopened.logs[0].log), [(1, 1, 0), (2, 1, 2)]);
    assert_eq!(reopened.logs[1].damage, None);
    assert_eq!(entries(&reopened.logs[1].log).len(), 5);
}

#[test]
fn journal_stays_where_what_only_it_has_cannot_be_read() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let store = &opened.store;
    let (mut log, mut other) = (create(store, 7), create(store, 8));
    append_synced(store, &mut log, &[batch(1, 1, 100)]);
    append_synced(store, &mut other, &[batch(1, 1, 100)]);
    fs.inject(Fault::new(Operation::SyncData, "topics/t/7"));
    fs.inject(Fault::new(Operation::Open, "journal"));
    let mut begun = store.begin_checkpoint().unwrap();
    begun.sync_segments().unwrap_err();
    drop(begun);
    let reopened = open(&crash(&fs, CrashMode::PowerDropped));
    assert_eq!(reopened.logs[0].damage, None);
    assert_eq!(entries(&reopened.logs[0].log), [(1, 1, 0)]);
    // What passes is not remembered.
    checkpoint(store, &mut [&mut log, &mut other], 1);
    checkpoint(store, &mut [&mut log, &mut other], 1);
    let reopened = open(&crash(&fs, CrashMode::PowerDropped));
    assert_eq!(entries(&reopened.logs[0].log), [(1, 1, 0)]);
}

#[test]
fn checkpoints_that_fail_take_no_more_of_the_journal() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let store = &opened.store;
    let (mut log, mut failing) = (create(store, 7), create(store, 8));
    append_synced(store, &mut log, &[batch(1, 1, 100)]);
    append_synced(store, &mut failing, &[batch(1, 1, 9000)]);
    fs.inject(Fault::new(Operation::SyncData, "topics/t/8"));
    let before = files_in(&fs, "journal");
    fs.inject(
        Fault::new(Operation::Create, "checkpoint")
            .no_space()
            .lasting(),
    );
    for term in 2..12 {
        vote(store, &mut log, term, 7, 1);
        let mut begun = store.begin_checkpoint().unwrap();
        begun.sync_segments().unwrap();
        let captured = [&mut log, &mut failing]
            .map(|log| log.capture(AppliedState::default()))
            .into();
        assert!(matches!(begun.finish(captured), Err(Error::NoSpace { .. })));
    }
    assert!(
        files_in(&fs, "journal") <= before + 1,
        "{:?}",
        fs.files().keys()
    );
    fs.clear_faults();
    checkpoint(store, &mut [&mut log, &mut failing], 1);
    let reopened = open(&crash(&fs, CrashMode::PowerDropped));
    assert_eq!(reopened.logs[0].log.hard_state().term, Term(11));
    assert_eq!(entries(&reopened.logs[1].log), [(1, 1, 0)]);
    assert_eq!(reopened.logs[1].damage, None);
}

#[test]
fn journal_file_without_a_group_is_used_by_the_next_checkpoint() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let mut log = create(&opened.store, 7);
    append_synced(&opened.store, &mut log, &[batch(1, 1, 100)]);
    checkpoint(&opened.store, &mut [&mut log], 1);
    let newest = |fs: &SimFs| {
        fs.files()
            .into_keys()
            .rfind(|path| path.starts_with("journal"))
    };
    let rolled = newest(&fs);
    for _ in 0..3 {
        checkpoint(&opened.store, &mut [&mut log], 1);
    }
    assert_eq!(newest(&fs), rolled);
    append_synced(&opened.store, &mut log, &[batch(2, 1, 100)]);
    let reopened = open(&crash(&fs, CrashMode::PowerDropped));
    assert_eq!(entries(&reopened.logs[0].log).len(), 2);
}

#[test]
fn idle_log_without_a_batch_opens_nothing() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let mut logs: Vec<_> = (1..100).map(|id| create(&opened.store, id)).collect();
    for log in &mut logs {
        append(&opened.store, log, &[no_op(1, 1)]);
    }
    opened.store.sync().unwrap();
    assert_eq!(opened.store.open_segments(), 0);
    append_synced(&opened.store, &mut logs[0], &[batch(2, 1, 100)]);
    assert_eq!(opened.store.open_segments(), 1);
    drop((opened, logs));
    let reopened = open(&crash(&fs, CrashMode::PowerDropped));
    assert_eq!(reopened.logs.len(), 99);
}

#[test]
fn idle_log_holds_no_file_open_once_it_is_checkpointed() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let store = &opened.store;
    let (mut log, mut busy) = (create(store, 7), create(store, 8));
    append_synced(store, &mut log, &[batch(1, 1, 100)]);
    append_synced(store, &mut busy, &[batch(1, 1, 100)]);
    for _ in 0..3 {
        store.close_unused_segments();
    }
    assert_eq!(store.open_segments(), 2, "they are not synced");
    assert!(store.is_behind());
    checkpoint(store, &mut [&mut log, &mut busy], 1);
    assert!(!store.is_behind());
    store.close_unused_segments();
    append_synced(store, &mut busy, &[batch(2, 1, 100)]);
    store.close_unused_segments();
    assert_eq!(store.open_segments(), 1, "only the one that was used since");
    let read = log.reader().read(Offset(0), Offset(2), 1).unwrap();
    assert_eq!(read.frames.len(), 1);
    append_synced(store, &mut log, &[batch(2, 1, 100)]);
    let reopened = open(&crash(&fs, CrashMode::PowerDropped));
    assert_eq!(entries(&reopened.logs[0].log).len(), 2);
}

#[test]
fn many_logs_are_synced_at_once_before_the_start_ends() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let mut logs: Vec<_> = (1..=1100).map(|id| create(&opened.store, id)).collect();
    for log in &mut logs {
        append(&opened.store, log, &[batch(1, 1, 100)]);
    }
    opened.store.sync().unwrap();
    let fs = crash(&fs, CrashMode::PowerDropped);
    assert_eq!(open(&fs).store.open_segments(), 0);
    // The journal is not needed any more: what the first start wrote is durable.
    for (path, _) in fs.files() {
        if path.starts_with("journal") {
            fs.corrupt(&path, |bytes| bytes.fill(0));
        }
    }
    let reopened = open(&crash(&fs, CrashMode::PowerDropped));
    assert_eq!(reopened.logs.len(), 1100);
    let is_whole = |found: &RecoveredLog| entries(&found.log) == [(1, 1, 0)];
    assert!(reopened.logs.iter().all(is_whole));
}

#[test]
fn checkpoint_syncs_segments_piece_by_piece_as_they_are_due() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let mut logs: Vec<_> = (1..=5).map(|id| create(&opened.store, id)).collect();
    for log in &mut logs {
        append(&opened.store, log, &[batch(1, 1, 100)]);
    }
    opened.store.sync().unwrap();
    let mut asked = vec![];
    let mut checkpoint = opened.store.begin_checkpoint().unwrap();
    let begun = fs.steps();
    let due = |done, all| {
        asked.push((done, all, fs.steps() - begun));
        // None is taken for one, and more than are left for all of them.
        if done < 3 { done } else { 100 }
    };
    checkpoint.sync_segments_as_due(due).unwrap();
    // Each sync is a step of the disk.
    assert_eq!(asked, [(0, 5, 0), (1, 5, 1), (2, 5, 2), (4, 5, 4)]);
}

#[test]
fn space_after_the_last_segment_is_given_back_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let fs = || Arc::new(crate::fs::RealFs::new(directory.path()).unwrap());
    let large = || Config {
        first_segment_bytes: 1 << 20,
        ..config()
    };
    let spec = LogSpec {
        max_segment_bytes: 1 << 20,
        ..spec("t/7")
    };
    let opened = Store::open(fs(), Box::new(|| 5), large()).unwrap();
    let mut turn = opened.store.turn();
    let created = opened
        .store
        .create_log(&mut turn, LogId(7), spec, AppliedState::default());
    let mut log = created.unwrap();
    opened.store.submit(turn);
    append_synced(&opened.store, &mut log, &[batch(1, 1, 1000)]);
    opened.store.close().unwrap();
    drop((opened, log));
    for start in 1..=3 {
        let mut opened = Store::open(fs(), Box::new(move || 5 + start), large()).unwrap();
        let log = &mut opened.logs[0].log;
        assert_eq!(entries(log).len() as u64, start);
        append_synced(&opened.store, log, &[batch(start + 1, 1, 1000)]);
    }
    drop(Store::open(fs(), Box::new(|| 9), large()).unwrap());
    let files = std::fs::read_dir(directory.path().join("topics/t/7")).unwrap();
    let bytes = files.map(|file| {
        use std::os::unix::fs::MetadataExt;
        file.unwrap().metadata().unwrap().blocks() * 512
    });
    let bytes: Vec<u64> = bytes.collect();
    assert_eq!(bytes.len(), 4);
    if cfg!(target_os = "linux") {
        assert!(bytes.iter().sum::<u64>() < 1 << 20, "{bytes:?}");
    }
}
