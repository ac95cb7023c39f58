//! A broker that runs: its node, its listeners, and how it stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use highwater_proto::BrokerId;
use highwater_storage::Identity;
use highwater_storage::fs::Fs;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tracing::{info, warn};

use super::builder::{BrokerBuilder, Ports};
use super::connector::Connector;
use super::doors::{self, Doors};
use super::gate::GateLayer;
use super::listener::Listener;
use super::schema::{Schema, client_descriptors};
use super::stall::Stalls;
use crate::budget::Budget;
use crate::config::Config;
use crate::controller;
use crate::health::Readiness;
use crate::http::Pages;
use crate::metrics::{Metrics, Sources};
use crate::node::{Error, Node};
use crate::service::{self, Context, GroupLags, Parts};

/// The largest HTTP/2 frame taken from a client, in bytes. The default of 16 KiB costs a read and a wake-up for each.
const FRAME_BYTES: u32 = 256 << 10;

/// Where a broker listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// gRPC for clients; `None` for a broker without ports.
    pub client: Option<SocketAddr>,
    /// gRPC for other brokers; `None` when it is off.
    pub peer: Option<SocketAddr>,
    /// HTTP for probes and metrics; `None` when it is off.
    pub http: Option<SocketAddr>,
}

/// A running broker.
///
/// [`Broker::shutdown`] stops it and waits until everything has ended. Dropping it stops it, too, but waits for nothing: requests
/// in flight are cut off, and threads, memory and data directory are given back soon after. What was acknowledged is
/// safe in both cases.
pub struct Broker {
    address: String,
    addresses: Addresses,
    named: Vec<(String, SocketAddr)>,
    connector: Connector,
    node: Node,
    readiness: Readiness,
    health: HealthReporter,
    /// Ends streams and closes the listeners.
    stop: DropGuard,
    /// Ends what has not ended by itself.
    abort: DropGuard,
    servers: Vec<JoinHandle<()>>,
    grace: Duration,
}

impl Broker {
    /// A broker for the inside of another program, with everything to choose.
    pub fn builder() -> BrokerBuilder {
        BrokerBuilder::new()
    }

    /// Starts a broker that listens as the configuration says, and returns when it serves clients. Needs a Tokio runtime with
    /// time and I/O.
    ///
    /// # Errors
    /// What does not work, with what to do about it.
    pub async fn start(config: Config) -> Result<Self, Error> {
        BrokerBuilder::of(config).start().await
    }

