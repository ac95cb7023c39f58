//! Shards with their threads.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use highwater_storage::fs::{CrashMode, Fault, Operation as FsOperation, SimFs};
use highwater_storage::{LogId, LogSpec, Opened, RaftIndex, Store};
use tokio::sync::oneshot;

use super::machine::{Add, Seen, WordError, Words};
use crate::raft::machine::Refusal;
use crate::raft::{
    Acks, Ailment, Config, FoundLog, GroupId, Instruments, MemberChange, Members, NoPeers,
    Operation, Origin, Outcome, ReplicaId, ReplicaStatus, Reply, Request, ShardThreads, Shards,
    ShardsSpec, Started,
};

const GROUPS: u64 = 5;

fn open(fs: &SimFs) -> Opened {
    let config = highwater_storage::Config {
        journal_file_bytes: 64 << 10,
        checkpoint_interval_bytes: 64 << 10,
        min_free_bytes: 0,
        reserve_bytes: 0,
        ..highwater_storage::Config::default()
    };
    let mut draws = 0;
    let random = Box::new(move || {
        draws += 1;
        draws
    });
    Store::open(Arc::new(fs.clone()), random, config).unwrap()
}

fn start_shards(store: Arc<Store>) -> (Shards<Words>, ShardThreads<Words>) {
    let mut seed = 0;
    Shards::start(ShardsSpec {
        store,
        config: Config::default(),
        count: NonZeroUsize::new(2).unwrap(),
        seed: &mut || {
            seed += 1;
            seed
        },
        transport: &mut || Box::new(NoPeers),
        instruments: Instruments::default(),
    })
    .unwrap()
}

fn start(store: Arc<Store>) -> (Shards<Words>, ShardThreads<Words>) {
    let (shards, threads) = start_shards(store);
    for group in 1..=GROUPS {
        let (answer, started) = oneshot::channel();
        let replica = ReplicaId(group);
        let origin = Origin::New {
            spec: LogSpec {
                directory: format!("topics/t/0-{group}"),
                max_segment_bytes: 64 << 10,
                write_caching: false,
            },
            members: Members::of_voters([replica]),
            snapshot: bytes::Bytes::new(),
        };
        let operation = Operation::Start {
            group: GroupId(group),
            replica,
            origin,
            build: Box::new(|_, applied| Ok(Words::new(&applied.snapshot, Seen::default()))),
            answer,
        };
        shards.operate(GroupId(group), operation).unwrap();
        started.blocking_recv().unwrap().unwrap();
    }
    (shards, threads)
}

fn send(shards: &Shards<Words>, group: u64, word: String) -> oneshot::Receiver<Outcome<Words>> {
    let (reply, answered) = Reply::once();
    shards.send(Request {
        group: GroupId(group),
        bytes: word.len(),
        command: Add(word),
        acks: Acks::default(),
        reply,
    });
    answered
}

#[test]
fn what_threads_acknowledge_is_there_after_a_clean_stop() {
    let fs = SimFs::new(1);
    let (shards, threads) = start(open(&fs).store);
    let filler = "x".repeat(500);
    // Enough for several checkpoints while the words come in.
    std::thread::scope(|scope| {
        for group in 1..=GROUPS {
            let (shards, filler) = (&shards, &filler);
            scope.spawn(move || {
                for round in 0..20 {
                    let words = (0..10).map(|word| format!("{round}.{word}{filler}"));
                    let answers: Vec<_> = words.map(|word| send(shards, group, word)).collect();
                    for answer in answers {
                        answer.blocking_recv().unwrap().unwrap();
                    }
                }
            });
        }
    });
    assert!(
        shards
            .counters()
            .iter()
            .all(|shard| shard.turns() > 0 && shard.entries() > 0)
    );
    threads.stop();
    let late = send(&shards, 1, "late".to_owned()).blocking_recv().unwrap();
    assert_eq!(late, Err(WordError::Refused(Refusal::UnknownGroup)));

    let opened = open(&fs);
    assert_eq!(opened.logs.len() as u64, GROUPS);
    for log in opened.logs {
        // The last checkpoint of a clean stop holds all there is.
        let words = String::from_utf8(log.applied.snapshot.to_vec()).unwrap();
        let words: Vec<_> = words
            .split(' ')
            .map(|word| word.trim_end_matches('x'))
            .collect();
        let expected: Vec<_> = (0..20)
            .flat_map(|round| (0..10).map(move |word| format!("{round}.{word}")))
            .collect();
        assert_eq!(words, expected, "log {}", log.log.id());
        assert_eq!(log.applied.index, log.log.last_index());
    }
}

