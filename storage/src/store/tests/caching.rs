//! Logs with `write.caching`: their frames are in the page cache only.

use super::*;

fn create_cached(store: &Store, id: u64) -> Log {
    let mut turn = store.turn();
    let spec = LogSpec {
        write_caching: true,
        ..spec(&format!("t/{id}"))
    };
    let log = store
        .create_log(&mut turn, LogId(id), spec, AppliedState::default())
        .unwrap();
    store.submit(turn);
    store.sync().unwrap();
    log
}

/// Appends, and syncs only what the log's own ticket asks for.
fn append_cached(store: &Store, log: &mut Log, frames: &[NewFrame]) {
    let submitted = append(store, log, frames);
    if log.ticket(submitted) > store.synced() {
        store.sync().unwrap();
    }
}

#[test]
fn cached_frames_wait_for_no_sync_and_survive_the_process() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let store = &opened.store;
    let mut log = create_cached(store, 7);
    let mut steps_without_sync = 0;
    for index in 1..100 {
        let before = store.synced();
        append_cached(store, &mut log, &[batch(index, 1, 500)]);
        steps_without_sync += u64::from(store.synced() == before);
    }
    assert!(
        steps_without_sync > 90,
        "only openings of segments are journaled: {steps_without_sync}"
    );
    let expected = entries(&log);
    let reopened = open(&crash(&fs, CrashMode::Process));
    assert_eq!(reopened.logs[0].damage, None);
    assert_eq!(entries(&reopened.logs[0].log), expected);
}

#[test]
fn power_loss_leaves_an_unknown_tail() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let mut log = create_cached(&opened.store, 7);
    let mut durable = create(&opened.store, 8);
    append_synced(&opened.store, &mut durable, &[batch(1, 1, 100)]);
    for index in 1..20 {
        append_cached(&opened.store, &mut log, &[batch(index, 1, 500)]);
    }
    let fs = crash(&fs, CrashMode::PowerDropped);
    let reopened = open(&fs);
    assert!(reopened.logs[0].damage.as_ref().unwrap().unknown_tail);
    assert_eq!(
        reopened.logs[1].damage, None,
        "the other log is in the journal"
    );
    let again = open(&crash(&fs, CrashMode::PowerDropped));
    assert!(
        again.logs[0].damage.as_ref().unwrap().unknown_tail,
        "it does not heal by starting again"
    );
}

#[test]
fn other_file_system_is_like_power_loss() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let mut log = create_cached(&opened.store, 7);
    append_cached(&opened.store, &mut log, &[batch(1, 1, 500)]);
    let fs = crash(&fs, CrashMode::Process);
    fs.set_filesystem_id(99);
    assert!(open(&fs).logs[0].damage.as_ref().unwrap().unknown_tail);
}

#[test]
fn closed_store_lost_nothing_whatever_comes() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let mut log = create_cached(&opened.store, 7);
    for index in 1..20 {
        append_cached(&opened.store, &mut log, &[batch(index, 1, 500)]);
    }
    opened.store.close().unwrap();
    let expected = entries(&log);
    let fs = crash(&fs, CrashMode::PowerDropped);
    let reopened = open(&fs);
    assert_eq!(reopened.logs[0].damage, None);
    assert_eq!(entries(&reopened.logs[0].log), expected);
    // Nothing was cached since that start, so there is nothing to lose.
    let reopened = open(&crash(&fs, CrashMode::PowerDropped));
    assert_eq!(reopened.logs[0].damage, None);
    assert_eq!(entries(&reopened.logs[0].log), expected);
}

#[test]
fn turning_caching_off_makes_everything_durable() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let store = &opened.store;
    let mut log = create_cached(store, 7);
    for index in 1..60 {
        append_cached(store, &mut log, &[batch(index, 1, 500)]);
    }
    let mut turn = store.turn();
    log.set_write_caching(&mut turn, false).unwrap();
    store.submit(turn);
    store.sync().unwrap();
    append_synced(store, &mut log, &[batch(60, 1, 500)]);
    checkpoint(store, &mut [&mut log], 60);
    append_synced(store, &mut log, &[batch(61, 1, 500)]);
    let expected = entries(&log);
    store.close().unwrap();
    let reopened = open(&crash(&fs, CrashMode::PowerDropped));
    assert_eq!(entries(&reopened.logs[0].log), expected);
    assert_eq!(reopened.logs[0].damage, None);
    assert!(!reopened.logs[0].log.write_caching());
}

#[test]
fn commit_index_of_cached_frames_is_written_down_only_when_they_are_durable() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let store = &opened.store;
    let mut log = create_cached(store, 7);
    append_cached(store, &mut log, &[batch(1, 1, 500), batch(2, 1, 500)]);
    checkpoint(store, &mut [&mut log], 0);
    append_cached(store, &mut log, &[batch(3, 1, 500)]);
    vote(store, &mut log, 1, 7, 3);
    let reopened = open(&crash(&fs, CrashMode::PowerDropped));
    assert_eq!(reopened.logs[0].log.hard_state().commit, RaftIndex(2));
    assert_eq!(reopened.logs[0].log.hard_state().vote, 7);
    assert_eq!(reopened.logs[0].log.last_index(), RaftIndex(2));
}
