//! Going on without what is lost.

use super::*;
use crate::{Finding, Repair};

fn plan(fs: &SimFs) -> Repair {
    Repair::plan(Arc::new(fs.clone()), Box::new(|| 77), config()).unwrap()
}

/// Repairs, and returns what was found and the log as the next start has it.
fn repaired(fs: &SimFs) -> (Vec<Finding>, Opened) {
    let repair = plan(fs);
    let findings = repair.findings().to_vec();
    repair.execute().unwrap();
    assert_eq!(plan(fs).findings(), [], "nothing is left to repair");
    (findings, open(&crash(fs, CrashMode::PowerDropped)))
}

fn kinds(log: &Log) -> Vec<FrameKind> {
    let frames = log
        .read(log.first_index(), log.last_index().next(), u64::MAX)
        .unwrap();
    frames.iter().map(|frame| frame.kind).collect()
}

/// Appends after what is there.
fn goes_on(opened: &mut Opened) {
    let log = &mut opened.logs[0].log;
    let term = log.hard_state().term.0.max(9);
    append_synced(
        &opened.store,
        log,
        &[batch(log.last_index().0 + 1, term, 100)],
    );
}

#[test]
fn hole_of_a_damaged_journal_is_filled_with_the_same_indexes_and_offsets() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let mut log = create(&opened.store, 7);
    for index in 1..10 {
        append_synced(&opened.store, &mut log, &[batch(index, 1, 300)]);
    }
    vote(&opened.store, &mut log, 2, 7, 9);
    let fs = crash(&fs, CrashMode::PowerDropped);
    super::damage::flip_in_journal(&fs, &batch(5, 1, 300).payload[30..]);
    let (findings, mut opened) = repaired(&fs);
    assert_eq!(findings.len(), 1);
    let text = findings[0].to_string();
    assert!(
        text.contains("indexes 5 to 6 are lost, with offsets 8 to 10"),
        "{text}"
    );
    let expected: Vec<_> = (1..10).map(|index| (index, 1, 2 * (index - 1))).collect();
    assert_eq!(entries(&opened.logs[0].log), expected);
    assert_eq!(kinds(&opened.logs[0].log)[4], FrameKind::Lost);
    let frames = opened.logs[0]
        .log
        .reader()
        .read(Offset(8), Offset(18), 1)
        .unwrap()
        .frames;
    assert_eq!(
        (frames[0].kind, frames[0].record_count),
        (FrameKind::Lost, 2)
    );
    goes_on(&mut opened);
}

#[test]
fn log_whose_creation_is_lost_is_not_created_again_over_its_files() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let mut log = create(&opened.store, 7);
    append_synced(&opened.store, &mut log, &[batch(1, 1, 300)]);
    append_synced(&opened.store, &mut log, &[batch(2, 1, 300)]);
    opened.store.heartbeat_journal().unwrap();
    let directory = log.spec().directory.clone();
    drop((opened, log));
    super::damage::flip_in_journal(&fs, &batch(1, 1, 300).payload[30..]);
    let opened = open(&fs);
    assert!(opened.damage.is_some() && opened.logs.is_empty());
    assert_eq!(opened.unknown_directories, [directory.as_str()]);
    drop(opened);
    // Also when the damaged journal is no longer there.
    let opened = open(&fs);
    let mut turn = opened.store.turn();
    let created =
        opened
            .store
            .create_log(&mut turn, LogId(7), spec("t/7"), AppliedState::default());
    assert!(matches!(created, Err(Error::Corrupt { .. })), "{created:?}");
    drop(opened);
    let segment = Path::new(&directory).join("0000000001.segment");
    fs.rename(&segment, Path::new("kept")).unwrap();
    fs.remove_file(&Path::new(&directory).join("unclaimed"))
        .unwrap();
    fs.remove_dir(Path::new(&directory)).unwrap();
    create(&open(&fs).store, 7);
}

