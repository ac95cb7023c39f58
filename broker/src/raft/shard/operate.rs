//! How a shard carries operations out.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use highwater_storage::{CapturedLog, Error as StorageError, Log, LogId, RecoveredLog};

use super::{Shard, message_of};
use crate::raft::machine::Machine;
use crate::raft::registry::Slot;
use crate::raft::replica::{Replica, Start, TurnContext};
use crate::raft::request::{FoundLog, Operation, Started};
use crate::raft::seeding::SourceRefusal;
use crate::raft::{Error, GroupId, ReplicaId};

impl<M: Machine> Shard<M> {
    /// Carries out one operation. Whoever asked may have gone: then nobody hears the answer.
    pub(super) fn operate(&mut self, operation: Operation<M>, context: &mut TurnContext<'_>) {
        match operation {
            Operation::Start {
                group,
                replica,
                origin,
                build,
                answer,
            } => {
                let start = Start {
                    group,
                    replica,
                    origin,
                    build,
                    config: self.config.clone(),
                    seed: (self.random)(),
                };
                drop(answer.send(self.start(start, context)));
            }
            Operation::Stop { group, answer } => {
                let slot = self.slot(group);
                let stopped = slot.map(|slot| self.quarantine(slot, &Error::Stopped));
                drop(answer.send(stopped));
            }
            Operation::Release {
                group,
                replica,
                answer,
            } => {
                let released = self.release(replica);
                drop(answer.send(released.ok_or(Error::UnknownGroup(group))));
            }
            Operation::LayAside {
                replica, answer, ..
            } => {
                if let Some(slot) = self.replicas.slot_of_replica(replica) {
                    self.quarantine(slot, &Error::Stopped);
                    self.replicas.lay_aside(slot);
                }
                if answer.send(()).is_err() {
                    tracing::debug!(replica = replica.0, "who had a replica laid aside has gone");
                }
            }
            Operation::TakeUp {
                group,
                replica,
                answer,
            } => drop(answer.send(self.take_up(group, replica))),
            Operation::Delete {
                replica,
                found,
                answer,
                ..
            } => {
                let found = found.and_then(|found| found.take());
                match self.remove(replica).or(found.map(|found| found.log)) {
                    Some(log) => {
                        self.store.delete_log(&mut context.turn, log);
                        self.deleting.push(answer);
                    }
                    None => drop(answer.send(Ok(()))),
                }
            }
            Operation::SetLogConfig {
                group,
                max_segment_bytes,
                write_caching,
                answer,
            } => {
                let set = self.slot(group).and_then(|slot| {
                    self.set_log_config(slot, max_segment_bytes, write_caching, context)
                });
                drop(answer.send(set));
            }
            Operation::Roll { group } => self.with_group(group, |replica| {
                replica.log_mut().into_iter().for_each(Log::roll);
                Ok(())
            }),
            Operation::CampaignIfCold { group } => {
                self.with_group(group, Replica::campaign_if_cold);
            }
            Operation::Campaign { group } => {
                self.with_group(group, Replica::campaign_if_leaderless);
            }
            Operation::ReadIndex { group, answer } => match self.slot(group) {
                Ok(slot) => self.with(slot, |replica| {
                    replica.read_index(answer);
                    Ok(())
                }),
                Err(error) => drop(answer.send(Err(error))),
            },
            Operation::ChangeMembers {
                group,
                term,
                changes,
                answer,
            } => match self.slot(group) {
                Ok(slot) => self.with(slot, |replica| {
                    replica.change_members(term, &changes, answer)
                }),
                Err(error) => drop(answer.send(Err(error))),
            },
            Operation::TransferLeader { group, to } => {
                self.with_group(group, |replica| replica.transfer_leader(to));
            }
            Operation::TransferAway { group, answer } => {
                let slots = match group {
                    Some(group) => self.replicas.slot(group).into_iter().collect(),
                    None => self.replicas.slots(),
                };
                self.transfer_away(slots, answer);
            }
            Operation::LeaderLost { group } => self.with_group(group, Replica::leader_lost),
            Operation::LeadersLost { replicas } => {
                self.with_members(&replicas, |replica| replica.members_lost(&replicas));
            }
            Operation::MembersBack { replicas } => {
                self.with_members(&replicas, |replica| replica.members_back(&replicas));
            }
            Operation::Capture { logs, answer } => {
                drop(answer.send(self.capture(&logs, context)));
            }
            Operation::Fail { replica, reason } => {
                if let Some(slot) = self.replicas.slot_of_replica(replica) {
                    self.quarantine(slot, &Error::LogFailed { replica, reason });
                }
            }
            Operation::Fetched(read) => {
                self.with_group(read.group, |replica| replica.fetched(read));
            }
            Operation::Stage {
                group,
                replica,
                from,
                answer,
            } => match self.slot(group) {
                Ok(slot) => self.with(slot, |seeded| {
                    drop(answer.send(seeded.stage(replica, from)));
                    Ok(())
                }),
                Err(error) => drop(answer.send(Err(error))),
            },
            Operation::Seeded(pulled) => {
                self.with_group(pulled.pull.group, |replica| replica.pulled(pulled));
            }
            Operation::Source {
                group,
                replica,
                to,
                upto,
                answer,
            } => {
                let slot = self.replicas.slot(group);
                let asked = slot.and_then(|slot| self.replicas.get(slot));
                let source = asked.map(|asked| asked.source(replica, to, upto));
                drop(answer.send(source.unwrap_or(Err(SourceRefusal::NotHere))));
            }
            Operation::SeedingProgress {
                group,
                to,
                progress,
            } => self.with_group(group, |replica| replica.seeding_goes_on(to, progress)),
            Operation::SeedingFailed { group, to } => {
                self.with_group(group, |replica| replica.seeding_failed(to));
            }
            Operation::Status { group, answer } => {
                drop(answer.send(self.status(group)));
            }
        }
    }

