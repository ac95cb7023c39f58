//! Keeps the controller group's members as they should be, where the group is led.
//!
//! Every registered broker's replica is a member, so that each broker holds the cluster's image: as a learner at first. One,
//! three or five of them are voters: as many as configured, or the largest odd number that brokers can fill. Learners are
//! promoted when they have caught up, and two at a time, so that the number of voters is never even: two voters would be
//! lost with any one of them. A voter that was not heard of for long changes places with a learner that was.
//!
//! A replica whose broker is gone, or has nothing left to do before it goes, gives its vote away; then it is removed. Where no
//! other can take the vote, the number of voters shrinks to the next odd one. The steward also asks for the changes of
//! partitions that such brokers call for, and removes them at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use highwater_storage::RaftIndex;
use tokio::time::Instant;
use tracing::{info, warn};

use super::operate;
use crate::controller::{ClusterView, Command};
use crate::controller_client::{CONTROLLER_GROUP, ControllerClient};
use crate::raft::machine::Role;
use crate::raft::{FollowerStatus, MemberChange, Members, Operation, ReplicaId, Shards};
use crate::replica::Replica;

/// Time between two looks at the group while it is led here.
const INTERVAL: Duration = Duration::from_millis(250);
/// How long a change of the members is waited for before the group is looked at again.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);
/// How far behind what is committed a learner may be that becomes a voter: a moment's work to catch up.
const CLOSE_ENTRIES: u64 = 100;
/// Silence of a voter after which another broker takes its place. Longer than a restart takes.
const LOST_AFTER: Duration = Duration::from_secs(60);

/// How the group stands.
struct Standing<'a> {
    members: &'a Members,
    followers: &'a [FollowerStatus],
    commit: RaftIndex,
    /// The registered brokers' replicas.
    registered: &'a [ReplicaId],
    /// Those of them that are to leave.
    leaving: &'a BTreeSet<ReplicaId>,
    /// Voters that were not heard of for long.
    lost: &'a BTreeSet<ReplicaId>,
    /// Who leads, and looks.
    me: ReplicaId,
    wanted_voters: usize,
}

/// What to change next; all of it goes through one joint configuration.
fn decide(standing: &Standing<'_>) -> Option<Vec<MemberChange>> {
    let members = standing.members;
    if !members.outgoing.is_empty() {
        return None;
    }
    let is_member = |id: &ReplicaId| members.voters.contains(id) || members.learners.contains(id);
    if let Some(new) = standing.registered.iter().find(|id| !is_member(id)) {
        return Some(vec![MemberChange::AddLearner(*new)]);
    }
    let mut learners = members.learners.iter();
    if let Some(gone) = learners.find(|id| standing.is_gone(id)) {
        return Some(vec![MemberChange::Remove(*gone)]);
    }
    let fit = standing.fit();
    let staying = standing.registered.len() - standing.leaving.len();
    let target = self::voters(standing.wanted_voters, staying);
    let leaving = members.voters.iter().find(|id| standing.leaves(id));
    if let Some(leaving) = leaving {
        return standing.without(*leaving, &fit, target);
    }
    let voters = members.voters.len();
    if voters < target {
        let missing = if voters.is_multiple_of(2) { 1 } else { 2 };
        let promoted = fit.get(..missing)?;
        return Some(
            promoted
                .iter()
                .copied()
                .map(MemberChange::AddVoter)
                .collect(),
        );
    }
    let lost = members
        .voters
        .iter()
        .find(|id| standing.lost.contains(id))?;
    let replacement = fit.first()?;
    Some(vec![
        MemberChange::AddVoter(*replacement),
        MemberChange::AddLearner(*lost),
    ])
}

