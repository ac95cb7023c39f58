//! The shape of each answer to a reader (invariants I11, I15, I19).

use highwater_proto::Offset;

use super::evidence::Evidence;
use super::{Rule, Violation};
use crate::history::{Page, Read, ReadOutcome};

/// Checks each answer by itself.
pub(super) fn check(evidence: &Evidence<'_>, violations: &mut Vec<Violation>) {
    for (read, _, page) in evidence.pages() {
        page_is_committed(evidence, read, page, violations);
        page_is_contiguous(evidence, read, page, violations);
    }
    refusals_are_justified(evidence, violations);
}

fn page_is_committed(
    evidence: &Evidence<'_>,
    read: &Read,
    page: &Page,
    violations: &mut Vec<Violation>,
) {
    for record in &page.records {
        if record.offset >= page.high_watermark {
            violations.push(evidence.violation(
                Rule::OnlyCommitted,
                format!(
                    "reader {} got offset {} with high watermark {}",
                    read.reader, record.offset, page.high_watermark
                ),
            ));
        }
    }
    if read.from < page.log_start {
        violations.push(evidence.violation(
            Rule::ExpiredIsRefused,
            format!(
                "reader {} asked for offset {} and was answered as if it were there; the log starts at {}",
                read.reader, read.from, page.log_start
            ),
        ));
    }
}

fn page_is_contiguous(
    evidence: &Evidence<'_>,
    read: &Read,
    page: &Page,
    violations: &mut Vec<Violation>,
) {
    let mut expected = read.from;
    let mut fail = |detail| violations.push(evidence.violation(Rule::Contiguous, detail));
    for record in &page.records {
        if record.offset != expected {
            fail(format!(
                "reader {} asked for offset {} and got {} where {expected} should be",
                read.reader, read.from, record.offset
            ));
        }
        expected = Offset(record.offset.0 + 1);
    }
    if page.next_offset != expected {
        fail(format!(
            "reader {} asked for offset {}, got everything before {expected}, and was told to go on at {}",
            read.reader, read.from, page.next_offset
        ));
    }
}

/// `OFFSET_OUT_OF_RANGE` makes a consumer jump: it must never be said of an offset that is surely there.
fn refusals_are_justified(evidence: &Evidence<'_>, violations: &mut Vec<Violation>) {
    // Whatever the log start ever was, it was at most this when the answer was given.
    let log_starts = evidence
        .pages()
        .map(|(_, _, page)| page.log_start)
        .chain(evidence.last.map(|last| last.log_start))
        .chain(evidence.trims.iter().map(|trim| trim.before));
    let highest_log_start = log_starts.max().unwrap_or_default();
    // Everything acknowledged or seen as committed by the time of the question was there.
    let mut committed: Vec<_> = evidence
        .pages()
        .map(|(_, answered, page)| (answered, page.high_watermark))
        .chain(evidence.sends.iter().filter_map(|send| {
            let (acked, base) = send.acked()?;
            Some((acked, base.plus(send.record_count())))
        }))
        .collect();
    committed.sort_unstable();
    let mut committed = committed.into_iter().peekable();
    let mut log_end = Offset(0);
    let mut reads = evidence.reads.clone();
    reads.sort_by_key(|read| read.invoked);
    for read in reads {
        while let Some((_, offset)) = committed.next_if(|(moment, _)| *moment < read.invoked) {
            log_end = log_end.max(offset);
        }
        if matches!(read.outcome, Some((_, ReadOutcome::OutOfRange)))
            && read.from >= highest_log_start
            && read.from <= log_end
            && !evidence.expiring
        {
            violations.push(evidence.violation(
                Rule::HeldIsServed,
                format!(
                    "reader {} was told that offset {} is out of range; the log surely held {highest_log_start} to {log_end}",
                    read.reader, read.from
                ),
            ));
        }
    }
}
