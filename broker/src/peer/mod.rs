//! The other brokers of the cluster: who they are, how they are reached, what is said to them.

mod endpoint;
mod incoming;
mod listener;
mod me;
mod routes;
mod wire;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use highwater_proto::internal::v1::peer_service_server::PeerServiceServer;
use highwater_proto::{ApiError, BrokerId, Reason};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes as Services;
use tonic::transport::Channel;
use uuid::Uuid;

use crate::config::Config;
use crate::controller::{ClusterImage, ClusterView};
use crate::raft::{NoPeers, PeerTransport};

pub(crate) use listener::serve;
pub(crate) use me::Me;
pub(crate) use routes::{Address, PEER_LISTENER, Routes};

use endpoint::endpoint;
use incoming::Incoming;
use me::Identity;

/// The way to the other brokers. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    identity: Arc<Identity>,
    routes: Arc<Routes>,
    channels: Arc<Channels>,
    /// Whether others can connect. Without that there are none, and nothing is kept for them.
    is_reachable: bool,
}

/// Connections for calls, made when they are first used, by broker and with the address that each leads to.
type Channels = Mutex<HashMap<BrokerId, (Address, Channel)>>;

impl Peers {
    /// A broker that has met no other yet. It knows the addresses of the seeds that `config` names.
    pub(crate) fn new(
        config: &Config,
        me: Me,
        cluster_id: Option<Uuid>,
        is_reachable: bool,
    ) -> Self {
        let routes = Routes::new(me.broker);
        for seed in config.cluster.seeds() {
            routes.set_address(seed.broker, Address::from(&seed));
        }
        Self {
            routes: Arc::new(routes),
            identity: Arc::new(Identity::new(me, cluster_id)),
            channels: Arc::default(),
            is_reachable,
        }
    }

    /// Who this broker is.
    pub(crate) fn me(&self) -> &Me {
        &self.identity.me
    }

    /// From here on this broker belongs to the cluster. False when it belongs to another one.
    pub(crate) fn enter_cluster(&self, cluster_id: Uuid) -> bool {
        self.identity.enter(cluster_id)
    }

    /// Which broker holds a replica, and where each is reached.
    pub(crate) fn routes(&self) -> &Arc<Routes> {
        &self.routes
    }

    /// A connection for calls to `broker`, made at the first one. Where the broker is down, calls fail.
    ///
    /// # Errors
    /// [`Reason::BrokerNotAvailable`] when it is not known where the broker is.
    pub(crate) fn channel(&self, broker: BrokerId) -> Result<Channel, ApiError> {
        let unknown = || {
            ApiError::new(
                Reason::BrokerNotAvailable,
                format!("it is not known where broker {broker} listens for other brokers"),
            )
            .with("broker_id", broker)
        };
        let address = self.routes.address(broker).ok_or_else(unknown)?;
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        match channels.get(&broker) {
            Some((known, channel)) if *known == address => Ok(channel.clone()),
            _ => {
                let channel = endpoint(&address).ok_or_else(unknown)?.connect_lazy();
                channels.insert(broker, (address, channel.clone()));
                Ok(channel)
            }
        }
    }

    /// The way of one shard's messages.
    pub(crate) fn transport(&self) -> Box<dyn PeerTransport> {
        if !self.is_reachable {
            return Box::new(NoPeers);
        }
        Box::new(NoPeers)
    }

    /// The services for other brokers that are answered here; further ones are added to them.
    pub(crate) fn services(&self) -> Services {
        Services::new(PeerServiceServer::new(Incoming {
            identity: Arc::clone(&self.identity),
        }))
    }

    /// Follows the cluster's images until `stop`.
    pub(crate) async fn run(self, cluster: Arc<ClusterView>, stop: CancellationToken) {
        let mut images = cluster.watch();
        let mut last = Arc::<ClusterImage>::default();
        loop {
            let image = Arc::clone(&images.borrow_and_update());
            self.routes.follow(&last, &image);
            last = image;
            tokio::select! {
                changed = images.changed() => if changed.is_err() { return },
                () = stop.cancelled() => return,
            }
        }
    }
}
