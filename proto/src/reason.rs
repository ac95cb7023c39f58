//! The closed list of reasons for which a request fails.

use std::fmt;
use std::str::FromStr;

use tonic::Code;

/// Whether trying the same request again can help.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Retry {
    Yes,
    No,
}

/// What is known of the effect of the failed request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Surely none: nothing of it is in the log, nor will be.
    None,
    /// It may have happened, or may still happen.
    Unknown,
}

struct Entry {
    name: &'static str,
    code: Code,
    retry: Retry,
    effect: Effect,
    help: &'static str,
}

/// Declares the reasons: variant, name on the wire, gRPC code, retry, effect, help. The help is the variant's doc too.
macro_rules! reasons {
    ($($variant:ident $name:literal $code:ident $retry:ident $effect:ident $help:literal)*) => {
        /// Why a request failed: a stable name that programs may compare, with what it implies.
        ///
        /// The names are Kafka's where Kafka has one for the case.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Reason {
            $(#[doc = $help] $variant,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            fn entry(self) -> &'static Entry {
                match self {
                    $(Self::$variant => &Entry {
                        name: $name,
                        code: Code::$code,
                        retry: Retry::$retry,
                        effect: Effect::$effect,
                        help: $help,
                    },)*
                }
            }
        }
    };
}

