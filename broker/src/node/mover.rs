//! Carries out changes of a partition's replicas, where the partition is led.
//!
//! A change goes in two steps: the new replicas join the group as learners and catch up; one joint change then makes them
//! voters and removes the old ones. So the number of voters never falls below the smaller of before and after. What to do is
//! seen each time from the image and from the group's members, never from what was done before: leaders may change, crash and
//! come back at any point.
//!
//! Three rules keep a leader that is behind the times from harm:
//!
//! - It acts on an image that it asked the controller for after it came to lead, and in that term only. So it knows of every
//!   decision that an earlier leader acted on, and one that came before the present leader's election never acts later.
//! - It reports the members only after it heard from a majority that it still leads, with an image that it saw before that.
//!   So what it reports of a cancelled change stays true: whoever leads next has seen that it was cancelled.
//! - It reports a change as made when every voter knows that the joint configuration is left. Otherwise a voter that does not
//!   could only be elected with votes of replicas that are deleted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use highwater_proto::{PartitionIndex, TopicId};
use highwater_storage::{RaftIndex, Term};
use tracing::{debug, info, warn};

use super::operate;
use crate::controller::{ClusterView, Command, MembersReport, Partition};
use crate::controller_client::ControllerClient;
use crate::hosted::Hosted;
use crate::partition;
use crate::raft::machine::Role;
use crate::raft::{
    FollowerStatus, GroupId, MemberChange, Members, Operation, ReplicaId, ReplicaStatus, Shards,
};
use crate::replica::Replica;

/// Time between two looks while replicas are changed.
const INTERVAL: Duration = Duration::from_millis(250);
/// How long one change of members, or one report, is waited for before the group is looked at again.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);
/// How far behind what is committed a learner may be that becomes a voter: a moment's work to catch up.
const CLOSE_ENTRIES: u64 = 1_000;
/// Groups whose next step is made at once.
const STEPS_AT_ONCE: usize = 32;

/// How a partition stands whose replicas are changed, as its leader sees it.
struct Standing<'a> {
    partition: &'a Partition,
    members: &'a Members,
    /// The entry that made them members.
    members_since: RaftIndex,
    /// Whether a change of members may be on its way.
    is_changing: bool,
    followers: &'a [FollowerStatus],
    commit: RaftIndex,
    /// Whether another partition may begin to copy its records.
    may_begin: bool,
}

/// What to do next about a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// Something is on its way, or somebody must catch up.
    Wait,
    /// Change the members.
    Change(Vec<MemberChange>),
    /// Tell the controller what the members are.
    Report,
}

fn decide(standing: &Standing<'_>) -> Step {
    let partition = standing.partition;
    let Some(moving) = &partition.reassignment else {
        return Step::Wait;
    };
    if standing.is_changing {
        return Step::Wait;
    }
    let target: BTreeSet<_> = moving.target.iter().map(|replica| replica.id).collect();
    if standing.are(&target) {
        return if standing.all_know() {
            Step::Report
        } else {
            Step::Wait
        };
    }
    let members = standing.members;
    if moving.is_cancelled {
        let mut joined = partition.adding().map(|replica| replica.id);
        let joined = joined.find(|id| members.learners.contains(id));
        let before = partition
            .replicas
            .iter()
            .map(|replica| replica.id)
            .collect();
        return match joined {
            Some(learner) => Step::Change(vec![MemberChange::Remove(learner)]),
            None if standing.are(&before) => Step::Report,
            None => Step::Wait,
        };
    }
    let new: Vec<_> = target
        .iter()
        .copied()
        .filter(|id| !members.voters.contains(id))
        .collect();
    if let Some(stranger) = new.iter().find(|id| !members.learners.contains(id)) {
        let may_join = standing.may_begin || standing.has_begun();
        return if may_join {
            Step::Change(vec![MemberChange::AddLearner(*stranger)])
        } else {
            Step::Wait
        };
    }
    if !new.iter().all(|id| standing.has_caught_up(*id)) {
        return Step::Wait;
    }
    let leaving = members.voters.iter().chain(&members.learners);
    let leaving = leaving.filter(|id| !target.contains(id));
    let promoted = new.iter().map(|id| MemberChange::AddVoter(*id));
    let removed = leaving.map(|id| MemberChange::Remove(*id));
    Step::Change(promoted.chain(removed).collect())
}

impl Standing<'_> {
    /// Whether the members are these voters and nobody else.
    fn are(&self, voters: &BTreeSet<ReplicaId>) -> bool {
        let now: BTreeSet<_> = self.members.voters.iter().copied().collect();
        now == *voters && self.members.learners.is_empty() && self.members.outgoing.is_empty()
    }

    /// Whether a replica that is added has joined: its records are being copied.
    fn has_begun(&self) -> bool {
        let mut adding = self.partition.adding();
        adding.any(|replica| self.members.learners.contains(&replica.id))
    }

    /// Whether every other voter knows that these are the members.
    fn all_know(&self) -> bool {
        let mut voters = self.followers.iter().filter(|other| !other.is_learner);
        voters.all(|voter| voter.committed >= self.members_since)
    }

    fn has_caught_up(&self, replica: ReplicaId) -> bool {
        let learner = self.followers.iter().find(|other| other.replica == replica);
        learner.is_some_and(|learner| {
            learner.is_in_sync && learner.matched.0.saturating_add(CLOSE_ENTRIES) >= self.commit.0
        })
    }
}

/// A partition that is led here and whose replicas are changed.
#[derive(Clone, Copy, Debug)]
struct Led {
    topic_id: TopicId,
    partition: PartitionIndex,
    group: GroupId,
    term: Term,
}

