//! Bringing up the controller group's replica, founding the cluster, and joining it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use highwater_storage::{Identity, LogId, LogSpec, RecoveredLog, Store};
use tracing::info;
use uuid::Uuid;

use super::{Error, Recovered, operate};
use crate::config::Config;
use crate::controller::{
    ClusterView, Command, ControllerReplica, FOUNDING_REPLICA, Limits, Registration,
};
use crate::controller_client::{CONTROLLER_GROUP, ControllerClient};
use crate::raft::machine::Role;
use crate::raft::{FoundLog, Members, Operation, Origin, Shards};
use crate::replica::Replica;

/// The feature level that this program writes.
pub(super) const FEATURE_LEVEL: u32 = 1;
/// The log of the controller group's replica on the founding broker.
pub(super) const LOG: LogId = LogId(FOUNDING_REPLICA.0);
/// Its directory.
const DIRECTORY: &str = "controller/1";
/// The controller's log is rolled at this size; its snapshot replaces what is older.
const SEGMENT_BYTES: u64 = 4 << 20;
/// How long the only voter may take to elect itself, which takes one sync.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// Starts the replica from `log`, or creates it in a new data directory, and waits until it leads.
pub(super) async fn start(
    config: &Config,
    shards: &Shards<Replica>,
    cluster: &Arc<ClusterView>,
    log: Option<RecoveredLog>,
    recovered: &Recovered,
) -> Result<(), Error> {
    let data_dir = || config.data_dir.display().to_string();
    let damage = log.as_ref().and_then(|log| log.damage.as_ref());
    if let Some(damage) = damage {
        return Err(Error::ControllerDamaged {
            data_dir: data_dir(),
            reason: damage.reason.clone(),
        });
    }
    let origin = match log {
        Some(log) => Origin::Recovered(FoundLog::new(log)),
        None if recovered.identity.cluster.is_none() && recovered.logs.is_empty() => Origin::New {
            spec: LogSpec {
                directory: DIRECTORY.to_owned(),
                max_segment_bytes: SEGMENT_BYTES,
                write_caching: false,
            },
            members: Members::of_voters([FOUNDING_REPLICA]),
            snapshot: Bytes::new(),
        },
        None => {
            return Err(Error::Controller {
                data_dir: data_dir(),
                reason: "the data directory belongs to a cluster and has no controller log"
                    .to_owned(),
            });
        }
    };
    let limits = Limits {
        max_partitions_per_topic: config.topics.max_partitions_per_topic,
        max_partitions: config.topics.max_partitions as usize,
        default_partitions: config.topics.default_partitions,
        default_replication_factor: config.topics.default_replication_factor,
    };
    let view = Arc::clone(cluster);
    let started = operate(shards, CONTROLLER_GROUP, |answer| Operation::Start {
        group: CONTROLLER_GROUP,
        replica: FOUNDING_REPLICA,
        origin,
        build: Box::new(move |_reader, applied| {
            ControllerReplica::new(&applied.snapshot, limits, view)
                .map(|replica| Replica::Controller(Box::new(replica)))
                .map_err(|error| error.to_string())
        }),
        answer,
    });
    started.await?;
    shards.operate(
        CONTROLLER_GROUP,
        Operation::CampaignIfCold {
            group: CONTROLLER_GROUP,
        },
    )?;
    await_leadership(cluster)
        .await
        .map_err(|reason| Error::Controller {
            data_dir: data_dir(),
            reason: reason.to_owned(),
        })
}

async fn await_leadership(cluster: &ClusterView) -> Result<(), &'static str> {
    let mut role = cluster.watch_role();
    let settled = role.wait_for(|role| {
        matches!(
            role,
            Some(Role::Leader { serving: true, .. } | Role::Quarantined)
        )
    });
    match tokio::time::timeout(ELECTION_TIMEOUT, settled).await {
        Ok(Ok(role)) if *role == Some(Role::Quarantined) => {
            Err("it failed; the log of this process says more")
        }
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => Err("it did not come to lead in time"),
    }
}

/// Founds the cluster where there is none, and makes this broker known to it.
pub(super) async fn join(
    controller: &ControllerClient,
    store: &Arc<Store>,
    identity: Identity,
    me: Registration,
) -> Result<(), Error> {
    let id = u64::from(me.id.0);
    if let Some(found) = identity.broker_id.filter(|found| *found != id) {
        return Err(Error::OtherBroker {
            found,
            configured: me.id.0,
        });
    }
    let cluster_id = match identity.cluster {
        Some(cluster_id) => cluster_id,
        None => {
            let cluster_id = Uuid::new_v4();
            let store = Arc::clone(store);
            tokio::task::spawn_blocking(move || store.adopt(cluster_id, id))
                .await
                .map_err(|error| Error::Panicked {
                    what: "writing the identity",
                    reason: error.to_string(),
                })??;
            info!(%cluster_id, "cluster founded");
            cluster_id
        }
    };
    let found = Command::Found {
        cluster_id,
        feature_level: FEATURE_LEVEL,
        founder: me.clone(),
    };
    controller.ask(found).await.map_err(Error::Join)?;
    let register = Command::RegisterBroker(me);
    controller.ask(register).await.map_err(Error::Join)?;
    Ok(())
}