/// A write may be synced by whoever syncs next: its own shard, another one, the journal thread, or a heartbeat of it.
#[test]
fn a_write_is_answered_whoever_syncs_it() {
    const WORDS: u32 = 300;
    // Only an answer that never comes takes so long.
    const PATIENCE: Duration = Duration::from_secs(20);
    let (shards, threads) = start(open(&SimFs::new(1)).store);
    std::thread::scope(|scope| {
        for group in 1..=GROUPS {
            let shards = &shards;
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_time()
                    .build()
                    .unwrap();
                for word in 0..WORDS {
                    // One at a time: no later write wakes a shard that missed the end of a sync.
                    let answer = send(shards, group, word.to_string());
                    let outcome =
                        runtime.block_on(async { tokio::time::timeout(PATIENCE, answer).await });
                    outcome.expect("an answer comes").unwrap().unwrap();
                }
            });
        }
    });
    threads.stop();
}

#[test]
fn a_failed_journal_answers_everybody_and_stays_failed() {
    let fs = SimFs::new(1);
    let opened = open(&fs);
    let store = Arc::clone(&opened.store);
    let (shards, threads) = start(opened.store);
    send(&shards, 1, "before".to_owned())
        .blocking_recv()
        .unwrap()
        .unwrap();
    fs.inject(Fault::new(FsOperation::SyncData, "journal"));
    for group in 1..=GROUPS {
        let outcome = send(&shards, group, "during".to_owned())
            .blocking_recv()
            .unwrap();
        assert!(
            matches!(
                outcome,
                Err(WordError::Refused(
                    Refusal::Indefinite | Refusal::Failed { .. }
                ))
            ),
            "{outcome:?}"
        );
    }
    let after = send(&shards, 1, "after".to_owned())
        .blocking_recv()
        .unwrap();
    assert!(matches!(
        after,
        Err(WordError::Refused(Refusal::Failed { .. }))
    ));
    assert!(store.health().poisoned.is_some());
    threads.stop();
}

/// Starts group 1 on a log that was found, with a machine that cannot be built where `fails`.
fn try_start(
    shards: &Shards<Words>,
    found: &FoundLog,
    fails: bool,
) -> Result<Started, crate::raft::Error> {
    let (answer, started) = oneshot::channel();
    let operation = Operation::Start {
        group: GroupId(1),
        replica: ReplicaId(1),
        origin: Origin::Recovered(found.clone()),
        build: Box::new(move |_, applied| {
            if fails {
                return Err("not now".to_owned());
            }
            Ok(Words::new(&applied.snapshot, Seen::default()))
        }),
        answer,
    };
    shards.operate(GroupId(1), operation).unwrap();
    started.blocking_recv().unwrap()
}

/// The disk of a broker that was killed after two words, and shards on it without a group.
fn killed() -> (SimFs, FoundLog, Shards<Words>, ShardThreads<Words>) {
    let fs = SimFs::new(1);
    let (shards, threads) = start(open(&fs).store);
    for word in ["a", "b"] {
        let answer = send(&shards, 1, word.to_owned());
        answer.blocking_recv().unwrap().unwrap();
    }
    let fs = fs.crash(highwater_storage::fs::CrashMode::Process, 1);
    threads.stop();
    let Opened { store, logs, .. } = open(&fs);
    let mut logs = logs.into_iter();
    let log = logs.find(|log| log.log.id() == LogId(1)).unwrap();
    let (shards, threads) = start_shards(store);
    (fs, FoundLog::new(log), shards, threads)
}

