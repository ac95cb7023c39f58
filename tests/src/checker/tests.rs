//! Each promise is broken once on purpose, and the checker must name it. A lawful run, however tangled, must pass.

use std::collections::BTreeSet;

use highwater_proto::{PartitionIndex, TopicId};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use super::*;
use crate::history::{Page, Session};
use crate::stamp::{Forgery, Stamp};

const READER: u32 = 100;

fn place(partition: u32) -> Place {
    Place {
        topic: TopicId(Uuid::from_u128(1)),
        partition: PartitionIndex(partition),
    }
}

fn stamp(writer: u32, sequence: u64) -> Stamp {
    Stamp {
        writer,
        sequence,
        place: place(0),
    }
}

/// A broker with one partition that keeps every promise, and the clients' ledger. Tests spoil either.
struct Scene {
    ledger: Ledger,
    log: Vec<ReadRecord>,
    log_start: u64,
    epoch: u64,
}

impl Scene {
    fn new() -> Self {
        Self {
            ledger: Ledger::default(),
            log: Vec::new(),
            log_start: 0,
            epoch: 1,
        }
    }

    fn append(&mut self, stamps: impl IntoIterator<Item = Stamp>) -> Offset {
        let base = Offset(self.log.len() as u64);
        for stamp in stamps {
            self.log.push(ReadRecord {
                offset: Offset(self.log.len() as u64),
                stamp: Ok(stamp),
                producer: None,
            });
        }
        base
    }

    /// Sends a batch, appends it, acknowledges it.
    fn acked(&mut self, writer: u32, sequences: std::ops::Range<u64>) -> Offset {
        let stamps: Vec<_> = sequences.clone().map(|at| stamp(writer, at)).collect();
        let id = self
            .ledger
            .begin_send(place(0), writer, Session(0), sequences);
        let base_offset = self.append(stamps);
        self.ledger.end_send(
            id,
            SendOutcome::Acked {
                base_offset,
                log_start: Offset(self.log_start),
            },
        );
        base_offset
    }

    /// Sends a batch that is not appended.
    fn lost(&mut self, writer: u32, sequences: std::ops::Range<u64>, outcome: SendOutcome) {
        let id = self
            .ledger
            .begin_send(place(0), writer, Session(0), sequences);
        self.ledger.end_send(id, outcome);
    }

    fn page(&self, from: u64) -> Page {
        let at = usize::try_from(from).unwrap();
        Page {
            high_watermark: Offset(self.log.len() as u64),
            log_start: Offset(self.log_start),
            leader_epoch: self.epoch,
            records: self.log[at..].to_vec(),
            next_offset: Offset(self.log.len() as u64),
        }
    }

    fn read(&mut self, from: u64, outcome: ReadOutcome) {
        let id = self.ledger.begin_read(place(0), READER, Offset(from));
        self.ledger.end_read(id, outcome);
    }

    fn read_page(&mut self, from: u64, page: Page) {
        self.read(from, ReadOutcome::Records(page));
    }

    fn final_log(&self) -> FinalLog {
        FinalLog {
            place: place(0),
            log_start: Offset(self.log_start),
            high_watermark: Offset(self.log.len() as u64),
            records: self.log[usize::try_from(self.log_start).unwrap()..].to_vec(),
        }
    }

    fn verdict(&self) -> Verdict {
        check(&self.ledger, &[self.final_log()], &Circumstances::default())
    }

    /// The rules that were broken.
    fn broken(&self) -> BTreeSet<Rule> {
        rules(&self.verdict())
    }
}

fn rules(verdict: &Verdict) -> BTreeSet<Rule> {
    verdict.violations.iter().map(|found| found.rule).collect()
}

fn refused() -> SendOutcome {
    SendOutcome::Refused {
        reason: "DISK_FULL".to_owned(),
    }
}

fn unknown() -> SendOutcome {
    SendOutcome::Unknown {
        reason: "NETWORK_EXCEPTION".to_owned(),
    }
}

