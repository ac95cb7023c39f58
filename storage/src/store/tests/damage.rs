//! What is reported when bytes are gone that were durable.

use super::*;
use crate::MissingFrames;
use crate::fs::{Fault, Operation};

/// Flips a bit in the journal where `wanted` stands.
pub(super) fn flip_in_journal(fs: &SimFs, wanted: &[u8]) {
    let find = |bytes: &[u8]| {
        bytes
            .windows(wanted.len())
            .position(|window| window == wanted)
    };
    let files = fs.files();
    let (path, at) = files
        .iter()
        .filter(|(path, _)| path.starts_with("journal"))
        .find_map(|(path, bytes)| Some((path, find(bytes)?)))
        .expect("it is in the journal");
    fs.corrupt(path, |bytes| bytes[at] ^= 1);
}

/// Wherever the journal is damaged, a read ends: with an error, or with frames from where it began.
#[test]
fn reads_of_a_damaged_log_end() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let mut log = create(&opened.store, 7);
    vote(&opened.store, &mut log, 1, 7, 0);
    for index in 1..10 {
        append_synced(&opened.store, &mut log, &[batch(index, 1, 300)]);
    }
    vote(&opened.store, &mut log, 2, 7, 9);
    let crashed = crash(&fs, CrashMode::PowerDropped);
    let mut journals = crashed.files();
    journals.retain(|path, _| path.starts_with("journal"));
    for (path, bytes) in &journals {
        let written = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
        for at in (0..written).step_by(97) {
            let fs = crash(&crashed, CrashMode::PowerDropped);
            fs.corrupt(path, |bytes| bytes[at] ^= 1);
            let Ok(reopened) = Store::open(Arc::new(fs), Box::new(|| 77), config()) else {
                continue;
            };
            for recovered in &reopened.logs {
                let log = &recovered.log;
                let end = log.last_index().next();
                for from in (log.first_index().0..end.0).map(RaftIndex) {
                    let Ok(frames) = log.read(from, end, u64::MAX) else {
                        continue;
                    };
                    let indexes: Vec<_> = frames.iter().map(|frame| frame.index.0).collect();
                    let expected: Vec<_> = (from.0..end.0).take(frames.len()).collect();
                    assert_eq!(indexes, expected, "byte {at}");
                }
            }
        }
    }
}

/// Frames without a file are in no segment whose reading would tell that some are gone. Such a read once never ended.
#[test]
fn read_that_begins_where_frames_without_a_file_are_gone_names_the_hole() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let mut log = create(&opened.store, 7);
    let events = |index| NewFrame {
        kind: FrameKind::Events,
        payload: vec![u8::try_from(index).unwrap(); 40].into(),
        ..no_op(index, 1)
    };
    for index in 1..10 {
        append_synced(&opened.store, &mut log, &[events(index)]);
    }
    vote(&opened.store, &mut log, 2, 7, 9);
    let fs = crash(&fs, CrashMode::PowerDropped);
    flip_in_journal(&fs, &events(5).payload);
    let mut reopened = open(&fs);
    let RecoveredLog { log, .. } = reopened.logs.remove(0);
    let (done, reads) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let read = |from, to| {
            let frames = log.read(RaftIndex(from), RaftIndex(to), u64::MAX);
            frames.map(|frames| frames.iter().map(|frame| frame.index.0).collect::<Vec<_>>())
        };
        let cached = log.read_cached(RaftIndex(5), RaftIndex(10), u64::MAX);
        done.send((read(1, 10), read(5, 10), cached, read(6, 10)))
            .unwrap();
    });
    let (before, at, cached, after) = reads
        .recv_timeout(std::time::Duration::from_secs(60))
        .expect("reads end");
    assert_eq!(before.unwrap(), [1, 2, 3, 4], "up to the hole");
    let is_hole = |error: &Error| {
        matches!(
            error,
            Error::Damaged {
                from: RaftIndex(5),
                ..
            }
        )
    };
    assert!(is_hole(&at.unwrap_err()));
    assert!(is_hole(&cached.unwrap_err()));
    assert_eq!(after.unwrap(), [6, 7, 8, 9]);
}

