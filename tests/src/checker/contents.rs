//! What the log holds (invariants I1, I8, I11, I16, I17, I18).

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use highwater_proto::Offset;

use super::evidence::Evidence;
use super::{FinalLog, Rule, Violation};
use crate::history::{Moment, SendBatch, SendOutcome};
use crate::stamp::Stamp;

/// Checks what the log holds.
pub(super) fn check(evidence: &Evidence<'_>, violations: &mut Vec<Violation>) {
    every_record_was_sent(evidence, violations);
    offsets_keep_their_records(evidence, violations);
    reads_agree_with_acks(evidence, violations);
    records_keep_their_offsets(evidence, violations);
    producer_sequences_are_unique(evidence, violations);
    acks_do_not_overlap(evidence, violations);
    batches_are_whole(evidence, violations);
    refused_is_absent(evidence, violations);
    if let Some(last) = evidence.last {
        final_log_is_dense(evidence, last, violations);
        final_log_holds_everything(evidence, last, violations);
    }
}

/// No record is made up, damaged, from another partition, or older than its own sending.
fn every_record_was_sent(evidence: &Evidence<'_>, violations: &mut Vec<Violation>) {
    let mut sent: HashMap<Stamp, Moment> = HashMap::new();
    for send in &evidence.sends {
        sent.extend(send.stamps().map(|stamp| (stamp, send.invoked)));
    }
    let mut fail = |detail| violations.push(evidence.violation(Rule::OnlyWhatWasSent, detail));
    for record in evidence.sighted() {
        let offset = record.offset;
        match record.stamp {
            Err(forgery) => fail(format!("offset {offset}: {}", forgery.0)),
            Ok(stamp) if stamp.place != evidence.place => {
                fail(format!(
                    "offset {offset}: {stamp:?} was sent to {}",
                    stamp.place
                ));
            }
            Ok(stamp) if !sent.contains_key(&stamp) => {
                fail(format!("offset {offset}: nobody sent {stamp:?}"));
            }
            Ok(_) => {}
        }
    }
    for (read, answered, page) in evidence.pages() {
        for record in &page.records {
            if let Ok(stamp) = record.stamp
                && sent.get(&stamp).is_some_and(|invoked| *invoked > answered)
            {
                fail(format!(
                    "reader {} got {stamp:?} at offset {} before it was sent",
                    read.reader, record.offset
                ));
            }
        }
    }
}

/// An offset holds one record for ever.
fn offsets_keep_their_records(evidence: &Evidence<'_>, violations: &mut Vec<Violation>) {
    let mut held: HashMap<Offset, Stamp> = HashMap::new();
    for record in evidence.sighted() {
        let Ok(stamp) = record.stamp else { continue };
        let before = *held.entry(record.offset).or_insert(stamp);
        if before != stamp {
            violations.push(evidence.violation(
                Rule::ReadIsKept,
                format!("offset {} held {before:?}, then {stamp:?}", record.offset),
            ));
        }
    }
}

/// Whoever reads an offset that was acknowledged finds what was acknowledged, also where it expired later.
fn reads_agree_with_acks(evidence: &Evidence<'_>, violations: &mut Vec<Violation>) {
    let acked = acked_records(evidence);
    for (read, _, page) in evidence.pages() {
        for record in &page.records {
            if let Ok(stamp) = record.stamp
                && let Some(expected) = acked.get(&record.offset)
                && *expected != stamp
            {
                violations.push(evidence.violation(
                    Rule::AckedIsKept,
                    format!(
                        "{expected:?} was acknowledged at offset {}, where reader {} got {stamp:?}",
                        record.offset, read.reader
                    ),
                ));
            }
        }
    }
}

fn acked_records(evidence: &Evidence<'_>) -> HashMap<Offset, Stamp> {
    let mut acked = HashMap::new();
    for send in &evidence.sends {
        if let Some((_, base_offset)) = send.acked() {
            acked.extend((base_offset.0..).map(Offset).zip(send.stamps()));
        }
    }
    acked
}

/// A record stands at one offset only.
fn records_keep_their_offsets(evidence: &Evidence<'_>, violations: &mut Vec<Violation>) {
    let mut doubles = BTreeMap::new();
    for record in evidence.sighted() {
        if let Ok(stamp) = record.stamp
            && let Some(first) = evidence.seen.get(&stamp)
            && *first != record.offset
        {
            doubles.insert((stamp, record.offset), *first);
        }
    }
    for ((stamp, offset), first) in doubles {
        violations.push(evidence.violation(
            Rule::StoredOnce,
            format!("{stamp:?} is at offset {first} and at offset {offset}"),
        ));
    }
}

/// Each producer id, epoch and sequence stands at one offset only.
fn producer_sequences_are_unique(evidence: &Evidence<'_>, violations: &mut Vec<Violation>) {
    let mut offsets: HashMap<(i64, i16, i32), Offset> = HashMap::new();
    for record in evidence.sighted() {
        let Some(producer) = record.producer else {
            continue;
        };
        let first = *offsets.entry(producer).or_insert(record.offset);
        if first != record.offset {
            let (id, epoch, sequence) = producer;
            violations.push(evidence.violation(
                Rule::StoredOnce,
                format!(
                    "sequence {sequence} of producer {id} epoch {epoch} is at offset {first} and at offset {}",
                    record.offset
                ),
            ));
        }
    }
}