#[test]
fn a_lawful_run_breaks_nothing_and_is_counted() {
    let mut scene = Scene::new();
    scene.acked(1, 0..3);
    scene.lost(1, 3..4, refused());
    scene.lost(1, 4..6, unknown());
    let id = scene.ledger.begin_send(place(0), 1, Session(0), 6..8);
    scene.append([stamp(1, 6), stamp(1, 7)]);
    scene.ledger.end_send(id, unknown());
    let page = scene.page(0);
    scene.read_page(0, page);
    scene.read(9, ReadOutcome::OutOfRange);
    let verdict = scene.verdict();
    verdict.assert_clean();
    let expected = Summary {
        acked: 3,
        refused: 1,
        unknown: 4,
        unknown_found: 2,
        expired_unread: 0,
        reads: 2,
        records_read: 5,
        final_records: 5,
    };
    assert_eq!(verdict.summary, expected);
}

#[test]
fn a_lost_ack_is_found() {
    let mut scene = Scene::new();
    scene.acked(1, 0..3);
    scene.log.pop();
    assert!(scene.broken().contains(&Rule::AckedIsKept));
}

#[test]
fn an_acked_record_replaced_by_another_is_found() {
    let mut scene = Scene::new();
    scene.acked(1, 0..2);
    scene.lost(1, 2..3, unknown());
    scene.log[1].stamp = Ok(stamp(1, 2));
    assert!(scene.broken().contains(&Rule::AckedIsKept));
}

#[test]
fn an_acked_offset_read_as_another_record_is_found_even_when_it_expired() {
    let mut scene = Scene::new();
    scene.acked(1, 0..2);
    scene.lost(2, 0..1, unknown());
    let mut page = scene.page(0);
    page.records[1].stamp = Ok(stamp(2, 0));
    scene.read_page(0, page);
    scene.log_start = 2;
    let circumstances = Circumstances {
        expiring: [place(0)].into(),
        ..Circumstances::default()
    };
    let verdict = check(&scene.ledger, &[scene.final_log()], &circumstances);
    assert!(rules(&verdict).contains(&Rule::AckedIsKept));
}

#[test]
fn a_retry_stored_twice_is_found() {
    let mut scene = Scene::new();
    scene.acked(1, 0..2);
    scene.append([stamp(1, 0), stamp(1, 1)]);
    assert_eq!(scene.broken(), [Rule::StoredOnce].into());
}

#[test]
fn a_producer_sequence_stored_twice_is_found_by_its_numbers() {
    let mut scene = Scene::new();
    scene.acked(1, 0..2);
    for record in &mut scene.log {
        record.producer = Some((7, 0, 5));
    }
    assert_eq!(scene.broken(), [Rule::StoredOnce].into());
}

#[test]
fn an_offset_acked_twice_is_found() {
    let mut scene = Scene::new();
    scene.acked(1, 0..2);
    scene.lost(
        2,
        0..1,
        SendOutcome::Acked {
            base_offset: Offset(1),
            log_start: Offset(0),
        },
    );
    assert!(scene.broken().contains(&Rule::OffsetIsUnique));
}

#[test]
fn a_phantom_is_found() {
    let mut scene = Scene::new();
    scene.append([stamp(9, 0)]);
    assert_eq!(scene.broken(), [Rule::OnlyWhatWasSent].into());
}

#[test]
fn a_record_of_another_partition_is_found() {
    let mut scene = Scene::new();
    let elsewhere = Stamp {
        place: place(1),
        ..stamp(1, 0)
    };
    scene.ledger.begin_send(place(1), 1, Session(0), 0..1);
    scene.append([elsewhere]);
    assert_eq!(scene.broken(), [Rule::OnlyWhatWasSent].into());
}

#[test]
fn a_forged_record_is_found() {
    let mut scene = Scene::new();
    scene.acked(1, 0..1);
    scene.log[0].stamp = Err(Forgery("the checksum of its value is wrong"));
    assert!(scene.broken().contains(&Rule::OnlyWhatWasSent));
    assert!(scene.broken().contains(&Rule::AckedIsKept));
}