    /// Starts a broker on `fs` with a valid configuration.
    pub(super) async fn start_with(
        config: Config,
        ports: Ports,
        fs: Arc<dyn Fs>,
    ) -> Result<Self, Error> {
        let config = Arc::new(config);
        let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
        // A start that fails, or that nobody waits for any more, ends what it started.
        let (stop_guard, abort_guard) = (stop.clone().drop_guard(), abort.clone().drop_guard());
        let (connector, incoming) = Connector::new();
        let doors = Doors::open(&config, ports, incoming, &abort).await?;
        let addresses = doors.addresses;
        let descriptors = client_descriptors();
        let schema = Schema::parse(&descriptors).expect("the compiled protos are a descriptor set");
        let metrics = Arc::new(Metrics::new(schema.method_names()));
        let readiness = Readiness::default();
        let pages = Arc::new(Pages::new(readiness.clone(), Arc::clone(&metrics)));
        let mut servers = Vec::new();
        if let Some(http) = doors.http {
            let probes = crate::http::serve(http, Arc::clone(&pages), stop.clone());
            servers.push(tokio::spawn(unless_aborted(abort.clone(), probes)));
        }
        let (listeners, named) = (doors.advertised, doors.named);
        let describe = |identity: &Identity| entry(&config, identity, listeners);
        let node = Node::start(
            &config,
            fs,
            metrics.raft.clone(),
            metrics.peers.clone(),
            doors.peer,
            describe,
        )
        .await;
        let node = match node {
            Ok(node) => node,
            Err(error) => {
                stop.cancel();
                futures::future::join_all(servers).await;
                return Err(error);
            }
        };
        let budget = Budget::new(config.requests.memory_bytes);
        let stalls = Stalls::new();
        if let Some(tls) = doors.tls {
            servers.push(tokio::spawn(tls.watch(stop.clone())));
        }
        let context = Arc::new(Context::new(Parts {
            config: Arc::clone(&config),
            budget: budget.clone(),
            hosted: Arc::clone(&node.hosted),
            coordination: Arc::clone(&node.coordination),
            peers: node.peers.clone(),
            cluster: Arc::clone(&node.cluster),
            reconciled: node.reconciled.clone(),
            controller: node.controller.clone(),
            health: Arc::clone(&node.health),
            metrics: Arc::clone(&metrics),
            stop: stop.clone(),
        }));
        let lags = GroupLags::new(Arc::clone(&context));
        let sources = Sources {
            readiness: readiness.clone(),
            budget: budget.clone(),
            hosted: Arc::clone(&node.hosted),
            context: Arc::clone(&context),
            cluster: Arc::clone(&node.cluster),
            health: Arc::clone(&node.health),
            shards: node.shards.clone(),
            connections: doors.connections,
        };
        pages.complete(sources, lags);
        let stall_timeout = Duration::from_millis(u64::from(config.server.stall_timeout_ms));
        let watching = tokio::spawn(stalls.clone().run(stall_timeout, abort.clone()));
        let gate = GateLayer::new(
            schema,
            budget,
            stalls,
            &config.requests,
            &config.server.http2,
            metrics,
        );
        let (health, serving) =
            serve_clients(&config, doors.clients, gate, &context, &stop, &abort).await;
        servers.extend([serving, watching]);
        readiness.set(true);
        let address = doors::address(&config, addresses);
        info!(
            client = address,
            peer = addresses.peer.map(tracing::field::display),
            http = addresses.http.map(tracing::field::display),
            broker_id = config.broker_id,
            version = env!("CARGO_PKG_VERSION"),
            "broker is ready"
        );
        Ok(Self {
            address,
            addresses,
            named,
            connector,
            node,
            readiness,
            health,
            stop: stop_guard,
            abort: abort_guard,
            servers,
            grace: Duration::from_millis(u64::from(config.server.shutdown_grace_ms)),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Where it listens for the clients of the further listener called so (`server.client.named`).
    #[must_use]
    pub fn named_address(&self, name: &str) -> Option<SocketAddr> {
        let mut named = self.named.iter();
        named.find(|(one, _)| one == name).map(|(_, bound)| *bound)
    }

    /// What clients connect to, `HOST:PORT`. For a broker without ports it is a name that only clients with its
    /// [`connector`](Self::connector) reach.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Connects to this broker without a port.
    #[must_use]
    pub fn connector(&self) -> Connector {
        self.connector.clone()
    }

    /// Waits until the cluster has removed this broker, which was decommissioned or replaced. It has nothing to do from then on: shut
    /// it down.
    pub async fn removed(&self) {
        self.node.removed().await;
    }

    /// Stops: hands leaderships over, so that clients are told where to go on while they are still served here, accepts
    /// nothing more, answers what is in flight, ends streams, then stops the shards, makes a last checkpoint and gives
    /// the data directory free.
    pub async fn shutdown(mut self) {
        info!("broker is stopping");
        self.readiness.set(false);
        self.health
            .set_service_status("", ServingStatus::NotServing)
            .await;
        self.node.hand_over().await;
        self.stop.token().cancel();
        let watching = self.servers.pop();
        let ending = futures::future::join_all(self.servers);
        let mut ending = std::pin::pin!(ending);
        if tokio::time::timeout(self.grace, &mut ending).await.is_err() {
            warn!("some requests did not end in time and are cut off (server.shutdown_grace_ms)");
            self.abort.token().cancel();
            ending.await;
        }
        self.abort.token().cancel();
        if let Some(watching) = watching {
            drop(watching.await);
        }
        self.node.stop().await;
        info!("broker has stopped");
    }
}

/// This broker's entry in the cluster.
fn entry(
    config: &Config,
    identity: &Identity,
    listeners: Vec<controller::Listener>,
) -> controller::Registration {
    controller::Registration {
        id: BrokerId(config.broker_id),
        incarnation_id: identity.incarnation,
        listeners,
        rack: (!config.rack.is_empty()).then(|| config.rack.clone()),
        start: controller::Start::default(),
        lost_controller_replica: None,
        is_set_back: false,
    }
}

async fn serve_clients(
    config: &Config,
    listeners: Vec<Listener>,
    gate: GateLayer,
    context: &Arc<Context>,
    stop: &CancellationToken,
    abort: &CancellationToken,
) -> (HealthReporter, JoinHandle<()>) {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter
        .set_service_status("", ServingStatus::Serving)
        .await;
    let descriptors = client_descriptors();
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(&descriptors)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let v1 = reflection()
        .build_v1()
        .expect("the compiled protos are a descriptor set");
    let v1alpha = reflection()
        .build_v1alpha()
        .expect("the compiled protos are a descriptor set");
    let routes = service::routes(context)
        .add_service(health)
        .add_service(v1)
        .add_service(v1alpha)
        .prepare();
    let http2 = &config.server.http2;
    let millis = |value: u32| Some(Duration::from_millis(u64::from(value)));
    // HTTP/2 itself refuses larger headers without saying why; the gate says why at the configured limit.
    let hard_metadata_bytes = http2.max_metadata_bytes.saturating_mul(4);
    let serving = tonic::transport::Server::builder()
        .initial_stream_window_size(http2.stream_window_bytes)
        .initial_connection_window_size(http2.connection_window_bytes)
        .max_frame_size(FRAME_BYTES)
        .http2_adaptive_window(Some(false))
        .max_concurrent_streams(http2.max_concurrent_streams)
        .http2_keepalive_interval(millis(http2.keepalive_interval_ms))
        .http2_keepalive_timeout(millis(http2.keepalive_timeout_ms))
        .http2_max_header_list_size(hard_metadata_bytes)
        .layer(gate)
        .serve_with_incoming_shutdown(
            routes,
            futures::stream::select_all(listeners),
            stop.clone().cancelled_owned(),
        );
    let task = tokio::spawn(unless_aborted(abort.clone(), async move {
        if let Err(error) = serving.await {
            warn!(%error, "the client listener failed");
        }
    }));
    (reporter, task)
}

async fn unless_aborted(abort: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        () = abort.cancelled() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::FOUNDING_REPLICA;
    use crate::controller_client::CONTROLLER_GROUP;
    use crate::raft::Operation;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_controller_that_fails_while_it_runs_is_told_of_with_what_to_do() {
        let broker = Broker::builder().in_memory().start().await.unwrap();
        let failing = Operation::Fail {
            replica: FOUNDING_REPLICA,
            reason: "for a test".to_owned(),
        };
        let node = &broker.node;
        node.shards.operate(CONTROLLER_GROUP, failing).unwrap();
        let told = async {
            loop {
                let mut findings = node.health.findings().into_iter();
                if let Some(told) = findings.find(|one| one.reason == "CONTROLLER_FAILED") {
                    return told;
                }
                tokio::task::yield_now().await;
            }
        };
        let told = tokio::time::timeout(Duration::from_secs(60), told).await;
        let told = told.unwrap().message;
        assert!(told.contains("Restart the broker"), "{told}");
        broker.shutdown().await;
    }
}