#[test]
fn damaged_group_that_was_synced_is_damage_and_not_a_torn_tail() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let store = &opened.store;
    let (mut log, mut other) = (create(store, 7), create(store, 8));
    vote(store, &mut other, 1, 8, 0);
    for index in 1..10 {
        append_synced(store, &mut log, &[batch(index, 1, 300)]);
    }
    vote(store, &mut log, 2, 7, 9);
    let expected = entries(&log);
    let fs = crash(&fs, CrashMode::PowerDropped);
    flip_in_journal(&fs, &batch(5, 1, 300).payload[30..]);

    let reopened = open(&fs);
    let damage = reopened.logs[0].damage.clone().unwrap();
    let hole = MissingFrames {
        from: RaftIndex(5),
        to: RaftIndex(6),
        from_offset: Offset(8),
        to_offset: Offset(10),
    };
    assert_eq!(damage.missing, [hole]);
    assert!(
        !damage.unknown_tail && !damage.hard_state_in_doubt,
        "later groups have both: {damage:?}"
    );
    let damage = reopened.logs[1].damage.clone().unwrap();
    assert!(
        damage.unknown_tail && damage.hard_state_in_doubt,
        "nothing came later: {damage:?}"
    );

    let log = &reopened.logs[0].log;
    assert_eq!(log.last_index(), RaftIndex(9));
    assert_eq!(
        log.read(RaftIndex(1), RaftIndex(10), u64::MAX)
            .unwrap()
            .len(),
        4,
        "up to the hole"
    );
    assert!(matches!(
        log.read(RaftIndex(5), RaftIndex(10), 1),
        Err(Error::Damaged {
            from: RaftIndex(5),
            ..
        })
    ));
    let after = log.read(RaftIndex(6), RaftIndex(10), u64::MAX).unwrap();
    assert_eq!(
        after
            .iter()
            .map(|frame| frame.base_offset.0)
            .collect::<Vec<_>>(),
        [10, 12, 14, 16]
    );
    let reader = log.reader();
    assert_eq!(
        reader
            .read(Offset(0), Offset(18), u64::MAX)
            .unwrap()
            .frames
            .len(),
        4
    );
    assert!(matches!(
        reader.read(Offset(9), Offset(18), 1),
        Err(Error::Damaged {
            from_offset: Offset(8),
            ..
        })
    ));
    assert_eq!(
        reader
            .read(Offset(10), Offset(18), u64::MAX)
            .unwrap()
            .frames
            .len(),
        4
    );
    assert_eq!(log.term_at(RaftIndex(9)).unwrap(), Some(Term(1)));
    assert_eq!(expected.len(), 9);

    // It stays so.
    let mut reopened = open(&crash(&fs, CrashMode::PowerDropped));
    assert_eq!(reopened.logs[0].damage.clone().unwrap().missing, [hole]);
    let mut turn = reopened.store.turn();
    let refused = reopened.logs[0].log.append(&mut turn, &[batch(10, 2, 100)]);
    assert!(matches!(refused, Err(Error::Damaged { .. })));
}

#[test]
fn damaged_last_group_is_damage_once_the_journal_was_idle() {
    for idle in [false, true] {
        let fs = SimFs::new(1);
        let opened = open(&fs);
        let mut log = create(&opened.store, 7);
        append_synced(&opened.store, &mut log, &[batch(1, 1, 300)]);
        append_synced(&opened.store, &mut log, &[batch(2, 1, 300)]);
        if idle {
            opened.store.heartbeat_journal().unwrap();
        }
        let fs = crash(&fs, CrashMode::PowerDropped);
        flip_in_journal(&fs, &batch(2, 1, 300).payload[30..]);
        let reopened = open(&fs);
        assert_eq!(entries(&reopened.logs[0].log), [(1, 1, 0)]);
        assert_eq!(
            reopened.logs[0].damage.is_some(),
            idle,
            "nobody can tell before"
        );
    }
}

#[test]
fn frames_missing_below_a_later_truncation_are_not_missing() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let store = &opened.store;
    let mut log = create(store, 7);
    for index in 1..10 {
        append_synced(store, &mut log, &[batch(index, 1, 300)]);
    }
    let mut turn = store.turn();
    log.truncate_suffix(&mut turn, RaftIndex(4)).unwrap();
    log.append(&mut turn, &[batch(4, 2, 300)]).unwrap();
    store.submit(turn);
    store.sync().unwrap();
    vote(store, &mut log, 2, 7, 4);
    let expected = entries(&log);
    let fs = crash(&fs, CrashMode::PowerDropped);
    flip_in_journal(&fs, &batch(6, 1, 300).payload[30..]);
    let reopened = open(&fs);
    assert_eq!(entries(&reopened.logs[0].log), expected);
    assert_eq!(reopened.logs[0].damage, None);
}

