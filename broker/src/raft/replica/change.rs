//! A change of the members on its way.

use highwater_storage::{RaftIndex, Term};

use super::{Consensus, Replica};
use crate::raft::event::{Event, Ignored};
use crate::raft::machine::{Machine, Refusal, Role};
use crate::raft::membership::{self, MemberChange, Members};
use crate::raft::request::Answer;
use crate::raft::{Error, ReplicaId};

/// A proposed change and who waits for it.
pub(super) struct PendingChange {
    index: RaftIndex,
    answer: Answer<Result<Members, Error>>,
}

impl PendingChange {
    pub(super) fn answer(self, outcome: Result<Members, Error>) {
        // Who asked may have gone; the change goes on.
        drop(self.answer.send(outcome));
    }
}

impl<M: Machine> Replica<M> {
    /// Proposes a change, in `term` where that is given. `answer` hears when it is in force, out of any joint configuration.
    pub(in crate::raft) fn change_members(
        &mut self,
        term: Option<Term>,
        changes: &[MemberChange],
        answer: Answer<Result<Members, Error>>,
    ) -> Result<(), Error> {
        let pending = |index| PendingChange { index, answer };
        let leader = match self.role {
            Role::Leader {
                serving: true,
                term: led,
            } if term.is_none_or(|term| term == led) => None,
            Role::Leader { .. } | Role::Quarantined => Some(None),
            Role::Follower { leader, .. } => Some(leader),
        };
        if let Some(leader) = leader {
            pending(RaftIndex(0)).answer(Err(Refusal::NotLeader { leader }.into()));
            return Ok(());
        }
        if self.change.is_some() {
            pending(RaftIndex(0)).answer(Err(busy().into()));
            return Ok(());
        }
        let mut refused = None;
        let change = membership::conf_change(changes);
        self.handle(Event::ChangeMembers(change), |ignored| {
            refused = Some(ignored)
        })?;
        let refused = refused.map(|ignored| match ignored {
            Ignored::BadChange(reason) => Error::BadChange { reason },
            Ignored::NotLeader => Refusal::NotLeader { leader: None }.into(),
            _ => busy().into(),
        });
        match (refused, &self.consensus) {
            (None, Consensus::Running(group)) => {
                self.change = Some(pending(group.last_index()));
            }
            (Some(error), _) => pending(RaftIndex(0)).answer(Err(error)),
            (None, Consensus::Quarantined { .. }) => {
                pending(RaftIndex(0)).answer(Err(self.failed().into()));
            }
        }
        Ok(())
    }

    /// The members changed at `index`: who asked for it hears when no joint configuration is in force any more.
    ///
    /// A leader that is no voter any more steps down. Who followed it need not wait for an election timeout.
    pub(super) fn members_changed(&mut self, index: RaftIndex) -> Result<(), Error> {
        let Consensus::Running(group) = &self.consensus else {
            return Ok(());
        };
        self.is_in_sync_stale = true;
        let members = group.members();
        let is_done = members.outgoing.is_empty();
        if let Some(change) = self
            .change
            .take_if(|change| is_done && change.index <= index)
        {
            change.answer(Ok(members.clone()));
        }
        let votes = |leader: &ReplicaId| {
            members.voters.contains(leader) || members.outgoing.contains(leader)
        };
        if self.leader().is_some_and(|leader| !votes(&leader)) {
            self.leader_lost()?;
        }
        Ok(())
    }

    /// Raft may take a change and write an empty entry instead: nothing was changed.
    pub(super) fn change_ignored(&mut self, index: RaftIndex) {
        if let Some(change) = self.change.take_if(|change| change.index == index) {
            change.answer(Err(busy().into()));
        }
    }
}

fn busy() -> Refusal {
    Refusal::Busy {
        limit: "the limit of one change of members at a time",
    }
}
