//! The other brokers of the cluster: who they are, how they are reached, what is said to them.
//!
//! Each broker connects to each other one and sends on its own connection; it hears the other one on the connection that the
//! other made. So a connection has one owner, who makes it anew when it breaks, and nobody has to agree on who connects.
//! On a connection there are two lanes (streams), which do not wait for each other: *control* for what is small and must
//! not wait (signs of life, announcements, votes, heartbeats, answers), *data* for appends. Calls and bulk reads of other
//! parts of the broker go over further connections ([`Peers::channel`]).
//!
//! - [`Routes`] says which broker holds a replica and where each broker is.
//! - `transport` sorts what comes out of a shard's turn into the `outbox` of each broker, which loses what is too much.
//! - `link` keeps the connection to one broker and empties its outbox into it; `supervisor` keeps the links.
//! - `incoming` checks what arrives and hands it to the shards. `wire` is the form of messages on the network.
//! - `seeding` carries the frames of whole logs, for replicas that begin anew, over calls of their own.
//! - `liveness` judges who is up; [`LeaderTable`] remembers who leads.
//!
//! Nothing here is stored, and everything may be lost: what matters is repeated by Raft, by the next heartbeat, or when
//! the next connection is made.
//!
//! Left out, for now: encryption, and knowing a broker by more than what it says of itself.

mod counting;
mod endpoint;
mod incoming;
mod leaders;
mod link;
mod listener;
mod liveness;
mod me;
mod outbox;
mod routes;
mod seeding;
mod shared;
mod supervisor;
#[cfg(test)]
mod tests;
mod transport;
mod wire;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use highwater_proto::internal::v1::peer_service_server::PeerServiceServer;
use highwater_proto::{ApiError, BrokerId, Reason};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes as Services;
use uuid::Uuid;

use crate::config::Config;
use crate::controller::ClusterView;
use crate::metrics;
use crate::partition::Leaderships;
use crate::raft::{NoPeers, PeerTransport, Pull};
use crate::tls::Tls;

pub(crate) use counting::{CountedChannel, Counting};
pub(crate) use leaders::LeaderTable;
pub(crate) use listener::serve;
pub(crate) use me::Me;
pub(crate) use routes::{Address, PEER_LISTENER, Routes};
pub(crate) use shared::Groups;

use endpoint::Way;
use incoming::Incoming;
use liveness::Liveness;
use me::Identity;
use seeding::{Pulls, PullsSpec, Throttle};
use shared::{Lost, Shared};
use supervisor::Supervisor;
use transport::Transport;

/// Replicas that wait for somebody to pull for them. Those beyond are offered a snapshot again.
const MAX_WANTED: usize = 4096;
/// Bytes of a message on a lane beside the largest entry: what else may stand in it.
const MESSAGE_ROOM_BYTES: usize = 4 << 20;

/// The way to the other brokers. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    shared: Arc<Shared>,
    channels: Arc<Channels>,
    counting: Counting,
    /// What replicas here want pulled, until somebody does it.
    wanted: Arc<Mutex<Option<mpsc::Receiver<Pull>>>>,
    limits: SeedingLimits,
    /// Whether others can connect. Without that there are none, and nothing is kept for them.
    is_reachable: bool,
}

/// What seeding is held to.
#[derive(Clone, Copy, Debug)]
struct SeedingLimits {
    at_once: usize,
    bytes_per_second: u64,
}

/// Connections for calls, made when they are first used, by broker and with the address that each leads to.
type Channels = Mutex<HashMap<BrokerId, (Address, CountedChannel)>>;

/// What [`Peers::new`] needs.
pub(crate) struct PeersSpec<'a> {
    /// The seeds and the limits.
    pub(crate) config: &'a Config,
    /// Who this broker is.
    pub(crate) me: Me,
    /// The cluster that it belongs to, if it does already.
    pub(crate) cluster_id: Option<Uuid>,
    /// Whether others can connect.
    pub(crate) is_reachable: bool,
    /// What connections to others are made with; `None`: without TLS.
    pub(crate) tls: Option<Tls>,
    /// Counts the changes of leaders.
    pub(crate) leaderships: Arc<Leaderships>,
    /// What is measured.
    pub(crate) metrics: metrics::Peers,
}

impl Peers {
    /// A broker that has met no other yet. It knows the addresses of the seeds.
    pub(crate) fn new(spec: PeersSpec<'_>) -> Self {
        let routes = Routes::new(spec.me.broker);
        for seed in spec.config.cluster.seeds() {
            routes.set_address(seed.broker, Address::from(&seed));
        }
        let cluster = &spec.config.cluster;
        let liveness = Liveness::new(
            spec.me.run_id,
            liveness::Limits {
                interval_ms: u64::from(cluster.heartbeat_interval_ms),
                missed: cluster.missed_heartbeats,
                stall_ms: u64::from(cluster.stall_timeout_ms),
            },
        );
        let raft = spec
            .config
            .shards
            .to_raft(spec.config.requests.max_produce_bytes);
        let (wanted, to_pull) = mpsc::channel(MAX_WANTED);
        let counting = Counting::new(spec.metrics.refused.clone());
        let limits = SeedingLimits {
            at_once: cluster.seedings,
            bytes_per_second: cluster.seeding_bytes_per_second,
        };
        let shared = Shared {
            wanted,
            givers: Arc::new(Semaphore::new(cluster.seedings_given)),
            giving: Throttle::new(cluster.seeding_bytes_per_second),
            identity: Identity::new(spec.me, spec.cluster_id),
            routes,
            tls: spec.tls,
            leaders: Arc::new(LeaderTable::new(spec.leaderships)),
            outboxes: ArcSwap::default(),
            outbox_limits: outbox::Limits {
                messages: cluster.send_queue_messages,
                bytes: cluster.send_queue_bytes,
            },
            message_limits: wire::Limits {
                entry_bytes: raft.entry_bytes,
                snapshot_bytes: raft.snapshot_bytes,
            },
            up: watch::Sender::default(),
            is_leaving: AtomicBool::new(false),
            lost: Lost::new(&spec.metrics),
            metrics: spec.metrics,
            began: Instant::now(),
            liveness: Mutex::new(liveness),
        };
        Self {
            shared: Arc::new(shared),
            channels: Arc::default(),
            counting,
            wanted: Arc::new(Mutex::new(Some(to_pull))),
            limits,
            is_reachable: spec.is_reachable,
        }
    }

