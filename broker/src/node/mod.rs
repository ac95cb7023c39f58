//! What runs inside a broker: its data directory, the shards, the controller, and the replicas that the cluster places
//! here.
//!
//! A start opens the data directory, starts the shards, elects the controller, founds the cluster where there is none,
//! registers this broker, and starts its replicas. From then on the [`Reconciler`] follows the cluster's image and
//! [`upkeep`] what happens by the clock.

mod balance;
mod controller_service;
mod controller_start;
mod describe;
mod engine;
mod error;
mod founding;
mod group_upkeep;
mod joining;
mod mending;
mod mover;
mod reconciler;
mod removal;
mod set_back;
mod steward;
mod tasks;
mod upkeep;
mod watermark_service;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use highwater_proto::BrokerId;
use highwater_proto::internal::v1::controller_service_server::ControllerServiceServer;
use highwater_proto::internal::v1::watermark_service_server::WatermarkServiceServer;
use highwater_proto::v1::{HealthFinding, HealthState};
use highwater_storage::fs::Fs;
use highwater_storage::{Identity, LogId, Opened, RecoveredLog, Store, Succession};
use rand::Rng as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::Config;
use crate::controller::{
    ClusterImage, ClusterView, ControllerLogs, Registration, is_controller_log,
};
use crate::controller_client::ControllerClient;
use crate::coordination::Coordination;
use crate::health::{Health, finding};
use crate::hosted::Hosted;
use crate::metrics;
use crate::partition::Leaderships;
use crate::peer::{self, Me, Peers, PeersSpec};
use crate::raft::{self, FoundLog, Instruments, ReplicaStatus, ShardThreads, Shards, ShardsSpec};
use crate::replica::Replica;
use crate::server::Listener;
use crate::service::refusals::REMOVED_BROKER;

pub use error::Error;
pub(crate) use watermark_service::{MAX_QUESTIONS, high_watermark, measure_lags};

use balance::Balance;
use controller_start::ControllerStart;
use engine::Engine;
use mending::Mending;
use mover::Mover;
use reconciler::Reconciler;
use steward::Steward;
use tasks::Tasks;
use watermark_service::Watermarks;

/// How long a stop waits for other brokers to take over what this one leads.
const HANDOVER_LIMIT: Duration = Duration::from_secs(5);

/// A running node. [`Node::stop`] waits until everything has ended; dropping it lets that happen by itself.
pub(crate) struct Node {
    pub(crate) hosted: Arc<Hosted>,
    pub(crate) coordination: Arc<Coordination>,
    pub(crate) cluster: Arc<ClusterView>,
    pub(crate) reconciled: watch::Receiver<Arc<ClusterImage>>,
    pub(crate) controller: ControllerClient,
    pub(crate) health: Arc<Health>,
    pub(crate) shards: Shards<Replica>,
    pub(crate) peers: Peers,
    /// Cancelled when the cluster has removed this broker.
    removed: CancellationToken,
    engine: Engine,
    tasks: Tasks,
}

/// What the data directory held.
struct Recovered {
    store: Arc<Store>,
    identity: Identity,
    logs: BTreeMap<LogId, RecoveredLog>,
    controller: ControllerLogs,
    succession: Option<Succession>,
    findings: Vec<HealthFinding>,
    damaged: BTreeMap<LogId, String>,
}