/// Also where the hole ends one full segment and the next begins right behind it, and where it is a segment's opening: then that
/// segment is lost, and what comes after is not.
#[test]
fn hole_at_any_place_is_filled() {
    const BATCHES: u64 = 90;
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let mut log = create(&opened.store, 7);
    opened.store.sync().unwrap();
    for index in 1..=BATCHES {
        append_synced(&opened.store, &mut log, &[batch(index, 1, 1000)]);
    }
    vote(&opened.store, &mut log, 2, 7, BATCHES);
    assert!(files_in(&fs, "topics/t/7") > 1, "several segments");
    let expected: Vec<_> = (1..=BATCHES)
        .map(|index| (index, 1, 2 * (index - 1)))
        .collect();
    for lost in 1..=BATCHES {
        let fs = crash(&fs, CrashMode::PowerDropped);
        super::damage::flip_in_journal(&fs, &batch(lost, 1, 1000).payload[30..]);
        let (findings, mut opened) = repaired(&fs);
        assert_eq!(findings.len(), 1, "batch {lost}");
        let log = &opened.logs[0].log;
        let (found, kinds) = (entries(log), kinds(log));
        let indexes: Vec<_> = found.iter().map(|entry| entry.0).collect();
        assert_eq!(indexes, (1..=BATCHES).collect::<Vec<_>>(), "batch {lost}");
        let gone = kinds
            .iter()
            .filter(|kind| **kind == FrameKind::Lost)
            .count();
        let first_gone = usize::try_from(lost - 1).unwrap();
        assert!(
            kinds[first_gone..first_gone + gone]
                .iter()
                .all(|kind| *kind == FrameKind::Lost)
        );
        for at in (0..first_gone).chain(first_gone + gone..kinds.len()) {
            assert_eq!(found[at], expected[at], "batch {lost}");
        }
        goes_on(&mut opened);
    }
}

#[test]
fn unreadable_frames_of_a_segment_are_replaced_where_they_stand() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let mut log = create(&opened.store, 7);
    for index in 1..40 {
        append_synced(&opened.store, &mut log, &[batch(index, 1, 1000)]);
    }
    let expected = entries(&log);
    checkpoint(&opened.store, &mut [&mut log], 39);
    let fs = crash(&fs, CrashMode::PowerDropped);
    fs.corrupt("topics/t/7/0000000001.segment", |bytes| {
        bytes[4096 + 500] ^= 1; // a payload
        bytes[4096 + 3 * 1056..4096 + 5 * 1056 - 8].fill(0); // two whole frames
    });
    let (findings, mut opened) = repaired(&fs);
    assert_eq!(findings[0].missing.len(), 2);
    let found = entries(&opened.logs[0].log);
    assert_eq!(
        found[3], expected[3],
        "the first of two takes the offsets of both"
    );
    assert_eq!(found[4], (5, 1, 10));
    assert_eq!((&found[..4], &found[5..]), (&expected[..4], &expected[5..]));
    let lost = kinds(&opened.logs[0].log)
        .iter()
        .filter(|kind| **kind == FrameKind::Lost)
        .count();
    assert_eq!(lost, 3);
    goes_on(&mut opened);
}

#[test]
fn missing_segment_is_replaced_by_lost_frames() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let mut log = create(&opened.store, 7);
    for index in 1..100 {
        append_synced(&opened.store, &mut log, &[batch(index, 1, 1000)]);
    }
    let expected: Vec<_> = entries(&log).iter().map(|entry| entry.0).collect();
    checkpoint(&opened.store, &mut [&mut log], 99);
    for gone in ["0000000001", "0000000002"] {
        let fs = crash(&fs, CrashMode::PowerDropped);
        fs.remove_file(Path::new(&format!("topics/t/7/{gone}.segment")))
            .unwrap();
        let (findings, mut opened) = repaired(&fs);
        assert_eq!(findings[0].missing.len(), 1);
        let log = &opened.logs[0].log;
        assert_eq!(
            entries(log).iter().map(|entry| entry.0).collect::<Vec<_>>(),
            expected
        );
        assert_eq!(log.next_offset(), Offset(198));
        goes_on(&mut opened);
    }
}

#[test]
fn lost_votes_raise_the_term_beyond_any_that_was_voted_in() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let mut log = create(&opened.store, 7);
    append_synced(&opened.store, &mut log, &[batch(1, 1, 300)]);
    vote(&opened.store, &mut log, 3, 9, 1);
    opened.store.heartbeat_journal().unwrap();
    let fs = crash(&fs, CrashMode::PowerDropped);
    let mut wanted = vec![];
    wanted.extend(3u64.to_le_bytes());
    wanted.extend(9u64.to_le_bytes());
    super::damage::flip_in_journal(&fs, &wanted);
    let (findings, mut opened) = repaired(&fs);
    assert!(findings[0].hard_state_in_doubt);
    assert!(opened.logs[0].log.hard_state().term > Term(3));
    goes_on(&mut opened);
}
