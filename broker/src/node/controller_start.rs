//! Bringing up this broker's replica of the controller group: as it was left, as the first of a cluster that is founded, or
//! as a new one in a cluster that is joined or in place of one that is of no use any more.
//!
//! A data directory that says which cluster it belongs to has that replica's log, durably: the log is made first, and
//! nothing of the group is taken or sent before the directory says so. So an interrupted founding begins again where it was
//! (the seeds are asked again, and the log shows that it was decided), and an interrupted joining is repeated with the
//! same replica id, which has promised nothing to anybody yet.
//!
//! A replica whose log is damaged, or in a data directory that was set back, never starts under its id: it could vote for what others
//! acknowledged with it and it does not hold any more. The broker is given another replica, which is filled by the others and takes the
//! place of the old one in the group. The data of partitions stays where it is meanwhile.

mod replacing;
mod succession;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use highwater_proto::v1::HealthFinding;
use highwater_storage::{Identity, LogSpec, RecoveredLog, Store, Succession};
use tokio::time::Instant;
use tracing::{info, warn};
use uuid::Uuid;

use self::replacing::Replaced;
use super::founding::{self, Course, Myself};
use super::joining::Registered;
use super::{Error, joining, operate, steward};
use crate::config::Config;
use crate::controller::{
    ClusterView, Command, ControllerLogs, ControllerReplica, DIRECTORY, FOUNDING_REPLICA, Limits,
    Registration,
};
use crate::controller_client::{CONTROLLER_GROUP, ControllerClient};
use crate::peer::Peers;
use crate::raft::machine::Role;
use crate::raft::{FoundLog, Members, Operation, Origin, ReplicaId, Shards};
use crate::replica::Replica;

/// The feature level that this program writes, and the highest that it understands.
pub(super) const FEATURE_LEVEL: u32 = 1;
/// The controller's log is rolled at this size; its snapshot replaces what is older.
const SEGMENT_BYTES: u64 = 4 << 20;
/// How long the only voter may take to elect itself, which takes one sync.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a start waits for the controllers to be as many as there should be. What keeps them from it is said elsewhere.
const VOTERS_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two looks at them.
const VOTERS_PAUSE: Duration = Duration::from_millis(20);
/// Wait before a cluster that cannot take this broker now is asked again.
const JOIN_PAUSE: Duration = Duration::from_millis(500);

/// What a start works with.
pub(super) struct ControllerStart<'a> {
    pub(super) config: &'a Config,
    pub(super) shards: &'a Shards<Replica>,
    pub(super) cluster: &'a Arc<ClusterView>,
    pub(super) peers: &'a Peers,
    pub(super) controller: &'a ControllerClient,
    pub(super) store: &'a Arc<Store>,
    pub(super) identity: Identity,
    pub(super) me: Registration,
    /// The cluster that the data directory goes over to with this start.
    pub(super) succession: Option<Succession>,
}

