//! Groups as they are shown to people and programs.

use std::sync::Arc;
use std::time::Duration;

use super::assignor::Assignor;
use super::draft::assignor_of;
use super::group::Group;
use super::member::{Epoch, Seat, TopicPartition};
use super::observed::RemovedMember;
use super::state::Entry;
use super::subscription::Subscription;

/// Where a group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupState {
    /// It has no members.
    Empty,
    /// Members are on their way to the target.
    Reconciling,
    /// Every member has what it is to have.
    Stable,
}

/// Where a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// It has what it is to have.
    Stable,
    /// It is to let partitions go.
    Revoking,
    /// It waits for partitions that others hold, or for its next heartbeat to be given them.
    Waiting,
    /// It left and may be back.
    Away,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// Its id.
    pub id: Arc<str>,
    /// Its instance id.
    pub instance: Option<Arc<str>>,
    /// The name of its client.
    pub client_id: String,
    /// Its rack.
    pub rack: Option<String>,
    /// Its epoch.
    pub epoch: Epoch,
    /// Where it stands.
    pub state: MemberState,
    /// What it wants to read.
    pub subscription: Subscription,
    /// What it has.
    pub assigned: Vec<TopicPartition>,
    /// What it is to let go.
    pub revoking: Vec<TopicPartition>,
    /// What it is to have in the end.
    pub target: Vec<TopicPartition>,
    /// Its session timeout.
    pub session_timeout_ms: u32,
    /// The assignor that it wants.
    pub assignor: Option<Assignor>,
    /// How long it may take to let partitions go.
    pub rebalance_timeout_ms: u32,
    /// What the leader's clocks say of it; the rules know nothing of that.
    pub clock: Option<MemberClock>,
    /// Of what it has, what it told the leader to have paused.
    pub paused: Vec<PausedPartition>,
}

/// A partition that a member has paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PausedPartition {
    /// Which.
    pub partition: TopicPartition,
    /// Since the member first told the leader so.
    pub told_ago: Duration,
}

/// Where a member stands in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberClock {
    /// Until its session ends.
    pub session_ends_in: Duration,
    /// Until it is to have let partitions go, where it is to.
    pub revoke_ends_in: Option<Duration>,
}

/// A group with all of its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    /// Its id.
    pub id: Arc<str>,
    /// Where it stands.
    pub state: GroupState,
    /// Its epoch.
    pub epoch: Epoch,
    /// How partitions are shared out.
    pub assignor: Assignor,
    /// Its members, by id.
    pub members: Vec<MemberView>,
    /// Since when it has none, in milliseconds since the Unix epoch.
    pub empty_since_ms: Option<i64>,
    /// Whom the leader has removed lately and who is not back, the last one first; the rules know nothing of that.
    pub removed: Vec<RemovedMember>,
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSummary {
    /// Its id.
    pub id: Arc<str>,
    /// Where it stands.
    pub state: GroupState,
    /// Number of members.
    pub members: usize,
    /// Number of partitions with a committed offset.
    pub committed_partitions: usize,
}

fn state_of(group: &Group) -> GroupState {
    if group.is_empty() {
        GroupState::Empty
    } else if group.is_settled() {
        GroupState::Stable
    } else {
        GroupState::Reconciling
    }
}

pub(super) fn describe(id: &Arc<str>, group: &Group) -> GroupView {
    GroupView {
        id: Arc::clone(id),
        state: state_of(group),
        epoch: group.epoch,
        assignor: assignor_of(group),
        members: group.seats.values().map(describe_member).collect(),
        empty_since_ms: group.empty_since_ms,
        removed: Vec::new(),
    }
}

fn describe_member(seat: &Seat) -> MemberView {
    let (member, held) = (&seat.member, &seat.held);
    let state = if held.is_away {
        MemberState::Away
    } else if !held.revoking.is_empty()
        || held.assigned.keys().any(|has| !seat.target.contains(has))
    {
        MemberState::Revoking
    } else if seat.is_settled() {
        MemberState::Stable
    } else {
        MemberState::Waiting
    };
    MemberView {
        id: Arc::clone(&member.id),
        instance: member.instance.clone(),
        client_id: member.client_id.clone(),
        rack: member.rack.clone(),
        epoch: held.epoch,
        state,
        subscription: member.subscription.clone(),
        assigned: held.assigned.keys().copied().collect(),
        revoking: held.revoking.keys().copied().collect(),
        target: seat.target.iter().copied().collect(),
        session_timeout_ms: member.session_timeout_ms,
        assignor: member.assignor,
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        clock: None,
        paused: Vec::new(),
    }
}

pub(super) fn summarize(id: &Arc<str>, entry: &Entry) -> GroupSummary {
    GroupSummary {
        id: Arc::clone(id),
        state: state_of(&entry.group),
        members: entry.group.seats.len(),
        committed_partitions: entry.offsets.len(),
    }
}