/// Changes replicas.
#[derive(Clone)]
pub(super) struct Mover {
    pub(super) shards: Shards<Replica>,
    pub(super) cluster: Arc<ClusterView>,
    pub(super) hosted: Arc<Hosted>,
    pub(super) controller: ControllerClient,
    /// Partitions whose records are copied to new replicas at once.
    pub(super) at_once: usize,
}

impl Mover {
    /// Works until it is dropped.
    pub(super) async fn run(self) {
        let mut images = self.cluster.watch();
        while images
            .wait_for(|image| image.reassigned().len() > 0)
            .await
            .is_ok()
        {
            self.look().await;
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Makes the next step of each partition that is led here.
    async fn look(&self) {
        let led = self.led();
        if led.is_empty() {
            return;
        }
        let image = match self.controller.read_barrier().await {
            Ok(image) => image,
            Err(error) => {
                debug!(%error, "replicas are changed when the controller answers");
                return;
            }
        };
        let mut begun = 0;
        let mut standing = Vec::new();
        for led in led {
            let partition = image.partition(led.topic_id, led.partition);
            let partition = partition.filter(|at| at.reassignment.is_some());
            if let (Some(partition), Some(status)) = (partition, self.status(led).await) {
                begun += usize::from(Standing::of(partition, &status, false).has_begun());
                standing.push((led, partition, status));
            }
        }
        let mut steps = Vec::new();
        for (led, partition, status) in standing {
            let before = Standing::of(partition, &status, begun < self.at_once);
            let step = decide(&before);
            if matches!(&step, Step::Change(changes) if joins(changes)) && !before.has_begun() {
                begun += 1;
            }
            steps.push(self.clone().make(led, partition.epoch, step));
        }
        let mut steps = futures::stream::iter(steps).buffer_unordered(STEPS_AT_ONCE);
        while steps.next().await.is_some() {}
    }

    /// What is led here and serves. Who would lead if it were asked is.
    fn led(&self) -> Vec<Led> {
        let image = self.cluster.image();
        let hosted = self.hosted.load();
        let led = image.reassigned().filter_map(|(topic, index, partition)| {
            let here = hosted.replica(topic.id, index)?;
            let partition::Standing::Serving { term } = here.shared.standing() else {
                here.wake_if_cold();
                return None;
            };
            Some(Led {
                topic_id: topic.id,
                partition: index,
                group: partition.group,
                term,
            })
        });
        led.collect()
    }

    /// How its replica here stands, if it still leads in the same term.
    async fn status(&self, led: Led) -> Option<ReplicaStatus> {
        let status = super::status(&self.shards, led.group).await.ok()??;
        let serves = Role::Leader {
            term: led.term,
            serving: true,
        };
        (status.role == serves).then_some(status)
    }

    async fn make(self, led: Led, epoch: u64, step: Step) {
        let made = match step {
            Step::Wait => return,
            Step::Change(changes) => {
                tokio::time::timeout(STEP_TIMEOUT, self.change(led, changes)).await
            }
            Step::Report => tokio::time::timeout(STEP_TIMEOUT, self.report(led, epoch)).await,
        };
        if made.is_err() {
            warn!(
                topic = %led.topic_id,
                partition = %led.partition,
                "a change of replicas makes no progress: too few of its voters, or of the controllers, answer"
            );
        }
    }

    async fn change(&self, led: Led, changes: Vec<MemberChange>) {
        let (topic, partition) = (led.topic_id, led.partition);
        let changed = operate(&self.shards, led.group, |answer| Operation::ChangeMembers {
            group: led.group,
            term: Some(led.term),
            changes: changes.clone(),
            answer,
        });
        match changed.await {
            Ok(members) => info!(
                %topic,
                %partition,
                voters = ?members.voters.iter().map(|id| id.0).collect::<Vec<_>>(),
                learners = ?members.learners.iter().map(|id| id.0).collect::<Vec<_>>(),
                "a partition has other members"
            ),
            Err(error) => {
                debug!(%topic, %partition, %error, ?changes, "a partition's members are not changed now");
            }
        }
    }

    async fn report(&self, led: Led, epoch: u64) {
        let still_leads = operate(&self.shards, led.group, |answer| Operation::ReadIndex {
            group: led.group,
            answer,
        });
        if let Err(error) = still_leads.await {
            debug!(group = led.group.0, %error, "a leader that is not sure of itself reports nothing");
            return;
        }
        let Some(status) = self.status(led).await.filter(|status| !status.is_changing) else {
            return;
        };
        let report = MembersReport {
            topic_id: led.topic_id,
            partition: led.partition,
            epoch,
            voters: status.members.voters.into_iter().collect(),
            learners: status.members.learners.into_iter().collect(),
        };
        if let Err(error) = self.controller.ask(Command::ReportMembers(report)).await {
            debug!(group = led.group.0, %error, "a partition's members are reported later");
        }
    }
}

/// Whether somebody joins.
fn joins(changes: &[MemberChange]) -> bool {
    let joins = |change: &MemberChange| matches!(change, MemberChange::AddLearner(_));
    changes.iter().any(joins)
}

impl<'a> Standing<'a> {
    fn of(partition: &'a Partition, status: &'a ReplicaStatus, may_begin: bool) -> Self {
        Self {
            partition,
            members: &status.members,
            members_since: status.members_since,
            is_changing: status.is_changing,
            followers: &status.followers,
            commit: status.commit,
            may_begin,
        }
    }
}

#[cfg(test)]
mod tests;
