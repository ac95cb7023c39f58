//! What is said about a log: how it is kept, and the state of its group that goes with it.

use bytes::Bytes;

use crate::segment::Hole;
use crate::{Offset, RaftIndex, Term};

/// How a log is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSpec {
    /// Its directory, relative to the data directory, of plain names: `topics/<topic uuid>/<partition>-<replica>`. One log, one directory.
    pub directory: String,
    /// The largest segment in bytes, a multiple of 4096.
    pub max_segment_bytes: u64,
    /// Whether frames skip the journal: an append then is in memory only when its ticket is done.
    pub write_caching: bool,
}

/// What Raft must not forget. Term and vote never go back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The newest term this replica knows.
    pub term: Term,
    /// The replica it voted for in that term; 0 for none.
    pub vote: u64,
    /// The last index known to be committed.
    pub commit: RaftIndex,
}

/// The applied state of a log's group, all of it as of one index. Storage keeps it and looks into none of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppliedState {
    /// The last applied index; 0 before the first.
    pub index: RaftIndex,
    /// The term of that entry.
    pub term: Term,
    /// The membership as of that index, in Raft's own form.
    pub conf_state: Bytes,
    /// The state machine as of that index.
    pub snapshot: Bytes,
}

/// One segment as retention sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// The offset its first record has or would have.
    pub base_offset: Offset,
    /// The offset after its last record.
    pub next_offset: Offset,
    /// Bytes of its frames.
    pub bytes: u64,
    /// The largest timestamp of its records in milliseconds since 1970; `i64::MIN` when it has none.
    pub max_timestamp_ms: i64,
    /// Whether it takes no more frames. Only sealed segments are removed.
    pub sealed: bool,
}

/// What recovery could not give back. The log answers reads of the rest and refuses appends until it is repaired or rebuilt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The frames known to be missing: indexes from the first of these up to, not including, the second.
    pub missing: Vec<MissingFrames>,
    /// Whether frames may have been lost after the last one that is there.
    pub unknown_tail: bool,
    /// Whether term, vote or commit may have been lost: the replica must not vote under its id.
    pub hard_state_in_doubt: bool,
    /// What was found, for a person.
    pub reason: String,
}

/// A hole in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingFrames {
    /// The first missing index.
    pub from: RaftIndex,
    /// The first index after the hole.
    pub to: RaftIndex,
    /// The offset of the first missing record.
    pub from_offset: Offset,
    /// The offset of the first record after the hole.
    pub to_offset: Offset,
}

impl From<Hole> for MissingFrames {
    fn from(hole: Hole) -> Self {
        Self {
            from: hole.from,
            to: hole.to,
            from_offset: hole.from_offset,
            to_offset: hole.to_offset,
        }
    }
}