#[test]
fn missing_segment_file_is_damage() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let store = &opened.store;
    let mut log = create(store, 7);
    for index in 1..40 {
        append_synced(store, &mut log, &[batch(index, 1, 1000)]);
    }
    vote(store, &mut log, 1, 7, 39);
    checkpoint(store, &mut [&mut log], 39);
    append_synced(store, &mut log, &[batch(40, 1, 1000)]);
    let first = log.segments()[0];
    let fs = crash(&fs, CrashMode::PowerDropped);
    fs.remove_file(Path::new("topics/t/7/0000000001.segment"))
        .unwrap();
    let reopened = open(&fs);
    let damage = reopened.logs[0].damage.clone().unwrap();
    assert_eq!(damage.missing.len(), 1);
    assert_eq!(
        (damage.missing[0].from, damage.missing[0].from_offset),
        (RaftIndex(1), Offset(0))
    );
    assert_eq!(damage.missing[0].to_offset, first.next_offset);
    let reader = reopened.logs[0].log.reader();
    assert!(matches!(
        reader.read(Offset(0), Offset(80), 1),
        Err(Error::Damaged { .. })
    ));
    let rest = reader
        .read(first.next_offset, Offset(80), u64::MAX)
        .unwrap()
        .frames;
    assert_eq!(rest.last().unwrap().next_offset(), Offset(80));
}

#[test]
fn flipped_bit_in_a_sealed_segment_is_never_served() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let mut log = create(&opened.store, 7);
    for index in 1..40 {
        append_synced(&opened.store, &mut log, &[batch(index, 1, 1000)]);
    }
    checkpoint(&opened.store, &mut [&mut log], 39);
    let fs = crash(&fs, CrashMode::PowerDropped);
    fs.corrupt("topics/t/7/0000000001.segment", |bytes| {
        bytes[4096 + 3 * 1056 + 500] ^= 1
    });
    let reopened = open(&fs);
    let reader = reopened.logs[0].log.reader();
    assert_eq!(
        reader.read_cached(Offset(0), Offset(78), 1).unwrap(),
        None,
        "it was not read since the start"
    );
    assert_eq!(
        reader
            .read(Offset(0), Offset(78), u64::MAX)
            .unwrap()
            .frames
            .len(),
        3
    );
    assert!(matches!(
        reader.read(Offset(6), Offset(78), 1),
        Err(Error::Damaged { .. })
    ));
    assert!(
        !reader
            .read(Offset(8), Offset(78), u64::MAX)
            .unwrap()
            .frames
            .is_empty()
    );
}

/// Nine batches in one sealed segment, as the next start has them.
fn nine_batches() -> (SimFs, Opened) {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let mut log = create(&opened.store, 7);
    for index in 1..10 {
        append_synced(&opened.store, &mut log, &[batch(index, 1, 6000)]);
    }
    checkpoint(&opened.store, &mut [&mut log], 9);
    drop((opened, log));
    let fs = crash(&fs, CrashMode::PowerDropped);
    let opened = open(&fs);
    (fs, opened)
}

fn segment_with(fs: &SimFs, wanted: &[u8]) -> (String, usize) {
    let find = |bytes: &[u8]| {
        bytes
            .windows(wanted.len())
            .position(|window| window == wanted)
    };
    let files = fs.files().into_iter();
    let mut segments = files.filter(|(path, _)| path.starts_with("topics"));
    segments
        .find_map(|(path, bytes)| Some((path, find(&bytes)?)))
        .expect("it is in a segment")
}

