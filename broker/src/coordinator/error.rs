//! Why a coordinator refuses a command.

use highwater_proto::Reason;

use super::member::Epoch;
use crate::raft::machine::Refusal;

/// Why a coordinator refused a command. All but [`Refusal::Indefinite`] are definite: the command wrote nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No group has this id.
    #[error(
        "there is no group of this id: nobody ever joined it or committed to it, or it was deleted"
    )]
    UnknownGroup,
    /// The group does not know the member.
    #[error("the group has no member of this id: it was removed, or never joined. Join again")]
    UnknownMember,
    /// The member knows an epoch that it was not given, or no longer has what it says to own.
    #[error(
        "the member is at epoch {current} and the request says {asked}: give everything up and join again"
    )]
    FencedEpoch {
        /// Said.
        asked: Epoch,
        /// In force.
        current: Epoch,
    },
    /// The member left for a while.
    #[error("the member left for a while: it comes back by joining again")]
    Away,
    /// The member says to own what it was not given.
    #[error(
        "the member says to own a partition that it does not have: give everything up and join again"
    )]
    NotItsPartition,
    /// The member had lost the partition and was given it again since the epoch that it names.
    #[error(
        "the member has the partition only since epoch {since}, the commit is of epoch {asked}: send a heartbeat and commit again"
    )]
    StaleEpoch {
        /// Said.
        asked: Epoch,
        /// When it was given.
        since: Epoch,
    },
    /// A commit for what the member does not have.
    #[error("the partition is not assigned to the member: whoever has it now commits for it")]
    NotAssigned,
    /// Another member has the instance id.
    #[error(
        "the instance id belongs to another member: two processes use it, or this one was replaced"
    )]
    FencedInstance,
    /// The instance id's member has not left.
    #[error(
        "the instance id is in use: the member that has it must leave, or its session must end"
    )]
    UnreleasedInstance,
    /// The group is full.
    #[error("the group has {limit} members, which is as many as it may have (groups.max_members)")]
    GroupFull {
        /// The limit.
        limit: usize,
    },
    /// The coordinator has as many groups as it may have.
    #[error(
        "the coordinator has {limit} groups, which is as many as it may have (groups.max_groups): delete some that nobody needs"
    )]
    TooManyGroups {
        /// The limit.
        limit: usize,
    },
    /// The coordinator holds as much as its snapshot may.
    #[error(
        "the coordinator's groups and offsets take {bytes} bytes, and this would bring them beyond the {limit} that it can replicate: delete groups and offsets that nobody needs (highwater group delete, group offset-delete)"
    )]
    NoRoom {
        /// What they take.
        bytes: usize,
        /// What they may.
        limit: usize,
    },
    /// The group has members.
    #[error("the group has {members} members: stop them first")]
    NotEmpty {
        /// How many.
        members: usize,
    },
    /// A member of the group reads the topic.
    #[error("a member of the group is subscribed to the topic: its offsets are in use")]
    Subscribed,
    /// The topics that this broker knows are older than those the group saw.
    #[error("this broker does not know the newest topics yet: try again")]
    MetadataBehind,
    /// A field is not as it must be.
    #[error("{problem}")]
    Invalid {
        /// Which, and why.
        problem: &'static str,
    },
    /// The Raft layer turned the command away.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Error {
    /// The reason that clients are told.
    pub fn reason(&self) -> Reason {
        match self {
            Self::UnknownGroup => Reason::GroupIdNotFound,
            Self::UnknownMember => Reason::UnknownMemberId,
            Self::FencedEpoch { .. } | Self::Away | Self::NotItsPartition | Self::NotAssigned => {
                Reason::FencedMemberEpoch
            }
            Self::StaleEpoch { .. } => Reason::StaleMemberEpoch,
            Self::FencedInstance => Reason::FencedInstanceId,
            Self::UnreleasedInstance => Reason::UnreleasedInstanceId,
            Self::GroupFull { .. } => Reason::GroupMaxSizeReached,
            Self::TooManyGroups { .. } | Self::NoRoom { .. } => Reason::LimitExceeded,
            Self::NotEmpty { .. } => Reason::NonEmptyGroup,
            Self::Subscribed => Reason::GroupSubscribedToTopic,
            Self::MetadataBehind => Reason::CoordinatorLoadInProgress,
            Self::Invalid { .. } => Reason::InvalidRequest,
            Self::Refused(refusal) => {
                refusal.reason(Reason::NotCoordinator, Reason::NotCoordinator)
            }
        }
    }
}
