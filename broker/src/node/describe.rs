//! What other brokers say of themselves and of this one.

use std::time::Duration;

use highwater_proto::internal::v1::peer_service_client::PeerServiceClient;
use highwater_proto::internal::v1::{DescribeRequest, DescribeResponse};
use highwater_proto::{ApiError, BrokerId};

use crate::peer::Peers;

/// What a broker says of itself and of this one; `None` where it is not the one that is meant, or of another cluster.
pub(super) async fn describe(
    peers: &Peers,
    broker: BrokerId,
    timeout: Duration,
) -> Result<Option<DescribeResponse>, ApiError> {
    let mut client = PeerServiceClient::new(peers.channel(broker)?);
    let me = peers.me();
    let mut request = tonic::Request::new(DescribeRequest {
        asking_broker_id: me.broker.0,
        asking_incarnation_id: me.incarnation_id.as_bytes().to_vec().into(),
    });
    request.set_timeout(timeout);
    let described = client.describe(request).await;
    let described = described.map_err(|status| ApiError::from_status(&status))?;
    let described = described.into_inner();
    let is_meant = described.broker_id == broker.0
        && peers
            .cluster_id()
            .is_some_and(|own| described.cluster_id == own.as_bytes()[..]);
    Ok(is_meant.then_some(described))
}
