//! How a replica begins.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use highwater_storage::{
    AppliedState, Damage, Log, LogId, LogReader, RaftIndex, RecoveredLog, Store, Term, Turn,
};

use super::fetch::ColdReads;
use super::read::Reads;
use super::refound::refound;
use super::{Consensus, Replica};
use crate::raft::entry::{self, Committed};
use crate::raft::group::Group;
use crate::raft::machine::{Machine, Role};
use crate::raft::request::{BuildMachine, Origin};
use crate::raft::waiters::Waiters;
use crate::raft::{Config, Error, GroupId, ReplicaId};

/// Bytes of frames read at once to apply what a damaged replica still holds.
const REPLAY_BYTES: u64 = 1 << 20;

/// What is needed to start a replica.
pub(in crate::raft) struct Start<M: Machine> {
    pub(in crate::raft) group: GroupId,
    pub(in crate::raft) replica: ReplicaId,
    pub(in crate::raft) origin: Origin,
    pub(in crate::raft) build: BuildMachine<M>,
    pub(in crate::raft) config: Arc<Config>,
    /// For the jitter of elections.
    pub(in crate::raft) seed: u64,
}

impl<M: Machine> Start<M> {
    /// Creates or takes over the log, builds the machine, joins the group. A damaged log makes a quarantined replica,
    /// which readers can still use. What is known to be committed is applied by the first
    /// [`drive`](Replica::drive).
    ///
    /// # Errors
    /// [`Error::Storage`] when the log cannot be created, [`Error::Members`], [`Error::Machine`] when the machine
    /// cannot be built.
    pub(in crate::raft) fn run(
        self,
        store: &Store,
        turn: &mut Turn,
    ) -> Result<(Replica<M>, LogReader), Error> {
        let found = match &self.origin {
            Origin::Recovered(found) | Origin::Refounded(found) => Some(found.clone()),
            Origin::New { .. } => None,
        };
        let is_refounded = matches!(self.origin, Origin::Refounded(_));
        let (mut log, mut applied, damage) = open_log(self.replica, self.origin, store, turn)?;
        let reader = log.reader();
        let build = self.build;
        let built = catch_unwind(AssertUnwindSafe(|| build(reader.clone(), &applied)))
            .unwrap_or_else(|_| Err("building it panicked".to_owned()));
        let mut machine = match built {
            Ok(machine) => machine,
            Err(reason) => {
                match found {
                    Some(found) => found.put_back(RecoveredLog {
                        log,
                        applied,
                        damage,
                    }),
                    // Nobody will ever capture it: it must not stand in the way of checkpoints.
                    None => store.delete_log(turn, log),
                }
                let replica = self.replica;
                return Err(Error::Machine { replica, reason });
            }
        };
        let damaged = |reason| Error::Damaged {
            replica: self.replica,
            reason,
        };
        let refounded = if is_refounded && damage.is_none() {
            refound(&mut machine, &mut log, &applied, self.replica, turn).map(Some)
        } else {
            Ok(None)
        };
        let opened = match (&damage, refounded) {
            (Some(damage), _) => Err(Box::new((log, damaged(damage.reason.clone())))),
            (None, Err(error)) => Err(Box::new((log, error))),
            (None, Ok(refounded)) => {
                applied = refounded.unwrap_or(applied);
                Group::open(
                    self.group,
                    self.replica,
                    self.config,
                    log,
                    &applied,
                    machine.snapshot_replaces_log(),
                    self.seed,
                )
            }
        };
        let is_damaged = opened.is_err();
        let consensus = match opened {
            Ok(group) => Consensus::Running(Box::new(group)),
            Err(failed) => {
                let (log, error) = *failed;
                tracing::error!(group = self.group.0, %error, "a replica is quarantined from the start");
                Consensus::Quarantined {
                    log: Some(Box::new(log)),
                    ailment: (&error).into(),
                    reason: error.to_string(),
                }
            }
        };
        let mut replica = Replica {
            group_id: self.group,
            id: self.replica,
            log_start: machine.log_start(),
            machine,
            consensus,
            role: Role::Quarantined,
            serving_from: RaftIndex(0),
            queue: VecDeque::new(),
            waiters: Waiters::new(),
            reads: Reads::default(),
            change: None,
            unsubmitted: None,
            unsynced: VecDeque::new(),
            captured: applied,
            cold_reads: ColdReads::default(),
            seeding: None,
            written_ahead: None,
            blocked: None,
            is_unpublished: true,
            announced: (Term(0), Vec::new()),
            is_in_sync_stale: false,
            is_active: false,
        };
        if is_damaged {
            replica.replay(damage.as_ref());
            replica.show_quarantine();
        } else {
            replica.observe_role();
        }
        Ok((replica, reader))
    }
}

impl<M: Machine> Replica<M> {
    /// Applies what a damaged log holds of the committed entries, up to its first hole, so that readers see it.
    fn replay(&mut self, damage: Option<&Damage>) {
        let Consensus::Quarantined { log: Some(log), .. } = &self.consensus else {
            return;
        };
        let mut next = self.captured.index.next();
        let mut end = log.hard_state().commit.min(log.last_index()).next();
        for hole in damage.iter().flat_map(|damage| &damage.missing) {
            if hole.to > next {
                end = end.min(hole.from);
            }
        }
        while next < end {
            let Ok(frames) = log.read(next, end, REPLAY_BYTES) else {
                return;
            };
            for frame in frames {
                let base_offset = frame.base_offset;
                next = frame.index.next();
                let applied = match entry::to_committed(entry::from_frame(frame), base_offset) {
                    Ok(Committed::ForMachine(entry)) => self.machine.apply(&entry).is_ok(),
                    Ok(Committed::NoOp | Committed::MembersChanged) => true,
                    Ok(Committed::Lost { .. }) | Err(_) => false,
                };
                if !applied {
                    return;
                }
            }
        }
    }
}

fn open_log(
    replica: ReplicaId,
    origin: Origin,
    store: &Store,
    turn: &mut Turn,
) -> Result<(Log, AppliedState, Option<Damage>), Error> {
    match origin {
        Origin::Recovered(found) | Origin::Refounded(found) => {
            let RecoveredLog {
                log,
                applied,
                damage,
            } = *found.take().ok_or(Error::LogTaken { replica })?;
            Ok((log, applied, damage))
        }
        Origin::New {
            spec,
            members,
            snapshot,
        } => {
            let applied = AppliedState {
                conf_state: members.encode()?,
                snapshot,
                ..AppliedState::default()
            };
            let log = store.create_log(turn, LogId(replica.0), spec, applied.clone())?;
            Ok((log, applied, None))
        }
    }
}
