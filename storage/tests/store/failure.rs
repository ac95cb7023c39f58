//! Disks that answer with errors.

use highwater_storage::fs::{CrashMode, Fault, Operation, SimFs};
use highwater_storage::{
    AppliedState, Error, Log, LogId, LogSpec, Offset, Opened, RaftIndex, Scope, Store, Term, Ticket,
};

use crate::model::new_batch;
use crate::recovery::{check, frames_of, open};
use crate::workload::Workload;

use std::sync::Arc;

struct Two {
    fs: SimFs,
    store: Arc<Store>,
    one: Log,
    two: Log,
}

/// A store with two logs of one batch each, all of it durable.
fn two_logs() -> Two {
    let fs = SimFs::new(1);
    let Opened { store, .. } = open(&fs, 1).unwrap();
    let mut turn = store.turn();
    let mut create = |id: u64| {
        let spec = LogSpec {
            directory: format!("topics/t/{id}"),
            max_segment_bytes: 8192,
            write_caching: false,
        };
        store
            .create_log(&mut turn, LogId(id), spec, AppliedState::default())
            .unwrap()
    };
    let (one, two) = (create(1), create(2));
    store.submit(turn);
    let mut logs = Two {
        fs,
        store,
        one,
        two,
    };
    append(&logs.store, &mut logs.one).unwrap();
    append(&logs.store, &mut logs.two).unwrap();
    logs.store.sync().unwrap();
    logs
}

fn append(store: &Store, log: &mut Log) -> Result<Ticket, Error> {
    let mut turn = store.turn();
    let batch = new_batch(
        log.last_index().next(),
        Term(1),
        2,
        1000,
        log.last_index().0,
    );
    log.append(&mut turn, &[batch])?;
    Ok(store.submit(turn))
}

fn checkpoint(store: &Store, logs: &mut [&mut Log]) -> Result<(), Error> {
    let mut checkpoint = store.begin_checkpoint()?;
    checkpoint.sync_segments()?;
    let captured = logs
        .iter_mut()
        .map(|log| log.capture(AppliedState::default()))
        .collect();
    checkpoint.finish(captured)
}

fn assert_poisoned(error: &Error, scope: Scope) {
    assert!(
        matches!(error, Error::Poisoned { scope: found, .. } if *found == scope),
        "{error}"
    );
}

/// Fails one operation on the journal and expects the directory to be done for.
fn journal_fails(fault: Fault) {
    let mut logs = two_logs();
    logs.fs.inject(fault);
    let ticket = append(&logs.store, &mut logs.one).unwrap();
    assert_poisoned(&logs.store.sync().unwrap_err(), Scope::Directory);
    assert_poisoned(&logs.store.sync().unwrap_err(), Scope::Directory);
    assert!(logs.store.synced() < ticket, "never done");
    assert!(logs.store.health().poisoned.is_some());
    if let Ok(later) = append(&logs.store, &mut logs.two) {
        assert!(logs.store.sync().is_err() && logs.store.synced() < later);
    }
    assert!(checkpoint(&logs.store, &mut [&mut logs.one, &mut logs.two]).is_err());
    assert!(logs.store.synced() < ticket, "never done");
    assert!(!frames_of(&logs.one).is_empty(), "reads go on");
    for mode in [
        CrashMode::Process,
        CrashMode::PowerDropped,
        CrashMode::PowerTorn,
    ] {
        let opened = open(&logs.fs.crash(mode, 3), 3).unwrap();
        for recovered in &opened.logs {
            assert!(
                recovered.log.last_index() >= RaftIndex(1),
                "what was promised before is there"
            );
        }
    }
}

#[test]
fn failed_journal_sync_ends_all_promises_for_good() {
    journal_fails(Fault::new(Operation::SyncData, "journal"));
}

#[test]
fn failed_journal_write_ends_all_promises_for_good() {
    journal_fails(Fault::new(Operation::Write, "journal"));
}

#[test]
fn full_disk_inside_the_allocated_journal_ends_all_promises_for_good() {
    journal_fails(Fault::new(Operation::Write, "journal").no_space());
}

