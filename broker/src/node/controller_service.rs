//! What other brokers ask the controller.

use std::sync::Arc;

use highwater_proto::internal::v1 as wire;
use highwater_proto::{ApiError, Reason};
use tonic::{Request, Response, Status};
use wire::controller_service_server::ControllerService;

use crate::controller::wire::{
    decode_command, decode_registration, encode_brokers, encode_cluster_id, encode_response,
};
use crate::controller::{self, ClusterView, Command};
use crate::controller_client::{ControllerClient, unexpected};

/// Answers other brokers for the controller.
pub(super) struct Controller {
    pub(super) client: ControllerClient,
    pub(super) cluster: Arc<ClusterView>,
}

impl Controller {
    /// Refuses brokers of another cluster.
    fn check_cluster(&self, asked: &[u8]) -> Result<(), ApiError> {
        let Some(own) = self.cluster.image().cluster_id() else {
            return Err(not_ready());
        };
        if asked == own.as_bytes() {
            return Ok(());
        }
        Err(ApiError::new(
            Reason::ClusterAuthorizationFailed,
            format!("this broker belongs to cluster {own}, the one that asks to another"),
        ))
    }
}

fn not_ready() -> ApiError {
    ApiError::new(
        Reason::BrokerNotAvailable,
        "this broker does not know the cluster yet",
    )
}

fn invalid(problem: impl std::fmt::Display) -> ApiError {
    ApiError::new(
        Reason::InvalidRequest,
        format!("the request cannot be understood: {problem}"),
    )
}

#[tonic::async_trait]
impl ControllerService for Controller {
    async fn execute(
        &self,
        request: Request<wire::ExecuteRequest>,
    ) -> Result<Response<wire::ExecuteResponse>, Status> {
        let request = request.into_inner();
        self.check_cluster(&request.cluster_id)?;
        let command = request.command.ok_or_else(|| invalid("no command"))?;
        let command = decode_command(command).map_err(invalid)?;
        let answered = self.client.execute_here(command).await?;
        Ok(Response::new(wire::ExecuteResponse {
            metadata_version: answered.metadata_version,
            result: Some(encode_response(&answered.response)),
        }))
    }

    async fn barrier(
        &self,
        request: Request<wire::BarrierRequest>,
    ) -> Result<Response<wire::BarrierResponse>, Status> {
        self.check_cluster(&request.get_ref().cluster_id)?;
        let answered = self.client.barrier_here().await?;
        Ok(Response::new(wire::BarrierResponse {
            metadata_version: answered.metadata_version,
        }))
    }

    async fn join(
        &self,
        request: Request<wire::JoinRequest>,
    ) -> Result<Response<wire::JoinResponse>, Status> {
        let request = request.into_inner();
        let broker = request.broker.ok_or_else(|| invalid("no broker"))?;
        let registration = decode_registration(broker).map_err(invalid)?;
        let level = self.cluster.image().feature_level();
        if request.feature_level < level {
            return Err(ApiError::new(
                Reason::Unsupported,
                format!(
                    "the cluster runs at feature level {level} and this program understands {} at most: start a newer version",
                    request.feature_level
                ),
            )
            .into());
        }
        let answered = self
            .client
            .ask(Command::RegisterBroker(registration))
            .await?;
        let (controller_replica_id, superseded_by_start_number) = match answered {
            controller::Response::Registered { controller_replica } => (controller_replica.0, 0),
            controller::Response::Superseded { start_number } => (0, start_number),
            _ => return Err(unexpected().into()),
        };
        let image = self.cluster.image();
        let cluster_id = image.cluster_id().ok_or_else(not_ready)?;
        Ok(Response::new(wire::JoinResponse {
            cluster_id: encode_cluster_id(cluster_id),
            controller_replica_id,
            brokers: encode_brokers(image.brokers().map(AsRef::as_ref)),
            superseded_by_start_number,
        }))
    }
}
