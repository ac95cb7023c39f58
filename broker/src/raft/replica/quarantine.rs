//! What is left of a replica that failed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Consensus, Released, Replica};
use crate::raft::machine::{Machine, Refusal, Role};
use crate::raft::message::PeerMessage;
use crate::raft::{Ailment, Error};

impl<M: Machine> Replica<M> {
    /// Ends the replica's part in its group. What was proposed may have committed or not; what was not is refused.
    /// Answers the room that refused commands held, and what a leader has to say to the one who is to lead next.
    pub(in crate::raft) fn quarantine(&mut self, error: &Error) -> (Released, Option<PeerMessage>) {
        let mut released = Released::default();
        let Consensus::Running(group) = &self.consensus else {
            return (released, None);
        };
        let farewell = group.farewell().map(|message| PeerMessage {
            group: self.group_id,
            message,
        });
        let (group, replica) = (self.group_id.0, self.id.0);
        if !matches!(error, Error::Stopped) {
            tracing::error!(group, replica, %error, "a replica failed and is quarantined");
        }
        let reason = error.to_string();
        let ended = Consensus::Quarantined {
            log: None,
            ailment: error.into(),
            reason: reason.clone(),
        };
        if let Consensus::Running(group) = std::mem::replace(&mut self.consensus, ended)
            && let Consensus::Quarantined { log, .. } = &mut self.consensus
        {
            *log = Some(Box::new(group.into_log()));
        }
        self.blocked = None;
        self.seeding = None;
        self.unsubmitted = None;
        self.unsynced.clear();
        self.waiters.abandon();
        self.reads.refuse(&self.failed());
        if let Some(change) = self.change.take() {
            change.answer(Err(Refusal::Indefinite.into()));
        }
        for request in self.queue.drain(..) {
            released.add(request.bytes);
            request.reply.refuse(Refusal::Failed {
                reason: reason.clone(),
            });
        }
        self.show_quarantine();
        (released, farewell)
    }

    /// Whether it was stopped without having failed.
    pub(in crate::raft) fn is_stopped(&self) -> bool {
        matches!(
            self.consensus,
            Consensus::Quarantined {
                ailment: Ailment::Stopped,
                ..
            }
        )
    }

    /// Why commands are refused.
    pub(super) fn failed(&self) -> Refusal {
        let reason = match &self.consensus {
            Consensus::Quarantined { reason, .. } => reason.clone(),
            Consensus::Running(_) => "the replica is about to stop".to_owned(),
        };
        Refusal::Failed { reason }
    }

    /// Tells the machine, which may be what failed: then its readers see its last published state.
    pub(super) fn show_quarantine(&mut self) {
        self.role = Role::Quarantined;
        let machine = &mut self.machine;
        let told = catch_unwind(AssertUnwindSafe(|| {
            machine.role_changed(Role::Quarantined);
            machine.publish();
        }));
        if told.is_err() {
            tracing::error!(
                group = self.group_id.0,
                "the machine of a failed replica panicked"
            );
        }
    }
}