#[test]
fn a_record_read_before_it_was_sent_is_found() {
    let mut scene = Scene::new();
    scene.append([stamp(1, 0)]);
    let page = scene.page(0);
    scene.read_page(0, page);
    scene.ledger.begin_send(place(0), 1, Session(0), 0..1);
    assert_eq!(scene.broken(), [Rule::OnlyWhatWasSent].into());
}

#[test]
fn a_read_record_that_vanishes_is_found() {
    let mut scene = Scene::new();
    scene.acked(1, 0..1);
    scene.lost(1, 1..2, unknown());
    scene.append([stamp(1, 1)]);
    let page = scene.page(0);
    scene.read_page(0, page);
    scene.log.pop();
    assert!(scene.broken().contains(&Rule::ReadIsKept));
}

#[test]
fn an_offset_that_changed_its_record_is_found() {
    let mut scene = Scene::new();
    scene.lost(1, 0..1, unknown());
    scene.lost(2, 0..1, unknown());
    scene.append([stamp(1, 0)]);
    let page = scene.page(0);
    scene.read_page(0, page);
    scene.log[0].stamp = Ok(stamp(2, 0));
    assert!(scene.broken().contains(&Rule::ReadIsKept));
}

#[test]
fn a_gap_is_found() {
    let mut scene = Scene::new();
    scene.lost(1, 0..1, unknown());
    scene.lost(1, 1..2, unknown());
    scene.append([stamp(1, 0), stamp(1, 1)]);
    let mut last = scene.final_log();
    last.records[1].offset = Offset(2);
    last.high_watermark = Offset(3);
    let verdict = check(&scene.ledger, &[last], &Circumstances::default());
    assert_eq!(rules(&verdict), [Rule::Dense].into());
}

#[test]
fn a_log_that_ends_early_is_found() {
    let mut scene = Scene::new();
    scene.lost(1, 0..1, unknown());
    let mut last = scene.final_log();
    last.high_watermark = Offset(1);
    let verdict = check(&scene.ledger, &[last], &Circumstances::default());
    assert_eq!(rules(&verdict), [Rule::Dense].into());
}

#[test]
fn a_torn_batch_is_found() {
    let mut scene = Scene::new();
    scene.lost(1, 0..3, unknown());
    scene.append([stamp(1, 0), stamp(1, 1)]);
    assert_eq!(scene.broken(), [Rule::BatchIsWhole].into());
    let mut scene = Scene::new();
    scene.lost(1, 0..2, unknown());
    scene.lost(2, 0..1, unknown());
    scene.append([stamp(1, 0), stamp(2, 0), stamp(1, 1)]);
    assert_eq!(scene.broken(), [Rule::BatchIsWhole].into());
}

#[test]
fn a_refused_record_in_the_log_is_found() {
    let mut scene = Scene::new();
    scene.lost(1, 0..1, refused());
    scene.append([stamp(1, 0)]);
    assert_eq!(scene.broken(), [Rule::RefusedIsAbsent].into());
}

#[test]
fn a_reordered_session_is_found_also_among_unacked_batches() {
    let mut scene = Scene::new();
    scene.lost(1, 0..1, unknown());
    scene.lost(1, 1..2, unknown());
    scene.append([stamp(1, 1), stamp(1, 0)]);
    assert_eq!(scene.broken(), [Rule::SessionOrder].into());
}

#[test]
fn an_ack_overtaken_by_a_later_send_is_found() {
    let mut scene = Scene::new();
    let early = scene.ledger.begin_send(place(0), 1, Session(0), 0..1);
    scene.ledger.end_send(
        early,
        SendOutcome::Acked {
            base_offset: Offset(1),
            log_start: Offset(0),
        },
    );
    scene.ledger.begin_send(place(0), 2, Session(0), 0..1);
    scene.append([stamp(2, 0), stamp(1, 0)]);
    assert_eq!(scene.broken(), [Rule::RealTimeOrder].into());
}

