//! Promises and how they can be broken.

use std::fmt;

use crate::stamp::Place;

/// A promise of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// An acknowledged record is at its offset.
    AckedIsKept,
    /// An offset is given once.
    OffsetIsUnique,
    /// A batch that was sent is in the log at most once, however often it was sent.
    StoredOnce,
    /// A record is byte for byte what a writer sent, to this partition, before it was read.
    OnlyWhatWasSent,
    /// What a reader got once stays at its offset until it expires.
    ReadIsKept,
    /// Offsets from the log start to the high watermark are dense.
    Dense,
    /// A batch is in the log as a whole, or not at all.
    BatchIsWhole,
    /// What was refused for certain is not in the log.
    RefusedIsAbsent,
    /// Records of a session stand in the order in which they were sent.
    SessionOrder,
    /// What was acknowledged before something else was sent stands before it.
    RealTimeOrder,
    /// Nothing at or above the high watermark is given out.
    OnlyCommitted,
    /// An answer begins where the reader asked and goes on without skip or repeat.
    Contiguous,
    /// What lies below the log start is refused, not skipped.
    ExpiredIsRefused,
    /// An offset that the log holds is not refused.
    HeldIsServed,
    /// The high watermark never goes back and covers what was acknowledged.
    HighWatermarkRises,
    /// The log start never goes back.
    LogStartRises,
    /// The log start rises only by a trim or by retention, and never above the high watermark.
    LogStartHasAReason,
    /// The leader epoch never goes back.
    LeaderEpochRises,
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// Where.
    pub place: Place,
    /// What was seen.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} in {}: {}", self.rule, self.place, self.detail)
    }
}
