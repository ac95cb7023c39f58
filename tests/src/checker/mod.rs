//! Decides whether what the clients saw can have come from a broker that keeps its promises.
//!
//! The checker is pure: a [`Ledger`] of all operations and, for each partition, its whole log as read at the end go in,
//! violations come out. It knows nothing of how the broker works and assumes nothing where the clients know nothing: a
//! batch whose outcome was never learned may be there or not, but not twice, not in part, and not out of order.
//!
//! Each partition is judged by itself:
//! - `contents`: what the log holds. Nothing acknowledged is missing, nothing is there twice, nothing was made up,
//!   nothing that was refused is there, nothing that was read once is gone or has become something else.
//! - `order`: in which order. A session's records by their sequences, everything by real time.
//! - `reads`: the shape of each answer. No skip, no repeat, nothing at or above the high watermark, no offset refused
//!   that the log holds.
//! - `progress`: high watermark, log start and leader epoch never go back, and the log start rises for a reason.
//!
//! Left out: consumer groups, transactions and compaction, which do not exist yet, and the state of topics, which
//! [`crate::topic_model`] follows.

mod contents;
mod evidence;
mod order;
mod progress;
mod reads;
mod violation;

use std::collections::BTreeSet;
use std::fmt;

use highwater_proto::Offset;

use crate::history::{Ledger, ReadOutcome, ReadRecord, SendOutcome};
use crate::stamp::Place;
use evidence::Evidence;
pub use violation::{Rule, Violation};

/// A partition's whole log, read when no writer was left and the broker was well.
#[derive(Clone, Debug)]
pub struct FinalLog {
    /// Which partition.
    pub place: Place,
    /// First offset that it held.
    pub log_start: Offset,
    /// First offset that it did not hold.
    pub high_watermark: Offset,
    /// Everything between.
    pub records: Vec<ReadRecord>,
}

/// What the checker must know of the circumstances.
#[derive(Clone, Debug, Default)]
pub struct Circumstances {
    /// Partitions whose records expire, so that the log start rises without a trim.
    pub expiring: BTreeSet<Place>,
    /// Leaders were frozen or cut off from the others. Such a one does not know that it was replaced and may go on to
    /// answer readers, with what was committed when it led; nobody is promised to be told that there is more by now.
    pub lingering_leaders: bool,
}

/// What was checked, so that a test can see that it tested something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records in acknowledged batches.
    pub acked: u64,
    /// Records in batches that were refused for certain.
    pub refused: u64,
    /// Records in batches of which nothing certain is known.
    pub unknown: u64,
    /// Of those, records that are in the log all the same.
    pub unknown_found: u64,
    /// Acknowledged records that expired or were trimmed before anybody read them.
    pub expired_unread: u64,
    /// Answers to readers.
    pub reads: u64,
    /// Records in them.
    pub records_read: u64,
    /// Records in the final logs.
    pub final_records: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} records acknowledged ({} expired unread), {} refused, {} unknown ({} of them found); \
             {} answers with {} records; {} records at the end",
            self.acked,
            self.expired_unread,
            self.refused,
            self.unknown,
            self.unknown_found,
            self.reads,
            self.records_read,
            self.final_records
        )
    }
}

/// What the checker found.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Every promise that was broken.
    pub violations: Vec<Violation>,
    /// How much was looked at.
    pub summary: Summary,
}

impl Verdict {
    /// # Panics
    /// When a promise was broken.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.violations.is_empty(), "{self}");
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST_SHOWN: usize = 40;
        writeln!(f, "{}", self.summary)?;
        writeln!(f, "{} violations", self.violations.len())?;
        for violation in self.violations.iter().take(MOST_SHOWN) {
            writeln!(f, "  {violation}")?;
        }
        if self.violations.len() > MOST_SHOWN {
            writeln!(f, "  and {} more", self.violations.len() - MOST_SHOWN)?;
        }
        Ok(())
    }
}

/// Checks everything that the clients saw.
#[must_use]
pub fn check(ledger: &Ledger, finals: &[FinalLog], circumstances: &Circumstances) -> Verdict {
    let mut violations = Vec::new();
    let mut summary = summarize(ledger, finals);
    for evidence in Evidence::gather(ledger, finals, circumstances) {
        contents::check(&evidence, &mut violations);
        order::check(&evidence, &mut violations);
        reads::check(&evidence, &mut violations);
        progress::check(&evidence, &mut violations);
        summary.unknown_found += evidence.unknown_found();
        summary.expired_unread += evidence.expired_unread();
    }
    Verdict {
        violations,
        summary,
    }
}

fn summarize(ledger: &Ledger, finals: &[FinalLog]) -> Summary {
    let mut summary = Summary::default();
    for send in &ledger.sends {
        let count = match &send.outcome {
            Some((_, SendOutcome::Acked { .. })) => &mut summary.acked,
            Some((_, SendOutcome::Refused { .. })) => &mut summary.refused,
            Some((_, SendOutcome::Unknown { .. })) | None => &mut summary.unknown,
        };
        *count += send.record_count();
    }
    for read in &ledger.reads {
        if let Some((_, outcome)) = &read.outcome {
            summary.reads += 1;
            if let ReadOutcome::Records(page) = outcome {
                summary.records_read += page.records.len() as u64;
            }
        }
    }
    summary.final_records = finals.iter().map(|log| log.records.len() as u64).sum();
    summary
}

#[cfg(test)]
mod tests;