#[test]
fn failed_segment_write_poisons_that_log_alone() {
    let mut logs = two_logs();
    logs.fs.inject(Fault::new(Operation::Write, "topics/t/1"));
    append(&logs.store, &mut logs.one).unwrap_err();
    assert_poisoned(
        &append(&logs.store, &mut logs.one).unwrap_err(),
        Scope::Log(LogId(1)),
    );
    assert_eq!(
        logs.store
            .health()
            .poisoned_logs
            .iter()
            .map(|(id, _)| *id)
            .collect::<Vec<_>>(),
        [LogId(1)]
    );
    assert!(logs.store.health().poisoned.is_none());
    let ticket = append(&logs.store, &mut logs.two).unwrap();
    assert!(
        logs.store.sync().unwrap() >= ticket,
        "the other log goes on"
    );
    assert_eq!(frames_of(&logs.one).len(), 1, "reads go on");
    let opened = open(&logs.fs.crash(CrashMode::PowerDropped, 3), 3).unwrap();
    let lengths: Vec<_> = opened
        .logs
        .iter()
        .map(|recovered| frames_of(&recovered.log).len())
        .collect();
    assert_eq!(lengths, [1, 2]);
}

/// One failed sync of a segment of log 1, and what goes on after it: checkpoints, and appends to log 2. Then a crash at every step since.
fn nothing_is_lost_after_a_failed_sync_of(segment: &str) {
    let mut logs = two_logs();
    checkpoint(&logs.store, &mut [&mut logs.one, &mut logs.two]).unwrap();
    for _ in 0..30 {
        append(&logs.store, &mut logs.one).unwrap();
        logs.store.sync().unwrap();
    }
    let acknowledged = frames_of(&logs.one);
    assert!(logs.one.segments().len() > 3);
    logs.fs.inject(Fault::new(Operation::SyncData, segment));
    logs.fs.record_images();
    // How many frames of log 2 were acknowledged from each step on.
    let mut others = vec![(0, 1)];
    for count in 2..6 {
        checkpoint(&logs.store, &mut [&mut logs.one, &mut logs.two]).unwrap();
        assert_poisoned(
            &append(&logs.store, &mut logs.one).unwrap_err(),
            Scope::Log(LogId(1)),
        );
        assert!(logs.store.health().poisoned.is_none());
        append(&logs.store, &mut logs.two).unwrap();
        logs.store.sync().unwrap();
        others.push((logs.fs.steps(), count));
    }
    for image in logs.fs.take_images() {
        for mode in [
            CrashMode::Process,
            CrashMode::PowerDropped,
            CrashMode::PowerTorn,
        ] {
            let context = format!("{image:?} {mode:?}");
            let fs = image.crash(mode, image.step);
            fs.record_images();
            let opened = open(&fs, 3).unwrap_or_else(|error| panic!("{context}: {error}"));
            let is_whole = |opened: &Opened| {
                let [one, two] = &opened.logs[..] else {
                    panic!("two logs")
                };
                assert_eq!(frames_of(&one.log), acknowledged, "{context}");
                assert_eq!((&one.damage, &two.damage), (&None, &None), "{context}");
                let mut least = others.iter().filter(|(step, _)| *step <= image.step);
                let (_, least) = least.next_back().unwrap();
                assert!(frames_of(&two.log).len() >= *least, "{context}");
            };
            is_whole(&opened);
            // Recovery may be cut short, too.
            let recovering = fs.take_images();
            let second = &recovering[usize::try_from(image.step).unwrap() % recovering.len()];
            is_whole(&open(&second.crash(CrashMode::PowerTorn, image.step), 3).unwrap());
        }
    }
}

#[test]
fn failed_sync_of_a_sealed_segment_loses_nothing_that_the_journal_has() {
    nothing_is_lost_after_a_failed_sync_of("topics/t/1/0000000001");
    nothing_is_lost_after_a_failed_sync_of("topics/t/1/0000000003");
}

#[test]
fn failed_sync_of_the_active_segment_loses_nothing_that_the_journal_has() {
    let mut logs = two_logs();
    for _ in 0..30 {
        append(&logs.store, &mut logs.one).unwrap();
    }
    let paths = logs.fs.files().into_keys();
    let newest = paths.filter(|path| path.starts_with("topics/t/1/")).max();
    nothing_is_lost_after_a_failed_sync_of(&newest.unwrap());
}