fn refusal(opened: &mut Opened) -> Option<String> {
    let mut turn = opened.store.turn();
    let log = &mut opened.logs[0].log;
    match log.append(&mut turn, &[batch(log.last_index().0 + 1, 2, 100)]) {
        Ok(()) => None,
        Err(error @ Error::Damaged { .. }) => Some(error.to_string()),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn damage_that_a_reader_meets_ends_appends_until_it_is_repaired() {
    let (fs, mut opened) = nine_batches();
    let (path, at) = segment_with(&fs, &batch(5, 1, 6000).payload[61..]);
    fs.corrupt(&path, |bytes| bytes[at] ^= 1);
    let reader = opened.logs[0].log.reader();
    let read = |from| reader.read(Offset(from), Offset(18), 1);
    assert_eq!(read(0).unwrap().frames.len(), 1);
    assert_eq!(opened.store.health(), Health::default());
    assert!(matches!(
        read(8),
        Err(Error::Damaged {
            from_offset: Offset(8),
            ..
        })
    ));
    let (log, reason) = opened.store.health().damaged_logs[0].clone();
    assert!(log == LogId(7) && reason.contains("offsets 8 to 10"));
    assert!(refusal(&mut opened).unwrap().contains("offset 8"));
    assert_eq!(
        (
            read(6).unwrap().frames.len(),
            read(10).unwrap().frames.len()
        ),
        (1, 1),
        "reads go on outside"
    );
    // A restart does not forget it, though nobody reads.
    checkpoint(&opened.store, &mut [&mut opened.logs[0].log], 9);
    drop((opened, reader));
    let mut opened = open(&crash(&fs, CrashMode::PowerDropped));
    assert!(refusal(&mut opened).unwrap().contains("offset 8"));
    drop(opened);

    let fs = crash(&fs, CrashMode::PowerDropped);
    let repair = crate::Repair::plan(Arc::new(fs.clone()), Box::new(|| 7), config()).unwrap();
    let [finding] = repair.findings() else {
        panic!("one log")
    };
    assert_eq!(finding.missing.len(), 1, "{finding}");
    repair.execute().unwrap();
    let mut opened = open(&crash(&fs, CrashMode::PowerDropped));
    assert_eq!(refusal(&mut opened), None);
    assert_eq!(entries(&opened.logs[0].log).len(), 10);
}

#[test]
fn bytes_that_the_disk_cannot_read_are_damage_there_and_nowhere_else() {
    let (fs, mut opened) = nine_batches();
    let (path, _) = segment_with(&fs, &batch(5, 1, 6000).payload[61..]);
    let reader = opened.logs[0].log.reader();
    // The first read of a segment asks for what follows, too: that alone is no damage.
    fs.inject(Fault::new(Operation::Populate, path.as_str()));
    assert_eq!(
        reader.read(Offset(8), Offset(18), 1).unwrap().frames.len(),
        1
    );
    assert_eq!(refusal(&mut opened), None);
    fs.inject(Fault::new(Operation::Populate, path.as_str()).lasting());
    assert!(matches!(
        reader.read(Offset(8), Offset(18), 1),
        Err(Error::Damaged { .. })
    ));
    assert!(refusal(&mut opened).is_some());
    assert_eq!(
        reader.read(Offset(0), Offset(2), 1).unwrap().frames.len(),
        1
    );
}

/// A process that dies leaves a group of the journal that no sync covered. The next one believes it, and says so in its own groups.
#[test]
fn what_a_start_believed_of_the_journal_is_there_for_a_start_from_an_older_checkpoint() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let mut log = create(&opened.store, 7);
    append_synced(&opened.store, &mut log, &[batch(1, 1, 300)]);
    fs.record_images();
    append_synced(&opened.store, &mut log, &[batch(2, 1, 300)]);
    let images = fs.take_images().into_iter();
    let mut written = images.filter(|image| image.path.starts_with("journal"));
    let unsynced = written.find(|image| image.operation == Operation::Write);
    let fs = unsynced.unwrap().crash(CrashMode::Process, 1);
    let mut opened = open(&fs);
    let mut recovered = opened.logs.remove(0);
    append_synced(&opened.store, &mut recovered.log, &[batch(3, 1, 300)]);
    let fs = crash(&fs, CrashMode::PowerDropped);
    let files = fs.files().into_keys();
    let newest = files.filter(|path| path.ends_with(".checkpoint")).max();
    fs.corrupt(newest.unwrap(), |bytes| bytes[20] ^= 1);

    let reopened = open(&fs);
    assert_eq!(reopened.damage, None);
    assert_eq!(reopened.logs[0].damage, None);
    let indexes: Vec<_> = entries(&reopened.logs[0].log)
        .iter()
        .map(|entry| entry.0)
        .collect();
    assert_eq!(indexes, [1, 2, 3]);
}