/// No offset was given to two batches.
fn acks_do_not_overlap(evidence: &Evidence<'_>, violations: &mut Vec<Violation>) {
    let mut acked: Vec<_> = evidence
        .sends
        .iter()
        .filter_map(|send| Some((send.acked()?.1.0, *send)))
        .collect();
    acked.sort_by_key(|(base_offset, _)| *base_offset);
    for pair in acked.windows(2) {
        let ((base, first), (next, second)) = (pair[0], pair[1]);
        if next < base + first.record_count() {
            violations.push(evidence.violation(
                Rule::OffsetIsUnique,
                format!(
                    "offset {next} was given to {} and to {}",
                    named(first),
                    named(second)
                ),
            ));
        }
    }
}

/// Where a record of a batch stands, all of it stands, in one piece.
fn batches_are_whole(evidence: &Evidence<'_>, violations: &mut Vec<Violation>) {
    let log_start = evidence.last.map_or(Offset(0), |last| last.log_start);
    for send in &evidence.sends {
        let Some(base_offset) = evidence.position(send) else {
            continue;
        };
        for (stamp, expected) in send.stamps().zip(base_offset.0..) {
            match evidence.seen.get(&stamp) {
                Some(offset) if offset.0 != expected => {
                    violations.push(evidence.violation(
                        Rule::BatchIsWhole,
                        format!(
                            "{} begins at offset {base_offset}, but {stamp:?} is at {offset}",
                            named(send)
                        ),
                    ));
                }
                // What nobody read may have expired; of an acknowledged batch, the check of the final log says more.
                None if evidence.last.is_some()
                    && expected >= log_start.0
                    && send.acked().is_none() =>
                {
                    violations.push(evidence.violation(
                        Rule::BatchIsWhole,
                        format!("of {} only a part is there: {stamp:?} is not", named(send)),
                    ));
                }
                _ => {}
            }
        }
    }
}

/// Nothing that was refused for certain was ever read.
fn refused_is_absent(evidence: &Evidence<'_>, violations: &mut Vec<Violation>) {
    for send in &evidence.sends {
        let Some((_, SendOutcome::Refused { reason })) = &send.outcome else {
            continue;
        };
        for stamp in send.stamps() {
            if let Some(offset) = evidence.seen.get(&stamp) {
                violations.push(evidence.violation(
                    Rule::RefusedIsAbsent,
                    format!("{stamp:?} was refused with {reason} and is at offset {offset}"),
                ));
            }
        }
    }
}

/// The final log has one record for each offset.
fn final_log_is_dense(evidence: &Evidence<'_>, last: &FinalLog, violations: &mut Vec<Violation>) {
    let mut fail = |detail| violations.push(evidence.violation(Rule::Dense, detail));
    let mut expected = last.log_start.0;
    for record in &last.records {
        if record.offset.0 != expected {
            fail(format!(
                "offset {} follows where {expected} should",
                record.offset
            ));
        }
        expected = record.offset.0 + 1;
    }
    if expected != last.high_watermark.0 {
        fail(format!(
            "the log ends before offset {expected}, its high watermark is {}",
            last.high_watermark
        ));
    }
}

/// The final log holds everything that was acknowledged and everything that was read, where it was.
fn final_log_holds_everything(
    evidence: &Evidence<'_>,
    last: &FinalLog,
    violations: &mut Vec<Violation>,
) {
    let held: HashMap<Offset, _> = last
        .records
        .iter()
        .map(|record| (record.offset, record.stamp))
        .collect();
    let mut promised: HashMap<Offset, (Stamp, Rule)> = acked_records(evidence)
        .into_iter()
        .map(|(offset, stamp)| (offset, (stamp, Rule::AckedIsKept)))
        .collect();
    for (stamp, offset) in &evidence.seen {
        if let Entry::Vacant(entry) = promised.entry(*offset) {
            entry.insert((*stamp, Rule::ReadIsKept));
        }
    }
    let mut broken: Vec<_> = promised
        .into_iter()
        .filter(|(offset, (stamp, _))| {
            *offset >= last.log_start && held.get(offset) != Some(&Ok(*stamp))
        })
        .collect();
    broken.sort_by_key(|(offset, _)| *offset);
    for (offset, (stamp, rule)) in broken {
        let instead = held.get(&offset).map_or_else(
            || "nothing".to_owned(),
            |stamp| match stamp {
                Ok(stamp) => format!("{stamp:?}"),
                Err(forgery) => format!("a record of which {}", forgery.0),
            },
        );
        let why = if rule == Rule::AckedIsKept {
            "was acknowledged"
        } else {
            "was read"
        };
        violations.push(evidence.violation(
            rule,
            format!("{stamp:?} {why} at offset {offset}; at the end there is {instead}"),
        ));
    }
}

fn named(send: &SendBatch) -> String {
    format!(
        "w{}#{}..{}",
        send.writer, send.sequences.start, send.sequences.end
    )
}
