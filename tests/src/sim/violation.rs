//! What must never happen, and how a run tells that it did.

use std::fmt;

use super::schedule::Time;

/// A promise that a run checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Check {
    /// What was acknowledged is found at its offset, unchanged, on every replica.
    NoAckedLoss,
    /// At the instant of an acknowledgement a majority holds the batch in its durable image.
    AckIsDurable,
    /// No replica forgets a term that it spoke of, over any crash.
    TermsOnlyGrow,
    /// A replica votes for one candidate per term.
    OneVotePerTerm,
    /// Replicas hold the same below the high watermark.
    ReplicasAgree,
    /// What leaders show of high watermark and log start never goes back.
    MarksOnlyGrow,
    /// What is read below a high watermark stays.
    NoUncommittedRead,
    /// A group has one leader per term.
    OneLeaderPerTerm,
    /// What is sent after an acknowledgement comes behind it.
    RealTimeOrder,
    /// A producer's batches stand in order of sequence, without a gap.
    ProducerOrder,
    /// Every batch that is found was sent, to that partition.
    NoPhantom,
    /// A batch is stored once, however often it was sent.
    StoredOnce,
    /// What was definitely refused is not found.
    FailedMeansFailed,
    /// A replica whose disk did not fail goes on.
    HealthyReplicasGoOn,
    /// A producer meets only errors that it can expect.
    ExpectedErrors,
    /// A log that was durable is there after any restart, and its directory opens.
    LogsComeBack,
    /// When the faults are over every group takes writes and every replica catches up.
    Liveness,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoAckedLoss => "I1 no acked loss",
            Self::AckIsDurable => "I2 an ack is durable on a majority",
            Self::TermsOnlyGrow => "I6 terms never go back",
            Self::OneVotePerTerm => "I6 one vote per term",
            Self::ReplicasAgree => "I9 and I24 replicas agree",
            Self::MarksOnlyGrow => "I10 high watermark and log start never go back",
            Self::NoUncommittedRead => "I11 no uncommitted read",
            Self::OneLeaderPerTerm => "I12 one leader per term",
            Self::RealTimeOrder => "I13 real-time order",
            Self::ProducerOrder => "I14 producer order",
            Self::NoPhantom => "I16 no phantom",
            Self::StoredOnce => "I17 stored once",
            Self::FailedMeansFailed => "I18 failed means failed",
            Self::HealthyReplicasGoOn => "I35 a healthy replica goes on",
            Self::ExpectedErrors => "a producer meets only errors that it can expect",
            Self::LogsComeBack => "a durable log comes back",
            Self::Liveness => "I33 writes resume and replicas converge",
        })
    }
}

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which.
    pub check: Check,
    /// What was seen.
    pub detail: String,
}

/// What the steps of a run answer.
pub(super) type Checked<T = ()> = Result<T, Violation>;

/// A broken promise.
pub(super) fn broken<T>(check: Check, detail: impl Into<String>) -> Checked<T> {
    Err(Violation {
        check,
        detail: detail.into(),
    })
}

/// A run that ended with a violation, and what it takes to look into it.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Repeats the run.
    pub seed: u64,
    /// When it happened.
    pub time: Time,
    /// What happened.
    pub violation: Violation,
    /// What the seed made of the cluster.
    pub plan: String,
    /// The last events before it, oldest first.
    pub last_events: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for event in &self.last_events {
            writeln!(f, "  {event}")?;
        }
        writeln!(f, "{}", self.plan)?;
        writeln!(
            f,
            "seed {} at {} s: {}: {}",
            self.seed, self.time, self.violation.check, self.violation.detail
        )?;
        write!(
            f,
            "repeat it with: cargo run -p highwater-tests --bin sim -- --seed {} --verbose",
            self.seed
        )
    }
}

impl std::error::Error for Failure {}