impl ControllerStart<'_> {
    /// Starts the replica, after founding or joining a cluster where this broker is in none, and waits until this broker is
    /// registered. `logs` is what the data directory holds of it, `begun` the replica that began again, where the controller
    /// did, `holds_others` whether there are other logs. Answers what somebody should know of it.
    ///
    /// # Errors
    /// What does not work, with what to do about it.
    pub(super) async fn run(
        mut self,
        mut logs: ControllerLogs,
        begun: Option<ReplicaId>,
        holds_others: bool,
    ) -> Result<Vec<HealthFinding>, Error> {
        self.check_id()?;
        self.count_start().await?;
        let mut replaced: Vec<_> = std::mem::take(&mut logs.older)
            .into_iter()
            .map(Replaced::found)
            .collect();
        let mut findings = Vec::new();
        let own = match self.identity.cluster {
            _ if begun.is_some() => begun.unwrap_or(FOUNDING_REPLICA),
            Some(cluster_id) => {
                let unusable = self.unusable_because(&logs).await?;
                match (logs.newest, unusable) {
                    (Some(log), None) => self.resume(cluster_id, log).await?,
                    (newest, reason) => {
                        let reason = reason.unwrap_or_else(|| "it is not there".to_owned());
                        let lost = newest.map(Replaced::found);
                        if self.succession.is_none() {
                            findings.push(self.told(&reason));
                        }
                        let own = self.replace(lost.as_ref(), &reason).await?;
                        replaced.extend(lost);
                        own
                    }
                }
            }
            None if logs.damage.is_some() => {
                return Err(Error::ControllerDamaged {
                    data_dir: self.data_dir(),
                    reason: logs.damage.unwrap_or_default(),
                });
            }
            None if logs.newest.is_none() && holds_others => {
                return Err(
                    self.unusable("the data directory holds logs and has no controller log")
                );
            }
            None => self.settle(logs.newest).await?,
        };
        self.register(own, &mut replaced, &mut findings).await?;
        let known = self.cluster.image().cluster_id();
        let own = self.peers.cluster_id();
        if known != own {
            let shown = |id: Option<Uuid>| id.map_or("none".to_owned(), |id| id.to_string());
            return Err(self.unusable(&format!(
                "it is that of cluster {}, and the data directory belongs to {}",
                shown(known),
                shown(own)
            )));
        }
        if let Some(succession) = self.succession.filter(|_| begun.is_none()) {
            self.succeed(succession).await?;
        }
        self.delete(replaced).await?;
        self.await_voters().await?;
        Ok(findings)
    }

    /// Whether the data directory is that of this broker.
    fn check_id(&self) -> Result<(), Error> {
        let id = u64::from(self.me.id.0);
        match self.identity.broker_id.filter(|found| *found != id) {
            None => Ok(()),
            Some(found) => Err(Error::OtherBroker {
                found,
                configured: self.me.id.0,
            }),
        }
    }

    /// Waits until the seeds have the controllers that they can have: a cluster that says it is ready outlives any one of
    /// its brokers.
    async fn await_voters(&self) -> Result<(), Error> {
        let seeds = self.config.cluster.seeds().len();
        let wanted = steward::voters(self.config.cluster.controller_voters, seeds);
        let deadline = Instant::now() + VOTERS_TIMEOUT;
        loop {
            let status = super::status(self.shards, CONTROLLER_GROUP).await?;
            let image = self.cluster.image();
            let is_held = |id: &&ReplicaId| image.controller_replicas().any(|at| at.id == **id);
            // One that is to be replaced still counts in the group.
            let voters = status.map_or(0, |status| {
                status.members.voters.iter().filter(is_held).count()
            });
            if voters >= wanted {
                return Ok(());
            }
            if Instant::now() >= deadline {
                warn!(
                    voters,
                    wanted, "the cluster has fewer controllers than it should"
                );
                return Ok(());
            }
            tokio::time::sleep(VOTERS_PAUSE).await;
        }
    }

    /// Goes on in the cluster that this broker belongs to.
    async fn resume(&self, cluster_id: Uuid, log: RecoveredLog) -> Result<ReplicaId, Error> {
        let replica = ReplicaId(log.log.id().0);
        self.start(replica, Some(log)).await?;
        if self.is_sole_voter(replica).await? {
            self.await_leadership().await?;
            if replica == FOUNDING_REPLICA {
                self.found(cluster_id, FEATURE_LEVEL).await?;
            }
        }
        Ok(replica)
    }

    /// Finds out where this broker belongs, and goes there.
    async fn settle(&self, log: Option<RecoveredLog>) -> Result<ReplicaId, Error> {
        let myself = Myself {
            broker: self.me.id,
            incarnation_id: self.me.incarnation_id,
            seeds: self.config.cluster.seeds(),
            feature_level: FEATURE_LEVEL,
            has_begun: log
                .as_ref()
                .is_some_and(|log| log.log.id().0 == FOUNDING_REPLICA.0),
        };
        loop {
            let (seed, cluster_id) = match founding::settle(self.peers, &myself).await {
                Course::Found { feature_level } => {
                    self.start(FOUNDING_REPLICA, log).await?;
                    self.await_leadership().await?;
                    let cluster_id = Uuid::new_v4();
                    self.adopt(cluster_id).await?;
                    info!(%cluster_id, "cluster founded");
                    self.found(cluster_id, feature_level).await?;
                    return Ok(FOUNDING_REPLICA);
                }
                Course::Join { seed, cluster_id } => (seed, cluster_id),
            };
            match joining::join(self.peers, seed, &self.me).await {
                Ok(joined) => {
                    let known = log.as_ref().map(|log| ReplicaId(log.log.id().0));
                    let replica = match joined.registered {
                        Registered::With(replica) if known.is_none_or(|id| id == replica) => {
                            replica
                        }
                        _ => {
                            return Err(self.unusable(&format!(
                                "it belongs to another broker of cluster {cluster_id}, or to one that was removed, or is an old \
                                 copy: start with an empty data directory",
                            )));
                        }
                    };
                    self.start(replica, log).await?;
                    self.make_durable().await?;
                    self.adopt(joined.cluster_id).await?;
                    info!(cluster_id = %joined.cluster_id, "cluster joined");
                    return Ok(replica);
                }
                Err(error) if error.is_retriable() => {
                    warn!(%seed, %cluster_id, %error, "waiting for the cluster to take this broker");
                    tokio::time::sleep(JOIN_PAUSE).await;
                }
                Err(error) => return Err(Error::Join(error)),
            }
        }
    }

    /// Starts the replica from `log`, or with a new one: then it takes entries from the first on, as every replica of the
    /// group did.
    async fn start(&self, replica: ReplicaId, log: Option<RecoveredLog>) -> Result<(), Error> {
        self.start_from(
            replica,
            match log {
                Some(log) => Origin::Recovered(FoundLog::new(log)),
                None => Origin::New {
                    spec: LogSpec {
                        directory: format!("{DIRECTORY}{}", replica.0),
                        max_segment_bytes: SEGMENT_BYTES,
                        write_caching: false,
                    },
                    members: Members::of_voters([FOUNDING_REPLICA]),
                    snapshot: Bytes::new(),
                },
            },
        )
        .await
    }

    async fn start_from(&self, replica: ReplicaId, origin: Origin) -> Result<(), Error> {
        let topics = &self.config.topics;
        let limits = Limits {
            max_partitions_per_topic: topics.max_partitions_per_topic,
            max_partitions: topics.max_partitions as usize,
            default_partitions: topics.default_partitions,
            default_replication_factor: topics.default_replication_factor,
        };
        let view = Arc::clone(self.cluster);
        let started = operate(self.shards, CONTROLLER_GROUP, |answer| Operation::Start {
            group: CONTROLLER_GROUP,
            replica,
            origin,
            build: Box::new(move |_reader, applied| {
                ControllerReplica::new(&applied.snapshot, limits, view)
                    .map(|replica| Replica::Controller(Box::new(replica)))
                    .map_err(|error| error.to_string())
            }),
            answer,
        });
        started.await?;
        self.shards.operate(
            CONTROLLER_GROUP,
            Operation::CampaignIfCold {
                group: CONTROLLER_GROUP,
            },
        )?;
        Ok(())
    }

    async fn is_sole_voter(&self, replica: ReplicaId) -> Result<bool, Error> {
        let status = super::status(self.shards, CONTROLLER_GROUP).await?;
        Ok(status.is_some_and(|status| status.members.is_sole_voter(replica)))
    }

    /// Waits until this broker's replica has failed.
    async fn quarantined(&self) {
        let mut role = self.cluster.watch_role();
        let failed = role
            .wait_for(|role| *role == Some(Role::Quarantined))
            .await
            .is_ok();
        if !failed {
            std::future::pending::<()>().await;
        }
    }

    async fn await_leadership(&self) -> Result<(), Error> {
        let mut role = self.cluster.watch_role();
        let settled = role.wait_for(|role| {
            matches!(
                role,
                Some(Role::Leader { serving: true, .. } | Role::Quarantined)
            )
        });
        match tokio::time::timeout(ELECTION_TIMEOUT, settled).await {
            Ok(Ok(role)) if *role == Some(Role::Quarantined) => {
                Err(self.unusable("it failed; the log of this process says more"))
            }
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(self.unusable("it did not come to lead in time")),
        }
    }

    /// Founds the cluster, or makes sure that this is it.
    async fn found(&self, cluster_id: Uuid, feature_level: u32) -> Result<(), Error> {
        let found = Command::Found {
            cluster_id,
            feature_level,
            founder: self.me.clone(),
        };
        let founded = self.controller.execute_here(found).await;
        founded.map(drop).map_err(Error::Join)
    }

    /// Waits until the log that was created is on disk.
    async fn make_durable(&self) -> Result<(), Error> {
        // The turn that created it is over when the shard answers again: what it wrote waits for the next sync.
        super::status(self.shards, CONTROLLER_GROUP).await?;
        let store = Arc::clone(self.store);
        super::blocking("syncing the controller's log", move || store.sync()).await?;
        Ok(())
    }

    /// From here on the data directory belongs to the cluster, and this broker answers to it.
    async fn adopt(&self, cluster_id: Uuid) -> Result<(), Error> {
        let (store, id) = (Arc::clone(self.store), u64::from(self.me.id.0));
        super::blocking("writing the identity", move || store.adopt(cluster_id, id)).await?;
        if !self.peers.enter_cluster(cluster_id) {
            return Err(self.unusable("this broker belongs to another cluster already"));
        }
        Ok(())
    }

    fn data_dir(&self) -> String {
        self.config.data_dir.display().to_string()
    }

    fn unusable(&self, reason: &str) -> Error {
        Error::Controller {
            data_dir: self.data_dir(),
            reason: reason.to_owned(),
        }
    }
}