    fn start(&mut self, start: Start<M>, context: &mut TurnContext<'_>) -> Result<Started, Error> {
        if let Some(reason) = self.failure.clone() {
            return Err(Error::DirectoryFailed { reason });
        }
        let (group, replica) = (start.group, start.replica);
        if self.replicas.is_taken(group, replica) {
            return Err(Error::AlreadyStarted { group, replica });
        }
        let turn = &mut context.turn;
        let started = catch_unwind(AssertUnwindSafe(|| start.run(&self.store, turn)));
        let (started, reader) = started.unwrap_or_else(|panic| {
            Err(Error::Panicked {
                replica,
                reason: message_of(panic.as_ref()),
            })
        })?;
        let slot = self.replicas.insert(started);
        if self.is_stalled {
            self.with(slot, |replica| replica.disk_stalled(true));
        }
        // What is committed is applied before anybody hears of the replica.
        self.drive_one(slot, context);
        self.with(slot, |_| Ok(()));
        Ok(Started { reader })
    }

    /// Gives an event to every replica in whose group one of `members` is.
    fn with_members(
        &mut self,
        members: &HashSet<ReplicaId>,
        event: impl Fn(&mut Replica<M>) -> Result<(), Error>,
    ) {
        for slot in self.replicas.slots() {
            let replica = self.replicas.get(slot);
            if replica.is_some_and(|replica| replica.has_member_in(members)) {
                self.with(slot, &event);
            }
        }
    }

    fn remove(&mut self, replica: ReplicaId) -> Option<Log> {
        let slot = self.replicas.slot_of_replica(replica)?;
        self.ticking.remove(&slot);
        let (log, released) = self.replicas.remove(slot)?.stop();
        self.released.merge(released);
        log
    }

    fn take_up(&mut self, group: GroupId, replica: ReplicaId) -> Result<Option<FoundLog>, Error> {
        let slot = self.replicas.slot_of_replica(replica);
        let slot = slot.ok_or(Error::UnknownGroup(group))?;
        if self.replicas.get(slot).is_some_and(Replica::is_stopped) {
            return Ok(self.release(replica));
        }
        if self.replicas.take_up(slot) {
            return Ok(None);
        }
        Err(Error::AlreadyStarted { group, replica })
    }

    fn release(&mut self, replica: ReplicaId) -> Option<FoundLog> {
        let slot = self.replicas.slot_of_replica(replica)?;
        let applied = self.replicas.get(slot)?.captured().clone();
        let log = self.remove(replica)?;
        Some(FoundLog::new(RecoveredLog {
            log,
            applied,
            damage: None,
        }))
    }

    fn capture(
        &mut self,
        logs: &HashSet<LogId>,
        context: &mut TurnContext<'_>,
    ) -> Vec<CapturedLog> {
        let mut captured = Vec::new();
        for slot in self.replicas.slots() {
            let Some(replica) = self.replicas.get_mut(slot) else {
                continue;
            };
            if !logs.contains(&LogId(replica.id().0)) {
                continue;
            }
            match super::contained(replica, |replica| replica.capture(&mut context.turn)) {
                Ok(log) => captured.extend(log),
                Err(error) => {
                    self.quarantine(slot, &error);
                    // The log goes on with the state that was captured before.
                    let replica = self.replicas.get_mut(slot);
                    let retried = replica.map(|replica| replica.capture(&mut context.turn));
                    if let Some(Ok(Some(log))) = retried {
                        captured.push(log);
                    }
                }
            }
        }
        captured
    }

    fn slot(&self, group: GroupId) -> Result<Slot, Error> {
        self.replicas.slot(group).ok_or(Error::UnknownGroup(group))
    }

    fn set_log_config(
        &mut self,
        slot: Slot,
        max_segment_bytes: u64,
        write_caching: bool,
        context: &mut TurnContext<'_>,
    ) -> Result<(), Error> {
        let Some(log) = self.replicas.get_mut(slot).and_then(Replica::log_mut) else {
            return Ok(());
        };
        log.set_max_segment_bytes(max_segment_bytes);
        if log.write_caching() == write_caching {
            return Ok(());
        }
        match log.set_write_caching(&mut context.turn, write_caching) {
            // Without room for the mark of cached writes nothing changed.
            Ok(()) => Ok(()),
            Err(error @ StorageError::NoSpace { .. }) => Err(error.into()),
            Err(error) => {
                let error = Error::from(error);
                self.quarantine(slot, &error);
                Err(error)
            }
        }
    }
}