#[test]
fn concurrent_sends_may_stand_in_any_order() {
    let mut scene = Scene::new();
    let first = scene.ledger.begin_send(place(0), 1, Session(0), 0..1);
    scene.acked(2, 0..1);
    let base_offset = scene.append([stamp(1, 0)]);
    scene.ledger.end_send(
        first,
        SendOutcome::Acked {
            base_offset,
            log_start: Offset(0),
        },
    );
    scene.verdict().assert_clean();
}

#[test]
fn an_uncommitted_read_is_found() {
    let mut scene = Scene::new();
    scene.lost(1, 0..2, unknown());
    scene.append([stamp(1, 0), stamp(1, 1)]);
    let mut page = scene.page(0);
    page.high_watermark = Offset(1);
    scene.read_page(0, page);
    assert_eq!(scene.broken(), [Rule::OnlyCommitted].into());
}

#[test]
fn an_answer_that_skips_or_repeats_is_found() {
    for (from, spoil) in [
        (0, 1_u64), // begins one too late
        (1, 0),     // begins one too early
    ] {
        let mut scene = Scene::new();
        scene.acked(1, 0..3);
        let page = scene.page(spoil);
        scene.read_page(from, page);
        assert_eq!(scene.broken(), [Rule::Contiguous].into());
    }
    let mut scene = Scene::new();
    scene.acked(1, 0..3);
    let mut page = scene.page(0);
    page.records.remove(1);
    scene.read_page(0, page);
    assert_eq!(scene.broken(), [Rule::Contiguous].into());
}

#[test]
fn a_wrong_next_offset_is_found() {
    let mut scene = Scene::new();
    scene.acked(1, 0..3);
    let mut page = scene.page(0);
    page.next_offset = Offset(4);
    scene.read_page(0, page);
    assert_eq!(scene.broken(), [Rule::Contiguous].into());
}

#[test]
fn a_silent_skip_of_expired_records_is_found() {
    let mut scene = Scene::new();
    scene.acked(1, 0..3);
    let trim = scene.ledger.begin_trim(place(0), Offset(2));
    scene.log_start = 2;
    scene.ledger.end_trim(trim, Offset(2));
    let page = scene.page(2);
    scene.read_page(1, page);
    assert!(scene.broken().contains(&Rule::ExpiredIsRefused));
}

#[test]
fn out_of_range_for_an_offset_that_is_there_is_found() {
    let mut scene = Scene::new();
    scene.acked(1, 0..3);
    scene.read(3, ReadOutcome::OutOfRange);
    assert_eq!(scene.broken(), [Rule::HeldIsServed].into());
}

#[test]
fn out_of_range_is_lawful_above_what_was_known_and_below_the_log_start() {
    let mut scene = Scene::new();
    scene.read(3, ReadOutcome::OutOfRange);
    scene.acked(1, 0..3);
    let trim = scene.ledger.begin_trim(place(0), Offset(2));
    scene.log_start = 2;
    scene.read(1, ReadOutcome::OutOfRange);
    scene.ledger.end_trim(trim, Offset(2));
    scene.verdict().assert_clean();
}

#[test]
fn a_high_watermark_going_back_is_found_between_readers_and_acks() {
    let mut scene = Scene::new();
    scene.acked(1, 0..3);
    let mut page = scene.page(0);
    page.high_watermark = Offset(2);
    page.records.pop();
    page.next_offset = Offset(2);
    scene.read_page(0, page);
    assert_eq!(scene.broken(), [Rule::HighWatermarkRises].into());
}

#[test]
fn concurrent_answers_may_show_an_older_high_watermark() {
    let mut scene = Scene::new();
    let id = scene.ledger.begin_read(place(0), READER, Offset(0));
    let page = scene.page(0);
    scene.acked(1, 0..3);
    scene.ledger.end_read(id, ReadOutcome::Records(page));
    scene.verdict().assert_clean();
}

