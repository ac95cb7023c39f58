//! A replica of the controller group that is of no use any more, and the one that takes its place.
//!
//! A start gets its number first, and finds out whether the replica may go on: not with a damaged log, and not in an old copy of the data
//! directory. Then the cluster is asked for another one.

use std::sync::Arc;

use highwater_proto::BrokerId;
use highwater_proto::v1::{HealthFinding, HealthState};
use highwater_storage::{RecoveredLog, Starts};
use tracing::{info, warn};

use super::{ControllerStart, JOIN_PAUSE};
use crate::controller::{ControllerLogs, Start};
use crate::controller_client::CONTROLLER_GROUP;
use crate::health::finding;
use crate::node::joining::Registered;
use crate::node::{Error, blocking, joining, operate, set_back};
use crate::raft::{self, FoundLog, Members, Operation, ReplicaId};

/// Why a replica in an old copy of the data directory is of no use.
const SET_BACK: &str = "the data directory was set back to an old copy";

/// A replica of the controller group whose place another one takes, and its log, where it never started.
pub(super) struct Replaced {
    replica: ReplicaId,
    found: Option<FoundLog>,
}

impl Replaced {
    pub(super) fn found(log: RecoveredLog) -> Self {
        Self {
            replica: ReplicaId(log.log.id().0),
            found: Some(FoundLog::new(log)),
        }
    }
}

