use std::collections::HashMap;

use highwater_proto::batch::{Limits as BatchLimits, ProducerStamp, validate};
use highwater_proto::{ProducerEpoch, ProducerId, REMEMBERED_BATCHES, Sequence};
use highwater_storage::Term;
use proptest::prelude::*;

use super::*;
use crate::partition::testing::{batch, config, produce, stamp};

const LIMITS: Limits = Limits {
    max_producers: 3,
    producer_expiration_ms: 1_000,
    producer_expiration_min_ms: 100,
};
const NOW: Timestamp = Timestamp(1_000_000);

/// A leader with its log: what is committed comes first, what is proposed after it.
struct Leader {
    machine: PartitionMachine,
    log: Vec<CommittedEntry>,
    applied: usize,
    config: TopicConfig,
    now: Timestamp,
}

impl Leader {
    fn new() -> Self {
        Self {
            machine: PartitionMachine::new(&[], LIMITS).unwrap(),
            log: Vec::new(),
            applied: 0,
            config: config(),
            now: NOW,
        }
    }

    fn next_index(&self) -> RaftIndex {
        RaftIndex(self.log.len() as u64 + 1)
    }

    /// Decides, and proposes what was decided.
    fn handle(&mut self, command: Command) -> Result<Decision<Response>, Error> {
        let decision = self.machine.decide(&self.config, command, self.now)?;
        if let Decision::Propose { entries, .. } = &decision {
            for entry in entries {
                let index = self.next_index();
                let base_offset = self.machine.log_end();
                self.machine.proposed(index, entry);
                self.log.push(CommittedEntry {
                    index,
                    term: Term(1),
                    kind: entry.kind,
                    base_offset,
                    record_count: entry.record_count,
                    max_timestamp_ms: entry.max_timestamp_ms,
                    data: entry.data.clone(),
                });
            }
        }
        Ok(decision)
    }

    /// Commits up to `entries` of what is proposed.
    fn commit(&mut self, entries: usize) {
        let upto = self.log.len().min(self.applied.saturating_add(entries));
        for entry in &self.log[self.applied..upto] {
            self.machine.apply(entry).unwrap();
        }
        self.applied = upto;
    }

    fn commit_all(&mut self) {
        self.commit(usize::MAX);
    }

    /// Another leader comes that has `kept` of the proposals, and they are then committed.
    fn change_leader(&mut self, kept: usize) {
        self.machine.retract(RaftIndex(self.applied as u64 + 1));
        self.log.truncate(self.applied.saturating_add(kept));
        self.commit_all();
        assert!(self.machine.pending.is_empty());
    }

    /// Handles a command that must be proposed or answered, and says with which offset.
    fn offset_of(&mut self, command: Command) -> (u64, Option<RaftIndex>) {
        match self.handle(command).unwrap() {
            Decision::Propose {
                response: Response::Produced { base_offset, .. },
                ..
            } => (base_offset.0, None),
            Decision::Answer {
                response: Response::Produced { base_offset, .. },
                after,
            } => (base_offset.0, Some(after.unwrap_or_default())),
            other => panic!("not produced: {other:?}"),
        }
    }

    fn refusal_of(&mut self, command: Command) -> Error {
        let before = self.log.len();
        let error = self.handle(command).unwrap_err();
        assert_eq!(self.log.len(), before);
        error
    }
}

#[test]
fn offsets_follow_one_another_over_applied_and_proposed_batches() {
    let mut leader = Leader::new();
    assert_eq!(leader.offset_of(produce(None, 3)), (0, None));
    leader.commit_all();
    assert_eq!(leader.offset_of(produce(None, 2)), (3, None));
    assert_eq!(leader.offset_of(produce(None, 1)), (5, None));
    assert_eq!(leader.machine.state().next_offset, Offset(3));
    leader.change_leader(1);
    assert_eq!(leader.machine.state().next_offset, Offset(5));
    assert_eq!(leader.offset_of(produce(None, 1)), (5, None));
}