#[test]
fn failed_sync_of_a_directory_loses_nothing_that_the_journal_has() {
    let mut logs = two_logs();
    let acknowledged = frames_of(&logs.one);
    logs.fs.inject(Fault::new(Operation::SyncDir, "topics/t/1"));
    for _ in 0..3 {
        checkpoint(&logs.store, &mut [&mut logs.one, &mut logs.two]).unwrap();
        append(&logs.store, &mut logs.two).unwrap();
        logs.store.sync().unwrap();
    }
    let opened = open(&logs.fs.crash(CrashMode::PowerDropped, 3), 3).unwrap();
    assert_eq!(frames_of(&opened.logs[0].log), acknowledged);
    assert_eq!(opened.logs[0].damage, None);
}

#[test]
fn full_disk_refuses_and_clears_by_itself() {
    let mut logs = two_logs();
    logs.fs.set_capacity_bytes(0);
    let mut refused = false;
    for _ in 0..50 {
        let before = (logs.one.last_index(), logs.one.next_offset());
        match append(&logs.store, &mut logs.one) {
            Ok(_) => {}
            Err(error) => {
                assert!(
                    matches!(error, Error::NoSpace { .. }) && error.is_retriable(),
                    "{error}"
                );
                assert_eq!(
                    (logs.one.last_index(), logs.one.next_offset()),
                    before,
                    "nothing changed"
                );
                refused = true;
                break;
            }
        }
        if let Err(error) = logs.store.sync() {
            assert!(matches!(error, Error::NoSpace { .. }), "{error}");
        }
    }
    assert!(refused, "fifty batches do not fit");
    let first = logs
        .one
        .reader()
        .read(Offset(0), Offset(2), 1)
        .unwrap()
        .frames;
    assert_eq!(first.len(), 1, "reads go on");
    let mut turn = logs.store.turn();
    let last = logs.one.last_index();
    logs.one.truncate_suffix(&mut turn, last).unwrap();
    let two = logs.two;
    logs.store.delete_log(&mut turn, two);
    logs.store.submit(turn);
    logs.fs.set_capacity_bytes(1 << 30);
    append(&logs.store, &mut logs.one).unwrap();
    let ticket = logs.store.sync().unwrap();
    assert_eq!(ticket, logs.store.synced());
    assert!(logs.store.health().poisoned.is_none() && logs.store.health().poisoned_logs.is_empty());
    let kept = frames_of(&logs.one);
    let opened = open(&logs.fs.crash(CrashMode::PowerDropped, 3), 3).unwrap();
    assert_eq!(opened.logs.len(), 1);
    assert_eq!(frames_of(&opened.logs[0].log), kept);
}

/// Runs workloads into one fault each, wherever it strikes, and crashes there.
fn promises_survive(faults: &[Fault]) {
    let mut struck = 0;
    for seed in 0..40 {
        for fault in faults {
            let mut workload = Workload::new(seed);
            workload.fs.inject(fault.clone().after(seed * 3));
            if workload.run(30).is_ok() {
                continue;
            }
            struck += 1;
            let poisoned = workload.store.health().poisoned_logs.into_iter();
            workload.model.poisoned = poisoned.map(|(id, _)| id).collect();
            for mode in [
                CrashMode::Process,
                CrashMode::PowerDropped,
                CrashMode::PowerTorn,
            ] {
                let fs = workload.fs.crash(mode, seed);
                let opened = open(&fs, seed)
                    .unwrap_or_else(|error| panic!("seed {seed} {fault:?} {mode:?}: {error}"));
                println!("seed {seed}, {fault:?}, {mode:?}");
                check(&workload.model, workload.fs.steps() + 1, mode, &opened);
            }
        }
    }
    assert!(struck > 20, "only {struck} faults struck");
}

#[test]
fn promises_made_before_an_error_survive_a_crash_after_it() {
    promises_survive(&[
        Fault::new(Operation::Write, "journal"),
        Fault::new(Operation::Write, "topics"),
        Fault::new(Operation::SyncData, "journal"),
        Fault::new(Operation::SyncData, "topics"),
        Fault::new(Operation::SyncData, ""),
        Fault::new(Operation::SyncDir, ""),
        Fault::new(Operation::Rename, ""),
        Fault::new(Operation::RemoveFile, ""),
        Fault::new(Operation::Create, ""),
        Fault::new(Operation::Allocate, "").no_space(),
    ]);
}
