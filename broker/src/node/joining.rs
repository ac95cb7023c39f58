//! Becoming a broker of a cluster that is there, and being registered in it at each start.

use std::time::Duration;

use highwater_proto::internal::v1 as wire;
use highwater_proto::{ApiError, BrokerId};
use tracing::{info, warn};
use uuid::Uuid;
use wire::controller_service_client::ControllerServiceClient;

use super::Error;
use crate::controller::wire::{decode_brokers, decode_cluster_id, encode_registration};
use crate::controller::{Broker, Command, Registration};
use crate::controller_client::{ControllerClient, unexpected};
use crate::peer::{Address, PEER_LISTENER, Peers};
use crate::raft::ReplicaId;

/// How long a seed may take to have a broker registered.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one try to register takes; what it waits for is said after each.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(5);
/// Wait before what failed is tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// What a broker is given that joins.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) cluster_id: Uuid,
    pub(super) controller_replica: ReplicaId,
}

/// Asks a seed to take this broker in. Asked again, the cluster gives the same answer.
///
/// # Errors
/// Why it does not, or that it cannot be said now.
pub(super) async fn join(
    peers: &Peers,
    seed: BrokerId,
    me: &Registration,
) -> Result<Joined, ApiError> {
    let mut client = ControllerServiceClient::new(peers.channel(seed)?);
    let mut request = tonic::Request::new(wire::JoinRequest {
        broker: Some(encode_registration(me)),
        feature_level: peers.me().feature_level,
    });
    request.set_timeout(JOIN_TIMEOUT);
    let answered = client.join(request).await;
    let answered = answered
        .map_err(|status| ApiError::from_status(&status))?
        .into_inner();
    let cluster_id = decode_cluster_id(&answered.cluster_id).map_err(|_| unexpected())?;
    let brokers = decode_brokers(answered.brokers).map_err(|_| unexpected())?;
    // Until an image arrives, this is how the group's messages are answered.
    for broker in &brokers {
        if let Some(address) = peer_address(broker) {
            peers.routes().set_address(broker.id, address);
        }
    }
    Ok(Joined {
        cluster_id,
        controller_replica: ReplicaId(answered.controller_replica_id),
    })
}

fn peer_address(broker: &Broker) -> Option<Address> {
    let mut listeners = broker.listeners.iter();
    let listener = listeners.find(|listener| listener.name == PEER_LISTENER)?;
    Some(Address {
        host: listener.host.clone(),
        port: listener.port,
    })
}

/// Makes this start of the broker known to the cluster, and waits until its own image shows it. That takes a majority of the
/// controllers; this waits for one for as long as it takes.
///
/// # Errors
/// [`Error::Join`] when the cluster does not take the broker.
pub(super) async fn register(
    controller: &ControllerClient,
    me: &Registration,
) -> Result<(), Error> {
    let controller = controller.with_timeout(REGISTER_TIMEOUT);
    loop {
        let error = match controller.ask(Command::RegisterBroker(me.clone())).await {
            Ok(_) => {
                info!(broker_id = me.id.0, "registered in the cluster");
                return Ok(());
            }
            Err(error) => error,
        };
        if !error.is_retriable() {
            return Err(Error::Join(error));
        }
        warn!(%error, "waiting to be registered in the cluster, which needs a majority of its controllers");
        tokio::time::sleep(PAUSE).await;
    }
}
