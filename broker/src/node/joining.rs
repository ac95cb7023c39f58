//! Becoming a broker of a cluster that is there, and being registered in it at each start.

use std::time::Duration;

use highwater_proto::internal::v1 as wire;
use highwater_proto::{ApiError, BrokerId};
use tracing::{info, warn};
use uuid::Uuid;
use wire::controller_service_client::ControllerServiceClient;

use super::Error;
use crate::controller::wire::{decode_brokers, decode_cluster_id, encode_registration};
use crate::controller::{Command, Registration, Response};
use crate::controller_client::{ControllerClient, unexpected};
use crate::peer::{Address, Peers};
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
    pub(super) registered: Registered,
}

/// How the cluster takes a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Registered {
    /// It is registered, and has this replica of the controller group.
    With(ReplicaId),
    /// It is not: the start of this number is known already, so that the data directory is an old copy.
    SupersededBy(u64),
}

impl Registered {
    fn of(response: &Response) -> Result<Self, ApiError> {
        match response {
            Response::Registered { controller_replica } => Ok(Self::With(*controller_replica)),
            Response::Superseded { start_number } => Ok(Self::SupersededBy(*start_number)),
            _ => Err(unexpected()),
        }
    }
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
        if let Some(address) = Address::of(broker) {
            peers.routes().set_address(broker.id, address);
        }
    }
    Ok(Joined {
        cluster_id,
        registered: match answered.superseded_by_start_number {
            0 => Registered::With(ReplicaId(answered.controller_replica_id)),
            number => Registered::SupersededBy(number),
        },
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
) -> Result<Registered, Error> {
    let controller = controller.with_timeout(REGISTER_TIMEOUT);
    loop {
        let error = match controller.ask(Command::RegisterBroker(me.clone())).await {
            Ok(answered) => {
                let registered = Registered::of(&answered).map_err(Error::Join)?;
                info!(broker_id = me.id.0, ?registered, "the cluster has answered");
                return Ok(registered);
            }
            Err(error) => error,
        };
        if !error.is_retriable() {
            return Err(Error::Join(error));
        }
        warn!(%error, "waiting to be registered in the cluster, which needs a majority of its controllers; where that is gone for good, see `highwater-broker recover --help`");
        tokio::time::sleep(PAUSE).await;
    }
}