#[test]
fn a_repeated_batch_answers_its_first_offset() {
    let mut leader = Leader::new();
    leader.offset_of(produce(None, 7));
    assert_eq!(leader.offset_of(produce(stamp(1, 0, 0), 2)), (7, None));
    let joined = leader.offset_of(produce(stamp(1, 0, 0), 2));
    assert_eq!(
        joined,
        (7, Some(RaftIndex(2))),
        "the pending one's waiter is joined"
    );
    leader.commit_all();
    let at_once = leader.offset_of(produce(stamp(1, 0, 0), 2));
    assert_eq!(at_once, (7, Some(RaftIndex(0))));
    assert_eq!(leader.log.len(), 2);
}

#[test]
fn a_seeded_replica_that_leads_answers_a_repeated_batch_with_its_first_offset() {
    let mut leader = Leader::new();
    leader.offset_of(produce(None, 7));
    leader.offset_of(produce(stamp(1, 0, 0), 2));
    leader.commit_all();
    let mut seeded = Leader::new();
    seeded.offset_of(produce(None, 7));
    seeded.commit_all();
    seeded.machine.restore(&leader.machine.snapshot()).unwrap();
    assert_eq!(seeded.machine.state(), leader.machine.state());
    let repeated = seeded.offset_of(produce(stamp(1, 0, 0), 2));
    assert_eq!(repeated, (7, Some(RaftIndex(0))));
    assert_eq!(seeded.offset_of(produce(stamp(1, 0, 2), 1)), (9, None));
}

#[test]
fn a_state_that_takes_something_back_is_not_restored() {
    let mut leader = Leader::new();
    let empty = leader.machine.snapshot();
    leader.offset_of(produce(None, 10));
    leader.commit_all();
    let untrimmed = leader.machine.snapshot();
    let to = TrimTo::HighWatermark;
    leader.handle(Command::Trim { to }).unwrap();
    leader.commit_all();
    let before = leader.machine.state().clone();
    for earlier in [&empty[..], &untrimmed, b"no snapshot"] {
        leader.machine.restore(earlier).unwrap_err();
        assert_eq!(*leader.machine.state(), before);
    }
}

#[test]
fn a_batch_that_was_taken_back_is_appended_again() {
    let mut leader = Leader::new();
    leader.offset_of(produce(stamp(1, 0, 0), 2));
    leader.commit_all();
    leader.offset_of(produce(stamp(1, 0, 2), 2));
    leader.offset_of(produce(stamp(1, 0, 4), 2));
    leader.change_leader(0);
    assert!(matches!(
        leader.refusal_of(produce(stamp(1, 0, 4), 2)),
        Error::OutOfOrderSequence {
            expected: Sequence(2),
            found: Sequence(4),
            ..
        }
    ));
    assert_eq!(leader.offset_of(produce(stamp(1, 0, 2), 2)), (2, None));
}

#[test]
fn a_dropped_proposal_takes_only_what_follows_it_along() {
    let mut leader = Leader::new();
    leader.offset_of(produce(stamp(1, 0, 0), 1));
    leader.offset_of(produce(stamp(1, 0, 1), 1));
    leader.machine.retract(RaftIndex(2));
    leader.log.truncate(1);
    assert_eq!(
        leader.offset_of(produce(stamp(1, 0, 0), 1)),
        (0, Some(RaftIndex(1)))
    );
    assert_eq!(leader.offset_of(produce(stamp(1, 0, 1), 1)), (1, None));
}

#[test]
fn a_batch_no_longer_remembered_is_known_to_be_stored_without_its_offset() {
    let mut leader = Leader::new();
    for number in 0..=i32::try_from(REMEMBERED_BATCHES).unwrap() {
        leader.offset_of(produce(stamp(1, 0, number), 1));
    }
    leader.commit_all();
    assert_eq!(leader.offset_of(produce(stamp(1, 0, 1), 1)).0, 1);
    assert_eq!(
        leader.refusal_of(produce(stamp(1, 0, 0), 1)),
        Error::DuplicateSequence {
            producer_id: ProducerId(1),
            sequence: Sequence(0)
        }
    );
}

