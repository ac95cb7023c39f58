//! Seeding: how a replica whose log is the data begins anew, where another sends it the entries that it lacks no more.
//!
//! That is so for a replica that fell behind what its leader's log still holds, for one that joins and does not know the
//! members with which its group began, and for one that lacks so much that a bulk copy is cheaper than entry after entry
//! through the journal. All three go one way:
//!
//! 1. The leader sends a snapshot of its machine as of an applied index S, with the members and the term as of S. To such
//!    a replica it is an *offer*: Raft does not see it yet.
//! 2. The replica has its shard ask for a [`Pull`]: all frames from where the leader's log begins up to S. Whoever
//!    carries it out asks a broker for a [`Source`], and writes what that reads through a [`Receiving`] into files beside
//!    the log. Neither touches a shard's thread; both check every byte. The log goes on as it was meanwhile.
//! 3. When all frames are there and synced, the offer goes to Raft as if it had just come from the present leader, and in
//!    one turn the frames take the place of the log, the snapshot that of the machine. Raft's answer leaves when the
//!    journal has that. A crash leaves the old log or the new one.
//!
//! What makes this right: everything up to S is committed, so it is the same on every replica that has it. Hence any of
//! them can be pulled from, a pull outlives its leader, and an offer is as true in a later term.
//!
//! Retention does not wait for anybody. Where the source's log begins later by now, the pull goes on from there (frames
//! below are of no use to anybody); where it begins above S, the pull is over, and the leader offers a later S.
//!
//! Left out: pulling from several replicas at once; keeping frames that the replica has already.

mod receive;
mod source;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use highwater_storage::{Offset, RaftIndex, Term};

use super::{GroupId, ReplicaId};

pub use receive::{BadPiece, Pulled, ReceiveError, Receiving};
pub use source::{Source, SourceRefusal};

/// The frames that a replica needs to take an offer.
#[derive(Debug)]
pub struct Pull {
    pub(super) group: GroupId,
    pub(super) replica: ReplicaId,
    /// The index of the offer.
    pub(super) upto: RaftIndex,
    /// The term of the entry there.
    pub(super) term: Term,
    /// The offset after it.
    pub(super) next_offset: Offset,
    pub(super) board: Arc<Board>,
}

/// What a replica and whoever pulls for it tell each other. The pull counts as lost when only the replica has it.
#[derive(Debug, Default)]
pub(super) struct Board {
    /// The leader that the replica follows; 0: none.
    source: AtomicU64,
    is_over: AtomicBool,
    done_bytes: AtomicU64,
    total_bytes: AtomicU64,
}

/// How far a seeding is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeedingProgress {
    /// Bytes that are there.
    pub done_bytes: u64,
    /// Bytes that are to come in all; 0 while that is not known.
    pub total_bytes: u64,
}

impl Pull {
    /// The group.
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// The replica that is seeded.
    pub fn replica(&self) -> ReplicaId {
        self.replica
    }

    /// The last index that is needed.
    pub fn upto(&self) -> RaftIndex {
        self.upto
    }

    /// The replica to pull from now; `None` while no leader is known.
    pub fn source(&self) -> Option<ReplicaId> {
        match self.board.source.load(Ordering::Relaxed) {
            raft::INVALID_ID => None,
            id => Some(ReplicaId(id)),
        }
    }

    /// Whether the replica does not need it any more.
    pub fn is_over(&self) -> bool {
        self.board.is_over.load(Ordering::Relaxed)
    }
}

impl Board {
    pub(super) fn set_source(&self, leader: Option<ReplicaId>) {
        let id = leader.map_or(raft::INVALID_ID, |leader| leader.0);
        self.source.store(id, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    pub(super) fn progress(&self) -> SeedingProgress {
        SeedingProgress {
            done_bytes: self.done_bytes.load(Ordering::Relaxed),
            total_bytes: self.total_bytes.load(Ordering::Relaxed),
        }
    }

    fn set_progress(&self, done_bytes: u64, total_bytes: u64) {
        self.done_bytes.store(done_bytes, Ordering::Relaxed);
        self.total_bytes.store(total_bytes, Ordering::Relaxed);
    }
}