#[test]
fn a_high_watermark_that_steps_back_to_one_reader_is_found_however_long_it_travelled() {
    let mut scene = Scene::new();
    scene.lost(1, 0..2, unknown());
    scene.append([stamp(1, 0), stamp(1, 1)]);
    let began = scene.ledger.now();
    let mut short = scene.page(0);
    short.high_watermark = Offset(0);
    short.records.clear();
    short.next_offset = Offset(0);
    for page in [scene.page(0), short] {
        let id = scene
            .ledger
            .begin_read_at(began, place(0), READER, Offset(0));
        scene.ledger.end_read(id, ReadOutcome::Records(page));
    }
    assert_eq!(scene.broken(), [Rule::HighWatermarkRises].into());
}

#[test]
fn a_log_start_going_back_or_a_trim_undone_is_found() {
    let mut scene = Scene::new();
    scene.acked(1, 0..3);
    let trim = scene.ledger.begin_trim(place(0), Offset(2));
    scene.ledger.end_trim(trim, Offset(2));
    let page = scene.page(0);
    scene.read_page(0, page);
    assert_eq!(scene.broken(), [Rule::LogStartRises].into());
}

#[test]
fn a_log_start_that_rises_without_a_reason_is_found() {
    let mut scene = Scene::new();
    scene.acked(1, 0..3);
    scene.log_start = 1;
    assert_eq!(scene.broken(), [Rule::LogStartHasAReason].into());
    let circumstances = Circumstances {
        expiring: [place(0)].into(),
        ..Circumstances::default()
    };
    let verdict = check(&scene.ledger, &[scene.final_log()], &circumstances);
    verdict.assert_clean();
    assert_eq!(verdict.summary.expired_unread, 1);
}

#[test]
fn a_leader_epoch_going_back_is_found() {
    let mut scene = Scene::new();
    for epoch in [2, 1] {
        scene.epoch = epoch;
        let page = scene.page(0);
        scene.read_page(0, page);
    }
    assert_eq!(scene.broken(), [Rule::LeaderEpochRises].into());
}

/// What is broken where a leader that was replaced answers another reader with the records before `end`.
fn broken_by_a_lingering_leader(end: u64) -> BTreeSet<Rule> {
    let mut scene = Scene::new();
    scene.acked(1, 0..3);
    let first = scene.page(0);
    let old = Page {
        high_watermark: Offset(end),
        records: first.records[..usize::try_from(end).unwrap()].to_vec(),
        next_offset: Offset(end),
        ..first.clone()
    };
    scene.read_page(0, first);
    scene.epoch = 2;
    scene.acked(1, 3..5);
    let page = scene.page(0);
    scene.read_page(0, page);
    let id = scene.ledger.begin_read(place(0), READER + 1, Offset(0));
    scene.ledger.end_read(id, ReadOutcome::Records(old));
    assert!(!scene.broken().is_empty(), "without leave to linger");
    let circumstances = Circumstances {
        lingering_leaders: true,
        ..Circumstances::default()
    };
    rules(&check(&scene.ledger, &[scene.final_log()], &circumstances))
}

#[test]
fn a_leader_that_was_replaced_may_know_less_than_its_successor_but_not_than_itself() {
    assert_eq!(broken_by_a_lingering_leader(3), BTreeSet::new());
    assert_eq!(
        broken_by_a_lingering_leader(2),
        [Rule::HighWatermarkRises].into()
    );
}

#[test]
fn the_last_leader_must_know_everything_that_was_acknowledged() {
    let mut scene = Scene::new();
    let empty = scene.page(0);
    scene.acked(1, 0..3);
    scene.read_page(0, empty);
    let circumstances = Circumstances {
        lingering_leaders: true,
        ..Circumstances::default()
    };
    let verdict = check(&scene.ledger, &[scene.final_log()], &circumstances);
    assert_eq!(rules(&verdict), [Rule::HighWatermarkRises].into());
}