#[test]
fn a_batch_of_an_older_epoch_is_not_the_one_that_is_repeated() {
    let mut leader = Leader::new();
    leader.offset_of(produce(stamp(1, 0, 0), 1));
    leader.offset_of(produce(stamp(1, 1, 0), 2));
    for round in ["pending", "applied"] {
        let error = leader.refusal_of(produce(stamp(1, 1, 0), 1));
        assert!(
            matches!(error, Error::DuplicateSequence { .. }),
            "{round}: {error}"
        );
        leader.commit_all();
    }
}

#[test]
fn gaps_stale_epochs_and_strangers_are_refused() {
    let mut leader = Leader::new();
    leader.offset_of(produce(stamp(1, 1, 0), 3));
    for round in ["pending", "applied"] {
        assert!(
            matches!(
                leader.refusal_of(produce(stamp(1, 1, 4), 1)),
                Error::OutOfOrderSequence {
                    expected: Sequence(3),
                    found: Sequence(4),
                    ..
                }
            ),
            "{round}"
        );
        assert!(matches!(
            leader.refusal_of(produce(stamp(1, 2, 3), 1)),
            Error::OutOfOrderSequence {
                expected: Sequence(0),
                ..
            }
        ));
        assert_eq!(
            leader.refusal_of(produce(stamp(1, 0, 3), 1)),
            Error::InvalidProducerEpoch {
                producer_id: ProducerId(1),
                found: ProducerEpoch(0),
                current: ProducerEpoch(1),
            }
        );
        assert_eq!(
            leader.refusal_of(produce(stamp(2, 0, 1), 1)),
            Error::UnknownProducerId {
                producer_id: ProducerId(2),
                sequence: Sequence(1)
            }
        );
        leader.commit_all();
    }
    assert_eq!(leader.offset_of(produce(stamp(1, 2, 0), 1)), (3, None));
}

#[test]
fn producers_beyond_the_limit_are_refused_until_others_expire() {
    let mut leader = Leader::new();
    leader.offset_of(produce(stamp(1, 0, 0), 1));
    leader.offset_of(produce(stamp(2, 0, 0), 1));
    leader.commit(1);
    leader.offset_of(produce(stamp(3, 0, 0), 1));
    let full = Error::TooManyProducers { limit: 3 };
    assert_eq!(leader.refusal_of(produce(stamp(4, 0, 0), 1)), full);
    leader.commit_all();
    assert_eq!(leader.refusal_of(produce(stamp(4, 0, 0), 1)), full);
    assert_eq!(
        leader.offset_of(produce(stamp(3, 0, 1), 1)),
        (3, None),
        "known ones go on"
    );
    leader.commit_all();

    // The table is crowded: the shorter expiry is in force.
    leader.handle(Command::ExpireProducers).unwrap();
    leader.commit_all();
    leader.now = Timestamp(NOW.0 + 100);
    leader.offset_of(produce(stamp(3, 0, 2), 1));
    let decision = leader.handle(Command::ExpireProducers).unwrap();
    assert!(matches!(
        decision,
        Decision::Propose {
            response: Response::ProducersExpired { count: 2 },
            ..
        }
    ));
    assert_eq!(
        leader.offset_of(produce(stamp(1, 0, 0), 1)),
        (5, None),
        "forgotten already"
    );
    leader.commit_all();
    assert!(leader.machine.state().producers.contains(ProducerId(3)));
    assert!(!leader.machine.state().producers.contains(ProducerId(2)));
}

#[test]
fn an_idle_partition_notes_the_time_once() {
    let mut leader = Leader::new();
    leader.offset_of(produce(stamp(1, 0, 0), 1));
    leader.commit_all();
    leader.handle(Command::ExpireProducers).unwrap();
    leader.commit_all();
    let entries = leader.log.len();
    leader.now = Timestamp(NOW.0 + 500);
    leader.handle(Command::ExpireProducers).unwrap();
    assert_eq!(leader.log.len(), entries);
}

