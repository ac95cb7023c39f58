//! Who belongs to a group: voters and learners, and how they change.

use bytes::Bytes;
use highwater_storage::AppliedState;
use protobuf::Message as _;
use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState};

use super::{Error, ReplicaId};

/// The members of a group as of one applied index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// The voters; while a change is under way, those of the configuration to come.
    pub voters: Vec<ReplicaId>,
    /// The learners.
    pub learners: Vec<ReplicaId>,
    /// The voters of the configuration that is being left; empty unless a joint configuration is in force.
    pub outgoing: Vec<ReplicaId>,
}

/// One change of the members. Several in one request go through a joint configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// Adds a learner, or makes a voter one.
    AddLearner(ReplicaId),
    /// Adds a voter, or promotes a learner.
    AddVoter(ReplicaId),
    /// Removes a member.
    Remove(ReplicaId),
}

impl Members {
    /// A group of these voters.
    pub fn of_voters(voters: impl IntoIterator<Item = ReplicaId>) -> Self {
        Self {
            voters: voters.into_iter().collect(),
            ..Self::default()
        }
    }

    /// The members when these changes are over.
    #[cfg(test)]
    pub(crate) fn changed_by(mut self, changes: &[MemberChange]) -> Self {
        for change in changes {
            let (MemberChange::AddLearner(id)
            | MemberChange::AddVoter(id)
            | MemberChange::Remove(id)) = change;
            self.voters.retain(|other| other != id);
            self.learners.retain(|other| other != id);
            match change {
                MemberChange::AddLearner(id) => self.learners.push(*id),
                MemberChange::AddVoter(id) => self.voters.push(*id),
                MemberChange::Remove(_) => {}
            }
        }
        self
    }

    /// The members as of an applied state, as far as they can be read.
    pub fn as_of(applied: &AppliedState) -> Self {
        decode(&applied.conf_state)
            .map(|state| Self::from_raft(&state))
            .unwrap_or_default()
    }

    /// Everybody, some twice while a change is under way.
    pub(super) fn all(&self) -> impl Iterator<Item = ReplicaId> {
        let all = self.voters.iter().chain(&self.learners);
        all.chain(&self.outgoing).copied()
    }

    /// Whether `replica` is the only member: nobody to wait for, nobody to tell.
    pub fn is_alone(&self, replica: ReplicaId) -> bool {
        self.voters == [replica] && self.learners.is_empty() && self.outgoing.is_empty()
    }

    /// Whether `replica` alone wins any election.
    pub fn is_sole_voter(&self, replica: ReplicaId) -> bool {
        self.voters == [replica] && (self.outgoing.is_empty() || self.outgoing == [replica])
    }

    pub(super) fn from_raft(state: &ConfState) -> Self {
        let sorted = |ids: &[u64]| {
            let mut ids: Vec<_> = ids.iter().copied().map(ReplicaId).collect();
            ids.sort_unstable();
            ids
        };
        Self {
            voters: sorted(&state.voters),
            learners: sorted(&state.learners),
            outgoing: sorted(&state.voters_outgoing),
        }
    }

    /// The form in which storage keeps the members that a replica begins with: those of a new group, or nobody, where it
    /// joins a group whose first members are not known any more.
    ///
    /// # Errors
    /// [`Error::Members`] when there is no voter but somebody else, or somebody is named twice or is 0, or a joint
    /// configuration is given.
    pub(super) fn encode(&self) -> Result<Bytes, Error> {
        if *self == Self::default() {
            return encode(&ConfState::default());
        }
        let mut all: Vec<_> = self.voters.iter().chain(&self.learners).collect();
        all.sort_unstable();
        let is_unique = all.windows(2).all(|pair| pair[0] != pair[1]);
        if self.voters.is_empty()
            || !is_unique
            || *all[0] == ReplicaId(0)
            || !self.outgoing.is_empty()
        {
            return Err(Error::Members {
                reason: "a group begins with at least one voter, nobody named twice, no id 0",
            });
        }
        encode(&ConfState {
            voters: self.voters.iter().map(|id| id.0).collect(),
            learners: self.learners.iter().map(|id| id.0).collect(),
            ..ConfState::default()
        })
    }
}

/// A conf state in the form that storage keeps.
pub(super) fn encode(state: &ConfState) -> Result<Bytes, Error> {
    let bytes = state.write_to_bytes().map_err(|_| Error::Members {
        reason: "the members cannot be encoded",
    })?;
    Ok(bytes.into())
}

/// The conf state that storage kept.
pub(super) fn decode(bytes: &[u8]) -> Result<ConfState, Error> {
    let mut state = ConfState::default();
    state.merge_from_bytes(bytes).map_err(|_| Error::Members {
        reason: "the kept members cannot be decoded",
    })?;
    if state.voters.is_empty() && state != ConfState::default() {
        return Err(Error::Members {
            reason: "the kept members have no voter",
        });
    }
    Ok(state)
}

/// The change as Raft proposes it: one change is simple, several are joint and leave by themselves.
pub(super) fn conf_change(changes: &[MemberChange]) -> ConfChangeV2 {
    let single = |change: &MemberChange| {
        let (id, kind) = match change {
            MemberChange::AddLearner(id) => (id, ConfChangeType::AddLearnerNode),
            MemberChange::AddVoter(id) => (id, ConfChangeType::AddNode),
            MemberChange::Remove(id) => (id, ConfChangeType::RemoveNode),
        };
        ConfChangeSingle {
            node_id: id.0,
            change_type: kind,
            ..ConfChangeSingle::default()
        }
    };
    ConfChangeV2 {
        changes: changes.iter().map(single).collect::<Vec<_>>().into(),
        ..ConfChangeV2::default()
    }
}

/// The change that a committed entry carries; an empty one leaves a joint configuration.
pub(super) fn decode_change(data: &[u8]) -> Result<ConfChangeV2, Error> {
    let mut change = ConfChangeV2::default();
    change.merge_from_bytes(data).map_err(|_| Error::Members {
        reason: "the membership change cannot be decoded",
    })?;
    Ok(change)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_members_survive_the_way_through_storage() {
        let members = Members {
            voters: vec![ReplicaId(1), ReplicaId(2)],
            learners: vec![ReplicaId(7)],
            outgoing: vec![],
        };
        let state = decode(&members.encode().unwrap()).unwrap();
        assert_eq!(Members::from_raft(&state), members);
    }

    #[test]
    fn nobody_is_who_a_joining_replica_knows() {
        let encoded = Members::default().encode().unwrap();
        let state = decode(&encoded).unwrap();
        assert_eq!(Members::from_raft(&state), Members::default());
    }

    #[test]
    fn members_that_make_no_group_are_refused() {
        let twice = Members {
            voters: vec![ReplicaId(1)],
            learners: vec![ReplicaId(1)],
            outgoing: vec![],
        };
        let learner_alone = Members {
            learners: vec![ReplicaId(1)],
            ..Members::default()
        };
        for members in [Members::of_voters([ReplicaId(0)]), learner_alone, twice] {
            assert!(members.encode().is_err(), "{members:?}");
        }
    }

    #[test]
    fn several_changes_are_joint_and_leave_by_themselves() {
        let one = conf_change(&[MemberChange::AddVoter(ReplicaId(2))]);
        assert_eq!(one.enter_joint(), None);
        let two = conf_change(&[
            MemberChange::AddVoter(ReplicaId(2)),
            MemberChange::Remove(ReplicaId(1)),
        ]);
        assert_eq!(two.enter_joint(), Some(true));
    }
}
