//! How a replica begins and ends to lead.

use highwater_storage::RaftIndex;

use super::{Consensus, Replica, TurnContext};
use crate::raft::group::Standing;
use crate::raft::machine::{Machine, Refusal, Role};
use crate::raft::message::Leadership;

impl<M: Machine> Replica<M> {
    /// Sees to a change of role before anything else happens: who lost leadership answers nobody with success.
    pub(super) fn observe_role(&mut self) {
        let Consensus::Running(group) = &self.consensus else {
            return;
        };
        let term = group.term();
        let led = match self.role {
            Role::Leader { term, .. } => Some(term),
            _ => None,
        };
        let leads = group.standing() == Standing::Leader;
        if leads && led != Some(term) {
            self.serving_from = group.last_index();
        }
        let role = match group.standing() {
            Standing::Leader => Role::Leader {
                term,
                serving: group.applied().0 >= self.serving_from,
            },
            Standing::Follower { leader } => Role::Follower { term, leader },
            Standing::Candidate => Role::Follower { term, leader: None },
        };
        let next_to_apply = group.applied().0.next();
        if led.is_some() && !(leads && led == Some(term)) {
            self.end_leadership(next_to_apply);
        }
        if self.role != role {
            self.role = role;
            self.machine.role_changed(role);
            self.is_unpublished = true;
        }
    }

    fn end_leadership(&mut self, next_to_apply: RaftIndex) {
        self.machine.retract(next_to_apply);
        self.waiters.abandon();
        self.reads.refuse(&Refusal::NotLeader { leader: None });
        if let Some(change) = self.change.take() {
            change.answer(Err(Refusal::Indefinite.into()));
        }
    }

    /// Has a leadership told to the peers that began to serve, or whose voters in sync changed.
    pub(super) fn announce(&mut self, context: &mut TurnContext<'_>) {
        let Role::Leader {
            term,
            serving: true,
        } = self.role
        else {
            return;
        };
        let Consensus::Running(group) = &self.consensus else {
            return;
        };
        let is_new = self.announced.0 < term;
        if !(std::mem::take(&mut self.is_in_sync_stale) || is_new) {
            return;
        }
        let in_sync = group.in_sync();
        if is_new || self.announced.1 != in_sync {
            self.announced = (term, in_sync.clone());
            context.leaderships.push(Leadership {
                group: self.group_id,
                term,
                replica: self.id,
                in_sync,
            });
        }
    }
}
