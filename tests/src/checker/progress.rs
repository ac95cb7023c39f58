//! What never goes back (invariants I10, I19).

use std::collections::{BTreeMap, HashMap};

use highwater_proto::Offset;

use super::evidence::Evidence;
use super::{Rule, Violation};
use crate::history::{Moment, Page, Read, SendOutcome};

/// Something that only rises was at least `value` when the answer came.
struct Floor {
    known: Moment,
    value: u64,
    /// The epoch of the leader that answered a reader so; `None` where another answer told it.
    epoch: Option<u64>,
}

/// Somebody who asked at a moment was answered with `value`.
struct Sight {
    asked: Moment,
    value: u64,
    /// Set where a leader answered that may have been replaced without knowing: its epoch.
    lingering: Option<u64>,
}

/// Checks what never goes back.
pub(super) fn check(evidence: &Evidence<'_>, violations: &mut Vec<Violation>) {
    high_watermark_rises(evidence, violations);
    log_start_rises(evidence, violations);
    leader_epoch_rises(evidence, violations);
    log_start_has_a_reason(evidence, violations);
    readers_see_no_step_back(evidence, violations);
}

fn high_watermark_rises(evidence: &Evidence<'_>, violations: &mut Vec<Violation>) {
    let mut floors = Vec::new();
    let mut sights = Vec::new();
    for (read, answered, page) in evidence.pages() {
        floors.push(told_by_reader(answered, page, page.high_watermark.0));
        sights.push(seen_by_reader(evidence, read, page, page.high_watermark.0));
    }
    for send in &evidence.sends {
        if let Some((known, base_offset)) = send.acked() {
            floors.push(told(known, base_offset.0 + send.record_count()));
        }
    }
    if let Some(last) = evidence.last {
        sights.push(at_the_end(last.high_watermark.0));
    }
    for (value, floor) in steps_back(floors, sights) {
        violations.push(evidence.violation(
            Rule::HighWatermarkRises,
            format!("it was {value} after it had been at least {floor}"),
        ));
    }
}

fn log_start_rises(evidence: &Evidence<'_>, violations: &mut Vec<Violation>) {
    let mut floors = Vec::new();
    let mut sights = Vec::new();
    for (read, answered, page) in evidence.pages() {
        floors.push(told_by_reader(answered, page, page.log_start.0));
        sights.push(seen_by_reader(evidence, read, page, page.log_start.0));
    }
    let mut both = |asked, answered, value: Offset| {
        floors.push(told(answered, value.0));
        sights.push(Sight {
            asked,
            value: value.0,
            lingering: None,
        });
    };
    for send in &evidence.sends {
        if let Some((known, SendOutcome::Acked { log_start, .. })) = &send.outcome {
            both(send.invoked, *known, *log_start);
        }
    }
    for trim in &evidence.trims {
        if let Some((known, log_start)) = trim.acked {
            both(trim.invoked, known, log_start);
        }
    }
    let trims = evidence.trims.iter();
    for (known, before) in trims.filter_map(|trim| Some((trim.acked?.0, trim.before))) {
        floors.push(told(known, before.0));
    }
    if let Some(last) = evidence.last {
        sights.push(at_the_end(last.log_start.0));
    }
    for (value, floor) in steps_back(floors, sights) {
        violations.push(evidence.violation(
            Rule::LogStartRises,
            format!("it was {value} after it had been at least {floor}"),
        ));
    }
}

fn leader_epoch_rises(evidence: &Evidence<'_>, violations: &mut Vec<Violation>) {
    let mut floors = Vec::new();
    let mut sights = Vec::new();
    for (read, answered, page) in evidence.pages() {
        floors.push(told_by_reader(answered, page, page.leader_epoch));
        sights.push(seen_by_reader(evidence, read, page, page.leader_epoch));
    }
    for (value, floor) in steps_back(floors, sights) {
        violations.push(evidence.violation(
            Rule::LeaderEpochRises,
            format!("it was {value} after it had been {floor}"),
        ));
    }
}