#[test]
fn a_trim_moves_the_log_start_forward_only_and_not_beyond_what_is_committed() {
    let trim = |offset| Command::Trim {
        to: TrimTo::Offset(Offset(offset)),
    };
    let answer = |log_start, after| {
        let response = Response::Trimmed {
            log_start: Offset(log_start),
        };
        Ok(Decision::Answer { response, after })
    };
    let mut leader = Leader::new();
    leader.offset_of(produce(None, 10));
    assert!(matches!(
        leader.refusal_of(trim(1)),
        Error::OffsetOutOfRange { .. }
    ));
    leader.commit_all();
    leader.handle(trim(6)).unwrap();
    assert_eq!(leader.handle(trim(0)), answer(0, None));
    assert_eq!(leader.handle(trim(4)), answer(6, Some(RaftIndex(2))));
    leader.commit_all();
    assert_eq!(leader.machine.state().log_start, Offset(6));
    assert_eq!(leader.handle(trim(4)), answer(6, None));
    leader
        .handle(Command::Trim {
            to: TrimTo::HighWatermark,
        })
        .unwrap();
    leader.commit_all();
    assert_eq!(leader.machine.state().log_start, Offset(10));
    assert!(matches!(
        leader.refusal_of(trim(11)),
        Error::OffsetOutOfRange { .. }
    ));
}

#[test]
fn size_and_timestamps_are_held_against_the_configuration() {
    let mut leader = Leader::new();
    let (bytes, _) = batch(None, 1, 0);
    leader.config.max_message_bytes = bytes.len() as u64;
    leader.config.timestamp_after_max_ms = 500;
    leader.config.timestamp_before_max_ms = 300;
    let dated = |timestamp_ms, count| {
        let (batch, header) = batch(stamp(1, 0, 0), count, timestamp_ms);
        Command::Produce { batch, header }
    };
    let too_large = leader.refusal_of(dated(NOW.0, 2));
    assert!(matches!(too_large, Error::MessageTooLarge { .. }));
    for (timestamp_ms, name) in [
        (NOW.0 + 501, "message.timestamp.after.max.ms"),
        (i64::MAX, "message.timestamp.after.max.ms"),
        (NOW.0 - 301, "message.timestamp.before.max.ms"),
        (i64::MIN, "message.timestamp.before.max.ms"),
    ] {
        let error = leader.refusal_of(dated(timestamp_ms, 1));
        assert!(
            matches!(error, Error::InvalidTimestamp { limit_name, .. } if limit_name == name),
            "{timestamp_ms}: {error}"
        );
    }
    for timestamp_ms in [NOW.0 + 500, NOW.0 - 300, -1] {
        let decision = leader
            .machine
            .decide(&leader.config, dated(timestamp_ms, 1), NOW);
        assert!(
            matches!(decision, Ok(Decision::Propose { .. })),
            "{timestamp_ms}"
        );
    }
    leader.handle(dated(NOW.0, 1)).unwrap();
    leader.now = Timestamp(NOW.0 + 10_000);
    leader.config.max_message_bytes = 1;
    let repeated = leader.offset_of(dated(NOW.0, 1));
    assert_eq!(
        repeated,
        (0, Some(RaftIndex(1))),
        "what is stored stays acknowledged"
    );
}