    /// Who this broker is.
    pub(crate) fn me(&self) -> &Me {
        &self.shared.identity.me
    }

    /// The cluster that this broker belongs to; `None` before it founded or joined one.
    pub(crate) fn cluster_id(&self) -> Option<Uuid> {
        self.shared.identity.cluster_id()
    }

    /// From here on this broker belongs to the cluster, and connects to the others. False when it belongs to another one.
    /// The first image says it, too.
    pub(crate) fn enter_cluster(&self, cluster_id: Uuid) -> bool {
        self.shared.identity.enter(cluster_id)
    }

    /// Which broker holds a replica, and where each is reached.
    pub(crate) fn routes(&self) -> &Routes {
        &self.shared.routes
    }

    /// Who leads each group. Of groups with replicas on other brokers only; this broker's own are in it, too.
    pub(crate) fn leaders(&self) -> &Arc<LeaderTable> {
        &self.shared.leaders
    }

    /// Tells the other brokers that this one is about to stop, so that they hand it no leadership.
    pub(crate) fn leave(&self) {
        self.shared.is_leaving.store(true, Ordering::Relaxed);
    }

    /// Whether another broker is about to stop, as it said last.
    pub(crate) fn is_leaving(&self, broker: BrokerId) -> bool {
        self.shared.liveness().is_leaving(broker)
    }

    /// Which other brokers are up, from now on.
    pub(crate) fn liveness(&self) -> watch::Receiver<Arc<BTreeSet<BrokerId>>> {
        self.shared.up.subscribe()
    }

    /// A connection for calls to `broker`, made at the first one. Where the broker is down, calls fail.
    ///
    /// # Errors
    /// [`Reason::BrokerNotAvailable`] when it is not known where the broker is.
    pub(crate) fn channel(&self, broker: BrokerId) -> Result<CountedChannel, ApiError> {
        let unknown = || {
            ApiError::new(
                Reason::BrokerNotAvailable,
                format!("it is not known where broker {broker} listens for other brokers"),
            )
            .with("broker_id", broker)
        };
        let address = self.routes().address(broker).ok_or_else(unknown)?;
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        match channels.get(&broker) {
            Some((known, channel)) if *known == address => Ok(channel.clone()),
            _ => {
                let way = Way::to(broker, &address, self.shared.tls.as_ref());
                let channel = way.ok_or_else(unknown)?.connect_lazy();
                let channel = CountedChannel::new(channel, self.counting.clone());
                channels.insert(broker, (address, channel.clone()));
                Ok(channel)
            }
        }
    }

    /// The way of one shard's messages.
    pub(crate) fn transport(&self) -> Box<dyn PeerTransport> {
        if self.is_reachable {
            Box::new(Transport::new(Arc::clone(&self.shared)))
        } else {
            Box::new(NoPeers)
        }
    }

    /// The services for other brokers that are answered here; further ones are added to them.
    pub(crate) fn services(&self, groups: impl Groups) -> Services {
        let incoming = Incoming {
            shared: Arc::clone(&self.shared),
            groups: Arc::new(groups),
        };
        let services = PeerServiceServer::new(incoming);
        Services::new(services.max_decoding_message_size(self.message_bytes()))
    }

    /// Counts what is inside messages that other brokers send to those services.
    pub(crate) fn counting(&self) -> Counting {
        self.counting.clone()
    }

    /// The largest message that is taken.
    fn message_bytes(&self) -> usize {
        let limits = &self.shared.message_limits;
        limits.entry_bytes.max(limits.snapshot_bytes) + MESSAGE_ROOM_BYTES
    }

    /// Connects to the others as the cluster's images and the routes name them, and watches over them, until `stop`.
    pub(crate) async fn run(
        self,
        groups: impl Groups,
        cluster: Arc<ClusterView>,
        stop: CancellationToken,
    ) {
        let interval_ms = {
            let liveness = self.shared.liveness();
            liveness.interval_ms()
        };
        let groups: Arc<dyn Groups> = Arc::new(groups);
        let pulling = self.pull(Arc::clone(&groups), stop.clone());
        let supervisor = Supervisor::new(Arc::clone(&self.shared), groups);
        tokio::join!(supervisor.run(&cluster, interval_ms, stop), pulling);
    }

    /// Pulls what replicas here want, until `stop`.
    async fn pull(&self, groups: Arc<dyn Groups>, stop: CancellationToken) {
        let wanted = self.wanted.lock();
        let wanted = wanted.unwrap_or_else(PoisonError::into_inner).take();
        let Some(wanted) = wanted else {
            return;
        };
        let pulls = Pulls::new(PullsSpec {
            peers: self.clone(),
            groups,
            at_once: self.limits.at_once,
            bytes_per_second: self.limits.bytes_per_second,
            message_bytes: self.message_bytes(),
        });
        pulls.run(wanted, stop).await;
    }
}
