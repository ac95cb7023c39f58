//! Why a partition stands where it stands: the names that programs see, and what goes with each.

use serde::Serialize;

/// Whether a partition moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Progress {
    /// It moves, or would if there were something to move.
    Moving,
    /// It does not move now and will by itself.
    Waiting,
    /// It does not move until somebody does something.
    Stuck,
}

impl Progress {
    /// Its name in output.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Moving => "moving",
            Self::Waiting => "waiting",
            Self::Stuck => "stuck",
        }
    }
}

/// Declares the causes: each with its name in output and how it moves.
macro_rules! causes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $progress:ident;)*) => {
        /// Why a partition stands where it stands. The names are part of the output that programs read.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Cause {
            $($(#[$doc])* $variant,)*
        }

        impl Cause {
            /// Every cause.
            #[cfg(test)]
            pub(crate) const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name in output.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Whether a partition moves because of it.
            pub(crate) fn progress(self) -> Progress {
                match self {
                    $(Self::$variant => Progress::$progress,)*
                }
            }
        }
    };
}

causes! {
    /// A leader takes records, and every replica keeps up.
    Serving = "serving", Moving;
    /// A leader takes records, and some replicas do not keep up.
    UnderReplicated = "under_replicated", Moving;
    /// A leader takes records while the replicas move to other brokers.
    MovingReplicas = "moving_replicas", Moving;
    /// The broker that leads has no memory left for requests.
    Throttled = "throttled", Waiting;
    /// Too few replicas keep up for what the topic asks for.
    NotEnoughInSync = "not_enough_in_sync", Stuck;
    /// The disk of the broker that leads is full down to the reserve.
    DiskFloor = "disk_floor", Stuck;
    /// The disk failed under what all logs of the broker need.
    DirectoryFailed = "directory_failed", Stuck;
    /// The disk failed under the log of the only replica that counts.
    LogFailed = "log_failed", Stuck;
    /// The only replica that counts is damaged.
    Quarantined = "quarantined", Stuck;
    /// A majority of the replicas is missing.
    NoQuorum = "no_quorum", Stuck;
    /// Enough replicas are there, and none leads yet.
    Electing = "electing", Waiting;
    /// The broker that leads does not answer.
    LeaderUnreachable = "leader_unreachable", Stuck;

    /// There is no such group.
    GroupUnknown = "group_unknown", Stuck;
    /// Nobody coordinates the group.
    CoordinatorUnavailable = "coordinator_unavailable", Stuck;
    /// There is no such topic.
    TopicUnknown = "topic_unknown", Stuck;
    /// The topic was deleted after the group committed to it.
    TopicDeleted = "topic_deleted", Stuck;
    /// A member's expression matches no topic.
    RegexMatchesNothing = "regex_matches_nothing", Stuck;
    /// The group has no members.
    NoMember = "no_member", Stuck;
    /// The group has no members, since the last one was fenced.
    MemberFenced = "member_fenced", Stuck;
    /// No member of the group reads the topic.
    NoSubscriber = "no_subscriber", Stuck;
    /// Another member has not let the partition go yet.
    WaitingForRevocation = "waiting_for_revocation", Waiting;
    /// Its member is to take it with its next heartbeat.
    WaitingForMember = "waiting_for_member", Waiting;
    /// Its static member left and may be back.
    StaticMemberAway = "static_member_away", Waiting;
    /// Its member is not heard.
    MemberSilent = "member_silent", Waiting;
    /// Its member has paused it.
    Paused = "paused", Stuck;
    /// Its member commits nothing.
    NotCommitting = "not_committing", Stuck;
    /// Nothing was ever committed.
    NeverCommitted = "never_committed", Waiting;
    /// Retention took records that the group had not read.
    RecordsLost = "records_lost", Stuck;
    /// The committed offset is beyond the end.
    CommittedBeyondEnd = "committed_beyond_end", Stuck;
    /// Its member reads and commits.
    Consuming = "consuming", Moving;
    /// Everything is read.
    CaughtUp = "caught_up", Moving;
    /// The member has nothing to read, as there are more members than partitions.
    SpareMember = "spare_member", Waiting;
}

impl Cause {
    /// Whether nobody can read the partition.
    pub(crate) fn stops_readers(self) -> bool {
        matches!(
            self,
            Self::NoQuorum | Self::Electing | Self::LeaderUnreachable
        )
    }

    /// Whether the partition takes no records, although they can be read.
    pub(crate) fn stops_writers_only(self) -> bool {
        matches!(
            self,
            Self::Throttled
                | Self::NotEnoughInSync
                | Self::DiskFloor
                | Self::DirectoryFailed
                | Self::LogFailed
                | Self::Quarantined
        )
    }
}

/// What is said of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Why it stands where it stands.
    pub(crate) cause: Cause,
    /// The same as a sentence, with what can be done.
    pub(crate) explanation: String,
}

impl Verdict {
    pub(super) fn new(cause: Cause, explanation: impl Into<String>) -> Self {
        Self {
            cause,
            explanation: explanation.into(),
        }
    }
}
