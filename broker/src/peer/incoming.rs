//! What other brokers ask and send.

use std::sync::Arc;

use highwater_proto::internal::v1::peer_service_server::PeerService;
use highwater_proto::internal::v1::{DescribeRequest, DescribeResponse};
use tonic::{Request, Response, Status};

use super::me::Identity;

/// Answers other brokers.
pub(super) struct Incoming {
    pub(super) identity: Arc<Identity>,
}

#[tonic::async_trait]
impl PeerService for Incoming {
    async fn describe(
        &self,
        _request: Request<DescribeRequest>,
    ) -> Result<Response<DescribeResponse>, Status> {
        Ok(Response::new(self.identity.describe()))
    }
}