impl Standing<'_> {
    /// Learners that can become voters.
    fn fit(&self) -> Vec<ReplicaId> {
        // A new leader takes everybody to be in sync, also those who are not there: who holds nothing has not answered yet.
        let is_fit = |follower: &&FollowerStatus| {
            follower.is_in_sync
                && follower.matched > RaftIndex(0)
                && follower.matched.0.saturating_add(CLOSE_ENTRIES) >= self.commit.0
                && self.members.learners.contains(&follower.replica)
                && !self.leaves(&follower.replica)
        };
        let fit = self.followers.iter().filter(is_fit);
        fit.map(|follower| follower.replica).collect()
    }

    /// Whether nobody registered has this replica any more. Before there is anybody, nobody is taken away.
    fn is_gone(&self, id: &ReplicaId) -> bool {
        !self.registered.is_empty() && !self.registered.contains(id)
    }

    /// Whether a replica is not to vote any more.
    fn leaves(&self, id: &ReplicaId) -> bool {
        self.is_gone(id) || self.leaving.contains(id)
    }

    /// How a voter that leaves gives its vote away: to one that is fit, or, where too few stay, to nobody. Then another one
    /// gives up its vote where the number of voters would be even.
    fn without(
        &self,
        leaving: ReplicaId,
        fit: &[ReplicaId],
        target: usize,
    ) -> Option<Vec<MemberChange>> {
        let demote = |id: ReplicaId| {
            if self.is_gone(&id) {
                MemberChange::Remove(id)
            } else {
                MemberChange::AddLearner(id)
            }
        };
        let mut changes = vec![demote(leaving)];
        if let Some(replacement) = fit.first() {
            changes.insert(0, MemberChange::AddVoter(*replacement));
            return Some(changes);
        }
        let mut left = self.members.voters.len() - 1;
        if left < target || left == 0 {
            return None;
        }
        // Others that leave go first, and who leads last.
        let mut others = self.members.voters.clone();
        others.retain(|id| *id != leaving);
        others.sort_by_key(|id| (!self.leaves(id), *id == self.me, *id));
        for other in others {
            if left == largest_odd(left) {
                break;
            }
            changes.push(demote(other));
            left -= 1;
        }
        Some(changes)
    }

    /// Whether every other voter knows that these are the members.
    fn all_know(&self, since: RaftIndex) -> bool {
        let mut voters = self.followers.iter().filter(|other| !other.is_learner);
        voters.all(|voter| voter.committed >= since)
    }
}

/// How many voters the group has where `wanted` are configured and there are so many brokers.
pub(super) fn voters(wanted: usize, brokers: usize) -> usize {
    largest_odd(wanted.min(brokers))
}

fn largest_odd(most: usize) -> usize {
    if most.is_multiple_of(2) {
        most.saturating_sub(1)
    } else {
        most
    }
}

/// Looks after the group.
pub(super) struct Steward {
    pub(super) shards: Shards<Replica>,
    pub(super) cluster: Arc<ClusterView>,
    pub(super) controller: ControllerClient,
    /// As configured.
    pub(super) wanted_voters: usize,
}

impl Steward {
    /// Works while the group is led here, until it is dropped.
    pub(super) async fn run(self) {
        let mut role = self.cluster.watch_role();
        let leads = |role: &Option<Role>| matches!(role, Some(Role::Leader { serving: true, .. }));
        while role.wait_for(leads).await.is_ok() {
            let mut quiet = Quiet::default();
            while leads(&role.borrow()) {
                self.look(&mut quiet).await;
                tokio::time::sleep(INTERVAL).await;
            }
        }
    }