impl Node {
    /// Starts everything. Other brokers come in by `peer_listener`; without it there are none. `describe` makes this broker's entry in the cluster of its data directory's UUID.
    ///
    /// # Errors
    /// What does not work, with what to do about it.
    pub(crate) async fn start(
        config: &Arc<Config>,
        fs: Arc<dyn Fs>,
        instruments: Instruments,
        peer_metrics: metrics::Peers,
        peer_listener: Option<Listener>,
        describe: impl FnOnce(&Identity) -> Registration,
    ) -> Result<Self, Error> {
        let mut recovered = open(config, fs).await?;
        let leaderships = Arc::new(Leaderships::since(SystemTime::now()));
        let hosted = Arc::new(Hosted::new(Arc::clone(&leaderships)));
        let peers = Peers::new(PeersSpec {
            config,
            me: me(config, &recovered),
            cluster_id: recovered.identity.cluster,
            is_reachable: peer_listener.is_some(),
            tls: peer_listener.as_ref().and_then(Listener::tls).cloned(),
            leaderships,
            metrics: peer_metrics,
        });
        for broker in recovered.controller.registrations.brokers() {
            peers.routes().note_start(broker.id, broker.start.number);
        }
        let (shards, threads) = start_shards(config, &recovered.store, instruments, &peers)?;
        // From here on a start that fails, or that nobody waits for any more, stops what it started.
        let engine = Engine::new(threads, Arc::clone(&recovered.store));
        let tasks = Tasks::new();
        let cluster = Arc::new(ClusterView::default());
        let timeout = Duration::from_millis(u64::from(config.requests.timeout_ms));
        let controller =
            ControllerClient::new(shards.clone(), Arc::clone(&cluster), peers.clone(), timeout);
        if let Some(listener) = peer_listener {
            let answering = controller_service::Controller {
                client: controller.clone(),
                cluster: Arc::clone(&cluster),
            };
            let services = peers
                .services(shards.clone())
                .add_service(ControllerServiceServer::new(answering))
                .add_service(WatermarkServiceServer::new(Watermarks {
                    hosted: Arc::clone(&hosted),
                    cluster: Arc::clone(&cluster),
                }));
            let counting = peers.counting();
            tasks.spawn_until(|stop| peer::serve(listener, services, counting, stop));
            let meeting = peers.clone();
            tasks.spawn_until(|stop| meeting.run(shards.clone(), Arc::clone(&cluster), stop));
        }
        let mut controller_logs = std::mem::take(&mut recovered.controller);
        let mut start = ControllerStart {
            config,
            shards: &shards,
            cluster: &cluster,
            peers: &peers,
            controller: &controller,
            store: &recovered.store,
            identity: recovered.identity,
            me: describe(&recovered.identity),
            succession: recovered.succession,
        };
        let begun = start.begin_again(&mut controller_logs).await?;
        // Nobody may become a member before it is durable that the controller begins again.
        let steward = Steward {
            shards: shards.clone(),
            cluster: Arc::clone(&cluster),
            controller: controller.clone(),
            wanted_voters: config.cluster.controller_voters,
        };
        tasks.spawn(steward.run());
        let holds_others = !recovered.logs.is_empty();
        let findings = tokio::select! {
            started = start.run(controller_logs, begun, holds_others) => started.map_err(|error| match error {
                Error::Join(refused) if refused.metadata.contains_key(REMOVED_BROKER) => Error::removed(config),
                error => error,
            })?,
            () = removal::removed(&peers, &cluster) => return Err(Error::removed(config)),
        };
        recovered.findings.extend(findings);

        let health = Arc::new(Health::new(
            Arc::clone(&recovered.store),
            config.data_dir.display().to_string(),
            std::mem::take(&mut recovered.findings),
            std::mem::take(&mut recovered.damaged),
        ));
        let (reconciler, reconciled) = Reconciler::new(reconciler::Parts {
            config: Arc::clone(config),
            shards: shards.clone(),
            cluster: Arc::clone(&cluster),
            controller: controller.clone(),
            hosted: Arc::clone(&hosted),
            health: Arc::clone(&health),
            recovered: recovered
                .logs
                .into_iter()
                .map(|(id, log)| (id, FoundLog::new(log)))
                .collect(),
        });
        let mut first = reconciled.clone();
        tasks.spawn(reconciler.run());
        let version = cluster.image().version();
        // The reconciler ends only with the node.
        drop(first.wait_for(|image| image.version() >= version).await);
        let balance = Balance {
            shards: shards.clone(),
            cluster: Arc::clone(&cluster),
            hosted: Arc::clone(&hosted),
            peers: peers.clone(),
        };
        tasks.spawn(balance.run());
        let coordination = Arc::new(Coordination::new(Arc::clone(&cluster)));
        tasks.spawn(group_upkeep::run(
            config.groups.clone(),
            Arc::clone(&hosted),
            Arc::clone(&coordination),
        ));
        let mover = Mover {
            shards: shards.clone(),
            cluster: Arc::clone(&cluster),
            hosted: Arc::clone(&hosted),
            controller: controller.clone(),
            at_once: config.cluster.moves_at_once,
        };
        tasks.spawn(mover.run());
        let mending = Mending {
            me: BrokerId(config.broker_id),
            shards: shards.clone(),
            cluster: Arc::clone(&cluster),
            hosted: Arc::clone(&hosted),
            peers: peers.clone(),
            controller: controller.clone(),
            health: Arc::clone(&health),
        };
        tasks.spawn(mending.run());
        let removed = CancellationToken::new();
        tasks.spawn(note_removal(
            Arc::clone(config),
            peers.clone(),
            Arc::clone(&cluster),
            Arc::clone(&health),
            removed.clone(),
        ));
        tasks.spawn(upkeep::run(
            Arc::clone(config),
            Arc::clone(&hosted),
            Arc::clone(&health),
            shards.clone(),
        ));
        Ok(Self {
            hosted,
            coordination,
            cluster,
            reconciled,
            controller,
            health,
            shards,
            peers,
            removed,
            engine,
            tasks,
        })
    }