/// A run of a correct broker with many clients whose operations overlap and whose answers get lost.
fn tangled_run(seed: u64) -> Scene {
    let mut random = StdRng::seed_from_u64(seed);
    let mut scene = Scene::new();
    let mut next_sequence = [0_u64; 4];
    let mut open = Vec::new();
    for _ in 0..150 {
        match random.random_range(0..10) {
            // A writer sends its next batch.
            0..4 => {
                let writer = random.random_range(0..next_sequence.len());
                let first = next_sequence[writer];
                let end = first + random.random_range(1..4);
                if open.iter().any(|(_, busy, _)| *busy == writer) {
                    continue;
                }
                next_sequence[writer] = end;
                let number = u32::try_from(writer).unwrap();
                let id = scene
                    .ledger
                    .begin_send(place(0), number, Session(0), first..end);
                open.push((id, writer, first..end));
            }
            // One of the batches on their way is decided.
            4..7 if !open.is_empty() => {
                let (id, writer, sequences) = open.swap_remove(random.random_range(0..open.len()));
                let writer = u32::try_from(writer).unwrap();
                let stored = random.random_bool(0.8);
                let base_offset = if stored {
                    scene.append(sequences.map(|at| stamp(writer, at)))
                } else {
                    Offset(0)
                };
                let outcome = match (stored, random.random_bool(0.7)) {
                    (true, true) => SendOutcome::Acked {
                        base_offset,
                        log_start: Offset(scene.log_start),
                    },
                    (false, true) => refused(),
                    (_, false) => unknown(),
                };
                scene.ledger.end_send(id, outcome);
            }
            7 => scene.epoch += 1,
            8 if random.random_bool(0.2) => {
                let before = random.random_range(scene.log_start..=scene.log.len() as u64);
                let trim = scene.ledger.begin_trim(place(0), Offset(before));
                scene.log_start = before;
                if random.random_bool(0.5) {
                    scene.ledger.end_trim(trim, Offset(before));
                }
            }
            _ => {
                let from = random.random_range(0..=scene.log.len() as u64 + 1);
                if from < scene.log_start || from > scene.log.len() as u64 {
                    scene.read(from, ReadOutcome::OutOfRange);
                } else {
                    let page = scene.page(from);
                    scene.read_page(from, page);
                }
            }
        }
    }
    scene
}

#[test]
fn tangled_lawful_runs_are_never_accused() {
    for seed in 0..300 {
        let verdict = tangled_run(seed).verdict();
        assert!(verdict.violations.is_empty(), "seed {seed}: {verdict}");
        assert!(verdict.summary.final_records > 0 || verdict.summary.acked > 0);
    }
}

/// Whatever is done to the final log of a run, it is noticed, unless only unacknowledged and unread batches are hit.
#[test]
fn no_damage_to_what_was_promised_goes_unnoticed() {
    let mut damaged = 0;
    for seed in 0..300 {
        let mut scene = tangled_run(seed);
        let mut random = StdRng::seed_from_u64(!seed);
        let promised: Vec<_> = scene
            .ledger
            .sends
            .iter()
            .filter_map(|send| Some(send.acked()?.1.0))
            .filter(|offset| *offset >= scene.log_start)
            .collect();
        if promised.is_empty() {
            continue;
        }
        let victim = usize::try_from(promised[random.random_range(0..promised.len())]).unwrap();
        match random.random_range(0..4) {
            0 => scene.log.truncate(victim),
            1 => {
                scene.log.remove(victim);
                for (at, record) in scene.log.iter_mut().enumerate() {
                    record.offset = Offset(at as u64);
                }
            }
            2 => scene.log[victim].stamp = Ok(stamp(77, 0)),
            _ => {
                let copy = scene.log[victim].stamp.unwrap();
                scene.append([copy]);
            }
        }
        damaged += 1;
        assert!(
            !scene.broken().is_empty(),
            "seed {seed}: damage at {victim}"
        );
    }
    assert!(damaged > 200);
}
