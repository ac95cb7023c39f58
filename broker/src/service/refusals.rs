//! What the layers below refuse, in the words of the API: reason, what failed, and what to do.

use std::time::Duration;

use highwater_proto::{ApiError, Reason};
use highwater_storage as storage;

use crate::controller;
use crate::coordinator;
use crate::partition;
use crate::raft::machine::Refusal;
use crate::replica;
use crate::topic::config_keys::ConfigError;

/// Key of the fact that says which broker the data directory was that of, where it is refused because that broker was removed.
pub(crate) const REMOVED_BROKER: &str = "removed_broker_id";
/// Advice for what clears by itself within a moment: an election, a full queue.
const RETRY_SOON: Duration = Duration::from_millis(50);
/// Advice for what needs somebody's doing: a full disk.
const RETRY_LATER: Duration = Duration::from_secs(1);

/// The API's form of a refusal of the Raft layer.
pub(crate) fn of_raft(refusal: &Refusal) -> ApiError {
    match refusal {
        Refusal::NotLeader { .. } => ApiError::new(
            Reason::NotLeaderOrFollower,
            "this broker does not lead the partition at the moment: refresh the metadata and ask its leader",
        )
        .retry_after(RETRY_SOON),
        Refusal::UnknownGroup => ApiError::new(
            Reason::UnknownTopicOrPartition,
            "the partition is not on this broker: its topic was deleted, or it moved",
        ),
        Refusal::Indefinite => ApiError::new(
            Reason::RequestTimedOut,
            "leadership was lost before the outcome was known: the request may have been carried out",
        ),
        Refusal::Busy { limit } => ApiError::new(
            Reason::Throttled,
            format!("{limit} of the broker is used up: nothing was written, try again shortly"),
        )
        .with("limit", limit)
        .retry_after(RETRY_SOON),
        Refusal::NotEnoughReplicas {
            needed,
            in_sync,
            appended,
        } => not_enough_replicas(*needed, *in_sync, *appended),
        Refusal::DiskFull => ApiError::new(
            Reason::DiskFull,
            "the broker's disk is full down to its reserve: nothing was written; free space, or delete or trim topics",
        )
        .retry_after(RETRY_LATER),
        Refusal::Failed { reason } => ApiError::new(
            Reason::StorageError,
            format!(
                "the partition's log failed and takes no more records ({reason}): see the broker's health"
            ),
        ),
    }
}

fn not_enough_replicas(needed: usize, in_sync: usize, appended: bool) -> ApiError {
    let (reason, outcome) = if appended {
        let outcome = "the records are appended and may be committed";
        (Reason::NotEnoughReplicasAfterAppend, outcome)
    } else {
        (Reason::NotEnoughReplicas, "nothing was written")
    };
    ApiError::new(
        reason,
        format!(
            "{in_sync} replicas are in sync where the topic's min.insync.replicas wants {needed}: {outcome}"
        ),
    )
    .with("in_sync", in_sync)
    .with("needed", needed)
    .retry_after(RETRY_LATER)
}

/// The answer to whom the broker cannot serve any longer.
pub(crate) fn shutting_down() -> ApiError {
    ApiError::new(
        Reason::ShuttingDown,
        "the broker is stopping: connect to another one, or to this one when it is back",
    )
    .retry_after(RETRY_LATER)
}

/// The API's form of what the machine of a group refused.
pub(crate) fn of_replica(error: replica::Error) -> ApiError {
    match error {
        replica::Error::Partition(error) => of_partition(&error),
        replica::Error::Controller(error) => of_controller(&error),
        replica::Error::Coordinator(error) => of_coordinator(&error),
        replica::Error::Refused(refusal) => of_raft(&refusal),
    }
}

/// The API's form of the controller's refusal.
pub(crate) fn of_controller(error: &controller::Error) -> ApiError {
    use controller::Error;
    let api = ApiError::new(error.reason(), error.to_string());
    match error {
        Error::Refused(refusal) => of_raft_to_controller(refusal),
        Error::TooManyPartitions { limit, .. } => api.with("limit", limit),
        Error::InvalidReplicationFactor { brokers, .. } => api.with("brokers", brokers),
        Error::OtherTopicId { actual, .. } => api.with("topic_id", actual),
        Error::DirectoryRetired { id } => api.with(REMOVED_BROKER, id),
        Error::Config(ConfigError::Unknown {
            suggestion: Some(suggestion),
            ..
        }) => api.with("suggestion", suggestion),
        Error::Config(ConfigError::Invalid { name, .. }) => api.with("config", name),
        _ => api,
    }
}

/// The API's form of a refusal of the Raft layer where the controller was asked.
pub(crate) fn of_raft_to_controller(refusal: &Refusal) -> ApiError {
    match refusal {
        Refusal::NotLeader { .. } | Refusal::UnknownGroup => ApiError::new(
            Reason::NotController,
            "this broker does not lead the controller at the moment: refresh the metadata and ask its leader",
        )
        .retry_after(RETRY_SOON),
        Refusal::Failed { reason } => ApiError::new(
            Reason::StorageError,
            format!("the controller's log failed and takes no more changes ({reason}): see the broker's health"),
        ),
        Refusal::Indefinite
        | Refusal::Busy { .. }
        | Refusal::DiskFull
        | Refusal::NotEnoughReplicas { .. } => of_raft(refusal),
    }
}