    /// Looks at the group and makes the next change.
    async fn look(&self, quiet: &mut Quiet) {
        let Ok(Some(status)) = super::status(&self.shards, CONTROLLER_GROUP).await else {
            return;
        };
        quiet.observe(&status.followers, Instant::now());
        let image = self.cluster.image();
        let registered: Vec<_> = image.controller_replicas().map(|at| at.id).collect();
        let leaving: BTreeSet<_> = image.drained().map(|at| at.controller_replica).collect();
        let standing = Standing {
            members: &status.members,
            followers: &status.followers,
            commit: status.commit,
            registered: &registered,
            leaving: &leaving,
            lost: &quiet.lost(Instant::now()),
            me: status.replica,
            wanted_voters: self.wanted_voters,
        };
        if image.wants_moves() {
            let avoid = BTreeSet::new();
            self.ask(Command::ContinueMoves { avoid }).await;
        }
        let Some(changes) = decide(&standing) else {
            let is_settled = !status.is_changing && standing.all_know(status.members_since);
            let has_no_vote = |id| !status.members.voters.contains(&id);
            let mut drained = image.drained();
            let gone = drained.find(|broker| has_no_vote(broker.controller_replica));
            if let Some(broker) = gone.filter(|_| is_settled) {
                let broker = broker.id;
                self.ask(Command::RemoveBroker { broker }).await;
                info!(%broker, "a broker that was decommissioned is removed");
            }
            return;
        };
        let changing = operate(&self.shards, CONTROLLER_GROUP, |answer| {
            Operation::ChangeMembers {
                group: CONTROLLER_GROUP,
                term: Some(status.term),
                changes: changes.clone(),
                answer,
            }
        });
        match tokio::time::timeout(CHANGE_TIMEOUT, changing).await {
            Ok(Ok(members)) => info!(
                voters = ?members.voters.iter().map(|id| id.0).collect::<Vec<_>>(),
                learners = ?members.learners.iter().map(|id| id.0).collect::<Vec<_>>(),
                "the controller group has other members"
            ),
            Ok(Err(error)) => {
                warn!(%error, ?changes, "the controller group's members cannot be changed now");
            }
            Err(_) => warn!(
                ?changes,
                "the controller group's members are not changed yet: too few of its voters answer"
            ),
        }
    }
}

impl Steward {
    /// Has this broker, which leads the controller, carry out a command.
    async fn ask(&self, command: Command) {
        if let Err(error) = self.controller.execute_here(command).await {
            warn!(%error, "a broker that is to go, or lost its disk, makes no progress");
        }
    }
}

/// Since when members are quiet.
#[derive(Default)]
struct Quiet {
    since: BTreeMap<ReplicaId, Instant>,
}

impl Quiet {
    fn observe(&mut self, followers: &[FollowerStatus], now: Instant) {
        let before = std::mem::take(&mut self.since);
        for follower in followers.iter().filter(|follower| !follower.is_in_sync) {
            let since = before.get(&follower.replica).copied().unwrap_or(now);
            self.since.insert(follower.replica, since);
        }
    }