    /// Waits until the cluster has removed this broker.
    pub(crate) async fn removed(&self) {
        self.removed.cancelled().await;
    }

    /// Has other brokers take over what this one leads, as far as there are any.
    pub(crate) async fn hand_over(&self) {
        self.peers.leave();
        let handover = self.shards.transfer_all_away();
        if tokio::time::timeout(HANDOVER_LIMIT, handover)
            .await
            .is_err()
        {
            warn!("not every leadership could be handed over");
        }
    }

    /// Hands over what it leads by now, stops the tasks and the shards, makes a last checkpoint and gives the data
    /// directory free.
    pub(crate) async fn stop(self) {
        self.hand_over().await;
        self.tasks.stop().await;
        self.hosted
            .store(crate::hosted::HostedPartitions::default());
        let engine = self.engine;
        if let Err(error) = tokio::task::spawn_blocking(move || engine.stop()).await {
            warn!(%error, "the shards did not stop in order");
        }
    }
}

/// Opens the data directory on a thread that may block.
async fn open(config: &Config, fs: Arc<dyn Fs>) -> Result<Recovered, Error> {
    let storage = config.storage.to_storage();
    let opened = tokio::task::spawn_blocking(move || -> highwater_storage::Result<_> {
        let mut random = rand::rng();
        let seed: u64 = random.random();
        let mut generator: rand::rngs::StdRng = rand::SeedableRng::seed_from_u64(seed);
        let mut opened = Store::open(fs, Box::new(move || generator.random()), storage)?;
        let logs = std::mem::take(&mut opened.logs);
        let (controller, logs) = logs.into_iter().partition(is_controller_log);
        opened.logs = logs;
        let succession = opened.store.succession()?;
        if let Some(succession) = succession {
            // Whoever belongs to the cluster that ended is a stranger from here on.
            opened.identity.cluster = Some(succession.cluster);
        }
        Ok((opened, ControllerLogs::of(controller), succession))
    });
    let data_dir = config.data_dir.display().to_string();
    let (opened, controller, succession): (Opened, ControllerLogs, _) = opened
        .await
        .map_err(|error| Error::Panicked {
            what: "opening the data directory",
            reason: error.to_string(),
        })?
        .map_err(|source| Error::Open {
            data_dir: data_dir.clone(),
            source,
        })?;
    let mut findings = Vec::new();
    for directory in &opened.unknown_directories {
        warn!(directory, "a directory belongs to no log; it is kept");
        findings.push(finding(
            HealthState::Warning,
            "UNKNOWN_DIRECTORY",
            format!(
                "directory {directory} in {data_dir} belongs to no log. It is kept; remove it by hand when it is not needed"
            ),
        ));
    }
    if let Some(damage) = &opened.damage {
        findings.push(finding(
            HealthState::Critical,
            "JOURNAL_DAMAGED",
            format!(
                "the journal in {data_dir} is damaged: {damage}. What each log may lack is reported beside this; a partition that was created \
                 in what is lost does not start"
            ),
        ));
    }
    let mut damaged = BTreeMap::new();
    for recovered in &opened.logs {
        if let Some(damage) = &recovered.damage {
            warn!(log = %recovered.log.id(), reason = damage.reason, "a log is damaged");
            damaged.insert(recovered.log.id(), damage.reason.clone());
        }
    }
    info!(data_dir, logs = opened.logs.len(), "data directory opened");
    Ok(Recovered {
        controller,
        succession,
        store: opened.store,
        identity: opened.identity,
        logs: opened
            .logs
            .into_iter()
            .map(|recovered| (recovered.log.id(), recovered))
            .collect(),
        findings,
        damaged,
    })
}

