//! A broker that runs: its node, its listeners, and how it stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use highwater_proto::BrokerId;
use highwater_storage::Identity;
use highwater_storage::fs::{Fs, RealFs};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tracing::{info, warn};

use super::gate::GateLayer;
use super::listener::Listener;
use super::schema::Schema;
use super::stall::Stalls;
use crate::budget::Budget;
use crate::config::Config;
use crate::controller;
use crate::health::Readiness;
use crate::http::Pages;
use crate::metrics::{Metrics, Sources};
use crate::node::{Error, Node};
use crate::service::metadata::CLIENT_LISTENER;
use crate::service::{self, Context, Parts};

/// Where a broker listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// gRPC for clients.
    pub client: SocketAddr,
    /// HTTP for probes and metrics.
    pub http: SocketAddr,
}

/// A running broker.
///
/// Stop it with [`Broker::shutdown`]. Dropping it instead leaves it running until the process or the runtime ends; what
/// it acknowledged is safe then, too, but the next start takes longer.
pub struct Broker {
    addresses: Addresses,
    node: Node,
    readiness: Readiness,
    health: HealthReporter,
    /// Ends streams and closes the listeners.
    stop: CancellationToken,
    /// Ends what has not ended by itself.
    abort: CancellationToken,
    servers: Vec<JoinHandle<()>>,
    grace: Duration,
}

impl Broker {
    /// Starts a broker and returns when it serves clients. Needs a Tokio runtime with time and I/O.
    ///
    /// # Errors
    /// What does not work, with what to do about it.
    pub async fn start(config: Config) -> Result<Self, Error> {
        let fs = RealFs::new(&config.data_dir).map_err(|error| Error::Open {
            data_dir: config.data_dir.display().to_string(),
            source: error.into(),
        })?;
        Self::start_on(config, Arc::new(fs)).await
    }

    /// The same with its data on `fs`, for tests of what disks do. `config.data_dir` is a name only then.
    ///
    /// # Errors
    /// As [`Broker::start`].
    pub async fn start_on(config: Config, fs: Arc<dyn Fs>) -> Result<Self, Error> {
        config.validate()?;
        let config = Arc::new(config);
        let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
        let (client, http) = (&config.server.client, &config.server.http);
        let client = bind(&client.address, client.max_connections, &abort).await?;
        let http = bind(&http.address, http.max_connections, &abort).await?;
        let addresses = Addresses {
            client: client.address().map_err(Error::Listen)?,
            http: http.address().map_err(Error::Listen)?,
        };
        let schema = Schema::parse(highwater_proto::FILE_DESCRIPTOR_SET)
            .expect("the compiled protos are a descriptor set");
        let metrics = Arc::new(Metrics::new(schema.method_names()));
        let readiness = Readiness::default();
        let connections = vec![
            ("client", client.connections()),
            ("http", http.connections()),
        ];
        let pages = Arc::new(Pages::new(readiness.clone(), Arc::clone(&metrics)));
        let probes = crate::http::serve(http, Arc::clone(&pages), stop.clone());
        let probes = tokio::spawn(unless_aborted(abort.clone(), probes));

        let describe = |identity: &Identity| entry(&config, identity, addresses);
        let node = Node::start(&config, fs, metrics.raft.clone(), describe).await;
        let node = match node {
            Ok(node) => node,
            Err(error) => {
                stop.cancel();
                drop(probes.await);
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
            connections,
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
        let (health, serving) = serve_clients(&config, client, gate, &context, &stop, &abort).await;
        readiness.set(true);
        info!(
            client = %addresses.client,
            http = %addresses.http,
            broker_id = config.broker_id,
            version = env!("CARGO_PKG_VERSION"),
            "broker is ready"
        );
        Ok(Self {
            addresses,
            node,
            readiness,
            health,
            stop,
            abort,
            servers: vec![serving, probes, watching],
            grace: Duration::from_millis(u64::from(config.server.shutdown_grace_ms)),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Where clients connect.
    #[must_use]
    pub fn client_address(&self) -> SocketAddr {
        self.addresses.client
    }

    /// Stops: accepts nothing more, answers what is in flight, ends streams, then stops the shards, makes a last
    /// checkpoint and gives the data directory free.
    pub async fn shutdown(mut self) {
        info!("broker is stopping");
        self.readiness.set(false);
        self.health
            .set_service_status("", ServingStatus::NotServing)
            .await;
        self.stop.cancel();
        let watching = self.servers.pop();
        let ending = futures::future::join_all(self.servers);
        let mut ending = std::pin::pin!(ending);
        if tokio::time::timeout(self.grace, &mut ending).await.is_err() {
            warn!("some requests did not end in time and are cut off (server.shutdown_grace_ms)");
            self.abort.cancel();
            ending.await;
        }
        self.abort.cancel();
        if let Some(watching) = watching {
            drop(watching.await);
        }
        self.node.stop().await;
        info!("broker has stopped");
    }
}

async fn bind(
    address: &str,
    max_connections: usize,
    abort: &CancellationToken,
) -> Result<Listener, Error> {
    let address = address
        .parse()
        .expect("a valid configuration has addresses");
    Listener::bind(address, max_connections, abort.clone())
        .await
        .map_err(Error::Listen)
}

/// This broker's entry in the cluster.
fn entry(config: &Config, identity: &Identity, addresses: Addresses) -> controller::Broker {
    let (host, port) = config.server.client.advertised_or(addresses.client);
    controller::Broker {
        id: BrokerId(config.broker_id),
        incarnation_id: identity.incarnation,
        listeners: vec![controller::Listener {
            name: CLIENT_LISTENER.to_owned(),
            host,
            port,
        }],
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
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(highwater_proto::FILE_DESCRIPTOR_SET)
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