/// Without retention the log start is where a trim asked it to be, or below.
fn log_start_has_a_reason(evidence: &Evidence<'_>, violations: &mut Vec<Violation>) {
    let trims = evidence.trims.iter().map(|trim| trim.before);
    let highest_trim = trims.max().unwrap_or_default();
    let mut fail = |detail| violations.push(evidence.violation(Rule::LogStartHasAReason, detail));
    let mut starts: Vec<_> = evidence
        .pages()
        .map(|(_, _, page)| (page.log_start, page.high_watermark))
        .chain(
            evidence
                .last
                .map(|last| (last.log_start, last.high_watermark)),
        )
        .collect();
    starts.sort_unstable();
    starts.dedup();
    for (log_start, high_watermark) in starts {
        if log_start > high_watermark {
            fail(format!(
                "the log starts at {log_start}, above its high watermark {high_watermark}"
            ));
        }
        if !evidence.expiring && log_start > highest_trim {
            fail(format!(
                "the log starts at {log_start}, but nobody trimmed beyond {highest_trim} and nothing expires"
            ));
        }
    }
}

/// To one reader the answers came in order: they may not step back, however long they were on their way.
fn readers_see_no_step_back(evidence: &Evidence<'_>, violations: &mut Vec<Violation>) {
    let mut before = HashMap::new();
    for (read, _, page) in evidence.pages() {
        let now = (page.high_watermark, page.log_start, page.leader_epoch);
        let Some(then) = before.insert(read.reader, now) else {
            continue;
        };
        for (stepped_back, rule) in [
            (now.0 < then.0, Rule::HighWatermarkRises),
            (now.1 < then.1, Rule::LogStartRises),
            (now.2 < then.2, Rule::LeaderEpochRises),
        ] {
            if stepped_back {
                violations.push(evidence.violation(
                    rule,
                    format!(
                        "to reader {} (high watermark, log start, epoch) went from {then:?} to {now:?}",
                        read.reader
                    ),
                ));
            }
        }
    }
}

fn told(known: Moment, value: u64) -> Floor {
    Floor {
        known,
        value,
        epoch: None,
    }
}

fn told_by_reader(known: Moment, page: &Page, value: u64) -> Floor {
    Floor {
        known,
        value,
        epoch: Some(page.leader_epoch),
    }
}

fn seen_by_reader(evidence: &Evidence<'_>, read: &Read, page: &Page, value: u64) -> Sight {
    Sight {
        asked: read.invoked,
        value,
        lingering: evidence.lingering_leaders.then_some(page.leader_epoch),
    }
}

fn at_the_end(value: u64) -> Sight {
    Sight {
        asked: Moment(u64::MAX),
        value,
        lingering: None,
    }
}

/// The sights that are below what was known when they were asked for, each with that floor. A leader that may linger
/// needs to know only what it or one before it has told.
fn steps_back(mut floors: Vec<Floor>, mut sights: Vec<Sight>) -> Vec<(u64, u64)> {
    floors.sort_by_key(|floor| floor.known);
    sights.sort_by_key(|sight| sight.asked);
    let last_epoch = floors.iter().filter_map(|floor| floor.epoch).max();
    let mut floors = floors.into_iter().peekable();
    let mut highest = 0;
    let mut by_epoch = BTreeMap::<u64, u64>::new();
    let mut back = Vec::new();
    for sight in sights {
        while let Some(floor) = floors.next_if(|floor| floor.known < sight.asked) {
            highest = highest.max(floor.value);
            if let Some(epoch) = floor.epoch {
                let of_epoch = by_epoch.entry(epoch).or_default();
                *of_epoch = floor.value.max(*of_epoch);
            }
        }
        let floor = match sight.lingering {
            Some(epoch) if Some(epoch) < last_epoch => {
                let up_to = by_epoch.range(..=epoch).map(|(_, value)| *value);
                up_to.max().unwrap_or(0)
            }
            _ => highest,
        };
        if sight.value < floor {
            back.push((sight.value, floor));
        }
    }
    back
}
