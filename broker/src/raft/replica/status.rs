//! How a replica stands, for who asks.

use super::{Consensus, Replica};
use crate::raft::Members;
use crate::raft::machine::Machine;
use crate::raft::request::{Failure, ReplicaStatus};

impl<M: Machine> Replica<M> {
    /// How it stands; `None` when its log is gone.
    pub(in crate::raft) fn status(&self) -> Option<ReplicaStatus> {
        let (log, term, commit, applied, members, failure) = match &self.consensus {
            Consensus::Running(group) => (
                group.log(),
                group.term(),
                group.commit(),
                group.applied().0,
                group.members().clone(),
                None,
            ),
            Consensus::Quarantined {
                log,
                ailment,
                reason,
            } => {
                let log = log.as_deref()?;
                let hard_state = log.hard_state();
                (
                    log,
                    hard_state.term,
                    hard_state.commit,
                    self.captured.index,
                    Members::as_of(&self.captured),
                    Some(Failure {
                        ailment: *ailment,
                        reason: reason.clone(),
                    }),
                )
            }
        };
        Some(ReplicaStatus {
            replica: self.id,
            role: self.role,
            failure,
            term,
            commit,
            applied,
            first: log.first_index(),
            last: log.last_index(),
            last_term: log
                .term_at(log.last_index())
                .ok()
                .flatten()
                .unwrap_or_default(),
            next_offset: log.next_offset(),
            is_asleep: match &self.consensus {
                Consensus::Running(group) => group.is_asleep(),
                Consensus::Quarantined { .. } => false,
            },
            followers: match &self.consensus {
                Consensus::Running(group) => group.followers(),
                Consensus::Quarantined { .. } => Vec::new(),
            },
            members,
            seeding: self.seeding_progress(),
            members_since: match &self.consensus {
                Consensus::Running(group) => group.members_since(),
                Consensus::Quarantined { .. } => self.captured.index,
            },
            is_changing: match &self.consensus {
                Consensus::Running(group) => group.is_changing(),
                Consensus::Quarantined { .. } => false,
            },
        })
    }
}