#[test]
fn the_leader_dates_the_batch_where_the_topic_says_so() {
    let mut leader = Leader::new();
    leader.config.timestamp_type = TimestampType::LogAppendTime;
    leader.config.timestamp_after_max_ms = 0;
    let command = |producer| {
        let (batch, header) = batch(producer, 2, i64::MAX);
        Command::Produce { batch, header }
    };
    leader.handle(command(stamp(1, 0, 0))).unwrap();
    let entry = leader.log[0].clone();
    assert_eq!(entry.max_timestamp_ms, NOW.0);
    let header = BatchHeader::parse(&entry.data).unwrap();
    assert_eq!(header.timestamp_type, TimestampType::LogAppendTime);
    assert_eq!(header.max_timestamp_ms, NOW.0);
    let (original, _) = batch(stamp(1, 0, 0), 2, i64::MAX);
    validate(&original, &BatchLimits::default()).unwrap();
    assert_ne!(original, entry.data);

    leader.now = Timestamp(NOW.0 + 5);
    for _ in ["pending", "applied"] {
        let decision = leader.handle(command(stamp(1, 0, 0))).unwrap();
        let Decision::Answer {
            response: Response::Produced {
                log_append_time, ..
            },
            ..
        } = decision
        else {
            panic!("not a duplicate: {decision:?}");
        };
        assert_eq!(log_append_time, Some(NOW));
        leader.commit_all();
    }
}

#[test]
fn an_unlawful_entry_changes_nothing() {
    let mut leader = Leader::new();
    leader.offset_of(produce(stamp(1, 1, 0), 2));
    leader.commit_all();
    let lawful = leader.log[0].clone();
    let at = |base_offset, record_count, kind, data| CommittedEntry {
        index: RaftIndex(2),
        base_offset: Offset(base_offset),
        record_count,
        kind,
        data,
        ..lawful.clone()
    };
    let events = |version: u8, inner: Vec<u8>| {
        let mut data = vec![0x08, version];
        data.extend(inner);
        Bytes::from(data)
    };
    let log_start = |offset| {
        Events {
            log_start: Some(Offset(offset)),
            ..Events::default()
        }
        .encode()
    };
    let (next, _) = batch(None, 1, 0);
    let before = leader.machine.state().clone();
    for entry in [
        at(3, 1, EntryKind::Batch, next.clone()),
        at(1, 1, EntryKind::Batch, next.clone()),
        at(2, 2, EntryKind::Batch, next.clone()),
        at(2, 1, EntryKind::Batch, next.slice(..60)),
        at(2, 0, EntryKind::Events, events(2, vec![])),
        at(2, 0, EntryKind::Events, Bytes::new()),
        // An event of kind 15, which no version knows yet.
        at(
            2,
            0,
            EntryKind::Events,
            events(1, vec![0x12, 0x02, 0x7a, 0x00]),
        ),
        at(2, 0, EntryKind::Events, Bytes::from_static(&[0xff])),
        at(2, 0, EntryKind::Events, log_start(3)),
    ] {
        let error = leader.machine.apply(&entry).unwrap_err();
        assert_eq!(error.index, RaftIndex(2));
        assert_eq!(leader.machine.state(), &before, "{error}");
    }
    leader
        .machine
        .apply(&at(2, 0, EntryKind::Events, log_start(2)))
        .unwrap();
    let back = at(2, 0, EntryKind::Events, log_start(1));
    leader.machine.apply(&back).unwrap_err();
}

#[test]
fn producers_go_on_behind_a_hole_whose_loss_was_accepted() {
    let mut leader = Leader::new();
    leader.offset_of(produce(stamp(1, 1, 0), 2));
    leader.offset_of(produce(stamp(1, 1, 2), 2));
    leader.offset_of(produce(stamp(1, 1, 4), 2));
    let machine = &mut leader.machine;
    machine.retract(RaftIndex(1));
    machine.apply(&leader.log[0]).unwrap();
    machine.apply_lost(RaftIndex(2), Offset(3), 2).unwrap_err();
    machine.apply_lost(RaftIndex(2), Offset(2), 2).unwrap();
    machine.apply(&leader.log[2]).unwrap();
    leader.applied = 3;
    assert_eq!(leader.machine.state().next_offset, Offset(6));
    assert_eq!(leader.offset_of(produce(stamp(1, 1, 4), 2)).0, 4);
    assert_eq!(leader.offset_of(produce(stamp(1, 1, 6), 1)), (6, None));
    let lost = leader.refusal_of(produce(stamp(1, 1, 2), 2));
    assert!(
        matches!(lost, Error::OutOfOrderSequence { .. }),
        "it is not called stored: {lost}"
    );
}