    fn lost(&self, now: Instant) -> BTreeSet<ReplicaId> {
        let is_lost = |since: &Instant| now.saturating_duration_since(*since) >= LOST_AFTER;
        let lost = self.since.iter().filter(|(_, since)| is_lost(since));
        lost.map(|(id, _)| *id).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COMMIT: RaftIndex = RaftIndex(1_000);

    fn ids(ids: &[u64]) -> Vec<ReplicaId> {
        ids.iter().copied().map(ReplicaId).collect()
    }

    fn members(voters: &[u64], learners: &[u64]) -> Members {
        Members {
            voters: ids(voters),
            learners: ids(learners),
            outgoing: Vec::new(),
        }
    }

    /// Everybody but `1`, who leads, has everything and was heard of, but for these.
    fn followers(members: &Members, behind: &[u64], silent: &[u64]) -> Vec<FollowerStatus> {
        let all = members.voters.iter().chain(&members.learners);
        all.filter(|id| id.0 != 1)
            .map(|id| FollowerStatus {
                replica: *id,
                matched: if behind.contains(&id.0) {
                    RaftIndex(1)
                } else {
                    COMMIT
                },
                is_in_sync: !silent.contains(&id.0),
                committed: COMMIT,
                is_learner: members.learners.contains(id),
                seeding: None,
            })
            .collect()
    }

    fn decided(
        members: &Members,
        registered: &[u64],
        behind: &[u64],
        silent: &[u64],
        wanted_voters: usize,
    ) -> Option<Vec<MemberChange>> {
        decide(&Standing {
            members,
            followers: &followers(members, behind, silent),
            commit: COMMIT,
            registered: &ids(registered),
            leaving: &BTreeSet::new(),
            me: ReplicaId(1),
            lost: &ids(silent).into_iter().collect(),
            wanted_voters,
        })
    }

    fn promote(ids: &[u64]) -> Option<Vec<MemberChange>> {
        let promoted = ids
            .iter()
            .copied()
            .map(ReplicaId)
            .map(MemberChange::AddVoter);
        Some(promoted.collect())
    }

    #[test]
    fn each_registered_broker_becomes_a_learner_first() {
        let alone = members(&[1], &[]);
        let add = |id| Some(vec![MemberChange::AddLearner(ReplicaId(id))]);
        assert_eq!(decided(&alone, &[1], &[], &[], 3), None);
        assert_eq!(decided(&alone, &[1, 2, 3], &[], &[], 3), add(2));
        let two = members(&[1], &[2]);
        assert_eq!(decided(&two, &[1, 2, 3], &[], &[], 3), add(3));
        // Also while nobody is registered, which an old cluster's log may say, nobody is taken away.
        assert_eq!(decided(&alone, &[], &[], &[], 3), None);
    }

    #[test]
    fn learners_are_promoted_in_pairs_when_they_have_caught_up() {
        let three = members(&[1], &[2, 3]);
        let all = &[1, 2, 3];
        assert_eq!(decided(&three, all, &[], &[], 3), promote(&[2, 3]));
        assert_eq!(decided(&three, all, &[3], &[], 3), None);
        assert_eq!(decided(&three, all, &[], &[2], 3), None);
        assert_eq!(decided(&three, all, &[], &[], 1), None);
        assert_eq!(decided(&members(&[1], &[2]), &[1, 2], &[], &[], 3), None);
    }

    #[test]
    fn nobody_is_promoted_who_never_answered_though_the_log_is_short() {
        let three = members(&[1], &[2, 3]);
        let silent: Vec<_> = followers(&three, &[], &[])
            .into_iter()
            .map(|follower| FollowerStatus {
                matched: RaftIndex(0),
                ..follower
            })
            .collect();
        let standing = Standing {
            members: &three,
            followers: &silent,
            commit: RaftIndex(CLOSE_ENTRIES - 1),
            registered: &ids(&[1, 2, 3]),
            leaving: &BTreeSet::new(),
            me: ReplicaId(1),
            lost: &BTreeSet::new(),
            wanted_voters: 3,
        };
        assert_eq!(decide(&standing), None);
    }

    #[test]
    fn five_voters_are_made_where_they_are_wanted() {
        let three = members(&[1, 2, 3], &[4, 5, 6]);
        let all = &[1, 2, 3, 4, 5, 6];
        assert_eq!(decided(&three, all, &[], &[], 3), None);
        assert_eq!(decided(&three, all, &[4], &[], 5), promote(&[5, 6]));
        let five = members(&[1, 2, 3, 5, 6], &[4]);
        assert_eq!(decided(&five, all, &[], &[], 5), None);
    }

    #[test]
    fn a_lost_voter_changes_places_with_a_learner_that_is_there() {
        let four = members(&[1, 2, 3], &[4]);
        let all = &[1, 2, 3, 4];
        let swap = vec![
            MemberChange::AddVoter(ReplicaId(4)),
            MemberChange::AddLearner(ReplicaId(3)),
        ];
        assert_eq!(decided(&four, all, &[], &[3], 3), Some(swap));
        assert_eq!(decided(&four, all, &[4], &[3], 3), None);
        assert_eq!(decided(&four, all, &[], &[3, 4], 3), None);
    }

    #[test]
    fn nothing_is_begun_before_a_change_is_over() {
        let joint = Members {
            outgoing: ids(&[1]),
            ..members(&[1, 2, 3], &[])
        };
        assert_eq!(decided(&joint, &[1, 2, 3, 4], &[], &[], 3), None);
    }

    #[test]
    fn silence_counts_from_its_beginning_and_ends_with_a_word() {
        let group = members(&[1, 2, 3], &[]);
        let start = Instant::now();
        let mut quiet = Quiet::default();
        quiet.observe(&followers(&group, &[], &[2, 3]), start);
        quiet.observe(&followers(&group, &[], &[2]), start + LOST_AFTER / 2);
        quiet.observe(&followers(&group, &[], &[2, 3]), start + LOST_AFTER);
        assert_eq!(quiet.lost(start + LOST_AFTER), [ReplicaId(2)].into());
    }

    fn leaving(
        members: &Members,
        registered: &[u64],
        leaving: &[u64],
    ) -> Option<Vec<MemberChange>> {
        decide(&Standing {
            members,
            followers: &followers(members, &[], &[]),
            commit: COMMIT,
            registered: &ids(registered),
            leaving: &ids(leaving).into_iter().collect(),
            me: ReplicaId(1),
            lost: &BTreeSet::new(),
            wanted_voters: 3,
        })
    }

    #[test]
    fn who_leaves_gives_its_vote_to_a_learner_and_is_then_removed() {
        let four = members(&[1, 2, 3], &[4]);
        let swap = |last| vec![MemberChange::AddVoter(ReplicaId(4)), last];
        let learner = MemberChange::AddLearner(ReplicaId(1));
        assert_eq!(leaving(&four, &[1, 2, 3, 4], &[1]), Some(swap(learner)));
        let gone = MemberChange::Remove(ReplicaId(3));
        assert_eq!(leaving(&four, &[1, 2, 4], &[]), Some(swap(gone)));
        let learner = members(&[2, 3, 4], &[1]);
        assert_eq!(leaving(&learner, &[1, 2, 3, 4], &[1]), None);
        assert_eq!(
            leaving(&learner, &[2, 3, 4], &[]),
            Some(vec![MemberChange::Remove(ReplicaId(1))])
        );
    }

    #[test]
    fn the_voters_shrink_to_an_odd_number_where_too_few_stay() {
        let three = members(&[1, 2, 3], &[]);
        let demote = |id| MemberChange::AddLearner(ReplicaId(id));
        assert_eq!(
            leaving(&three, &[1, 2, 3], &[3]),
            Some(vec![demote(3), demote(2)])
        );
        // Its successor is registered and has to catch up first.
        let successor = members(&[1, 2, 3], &[]);
        assert_eq!(
            leaving(&successor, &[1, 2, 4], &[]),
            Some(vec![MemberChange::AddLearner(ReplicaId(4))])
        );
        assert_eq!(leaving(&members(&[1], &[]), &[1], &[1]), None);
    }

    proptest! {
        /// Whoever is silent or behind: the number of voters stays odd and never falls, and when all are well again every
        /// broker is a member and the voters are as many as there should be.
        #[test]
        fn any_way_leads_to_the_members_that_should_be(
            brokers in 1..8_u64,
            wanted in proptest::sample::select(vec![1, 3, 5]),
            bad in proptest::collection::vec((0..9_u64, 0..9_u64), 0..12),
        ) {
            let registered: Vec<u64> = (1..=brokers).collect();
            let mut group = members(&[1], &[]);
            let well = std::iter::repeat_n((0, 0), 24);
            for (behind, silent) in bad.into_iter().chain(well) {
                let silent = if silent == 1 { 0 } else { silent };
                let changes = decided(&group, &registered, &[behind], &[silent], wanted);
                let Some(changes) = changes else { continue };
                let next = group.clone().changed_by(&changes);
                prop_assert!(next.voters.len() % 2 == 1);
                prop_assert!(next.voters.len() >= group.voters.len());
                prop_assert!(next.voters.len() <= group.voters.len() + 2);
                prop_assert!(next.voters.contains(&ReplicaId(1)), "who leads stays");
                group = next;
            }
            prop_assert_eq!(group.voters.len() + group.learners.len(), registered.len());
            prop_assert_eq!(group.voters.len(), largest_odd(wanted.min(registered.len())));
        }
    }
}