/// The API's form of a coordinator's refusal.
pub(crate) fn of_coordinator(error: &coordinator::Error) -> ApiError {
    use coordinator::Error;
    let api = ApiError::new(error.reason(), error.to_string());
    match error {
        Error::Refused(refusal) => of_raft_to_coordinator(refusal),
        Error::FencedEpoch { current, .. } => api.with("member_epoch", current),
        Error::StaleEpoch { since, .. } => api.with("since_epoch", since),
        Error::GroupFull { limit } => api.with("limit", "groups.max_members").with("most", limit),
        Error::TooManyGroups { limit } => {
            api.with("limit", "groups.max_groups").with("most", limit)
        }
        Error::NoRoom { bytes, limit } => api.with("bytes", bytes).with("most_bytes", limit),
        Error::NotEmpty { members } => api.with("members", members),
        Error::MetadataBehind | Error::UnreleasedInstance => api.retry_after(RETRY_SOON),
        _ => api,
    }
}

/// The API's form of a refusal of the Raft layer where a coordinator was asked.
pub(crate) fn of_raft_to_coordinator(refusal: &Refusal) -> ApiError {
    match refusal {
        Refusal::NotLeader { .. } | Refusal::UnknownGroup => ApiError::new(
            Reason::NotCoordinator,
            "this broker does not coordinate the group at the moment: ask the one that does",
        )
        .retry_after(RETRY_SOON),
        Refusal::Failed { reason } => ApiError::new(
            Reason::StorageError,
            format!(
                "the coordinator's log failed and takes no more changes ({reason}): see the broker's health"
            ),
        ),
        Refusal::Indefinite
        | Refusal::Busy { .. }
        | Refusal::DiskFull
        | Refusal::NotEnoughReplicas { .. } => of_raft(refusal),
    }
}

/// The API's form of a partition's refusal.
pub(crate) fn of_partition(error: &partition::Error) -> ApiError {
    use partition::Error;
    let api = ApiError::new(error.reason(), error.to_string());
    match error {
        Error::Refused(refusal) => of_raft(refusal),
        Error::MessageTooLarge { limit_bytes, .. } => api
            .with("limit", "max.message.bytes")
            .with("most", limit_bytes),
        Error::InvalidTimestamp {
            limit_name,
            limit_ms,
            ..
        } => api.with("limit", limit_name).with("most", limit_ms),
        Error::OutOfOrderSequence { expected, .. } => api.with("expected_sequence", expected),
        Error::InvalidProducerEpoch { current, .. } => api.with("producer_epoch", current),
        Error::TooManyProducers { limit } => api
            .with("limit", "topics.max_producers")
            .with("most", limit)
            .retry_after(RETRY_LATER),
        Error::OffsetOutOfRange {
            log_start,
            high_watermark,
            ..
        } => api
            .with("log_start_offset", log_start)
            .with("high_watermark", high_watermark),
        _ => api,
    }
}

/// The API's form of a failed read of a log.
pub(crate) fn of_read(error: &storage::Error) -> ApiError {
    use storage::Error;
    match error {
        Error::OffsetOutOfRange { start, end, .. } => {
            ApiError::new(Reason::OffsetOutOfRange, error.to_string())
                .with("log_start_offset", start)
                .with("high_watermark", end)
        }
        Error::Damaged { from_offset, .. } => ApiError::new(
            Reason::DataLoss,
            format!("{error}: records there cannot be read; see the broker's health"),
        )
        .with("offset", from_offset),
        _ => ApiError::new(
            Reason::BrokerNotAvailable,
            format!("the partition's log cannot be read: {error}"),
        )
        .retry_after(RETRY_LATER),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn not_enough(appended: bool) -> Refusal {
        Refusal::NotEnoughReplicas {
            needed: 3,
            in_sync: 2,
            appended,
        }
    }

    #[test]
    fn only_what_was_proposed_leaves_the_outcome_open() {
        let refusals = [
            (Refusal::NotLeader { leader: None }, true),
            (Refusal::UnknownGroup, true),
            (Refusal::Busy { limit: "x" }, true),
            (Refusal::DiskFull, true),
            (Refusal::Indefinite, false),
            (not_enough(false), true),
            (not_enough(true), false),
            (
                Refusal::Failed {
                    reason: "EIO".to_owned(),
                },
                false,
            ),
        ];
        for (refusal, definite) in refusals {
            assert_eq!(of_raft(&refusal).is_definite(), definite, "{refusal}");
        }
    }

    #[test]
    fn refusals_keep_their_reason_in_words_of_controller_and_partition() {
        for refusal in [
            Refusal::NotLeader { leader: None },
            Refusal::UnknownGroup,
            Refusal::Indefinite,
            Refusal::Busy { limit: "mailbox" },
            Refusal::DiskFull,
            not_enough(false),
            not_enough(true),
            Refusal::Failed {
                reason: "EIO".to_owned(),
            },
        ] {
            let error = controller::Error::from(refusal.clone());
            assert_eq!(of_controller(&error).reason, error.reason(), "{refusal}");
            let error = partition::Error::from(refusal.clone());
            assert_eq!(of_partition(&error).reason, error.reason(), "{refusal}");
        }
    }

    #[test]
    fn messages_of_refusals_say_what_to_do() {
        for refusal in [
            Refusal::NotLeader { leader: None },
            Refusal::Busy { limit: "mailbox" },
            Refusal::DiskFull,
        ] {
            let error = of_raft(&refusal);
            assert!(
                error.is_retriable() && error.retry_after.is_some(),
                "{error}"
            );
        }
    }
}