#[test]
fn a_snapshot_of_another_version_is_refused() {
    let mut snapshot = Leader::new().machine.snapshot().to_vec();
    assert_eq!(snapshot[..2], [0x08, 1]);
    snapshot[1] = 2;
    assert!(PartitionMachine::new(&snapshot, LIMITS).is_err());
}

#[test]
fn events_and_snapshot_have_their_bytes() {
    let events = Events {
        log_start: Some(Offset(5)),
        expired: vec![ProducerId(3)],
        noted: Some(Timestamp(9)),
    };
    #[rustfmt::skip]
    assert_eq!(events.encode()[..], [
        0x08, 1,                            // version
        0x12, 4, 0x0a, 2, 0x08, 5,          // log start set
        0x12, 5, 0x12, 3, 0x0a, 1, 3,       // producers expired
        0x12, 4, 0x1a, 2, 0x08, 9,          // time noted
    ]);
    let mut leader = Leader::new();
    leader.offset_of(produce(stamp(300, 1, 0), 2));
    leader.commit_all();
    #[rustfmt::skip]
    assert_eq!(leader.machine.snapshot()[..], [
        0x08, 1,                            // version
        0x10, 2,                            // next offset
        0x22, 11,                           // producer
            0x08, 0xac, 2,                  //   id
            0x10, 1,                        //   epoch
            0x18, 2,                        //   records
            0x2a, 2, 0x10, 2,               //   batch: 2 records, sequence 0, offset 0
    ]);
}

#[derive(Clone, Debug)]
enum Step {
    /// A producer's batch, `ahead` of where it should go on, or a repetition of an earlier one.
    Produce {
        id: i64,
        epoch: i16,
        ahead: i32,
        count: u32,
    },
    Plain {
        count: u32,
    },
    Trim {
        permille: u64,
    },
    Expire {
        after_ms: i64,
    },
    Commit {
        entries: usize,
    },
    Drop {
        proposals: usize,
    },
    ChangeLeader {
        kept: usize,
    },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let ahead = prop_oneof![8 => Just(0), 2 => -12..4_i32];
    prop_oneof![
        10 => (1..5_i64, 0..2_i16, ahead, 1..4_u32)
            .prop_map(|(id, epoch, ahead, count)| Step::Produce { id, epoch, ahead, count }),
        2 => (1..4_u32).prop_map(|count| Step::Plain { count }),
        1 => (0..1_100_u64).prop_map(|permille| Step::Trim { permille }),
        2 => (0..600_i64).prop_map(|after_ms| Step::Expire { after_ms }),
        6 => (1..6_usize).prop_map(|entries| Step::Commit { entries }),
        1 => (1..3_usize).prop_map(|proposals| Step::Drop { proposals }),
        1 => (0..4_usize).prop_map(|kept| Step::ChangeLeader { kept }),
        1 => Just(Step::Restart),
    ]
}