/// This broker as it meets others.
fn me(config: &Config, recovered: &Recovered) -> Me {
    let identity = &recovered.identity;
    Me {
        broker: BrokerId(config.broker_id),
        incarnation_id: identity.incarnation,
        run_id: rand::rng().random(),
        feature_level: controller_start::FEATURE_LEVEL,
        seeds: config.cluster.seeds.clone(),
        was_empty: identity.cluster.is_none()
            && recovered.logs.is_empty()
            && recovered.controller.newest.is_none(),
    }
}

fn start_shards(
    config: &Config,
    store: &Arc<Store>,
    instruments: Instruments,
    peers: &Peers,
) -> Result<(Shards<Replica>, ShardThreads<Replica>), Error> {
    let count = NonZeroUsize::new(config.shards.thread_count()).unwrap_or(NonZeroUsize::MIN);
    let mut random = rand::rng();
    let spec = ShardsSpec {
        store: Arc::clone(store),
        config: config.shards.to_raft(config.requests.max_produce_bytes),
        count,
        seed: &mut || random.random(),
        transport: &mut || peers.transport(),
        instruments,
    };
    Shards::start(spec).map_err(Error::Raft)
}

/// Tells everybody once the cluster has removed this broker.
async fn note_removal(
    config: Arc<Config>,
    peers: Peers,
    cluster: Arc<ClusterView>,
    health: Arc<Health>,
    told: CancellationToken,
) {
    removal::removed(&peers, &cluster).await;
    let message = Error::removed(&config).to_string();
    error!("{message}");
    health.set_removed(finding(HealthState::Critical, "BROKER_REMOVED", message));
    told.cancel();
}

/// How a group's replica here stands; `None` when there is none.
async fn status(
    shards: &Shards<Replica>,
    group: raft::GroupId,
) -> Result<Option<ReplicaStatus>, raft::Error> {
    let (answer, answered) = tokio::sync::oneshot::channel();
    shards.operate(group, raft::Operation::Status { group, answer })?;
    answered.await.map_err(|_| raft::Error::ShardBusy)
}

/// Does what blocks on a thread that may.
async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> highwater_storage::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|error| Error::Panicked {
        what,
        reason: error.to_string(),
    })?;
    Ok(done?)
}

/// Carries out an operation and waits for its answer.
async fn operate<T>(
    shards: &Shards<Replica>,
    group: raft::GroupId,
    make: impl FnOnce(raft::Answer<Result<T, raft::Error>>) -> raft::Operation<Replica>,
) -> Result<T, raft::Error> {
    let (answer, answered) = tokio::sync::oneshot::channel();
    shards.operate(group, make(answer))?;
    answered.await.unwrap_or(Err(raft::Error::ShardBusy))
}