reasons! {
    // The cluster and the way to it.
    UnknownServerError "UNKNOWN_SERVER_ERROR" Internal No Unknown
        "The broker met an error it has no name for; its log says more."
    NetworkException "NETWORK_EXCEPTION" Unavailable Yes Unknown
        "The connection failed before an answer came; the request may have been carried out."
    RequestTimedOut "REQUEST_TIMED_OUT" DeadlineExceeded Yes Unknown
        "No answer in time; the request may still be carried out."
    ShuttingDown "SHUTTING_DOWN" Unavailable Yes None
        "The broker is stopping and took nothing of the request; try again, another broker will lead."
    BrokerNotAvailable "BROKER_NOT_AVAILABLE" Unavailable Yes None
        "The broker is not ready to serve; try again shortly."
    NotController "NOT_CONTROLLER" Unavailable Yes None
        "This broker is not the active controller; ask the metadata for the one that is."
    InvalidRequest "INVALID_REQUEST" InvalidArgument No None
        "The request contradicts itself or lacks a field; the message says which."
    Unsupported "UNSUPPORTED" Unimplemented No None
        "This version of the broker does not support what was asked."
    Throttled "THROTTLED" ResourceExhausted Yes None
        "A shared limit of the broker is used up for now; slow down and try again."
    LimitExceeded "LIMIT_EXCEEDED" ResourceExhausted No None
        "The request is larger than a limit of the broker; make it smaller or raise the limit named."
    PolicyViolation "POLICY_VIOLATION" FailedPrecondition No None
        "A rule of the cluster forbids this."
    AuthenticationFailed "AUTHENTICATION_FAILED" Unauthenticated No None
        "The broker does not know who is asking; check the credentials."
    TopicAuthorizationFailed "TOPIC_AUTHORIZATION_FAILED" PermissionDenied No None
        "The principal may not do this with the topic."
    GroupAuthorizationFailed "GROUP_AUTHORIZATION_FAILED" PermissionDenied No None
        "The principal may not do this with the group."
    ClusterAuthorizationFailed "CLUSTER_AUTHORIZATION_FAILED" PermissionDenied No None
        "The principal may not do this with the cluster."

    // Leaders.
    NotLeaderOrFollower "NOT_LEADER_OR_FOLLOWER" Unavailable Yes None
        "The broker does not lead the partition; refresh the metadata and ask the leader."
    LeaderNotAvailable "LEADER_NOT_AVAILABLE" Unavailable Yes None
        "The partition has no leader at the moment; an election is under way."
    FencedLeaderEpoch "FENCED_LEADER_EPOCH" FailedPrecondition Yes None
        "The request names an older leader epoch; refresh the metadata."
    UnknownLeaderEpoch "UNKNOWN_LEADER_EPOCH" Unavailable Yes None
        "The request names a leader epoch that the broker has not reached yet; try again."
    NotEnoughReplicas "NOT_ENOUGH_REPLICAS" Unavailable Yes None
        "Too few replicas are up to keep the record safe; nothing was appended."
    NotEnoughReplicasAfterAppend "NOT_ENOUGH_REPLICAS_AFTER_APPEND" Unavailable Yes Unknown
        "The record is appended, but too few replicas are up to keep it as safe as the topic wants."

    // Topics and partitions.
    UnknownTopicOrPartition "UNKNOWN_TOPIC_OR_PARTITION" NotFound Yes None
        "No such topic or partition, or not known here yet; check the name, or create the topic."
    UnknownTopicId "UNKNOWN_TOPIC_ID" NotFound Yes None
        "No topic has this id, or it is not known here yet; it may have been deleted and made again."
    TopicAlreadyExists "TOPIC_ALREADY_EXISTS" AlreadyExists No None
        "A topic of this name, or of one that differs only in '.' and '_', exists."
    InvalidTopic "INVALID_TOPIC" InvalidArgument No None
        "Topic names have 1 to 249 of the characters a-z A-Z 0-9 . _ - and are not '.' or '..'."
    InvalidPartitions "INVALID_PARTITIONS" InvalidArgument No None
        "The partition count is zero, above the limit, or lower than it already is."
    InvalidReplicationFactor "INVALID_REPLICATION_FACTOR" InvalidArgument No None
        "The replication factor is zero or larger than the number of brokers."
    InvalidReplicaAssignment "INVALID_REPLICA_ASSIGNMENT" InvalidArgument No None
        "A partition cannot have its replicas on these brokers; the message says why."
    ReassignmentInProgress "REASSIGNMENT_IN_PROGRESS" FailedPrecondition No None
        "The partition's replicas are being changed already; wait until that is over, or cancel it."
    NoReassignmentInProgress "NO_REASSIGNMENT_IN_PROGRESS" FailedPrecondition No None
        "No change of replicas is under way."
    InvalidConfig "INVALID_CONFIG" InvalidArgument No None
        "A config name is unknown or its value is out of range."

    // Producing.
    CorruptMessage "CORRUPT_MESSAGE" DataLoss Yes None
        "The batch arrived damaged: its length or checksum does not fit its bytes."
    InvalidRecord "INVALID_RECORD" InvalidArgument No None
        "The batch or one of its records breaks a rule; the message says which."
    MessageTooLarge "MESSAGE_TOO_LARGE" ResourceExhausted No None
        "The batch or a part of a record is larger than allowed; see max.message.bytes."
    InvalidTimestamp "INVALID_TIMESTAMP" InvalidArgument No None
        "A timestamp is too far in the future, or not what the batch declares."
    OutOfOrderSequenceNumber "OUT_OF_ORDER_SEQUENCE_NUMBER" FailedPrecondition No None
        "The producer's batch does not follow the last one the partition has of it; an earlier one is missing."
    DuplicateSequenceNumber "DUPLICATE_SEQUENCE_NUMBER" AlreadyExists No Unknown
        "The batch was appended before, so long ago that its offset is no longer known."
    InvalidProducerEpoch "INVALID_PRODUCER_EPOCH" FailedPrecondition No None
        "A newer producer has taken over this producer id."
    UnknownProducerId "UNKNOWN_PRODUCER_ID" FailedPrecondition No None
        "The partition has forgotten this producer; its state expired."
    StorageError "STORAGE_ERROR" Unavailable Yes Unknown
        "The broker's disk failed; the record may or may not have been written."
    DiskFull "DISK_FULL" ResourceExhausted Yes None
        "The broker's disk is full down to its reserve; free space, or delete or trim topics."

    // Fetching.
    OffsetOutOfRange "OFFSET_OUT_OF_RANGE" OutOfRange No None
        "The offset lies before the first or after the last record of the partition."
    OffsetNotAvailable "OFFSET_NOT_AVAILABLE" Unavailable Yes None
        "The offset is not committed yet; try again."
    DataLoss "DATA_LOSS" DataLoss No None
        "Records at these offsets are damaged and cannot be read; the message names the range."

    // Groups.
    CoordinatorNotAvailable "COORDINATOR_NOT_AVAILABLE" Unavailable Yes None
        "The group's coordinator is not available yet; try again."
    CoordinatorLoadInProgress "COORDINATOR_LOAD_IN_PROGRESS" Unavailable Yes None
        "The group's coordinator is still loading; try again."
    NotCoordinator "NOT_COORDINATOR" Unavailable Yes None
        "This broker does not coordinate the group; ask for the one that does."
    GroupIdNotFound "GROUP_ID_NOT_FOUND" NotFound No None
        "No group has this id."
    InvalidGroupId "INVALID_GROUP_ID" InvalidArgument No None
        "Group ids have 1 to 249 characters."
    NonEmptyGroup "NON_EMPTY_GROUP" FailedPrecondition No None
        "The group has members; stop them first."
    GroupMaxSizeReached "GROUP_MAX_SIZE_REACHED" ResourceExhausted No None
        "The group has as many members as it may have."
    GroupSubscribedToTopic "GROUP_SUBSCRIBED_TO_TOPIC" FailedPrecondition No None
        "The group is subscribed to the topic; its offsets cannot be deleted."
    UnknownMemberId "UNKNOWN_MEMBER_ID" NotFound No None
        "The group does not know the member; join again."
    FencedMemberEpoch "FENCED_MEMBER_EPOCH" FailedPrecondition No None
        "The member's epoch is not the one the group gave it; join again."
    StaleMemberEpoch "STALE_MEMBER_EPOCH" FailedPrecondition Yes None
        "The member has not yet heard of its new epoch; send a heartbeat and try again."
    FencedInstanceId "FENCED_INSTANCE_ID" FailedPrecondition No None
        "Another member uses this instance id."
    UnreleasedInstanceId "UNRELEASED_INSTANCE_ID" FailedPrecondition Yes None
        "The member that used this instance id has not left yet."
    UnsupportedAssignor "UNSUPPORTED_ASSIGNOR" InvalidArgument No None
        "No such server-side assignor; use uniform or range."
    InvalidSessionTimeout "INVALID_SESSION_TIMEOUT" InvalidArgument No None
        "The session timeout is outside the bounds of the broker."
    OffsetMetadataTooLarge "OFFSET_METADATA_TOO_LARGE" ResourceExhausted No None
        "The text kept with a committed offset is longer than allowed."
}