impl ControllerStart<'_> {
    /// This start gets its number.
    pub(super) async fn count_start(&mut self) -> Result<(), Error> {
        let store = Arc::clone(self.store);
        let starts = blocking("counting the start", move || store.begin_start()).await?;
        self.me.start = Start {
            number: starts.number,
            run_id: self.peers.me().run_id,
        };
        self.me.is_set_back = starts.is_set_back;
        Ok(())
    }

    /// Why the replica that the data directory holds must not start; `None` where it may.
    ///
    /// # Errors
    /// [`Error::ControllerDamaged`] where nobody could replace it.
    pub(super) async fn unusable_because(
        &mut self,
        logs: &ControllerLogs,
    ) -> Result<Option<String>, Error> {
        if self.succession.is_some() {
            return Ok(Some("the cluster goes on as another one".to_owned()));
        }
        if let Some(damage) = &logs.damage {
            if self.is_alone(logs) {
                return Err(Error::ControllerDamaged {
                    data_dir: self.data_dir(),
                    reason: damage.clone(),
                });
            }
            return Ok(Some(format!("it is damaged: {damage}")));
        }
        if self.me.is_set_back {
            return Ok(Some(SET_BACK.to_owned()));
        }
        let Some(newest) = &logs.newest else {
            return Ok(None);
        };
        let members = Members::as_of(&newest.applied);
        let wanted = self.config.cluster.controller_voters;
        let known =
            set_back::last_known_start(self.peers, &logs.registrations, &members, wanted).await;
        if known < self.me.start.number {
            return Ok(None);
        }
        self.note_set_back(known).await?;
        Ok(Some(SET_BACK.to_owned()))
    }

    /// Whether no other broker can have a replica of the controller group.
    fn is_alone(&self, logs: &ControllerLogs) -> bool {
        let seeds = self.config.cluster.seeds();
        let mut seeds = seeds.iter();
        let mut brokers = logs.registrations.brokers();
        seeds.all(|seed| seed.broker == self.me.id) && brokers.all(|broker| broker.id == self.me.id)
    }

    /// The data directory is an old copy of itself: the cluster knows of its start `known`. That is noted before anybody is told, so
    /// that no later start takes it for intact.
    async fn note_set_back(&mut self, known: u64) -> Result<(), Error> {
        warn!(
            start_number = self.me.start.number,
            known, "the data directory is an old copy of itself"
        );
        self.me.start.number = known.saturating_add(1);
        self.me.is_set_back = true;
        self.write_starts().await
    }

    async fn write_starts(&self) -> Result<(), Error> {
        let store = Arc::clone(self.store);
        let starts = Starts {
            number: self.me.start.number,
            is_set_back: self.me.is_set_back,
        };
        blocking("counting the start", move || store.note_starts(starts)).await
    }

    /// What somebody should know of a replica that had to be replaced.
    pub(super) fn told(&self, reason: &str) -> HealthFinding {
        if self.me.is_set_back {
            let message = format!(
                "the data directory {} was set back to an old copy. Its replicas are rebuilt from the others; nothing is to be done. \
                 Partitions that no other broker holds go on with what the copy holds: what was acknowledged since it was made is \
                 lost. This stays until the next start",
                self.data_dir()
            );
            return finding(HealthState::Warning, "DIRECTORY_SET_BACK", message);
        }
        let message = format!(
            "the controller's log in {} could not be used: {reason}. Another replica took its place and was filled by the other \
             brokers. Check the disk. This stays until the next start",
            self.data_dir()
        );
        finding(HealthState::Warning, "CONTROLLER_REPLICA_REPLACED", message)
    }

    /// Has the cluster give this broker another replica of the controller group, and starts it. Waits for as long as that takes:
    /// a majority of the controllers has to be there.
    pub(super) async fn replace(
        &mut self,
        lost: Option<&Replaced>,
        reason: &str,
    ) -> Result<ReplicaId, Error> {
        warn!(
            reason,
            "the controller's log cannot be used; asking the other brokers for another replica in its place"
        );
        self.me.lost_controller_replica = Some(lost.map_or(ReplicaId(0), |lost| lost.replica));
        loop {
            for seed in self.seeds() {
                match joining::join(self.peers, seed, &self.me).await {
                    Ok(joined) if Some(joined.cluster_id) != self.peers.cluster_id() => {
                        return Err(self.unusable(&format!(
                            "{reason}, and seed {seed} belongs to another cluster, {}",
                            joined.cluster_id
                        )));
                    }
                    Ok(joined) => match joined.registered {
                        Registered::With(replica) => {
                            self.start(replica, None).await?;
                            self.make_durable().await?;
                            return Ok(replica);
                        }
                        Registered::SupersededBy(known) => self.note_set_back(known).await?,
                    },
                    Err(error) if error.is_retriable() => {
                        warn!(%seed, %error, "waiting for another replica of the controller, which needs a majority of the other controllers; where that is gone for good, see `highwater-broker recover --help`");
                    }
                    Err(error) => return Err(Error::Join(error)),
                }
            }
            tokio::time::sleep(JOIN_PAUSE).await;
        }
    }

    /// The brokers that may know the cluster.
    fn seeds(&self) -> Vec<BrokerId> {
        let others = self.peers.routes().others();
        others.into_keys().collect()
    }

    /// Registers this start. Where the replica turns out to be of no use, another one takes its place first.
    pub(super) async fn register(
        &mut self,
        mut own: ReplicaId,
        replaced: &mut Vec<Replaced>,
        findings: &mut Vec<HealthFinding>,
    ) -> Result<(), Error> {
        loop {
            let reason = tokio::select! {
                registered = joining::register(self.controller, &self.me) => match registered? {
                    Registered::With(replica) if replica == own => break,
                    // It was given up at an earlier start, and the one that was to take its place is not here.
                    Registered::With(replica) => {
                        self.me.lost_controller_replica = Some(replica);
                        "another replica took its place".to_owned()
                    }
                    Registered::SupersededBy(known) => {
                        self.note_set_back(known).await?;
                        SET_BACK.to_owned()
                    }
                },
                () = self.quarantined() => "it failed; the log of this process says more".to_owned(),
            };
            let old = Replaced {
                replica: own,
                found: None,
            };
            self.lay_aside(own).await?;
            findings.push(self.told(&reason));
            own = self.replace(Some(&old), &reason).await?;
            replaced.push(old);
        }
        let image = self.cluster.image();
        let registered = image
            .broker(self.me.id)
            .map_or(0, |broker| broker.start.number);
        if self.me.is_set_back || registered > self.me.start.number {
            self.me.start.number = registered.max(self.me.start.number);
            self.me.is_set_back = false;
            self.write_starts().await?;
        }
        Ok(())
    }

    /// Stops the replica, so that another one of the group can start.
    async fn lay_aside(&self, replica: ReplicaId) -> Result<(), Error> {
        let group = CONTROLLER_GROUP;
        let (answer, answered) = tokio::sync::oneshot::channel();
        let operation = Operation::LayAside {
            group,
            replica,
            answer,
        };
        self.shards.operate(group, operation)?;
        answered.await.map_err(|_| raft::Error::ShardBusy)?;
        Ok(())
    }

    /// Deletes logs of replicas that others have taken the place of. What is in them is in the image that the new one shows.
    pub(super) async fn delete(&self, replaced: Vec<Replaced>) -> Result<(), Error> {
        if replaced.is_empty() {
            return Ok(());
        }
        self.make_durable().await?;
        for Replaced { replica, found } in replaced {
            operate(self.shards, CONTROLLER_GROUP, |answer| Operation::Delete {
                group: CONTROLLER_GROUP,
                replica,
                found,
                answer,
            })
            .await?;
            info!(
                replica = replica.0,
                "the log of a replica of the controller that was replaced is deleted"
            );
        }
        Ok(())
    }
}
