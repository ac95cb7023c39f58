//! The gRPC services: one file each, and beside them what they share.
//!
//! A handler checks authorization and structure, asks the layers below, and answers. Records are appended by a
//! partition's shard; everything that is read comes from what shards publish and from the log, without asking a shard.

mod admin;
mod answer;
mod batch_intake;
mod cluster;
mod fetch;
mod fetch_plan;
mod groups;
mod in_flight;
mod leaders;
pub(crate) mod metadata;
mod offsets;
mod partition_read;
mod placement;
mod produce;
mod produce_stream;
mod read_pool;
mod recovery;
pub(crate) mod refusals;
mod subscribe;

pub(crate) use groups::GroupLags;

use std::sync::Arc;

use highwater_proto::{BrokerId, batch, v1};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::budget::Budget;
use crate::config::Config;
use crate::controller::{ClusterImage, ClusterView};
use crate::controller_client::ControllerClient;
use crate::coordination::Coordination;
use crate::health::Health;
use crate::hosted::Hosted;
use crate::metrics::Metrics;
use crate::peer::Peers;
use crate::producer_ids::ProducerIds;
use leaders::Leaders;
use read_pool::ReadPool;

/// What the handlers of all services work with.
pub(crate) struct Context {
    config: Arc<Config>,
    broker: BrokerId,
    budget: Budget,
    reads: ReadPool,
    batch_limits: batch::Limits,
    hosted: Arc<Hosted>,
    coordination: Arc<Coordination>,
    peers: Peers,
    leaders: Leaders,
    cluster: Arc<ClusterView>,
    /// The newest image that this broker has put in force.
    reconciled: watch::Receiver<Arc<ClusterImage>>,
    controller: ControllerClient,
    producer_ids: ProducerIds,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    /// Places for metadata watches.
    watches: Arc<Semaphore>,
    /// Cancelled when the broker stops: streams end.
    stop: CancellationToken,
}

/// What [`Context::new`] takes from the rest of the broker.
pub(crate) struct Parts {
    pub(crate) config: Arc<Config>,
    pub(crate) budget: Budget,
    pub(crate) hosted: Arc<Hosted>,
    pub(crate) coordination: Arc<Coordination>,
    pub(crate) peers: Peers,
    pub(crate) cluster: Arc<ClusterView>,
    pub(crate) reconciled: watch::Receiver<Arc<ClusterImage>>,
    pub(crate) controller: ControllerClient,
    pub(crate) health: Arc<Health>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) stop: CancellationToken,
}

impl Context {
    pub(crate) fn new(parts: Parts) -> Self {
        let config = parts.config;
        let broker = BrokerId(config.broker_id);
        Self {
            broker,
            reads: ReadPool::new(&config.fetch),
            batch_limits: batch_intake::limits(&config.requests, &config.produce),
            watches: Arc::new(Semaphore::new(config.admin.max_watches)),
            producer_ids: ProducerIds::new(parts.controller.clone(), broker),
            config,
            budget: parts.budget,
            hosted: parts.hosted,
            coordination: parts.coordination,
            peers: parts.peers.clone(),
            leaders: Leaders {
                me: broker,
                table: Arc::clone(parts.peers.leaders()),
                up: parts.peers.liveness(),
            },
            cluster: parts.cluster,
            reconciled: parts.reconciled,
            controller: parts.controller,
            health: parts.health,
            metrics: parts.metrics,
            stop: parts.stop,
        }
    }
}

/// All services of the client API. The sizes of messages are checked before they come here.
pub(crate) fn routes(context: &Arc<Context>) -> Routes {
    use v1::admin_service_server::AdminServiceServer;
    use v1::cluster_service_server::ClusterServiceServer;
    use v1::fetch_service_server::FetchServiceServer;
    use v1::groups_service_server::GroupsServiceServer;
    use v1::offsets_service_server::OffsetsServiceServer;
    use v1::placement_service_server::PlacementServiceServer;
    use v1::produce_service_server::ProduceServiceServer;
    use v1::recovery_service_server::RecoveryServiceServer;
    let produce = produce::Produce::new(Arc::clone(context));
    let fetch = fetch::Fetch::new(Arc::clone(context));
    let offsets = offsets::Offsets::new(Arc::clone(context));
    let groups = groups::Groups::new(Arc::clone(context));
    let admin = admin::Admin::new(Arc::clone(context));
    let cluster = cluster::Cluster::new(Arc::clone(context));
    let placement = placement::Placement::new(Arc::clone(context));
    let recovery = recovery::Recovery::new(Arc::clone(context));
    Routes::new(ProduceServiceServer::new(produce).max_decoding_message_size(usize::MAX))
        .add_service(FetchServiceServer::new(fetch).max_decoding_message_size(usize::MAX))
        .add_service(OffsetsServiceServer::new(offsets).max_decoding_message_size(usize::MAX))
        .add_service(GroupsServiceServer::new(groups).max_decoding_message_size(usize::MAX))
        .add_service(AdminServiceServer::new(admin).max_decoding_message_size(usize::MAX))
        .add_service(ClusterServiceServer::new(cluster).max_decoding_message_size(usize::MAX))
        .add_service(PlacementServiceServer::new(placement).max_decoding_message_size(usize::MAX))
        .add_service(RecoveryServiceServer::new(recovery).max_decoding_message_size(usize::MAX))
}
