use highwater_proto::BrokerId;
use proptest::prelude::*;

use super::*;
use crate::controller::{Reassignment, Replica};

const COMMIT: RaftIndex = RaftIndex(5_000);
const SINCE: RaftIndex = RaftIndex(4_000);

fn ids(ids: &[u64]) -> Vec<ReplicaId> {
    ids.iter().copied().map(ReplicaId).collect()
}

/// Each replica is on a broker of its own number.
fn replicas(ids: &[u64]) -> Vec<Replica> {
    let replica = |id: &u64| Replica {
        id: ReplicaId(*id),
        broker: BrokerId(u32::try_from(*id).unwrap()),
    };
    ids.iter().map(replica).collect()
}

fn moving(from: &[u64], to: &[u64], is_cancelled: bool) -> Partition {
    let mut partition = Partition::new(GroupId(100), replicas(from));
    partition.reassignment = Some(Reassignment {
        target: replicas(to),
        is_cancelled,
    });
    partition
}

fn members(voters: &[u64], learners: &[u64]) -> Members {
    Members {
        voters: ids(voters),
        learners: ids(learners),
        outgoing: Vec::new(),
    }
}

/// Everybody but the leader, with what it has and knows.
fn followers(members: &Members, leader: u64, matched: u64, committed: u64) -> Vec<FollowerStatus> {
    let all = members.voters.iter().chain(&members.learners);
    all.filter(|id| id.0 != leader)
        .map(|id| FollowerStatus {
            replica: *id,
            matched: RaftIndex(matched),
            is_in_sync: true,
            committed: RaftIndex(committed),
            is_learner: members.learners.contains(id),
            seeding: None,
        })
        .collect()
}

fn decided(partition: &Partition, members: &Members, matched: u64, committed: u64) -> Step {
    let leader = members.voters[0].0;
    decide(&Standing {
        partition,
        members,
        members_since: SINCE,
        is_changing: false,
        followers: &followers(members, leader, matched, committed),
        commit: COMMIT,
        may_begin: true,
    })
}

fn change(changes: &[MemberChange]) -> Step {
    Step::Change(changes.to_vec())
}

#[test]
fn a_new_replica_learns_first_and_changes_places_with_the_old_one_in_one_step() {
    let partition = moving(&[1, 2, 3], &[4, 1, 2], false);
    let step = |members, matched, committed| decided(&partition, &members, matched, committed);
    let before = members(&[1, 2, 3], &[]);
    assert_eq!(
        step(before, 5_000, 5_000),
        change(&[MemberChange::AddLearner(ReplicaId(4))])
    );
    let learning = members(&[1, 2, 3], &[4]);
    assert_eq!(step(learning.clone(), 3_999, 5_000), Step::Wait);
    let swap = [
        MemberChange::AddVoter(ReplicaId(4)),
        MemberChange::Remove(ReplicaId(3)),
    ];
    assert_eq!(step(learning, 4_000, 5_000), change(&swap));
    let after = members(&[1, 2, 4], &[]);
    assert_eq!(
        step(after.clone(), 5_000, 3_999),
        Step::Wait,
        "one does not know it"
    );
    assert_eq!(step(after, 5_000, 4_000), Step::Report);
}

#[test]
fn a_cancelled_change_is_undone_unless_it_was_made() {
    let partition = moving(&[1, 2, 3], &[1, 2, 4], true);
    let step = |members| decided(&partition, &members, 5_000, 5_000);
    let leave = change(&[MemberChange::Remove(ReplicaId(4))]);
    assert_eq!(step(members(&[1, 2, 3], &[4])), leave);
    assert_eq!(step(members(&[1, 2, 3], &[])), Step::Report);
    assert_eq!(step(members(&[1, 2, 4], &[])), Step::Report);
}

#[test]
fn nothing_is_begun_before_a_change_is_over() {
    let partition = moving(&[1, 2, 3], &[1, 2, 4], false);
    let members = members(&[1, 2, 3], &[4]);
    let step = decide(&Standing {
        partition: &partition,
        members: &members,
        members_since: SINCE,
        is_changing: true,
        followers: &followers(&members, 1, 5_000, 5_000),
        commit: COMMIT,
        may_begin: true,
    });
    assert_eq!(step, Step::Wait);
}

#[test]
fn only_so_many_begin_and_who_has_begun_goes_on() {
    let partition = moving(&[1], &[1, 4, 5], false);
    let step = |members: Members| {
        decide(&Standing {
            partition: &partition,
            members: &members,
            members_since: SINCE,
            is_changing: false,
            followers: &followers(&members, 1, 0, 0),
            commit: COMMIT,
            may_begin: false,
        })
    };
    assert_eq!(step(members(&[1], &[])), Step::Wait);
    let second = change(&[MemberChange::AddLearner(ReplicaId(5))]);
    assert_eq!(step(members(&[1], &[4])), second);
}

proptest! {
    /// Whoever is behind and whenever it is cancelled: a change ends with one of both memberships, and the voters are at all
    /// times as many as before or after.
    #[test]
    fn any_way_leads_to_the_members_before_or_after(
        from in proptest::collection::btree_set(1..9_u64, 1..6),
        to in proptest::collection::btree_set(1..9_u64, 1..6),
        cancelled_at in 0..12_usize,
        behind in proptest::collection::vec(any::<bool>(), 12),
    ) {
        let (from, to): (Vec<_>, Vec<_>) = (from.into_iter().collect(), to.into_iter().collect());
        let mut group = members(&from, &[]);
        let mut ended = false;
        for look in 0..40 {
            let is_behind = behind.get(look).copied().unwrap_or(false);
            let (matched, committed) = if is_behind { (1, 1) } else { (5_000, 5_000) };
            let partition = moving(&from, &to, look >= cancelled_at);
            match decided(&partition, &group, matched, committed) {
                Step::Wait => prop_assert!(is_behind),
                Step::Change(changes) => {
                    let next = group.clone().changed_by(&changes);
                    let is_either = [from.len(), to.len()].contains(&next.voters.len());
                    prop_assert!(is_either, "{:?} voters", next.voters);
                    group = next;
                }
                Step::Report => {
                    ended = true;
                    break;
                }
            }
        }
        let mut voters = group.voters.iter().map(|id| id.0).collect::<Vec<_>>();
        voters.sort_unstable();
        prop_assert!(ended && group.learners.is_empty());
        prop_assert!(voters == from || voters == to);
    }
}