/// Runs a step; checks what a caller is told against the log.
fn run(leader: &mut Leader, step: Step) {
    match step {
        Step::Produce {
            id,
            epoch,
            ahead,
            count,
        } => {
            let at = stamp(id, epoch, 0).unwrap();
            let next = leader
                .machine
                .progress(&at)
                .filter(|known| known.epoch == at.epoch);
            let next = next.map_or(0, |known| known.next.0);
            let stamp = stamp(id, epoch, (next + ahead).max(0));
            if let Ok(Decision::Answer { response, .. }) = leader.handle(produce(stamp, count)) {
                let Response::Produced { base_offset, .. } = response else {
                    panic!("{response:?}");
                };
                let first = leader.log.iter().find(|entry| {
                    entry.kind == EntryKind::Batch && entry.base_offset == base_offset
                });
                let header = BatchHeader::parse(&first.unwrap().data).unwrap();
                assert_eq!((header.producer, header.record_count), (stamp, count));
            }
        }
        Step::Plain { count } => drop(leader.offset_of(produce(None, count))),
        Step::Trim { permille } => {
            let offset = leader.machine.state().next_offset.0 * permille / 1_000;
            let _ = leader.handle(Command::Trim {
                to: TrimTo::Offset(Offset(offset)),
            });
        }
        Step::Expire { after_ms } => {
            leader.now = Timestamp(leader.now.0 + after_ms);
            leader.handle(Command::ExpireProducers).unwrap();
        }
        Step::Commit { entries } => leader.commit(entries),
        Step::Drop { proposals } => {
            let kept = leader
                .log
                .len()
                .saturating_sub(proposals)
                .max(leader.applied);
            leader.machine.retract(RaftIndex(kept as u64 + 1));
            leader.log.truncate(kept);
        }
        Step::ChangeLeader { kept } => leader.change_leader(kept),
        Step::Restart => {
            let snapshot = leader.machine.snapshot();
            leader.machine = PartitionMachine::new(&snapshot, LIMITS).unwrap();
            assert_eq!(leader.machine.snapshot(), snapshot);
            leader.change_leader(usize::MAX);
        }
    }
}

/// Between two expiries, each sequence of an epoch stands in the log once, and they stand in order.
fn assert_stored_once_and_in_order(log: &[CommittedEntry]) {
    let mut next: HashMap<(ProducerId, ProducerEpoch), Sequence> = HashMap::new();
    let mut offset = Offset(0);
    for entry in log {
        assert_eq!(entry.base_offset, offset, "offsets are dense");
        offset = offset.plus(entry.record_count);
        match entry.kind {
            EntryKind::Events => {
                let expired = decode_events(&entry.data).unwrap().expired;
                next.retain(|(id, _), _| !expired.contains(id));
            }
            EntryKind::Batch => {
                let header = BatchHeader::parse(&entry.data).unwrap();
                let Some(ProducerStamp {
                    id,
                    epoch,
                    sequence,
                }) = header.producer
                else {
                    continue;
                };
                let expected = next.entry((id, epoch)).or_default();
                assert_eq!(sequence, *expected, "producer {id}, epoch {epoch}");
                *expected = sequence.plus(header.record_count);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn live_state_equals_replayed_state(
        steps in proptest::collection::vec(step(), 1..120),
        cut in 0..100_usize,
    ) {
        let mut leader = Leader::new();
        for step in steps {
            run(&mut leader, step);
        }
        leader.commit_all();
        assert_stored_once_and_in_order(&leader.log);
        prop_assert!(leader.machine.pending.is_empty());

        let cut = leader.log.len() * cut / 100;
        let mut replayed = PartitionMachine::new(&[], LIMITS).unwrap();
        let mut restored = None;
        for (number, entry) in leader.log.iter().enumerate() {
            if number == cut {
                restored = Some(PartitionMachine::new(&replayed.snapshot(), LIMITS).unwrap());
            }
            replayed.apply(entry).unwrap();
            if let Some(restored) = &mut restored {
                restored.apply(entry).unwrap();
            }
        }
        prop_assert_eq!(replayed.state(), leader.machine.state());
        prop_assert_eq!(replayed.snapshot(), leader.machine.snapshot());
        if let Some(restored) = restored {
            prop_assert_eq!(restored.state(), leader.machine.state());
        }
    }

    #[test]
    fn no_bytes_make_apply_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), batch: bool) {
        let mut machine = PartitionMachine::new(&[], LIMITS).unwrap();
        let _ = PartitionMachine::new(&bytes, LIMITS);
        let _ = machine.apply(&CommittedEntry {
            index: RaftIndex(1),
            term: Term(1),
            kind: if batch { EntryKind::Batch } else { EntryKind::Events },
            base_offset: Offset(0),
            record_count: 1,
            max_timestamp_ms: 0,
            data: bytes.into(),
        });
    }
}
