//! A broker that runs: its node, its listeners, and how it stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use highwater_proto::BrokerId;
use highwater_storage::Identity;
use highwater_storage::fs::Fs;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tracing::{info, warn};

use super::builder::{BrokerBuilder, Ports};
use super::connector::Connector;
use super::gate::GateLayer;
use super::listener::{Connections, Listener};
use super::schema::{Schema, client_descriptors};
use super::stall::Stalls;
use crate::budget::Budget;
use crate::config::Config;
use crate::controller;
use crate::health::Readiness;
use crate::http::Pages;
use crate::metrics::{Metrics, Sources};
use crate::node::{Error, Node};
use crate::peer::PEER_LISTENER;
use crate::service::metadata::CLIENT_LISTENER;
use crate::service::{self, Context, Parts};

/// The port that a broker without ports gives in metadata.
const PORT_OF_NO_PORT: u16 = 7410;

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
        let describe = |identity: &Identity| entry(&config, identity, addresses);
        let node = Node::start(&config, fs, metrics.raft.clone(), doors.peer, describe).await;
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
        let context = Arc::new(Context::new(Parts {
            config: Arc::clone(&config),
            budget: budget.clone(),
            hosted: Arc::clone(&node.hosted),
            cluster: Arc::clone(&node.cluster),
            reconciled: node.reconciled.clone(),
            controller: node.controller.clone(),
            health: Arc::clone(&node.health),
            metrics: Arc::clone(&metrics),
            stop: stop.clone(),
        }));
        pages.complete(Sources {
            readiness: readiness.clone(),
            budget: budget.clone(),
            hosted: Arc::clone(&node.hosted),
            cluster: Arc::clone(&node.cluster),
            health: Arc::clone(&node.health),
            shards: node.shards.clone(),
            connections: doors.connections,
        });
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
            serve_clients(&config, doors.client, gate, &context, &stop, &abort).await;
        servers.extend([serving, watching]);
        readiness.set(true);
        let address = address(&config, addresses);
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

    /// Stops: accepts nothing more, answers what is in flight, ends streams, then stops the shards, makes a last
    /// checkpoint and gives the data directory free.
    pub async fn shutdown(mut self) {
        info!("broker is stopping");
        self.readiness.set(false);
        self.health
            .set_service_status("", ServingStatus::NotServing)
            .await;
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

/// Where connections come in.
struct Doors {
    client: Listener,
    peer: Option<Listener>,
    http: Option<Listener>,
    /// By the listener's name, for as long as they are listened for.
    connections: Vec<(&'static str, Connections)>,
    addresses: Addresses,
}

impl Doors {
    async fn open(
        config: &Config,
        ports: Ports,
        incoming: mpsc::Receiver<DuplexStream>,
        abort: &CancellationToken,
    ) -> Result<Self, Error> {
        let config = &config.server;
        let client = Listener::new(config.client.max_connections, abort.clone()).also(incoming);
        let client = bind(client, ports.client, &config.client.address).await?;
        let peer = Listener::new(config.peer.max_connections, abort.clone());
        let peer = bind(peer, ports.peer, &config.peer.address).await?;
        let http = Listener::new(config.http.max_connections, abort.clone());
        let http = bind(http, ports.http, &config.http.address).await?;
        let addresses = Addresses {
            client: client.address().map_err(Error::Listen)?,
            peer: peer.address().map_err(Error::Listen)?,
            http: http.address().map_err(Error::Listen)?,
        };
        let peer = addresses.peer.map(|_| peer);
        let http = addresses.http.map(|_| http);
        let listeners = [
            ("client", Some(&client)),
            ("peer", peer.as_ref()),
            ("http", http.as_ref()),
        ];
        Ok(Self {
            connections: listeners
                .into_iter()
                .filter_map(|(name, listener)| Some((name, listener?.connections())))
                .collect(),
            client,
            peer,
            http,
            addresses,
        })
    }
}

async fn bind(listener: Listener, has_port: bool, address: &str) -> Result<Listener, Error> {
    if !has_port {
        return Ok(listener);
    }
    let address = address
        .parse()
        .expect("a valid configuration has addresses");
    listener.bind(address).await.map_err(Error::Listen)
}

/// What a client in this process, or on this machine, connects to.
fn address(config: &Config, addresses: Addresses) -> String {
    addresses.client.map_or_else(
        || format!("{}:{PORT_OF_NO_PORT}", name_of_no_port(config)),
        |bound| bound.to_string(),
    )
}

/// The host that a broker without ports gives in metadata: no resolver knows it.
fn name_of_no_port(config: &Config) -> String {
    format!("broker-{}.in-process", config.broker_id)
}

/// This broker's entry in the cluster.
fn entry(config: &Config, identity: &Identity, addresses: Addresses) -> controller::Broker {
    let listener = |name: &str, (host, port)| controller::Listener {
        name: name.to_owned(),
        host,
        port,
    };
    let client = addresses.client.map_or_else(
        || (name_of_no_port(config), PORT_OF_NO_PORT),
        |bound| config.server.client.advertised_or(bound),
    );
    let peer = addresses
        .peer
        .map(|bound| config.server.peer.advertised_or(bound));
    let client = listener(CLIENT_LISTENER, client);
    let peer = peer.map(|address| listener(PEER_LISTENER, address));
    controller::Broker {
        id: BrokerId(config.broker_id),
        incarnation_id: identity.incarnation,
        listeners: std::iter::once(client).chain(peer).collect(),
        rack: (!config.rack.is_empty()).then(|| config.rack.clone()),
    }
}

async fn serve_clients(
    config: &Config,
    listener: Listener,
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
        .serve_with_incoming_shutdown(routes, listener, stop.clone().cancelled_owned());
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
