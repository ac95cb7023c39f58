//! What a group's driver wants done.

use highwater_storage::{HardState, NewFrame, RaftIndex};
use raft::eraftpb::Message;

use super::ReplicaId;
use super::entry::Committed;
use super::snapshot::Installable;
use super::storage::Fetch;

/// What has to be done, in the order of the fields.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// What goes into the log.
    pub(super) write: Write,
    /// Set when [`Event::Synced`] has to report the write.
    pub(super) number: Option<WriteNumber>,
    /// Messages that may leave once `write` is in the log.
    pub(super) send: Vec<Message>,
    /// Entries to apply.
    pub(super) apply: Vec<Applicable>,
    /// Reads that may go on once what stands up to their index is applied, in order of both.
    pub(super) reads: Vec<(ReadNumber, RaftIndex)>,
    /// Cold entries that Raft waits for.
    pub(super) fetch: Vec<Fetch>,
    /// Followers that need a snapshot.
    pub(super) snapshots: Vec<ReplicaId>,
    /// A snapshot that can be taken once the frames before it are here.
    pub(super) offer: Option<Box<Message>>,
}

/// What goes into the log, in the order of the fields.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Write {
    /// What takes the place of all that the log and the machine hold.
    pub(super) snapshot: Option<Installable>,
    /// Entries from here on are to be removed.
    pub(super) truncate_from: Option<RaftIndex>,
    /// Entries to append.
    pub(super) frames: Vec<NewFrame>,
    /// The hard state to set.
    pub(super) hard_state: Option<HardState>,
}

/// A committed entry.
#[derive(Debug)]
pub(super) struct Applicable {
    pub(super) index: RaftIndex,
    pub(super) committed: Committed,
}

/// Numbers the writes of one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WriteNumber(pub(super) u64);

/// Numbers the rounds in which a leader asks whether it still leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ReadNumber(pub(super) u64);

impl ReadNumber {
    /// As a heartbeat carries it.
    pub(super) fn encode(self) -> Vec<u8> {
        self.0.to_be_bytes().to_vec()
    }

    /// `None` for what no round of ours carries.
    pub(super) fn decode(context: &[u8]) -> Option<Self> {
        let bytes = context.try_into().ok()?;
        Some(Self(u64::from_be_bytes(bytes)))
    }
}

impl Effects {
    pub(super) fn is_empty(&self) -> bool {
        self.number.is_none()
            && self.write == Write::default()
            && self.send.is_empty()
            && self.apply.is_empty()
            && self.reads.is_empty()
            && self.fetch.is_empty()
            && self.snapshots.is_empty()
            && self.offer.is_none()
    }
}