impl Reason {
    /// The name on the wire, such as `NOT_LEADER_OR_FOLLOWER`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// The gRPC status code that goes with it.
    #[must_use]
    pub fn code(self) -> Code {
        self.entry().code
    }

    /// Whether the same request can succeed when tried again, perhaps at another broker or after a wait.
    ///
    /// This says nothing of doing harm: an indefinite failure may only be retried by an idempotent producer.
    #[must_use]
    pub fn is_retriable(self) -> bool {
        self.entry().retry == Retry::Yes
    }

    /// Whether the request surely had no effect: nothing of it is in the log, nor will be.
    #[must_use]
    pub fn is_definite(self) -> bool {
        self.entry().effect == Effect::None
    }

    /// One sentence for a person: what happened, or what to do.
    #[must_use]
    pub fn help(self) -> &'static str {
        self.entry().help
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A reason name that this version does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown error reason {0:?}")]
pub struct UnknownReason(pub String);

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .iter()
            .copied()
            .find(|reason| reason.name() == name)
            .ok_or_else(|| UnknownReason(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_stable_and_fit_error_info() {
        let names: HashSet<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            let name = reason.name();
            assert!(name.len() <= 63, "{name}");
            assert!(
                name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'),
                "{name}"
            );
            assert_eq!(name.parse(), Ok(*reason));
            let camel_case = format!("{reason:?}").to_uppercase();
            assert_eq!(name.replace('_', ""), camel_case);
        }
        assert!("NO_SUCH_REASON".parse::<Reason>().is_err());
    }

    #[test]
    fn help_is_one_sentence() {
        for reason in Reason::ALL {
            let help = reason.help();
            assert!(help.starts_with(char::is_uppercase), "{reason}: {help}");
            assert!(help.ends_with('.') && help.len() < 120, "{reason}: {help}");
        }
    }

    /// A generic gRPC client retries on the code alone, so code and reason must not disagree.
    #[test]
    fn codes_agree_with_retry_and_effect() {
        for reason in Reason::ALL {
            match reason.code() {
                Code::Unavailable | Code::DeadlineExceeded => {
                    assert!(reason.is_retriable(), "{reason}");
                }
                Code::InvalidArgument
                | Code::PermissionDenied
                | Code::Unauthenticated
                | Code::Unimplemented
                | Code::OutOfRange => {
                    assert!(!reason.is_retriable() && reason.is_definite(), "{reason}");
                }
                Code::Ok | Code::Unknown | Code::Cancelled => panic!("{reason}"),
                _ => {}
            }
        }
    }

    #[test]
    fn exactly_these_leave_the_effect_unknown() {
        let unknown: Vec<_> = Reason::ALL
            .iter()
            .filter(|reason| !reason.is_definite())
            .map(|reason| reason.name())
            .collect();
        assert_eq!(
            unknown,
            [
                "UNKNOWN_SERVER_ERROR",
                "NETWORK_EXCEPTION",
                "REQUEST_TIMED_OUT",
                "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
                "DUPLICATE_SEQUENCE_NUMBER",
                "STORAGE_ERROR",
            ]
        );
    }

    fn table() -> String {
        let mut table = "| reason | gRPC status | try again? | surely no effect? | what it means |\n|---|---|---|---|---|\n".to_owned();
        let or_no = |is_so| if is_so { "yes" } else { "no" };
        for reason in Reason::ALL {
            let row = [
                format!("`{reason}`"),
                format!("{:?}", reason.code()),
                or_no(reason.is_retriable()).to_owned(),
                or_no(reason.is_definite()).to_owned(),
                reason.help().to_owned(),
            ];
            table += &format!("| {} |\n", row.join(" | "));
        }
        table
    }

    #[test]
    fn the_documentation_lists_every_reason() {
        const BEGIN: &str = "<!-- reasons -->\n";
        const END: &str = "<!-- end -->\n";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/protocol.md");
        let written = std::fs::read_to_string(path).unwrap();
        let (before, rest) = written.split_once(BEGIN).unwrap();
        let (_, after) = rest.split_once(END).unwrap();
        let expected = format!("{before}{BEGIN}{}{END}{after}", table());
        if std::env::var_os("HIGHWATER_UPDATE_DOCS").is_some() {
            std::fs::write(path, &expected).unwrap();
        } else {
            assert!(
                written == expected,
                "docs/protocol.md is stale: run this test with HIGHWATER_UPDATE_DOCS=1"
            );
        }
    }
}