#[test]
fn a_start_that_failed_can_be_tried_again() {
    let (_, found, shards, threads) = killed();
    for _ in 0..2 {
        let failed = try_start(&shards, &found, true).unwrap_err();
        assert!(failed.to_string().contains("not now"), "{failed}");
    }
    try_start(&shards, &found, false).unwrap();
    assert!(try_start(&shards, &found, false).is_err(), "it runs");
    let outcome = send(&shards, 1, "c".to_owned()).blocking_recv().unwrap();
    assert!(outcome.is_ok(), "{outcome:?}");
    threads.stop();
}

#[test]
fn what_a_start_applied_is_in_the_next_checkpoint() {
    let (fs, found, shards, threads) = killed();
    try_start(&shards, &found, false).unwrap();
    threads.stop();
    let logs = open(&fs).logs;
    let log = logs.iter().find(|log| log.log.id() == LogId(1)).unwrap();
    // The no-op and the word that was committed before the last: nothing was written since the start.
    assert!(log.applied.index >= RaftIndex(2), "{:?}", log.applied);
}

/// What helps against damage is another replica; against rules that do not go on, nothing but a person.
#[test]
fn damage_that_is_met_while_entries_are_applied_is_told_as_damage() {
    let fs = SimFs::new(1);
    let (shards, threads) = start(open(&fs).store);
    for word in ["#first", "#second"] {
        let answer = send(&shards, 1, word.to_owned());
        answer.blocking_recv().unwrap().unwrap();
    }
    let fs = fs.crash(CrashMode::Process, 1);
    threads.stop();
    // This start takes to the segment what was in the journal only, and applies none of it.
    drop(open(&fs));
    let fs = fs.crash(CrashMode::PowerKept, 1);
    let wanted = b"#first";
    let find = |bytes: &[u8]| {
        let mut windows = bytes.windows(wanted.len());
        windows.position(|window| window == wanted)
    };
    let files = fs.files().into_iter();
    let mut segments = files.filter(|(path, _)| path.starts_with("topics"));
    let (path, at) = segments
        .find_map(|(path, bytes)| Some((path, find(&bytes)?)))
        .unwrap();
    fs.corrupt(path, |bytes| bytes[at] ^= 1);

    let Opened { store, logs, .. } = open(&fs);
    let mut logs = logs.into_iter();
    let log = logs.find(|log| log.log.id() == LogId(1)).unwrap();
    assert_eq!(log.damage, None, "a start does not read all there is");
    let (shards, threads) = start_shards(store);
    try_start(&shards, &FoundLog::new(log), false).unwrap();
    let failure = status(&shards, GroupId(1)).failure.unwrap();
    assert_eq!(failure.ailment, Ailment::Damaged, "{}", failure.reason);
    threads.stop();
}

#[test]
fn a_deleted_replica_is_gone_when_that_is_durable() {
    let fs = SimFs::new(1);
    let (shards, threads) = start(open(&fs).store);
    send(&shards, 1, "a".to_owned())
        .blocking_recv()
        .unwrap()
        .unwrap();
    let (answer, deleted) = oneshot::channel();
    let group = GroupId(1);
    shards
        .operate(
            group,
            Operation::Delete {
                group,
                replica: ReplicaId(1),
                found: None,
                answer,
            },
        )
        .unwrap();
    deleted.blocking_recv().unwrap().unwrap();
    let crashed = fs.crash(highwater_storage::fs::CrashMode::PowerDropped, 1);
    let ids: Vec<_> = open(&crashed).logs.iter().map(|log| log.log.id()).collect();
    assert!(!ids.contains(&LogId(1)), "{ids:?}");
    let outcome = send(&shards, 1, "b".to_owned()).blocking_recv().unwrap();
    assert_eq!(outcome, Err(WordError::Refused(Refusal::UnknownGroup)));
    threads.stop();
}

