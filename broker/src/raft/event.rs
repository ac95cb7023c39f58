//! What a group's driver is told.

use bytes::Bytes;
use std::collections::HashSet;
use std::sync::Arc;

use highwater_storage::{Frame, Offset};
use raft::GetEntriesContext;
use raft::eraftpb::{ConfChangeV2, Entry, Message};

use super::ReplicaId;
use super::effects::{ReadNumber, WriteNumber};
use super::message::Unacceptable;
use super::seeding::SeedingProgress;

/// What happens to a group.
pub(super) enum Event {
    /// A peer sent something.
    Message(Message),
    /// One tick went by. Groups that [`Group::wants_ticks`] says no to need none.
    Tick,
    /// Somebody needs a leader here.
    Campaign,
    /// The leader's machine wants these entries in the log.
    Propose(Vec<Entry>),
    /// The leader is to change the members.
    ChangeMembers(ConfChangeV2),
    /// The leader is to hand over.
    TransferLeader(ReplicaId),
    /// The leader is to find out up to where a read that begins now must see; comes back under this number.
    ReadIndex(ReadNumber),
    /// The leader's broker is gone.
    LeaderLost,
    /// The brokers of these replicas, some of them members, are gone.
    MembersLost(Arc<HashSet<ReplicaId>>),
    /// The brokers of these replicas are back.
    MembersBack(Arc<HashSet<ReplicaId>>),
    /// The disk has not finished a sync for so long that it counts as stuck; or, with false, it goes on again.
    DiskStalled(bool),
    /// All writes up to this one are durable.
    Synced(WriteNumber),
    /// All that was handed out is applied.
    Applied,
    /// Cold entries that Raft asked for, perhaps for several followers, were read.
    Fetched(Vec<GetEntriesContext>, Vec<Frame>),
    /// A snapshot that a follower needs was made: the machine as of [`Group::applied`].
    ///
    /// [`Group::applied`]: super::group::Group::applied
    Snapshot {
        /// The follower.
        to: ReplicaId,
        /// The machine's state.
        machine: Bytes,
        /// The first offset it holds.
        log_start: Offset,
    },
    /// All frames are there that a snapshot needs which a peer sent: Raft is to take it.
    Seeded(Box<Message>),
    /// A follower pulls what it needs for a snapshot that it was sent.
    SeedingProgress(ReplicaId, SeedingProgress),
    /// A follower cannot get what it needs for a snapshot that it was sent: it needs a later one.
    SeedingFailed(ReplicaId),
}

impl Event {
    /// Whether a group that sleeps wakes of it, whatever it is about. Of messages only some do.
    pub(super) fn wakes(&self) -> bool {
        match self {
            Self::Campaign
            | Self::Propose(_)
            | Self::ChangeMembers(_)
            | Self::TransferLeader(_)
            | Self::ReadIndex(_)
            | Self::LeaderLost => true,
            Self::Message(_)
            | Self::Tick
            | Self::MembersLost(_)
            | Self::MembersBack(_)
            | Self::DiskStalled(_)
            | Self::Synced(_)
            | Self::Applied
            | Self::Fetched(..)
            | Self::Snapshot { .. }
            | Self::Seeded(_)
            | Self::SeedingProgress(..)
            | Self::SeedingFailed(_) => false,
        }
    }
}

/// Why an event changed nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ignored {
    /// A message that is not taken.
    Message(Unacceptable),
    /// This replica does not lead.
    NotLeader,
    /// Raft takes no proposal now: its limit is reached, leadership is being handed over, a change is under way.
    Dropped,
    /// An election cannot be started now.
    NotNow,
    /// Entries from the first on, for a replica that joins and does not know who were members then: it needs a snapshot.
    NoMembers,
    /// The members cannot be changed so.
    BadChange(String),
    /// The group shows that this replica lost what it had acknowledged. It must not go on.
    LostLog(String),
}
