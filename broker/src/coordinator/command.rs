//! What a coordinator can be asked, and what it answers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::assignor::Assignor;
use super::catalog::Catalog;
use super::member::{Epoch, TopicPartition};
use super::offsets::CommittedOffset;
use super::subscription::Subscription;
use super::view::{GroupSummary, GroupView};

/// A request to the leader of a coordinator.
#[derive(Clone, Debug)]
pub enum Command {
    /// A member joins, stays, or leaves.
    Heartbeat(Box<Heartbeat>),
    /// Keep offsets.
    Commit(Commit),
    /// Answer committed offsets.
    FetchOffsets(FetchOffsets),
    /// Forget committed offsets.
    DeleteOffsets(DeleteOffsets),
    /// Tell all of one group.
    Describe {
        /// Which.
        group: Arc<str>,
        /// The leader's clock.
        at: Duration,
    },
    /// Tell something of all groups.
    List,
    /// Tell the committed offsets of all groups.
    ListOffsets,
    /// Delete a group without members.
    DeleteGroup {
        /// Which.
        group: Arc<str>,
    },
    /// Time has passed: remove whose time is over. Its time comes from the leader's own clock, not from the log.
    Tick {
        /// The leader's clock.
        at: Duration,
    },
    /// These members' time is over. What is no longer so is left out.
    Expire(Vec<ExpiredMember>),
    /// The topics may have changed.
    Refresh {
        /// The topics now.
        catalog: Arc<Catalog>,
    },
    /// Forget offsets of groups that have been without members for so long.
    ExpireOffsets {
        /// So long, in milliseconds.
        retention_ms: u64,
    },
}

/// What a member wants of a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// To become a member, or to begin again as one.
    Join,
    /// To stay one, knowing this epoch.
    Stay(Epoch),
    /// To be none any more.
    Leave,
    /// To be away for a while and come back under its instance id.
    LeaveForAWhile,
}

/// A heartbeat.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// The group.
    pub group: Arc<str>,
    /// The member.
    pub member: Arc<str>,
    /// What it wants.
    pub presence: Presence,
    /// The name under which it comes back with another id.
    pub instance: Option<Arc<str>>,
    /// Where it is.
    pub rack: Option<String>,
    /// The name of its client.
    pub client_id: String,
    /// How long it may take to let partitions go.
    pub rebalance_timeout_ms: u32,
    /// How long to wait for its next heartbeat.
    pub session_timeout_ms: u32,
    /// What it wants to read; `None`: the same as before.
    pub subscription: Option<Subscription>,
    /// How it wants partitions to be shared out.
    pub assignor: Option<Assignor>,
    /// Everything that it owns.
    pub owned: BTreeSet<TopicPartition>,
    /// What of it its user has paused.
    pub paused: BTreeSet<TopicPartition>,
    /// The topics as the broker knows them.
    pub catalog: Arc<Catalog>,
    /// When it came, by the leader's own clock, which only grows: time since some moment before the broker's start.
    pub at: Duration,
}

/// An offset to commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitItem {
    /// Of which partition.
    pub partition: TopicPartition,
    /// Offset of the next record to read.
    pub offset: u64,
    /// Leader epoch of the record before it, where known.
    pub leader_epoch: Option<u64>,
    /// A text kept beside it.
    pub metadata: String,
}

/// Offsets to commit, each partition once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The group.
    pub group: Arc<str>,
    /// The member that commits and the epoch that it knows; `None`: nobody's member.
    pub member: Option<(Arc<str>, Epoch)>,
    /// The offsets.
    pub items: Vec<CommitItem>,
}

/// Asks for committed offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchOffsets {
    /// The group.
    pub group: Arc<str>,
    /// The member that asks and the epoch that it knows; `None`: anybody.
    pub member: Option<(Arc<str>, Epoch)>,
    /// Of which partitions; `None`: of all that have one.
    pub partitions: Option<Vec<TopicPartition>>,
}

/// Offsets to forget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteOffsets {
    /// The group.
    pub group: Arc<str>,
    /// Of which partitions.
    pub partitions: Vec<TopicPartition>,
}

/// What time a member has let pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expiry {
    /// It was not heard for its session timeout.
    Session,
    /// It has not let its partitions go within its rebalance timeout.
    Rebalance,
}

/// A member whose time is over.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExpiredMember {
    /// The group.
    pub group: Arc<str>,
    /// The member.
    pub member: Arc<str>,
    /// Which time.
    pub expiry: Expiry,
}

/// The answer to a command that was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// Nothing more to say.
    Done,
    /// Done as far as one entry goes: ask again for the rest.
    More,
    /// The member is one.
    Member {
        /// Its epoch from now on.
        epoch: Epoch,
        /// What it is to own; `None`: exactly what it owns.
        assignment: Option<Vec<TopicPartition>>,
        /// How long the coordinator waits for its next heartbeat.
        session_timeout_ms: u32,
        /// How long it may take to let go what it is to let go, where there is something.
        revoke_within_ms: Option<u32>,
    },
    /// Of each item, in order, why it was not done.
    Items(Vec<Option<super::Error>>),
    /// Committed offsets, in the order of the question.
    Offsets(Vec<(TopicPartition, Option<CommittedOffset>)>),
    /// A group.
    Group(Box<GroupView>),
    /// All groups, by id.
    Groups(Vec<GroupSummary>),
    /// The committed offsets of all groups.
    AllOffsets(Vec<(Arc<str>, TopicPartition, u64)>),
}