/// Starts replica 1 in a group on a log that was found.
fn start_found(shards: &Shards<Words>, group: GroupId, origin: Origin, seen: &Seen) {
    let (answer, started) = oneshot::channel();
    let seen = seen.clone();
    let operation = Operation::Start {
        group,
        replica: ReplicaId(1),
        origin,
        build: Box::new(move |_, applied| Ok(Words::new(&applied.snapshot, seen))),
        answer,
    };
    shards.operate(group, operation).unwrap();
    started.blocking_recv().unwrap().unwrap();
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(future)
}

fn status(shards: &Shards<Words>, group: GroupId) -> ReplicaStatus {
    let (answer, answered) = oneshot::channel();
    let operation = Operation::Status { group, answer };
    shards.operate(group, operation).unwrap();
    answered.blocking_recv().unwrap().unwrap()
}

/// Group 1 of three voters of which two are never heard of: the second word is in its log and cannot be acknowledged.
fn bereft() -> (SimFs, Shards<Words>, ShardThreads<Words>) {
    let fs = SimFs::new(1);
    let (shards, threads) = start(open(&fs).store);
    let group = GroupId(1);
    let acknowledged = send(&shards, 1, "acknowledged".to_owned());
    acknowledged.blocking_recv().unwrap().unwrap();
    let (answer, _changed) = oneshot::channel();
    let change = Operation::ChangeMembers {
        group,
        term: None,
        changes: vec![
            MemberChange::AddVoter(ReplicaId(102)),
            MemberChange::AddVoter(ReplicaId(103)),
        ],
        answer,
    };
    shards.operate(group, change).unwrap();
    let _unanswered = send(&shards, 1, "written".to_owned());
    while status(&shards, group).last < RaftIndex(5) {
        std::thread::yield_now();
    }
    (fs, shards, threads)
}

#[test]
fn a_group_that_lost_its_majority_begins_again_with_all_that_one_replica_holds() {
    let (fs, shards, threads) = bereft();
    let term = status(&shards, GroupId(1)).term;
    let (answer, released) = oneshot::channel();
    let group = GroupId(1);
    let release = Operation::Release {
        group,
        replica: ReplicaId(1),
        answer,
    };
    shards.operate(group, release).unwrap();
    let found = released.blocking_recv().unwrap().unwrap();
    let seen = Seen::default();
    // Its number decides that another shard has it.
    let again = GroupId(12);
    start_found(&shards, again, Origin::Refounded(found), &seen);
    let begun = status(&shards, again);
    assert!(begun.failure.is_none(), "{:?}", begun.failure);
    assert!(begun.members.is_alone(ReplicaId(1)) && begun.term.0 > term.0 + 100);
    assert!(begun.commit == begun.last && begun.applied == begun.last);
    send(&shards, again.0, "after".to_owned())
        .blocking_recv()
        .unwrap()
        .unwrap();
    assert_eq!(seen.published(), ["acknowledged", "written", "after"]);
    let gone = send(&shards, 1, "late".to_owned()).blocking_recv().unwrap();
    assert_eq!(gone, Err(WordError::Refused(Refusal::UnknownGroup)));

    // Before a checkpoint holds the new members, a start finds the old ones, and begins again in the same way.
    let early = fs.crash(CrashMode::PowerDropped, 1);
    assert!(block_on(shards.checkpointed()));
    let late = fs.crash(CrashMode::PowerDropped, 1);
    threads.stop();
    for (fs, origin) in [
        (early, Origin::Refounded as fn(FoundLog) -> Origin),
        (late, Origin::Recovered),
    ] {
        let Opened { store, logs, .. } = open(&fs);
        let mut logs = logs.into_iter();
        let log = logs.find(|log| log.log.id() == LogId(1)).unwrap();
        let (shards, threads) = start_shards(store);
        let seen = Seen::default();
        start_found(&shards, again, origin(FoundLog::new(log)), &seen);
        send(&shards, again.0, "more".to_owned())
            .blocking_recv()
            .unwrap()
            .unwrap();
        assert_eq!(
            seen.published(),
            ["acknowledged", "written", "after", "more"]
        );
        assert!(status(&shards, again).members.is_alone(ReplicaId(1)));
        threads.stop();
    }
}
