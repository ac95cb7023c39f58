//! What other brokers ask and send.

use std::sync::Arc;

use highwater_proto::internal::v1::peer_service_server::PeerService;
use highwater_proto::internal::v1::{
    ControlRequest, ControlResponse, DataRequest, DataResponse, DescribeRequest, DescribeResponse,
};
use tonic::{Request, Response, Status, Streaming};

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

    type ControlStream = tokio_stream::Empty<Result<ControlResponse, Status>>;
    type DataStream = tokio_stream::Empty<Result<DataResponse, Status>>;

    async fn control(
        &self,
        _request: Request<Streaming<ControlRequest>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        Err(Status::unimplemented("the lanes between brokers come next"))
    }

    async fn data(
        &self,
        _request: Request<Streaming<DataRequest>>,
    ) -> Result<Response<Self::DataStream>, Status> {
        Err(Status::unimplemented("the lanes between brokers come next"))
    }
}
