//! Asking the controller.

use std::time::Duration;

use highwater_proto::{ApiError, Reason};

use crate::controller::{Command, Response};
use crate::raft::{Acks, GroupId, Reply, Request, Shards};
use crate::replica::{self, Replica};

/// The controller's group.
pub(crate) const CONTROLLER_GROUP: GroupId = GroupId(0);
/// Memory of a command beside the text it holds, for the mailbox.
const COMMAND_BYTES: usize = 512;

/// Sends commands to the controller group's replica on this broker.
#[derive(Clone)]
pub(crate) struct ControllerClient {
    shards: Shards<Replica>,
    timeout: Duration,
}

impl ControllerClient {
    pub(crate) fn new(shards: Shards<Replica>, timeout: Duration) -> Self {
        Self { shards, timeout }
    }

    /// Carries out `command`; the answer comes when it is durable on a majority of the controllers.
    ///
    /// # Errors
    /// What the controller refuses; `REQUEST_TIMED_OUT` when the outcome is not known.
    pub(crate) async fn ask(&self, command: Command) -> Result<Response, ApiError> {
        let (reply, answer) = Reply::once();
        self.shards.send(Request {
            group: CONTROLLER_GROUP,
            bytes: COMMAND_BYTES,
            command: replica::Command::Controller(command),
            acks: Acks::default(),
            reply,
        });
        let unknown = || {
            ApiError::new(
                Reason::RequestTimedOut,
                "the controller did not answer in time: the change may have been made, or may yet be",
            )
        };
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(Ok(Ok(replica::Response::Controller(response)))) => Ok(response),
            Ok(Ok(Ok(replica::Response::Partition(_)))) => Err(unexpected()),
            Ok(Ok(Err(error))) => Err(crate::service::refusals::of_replica(error)),
            Ok(Err(_)) | Err(_) => Err(unknown()),
        }
    }
}

/// The error for an answer to another question.
pub(crate) fn unexpected() -> ApiError {
    ApiError::new(
        Reason::UnknownServerError,
        "the controller answered another question",
    )
}
