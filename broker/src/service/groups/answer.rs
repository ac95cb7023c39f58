//! What is said of groups, in the messages of the API.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use highwater_proto::{ApiError, Reason, TopicId, v1};

use super::Context;
use crate::controller::Topic;
use crate::coordinator::{
    CommittedOffset, Epoch, Expiry, GroupState, GroupSummary, GroupView, MemberClock, MemberState,
    MemberView, PausedPartition, RemovedMember, TopicPartition,
};

/// The error for an answer to another question.
pub(super) fn unexpected() -> ApiError {
    ApiError::new(
        Reason::UnknownServerError,
        "the coordinator answered another question",
    )
}

pub(super) fn epoch(epoch: Epoch) -> i64 {
    i64::try_from(epoch.0).unwrap_or(i64::MAX)
}

/// The answer to who left.
pub(super) fn left(member_epoch: i64) -> v1::HeartbeatResponse {
    v1::HeartbeatResponse {
        member_epoch,
        ..v1::HeartbeatResponse::default()
    }
}

/// A committed offset, or that there is none.
pub(super) fn offset(
    partition: v1::TopicPartition,
    found: Option<CommittedOffset>,
) -> v1::CommittedOffset {
    let (offset, leader_epoch, metadata, committed_at_ms) = match found {
        Some(found) => (
            Some(found.offset),
            found.leader_epoch,
            found.metadata,
            found.committed_at_ms,
        ),
        None => (None, None, String::new(), 0),
    };
    v1::CommittedOffset {
        partition: Some(partition),
        error: None,
        offset,
        leader_epoch,
        metadata,
        committed_at_ms,
    }
}

fn state(state: GroupState) -> i32 {
    match state {
        GroupState::Empty => v1::GroupState::Empty,
        GroupState::Reconciling => v1::GroupState::Reconciling,
        GroupState::Stable => v1::GroupState::Stable,
    }
    .into()
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// A group in a list.
pub(super) fn listed(group: GroupSummary) -> v1::ListedGroup {
    v1::ListedGroup {
        group_id: group.id.to_string(),
        state: state(group.state),
        members: count(group.members),
        committed_partitions: count(group.committed_partitions),
    }
}

impl Context {
    /// Names of topics, as far as there are topics of these ids.
    fn name_of(&self, id: TopicId) -> String {
        let image = self.cluster.image();
        image
            .topic(id)
            .map(|topic: &Arc<Topic>| topic.name.clone())
            .unwrap_or_default()
    }

    pub(super) fn name_partition(&self, partition: TopicPartition) -> v1::TopicPartition {
        v1::TopicPartition {
            topic: self.name_of(partition.topic),
            topic_id: Bytes::copy_from_slice(partition.topic.as_bytes()),
            partition: partition.index.0,
        }
    }

    /// Partitions by topic; they come sorted.
    pub(super) fn name_partitions(
        &self,
        partitions: &[TopicPartition],
    ) -> Vec<v1::TopicPartitions> {
        let of_topics = partitions.chunk_by(|a, b| a.topic == b.topic);
        let named = of_topics.map(|of_topic| v1::TopicPartitions {
            topic: self.name_of(of_topic[0].topic),
            topic_id: Bytes::copy_from_slice(of_topic[0].topic.as_bytes()),
            partitions: of_topic.iter().map(|partition| partition.index.0).collect(),
        });
        named.collect()
    }

    pub(super) fn describe(&self, group: GroupView) -> v1::DescribedGroup {
        v1::DescribedGroup {
            group_id: group.id.to_string(),
            error: None,
            state: state(group.state),
            epoch: epoch(group.epoch),
            assignor: group.assignor.name().to_owned(),
            members: group
                .members
                .into_iter()
                .map(|member| self.describe_member(member))
                .collect(),
            coordinator_broker_id: self.broker.0,
            empty_since_ms: group.empty_since_ms,
            fenced: group
                .removed
                .into_iter()
                .map(|removed| self.describe_removed(removed))
                .collect(),
        }
    }

    fn describe_removed(&self, removed: RemovedMember) -> v1::FencedMember {
        let reason = match removed.expiry {
            Expiry::Session => v1::RemovalReason::Session,
            Expiry::Rebalance => v1::RemovalReason::Rebalance,
        };
        v1::FencedMember {
            member_id: removed.id.to_string(),
            instance_id: removed
                .instance
                .map(|instance| instance.to_string())
                .unwrap_or_default(),
            client_id: removed.client_id,
            reason: reason.into(),
            fenced_at_ms: removed.at_ms,
            had: self.name_partitions(&removed.had),
        }
    }

    fn describe_member(&self, member: MemberView) -> v1::GroupMember {
        let state = match member.state {
            MemberState::Stable => v1::MemberState::Stable,
            MemberState::Revoking => v1::MemberState::Revoking,
            MemberState::Waiting => v1::MemberState::Waiting,
            MemberState::Away => v1::MemberState::Away,
        };
        let paused: Vec<_> = member.paused.iter().map(|one| one.partition).collect();
        v1::GroupMember {
            member_id: member.id.to_string(),
            instance_id: member
                .instance
                .map(|instance| instance.to_string())
                .unwrap_or_default(),
            client_id: member.client_id,
            rack: member.rack.unwrap_or_default(),
            member_epoch: epoch(member.epoch),
            state: state.into(),
            subscription: Some(v1::Subscription {
                topics: member.subscription.names.into_iter().collect(),
                topic_regex: member.subscription.regex.unwrap_or_default(),
            }),
            assigned: self.name_partitions(&member.assigned),
            revoking: self.name_partitions(&member.revoking),
            target: self.name_partitions(&member.target),
            session_timeout_ms: member.session_timeout_ms,
            assignor: member
                .assignor
                .map(|assignor| assignor.name().to_owned())
                .unwrap_or_default(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            clock: member
                .clock
                .map(|clock| member_clock(&clock, member.session_timeout_ms)),
            paused: self.name_partitions(&paused),
            paused_for: self.paused_for(&member.paused),
        }
    }

    fn paused_for(&self, paused: &[PausedPartition]) -> Vec<v1::PausedPartition> {
        let paused = paused.iter().map(|paused| v1::PausedPartition {
            partition: Some(self.name_partition(paused.partition)),
            told_ms_ago: millis(paused.told_ago),
        });
        paused.collect()
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn member_clock(clock: &MemberClock, session_timeout_ms: u32) -> v1::MemberClock {
    let session_ends_in_ms = millis(clock.session_ends_in);
    v1::MemberClock {
        heard_ms_ago: u64::from(session_timeout_ms).saturating_sub(session_ends_in_ms),
        session_ends_in_ms,
        revoke_ends_in_ms: clock.revoke_ends_in.map(millis),
    }
}
