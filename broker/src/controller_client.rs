//! Asking the active controller, wherever it is.
//!
//! Where this broker leads the controller group, its own replica decides; otherwise the question goes to the broker of the
//! leader that the replica knows. What surely had no effect there is asked again, of whoever leads by then; what may have
//! had one is not. An answer is given on when this broker's own image is as new as what was answered: who was told of a
//! change sees it here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use highwater_proto::internal::v1 as wire;
use highwater_proto::{ApiError, BrokerId, Reason, never_left};
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;
use wire::controller_service_client::ControllerServiceClient;

use crate::controller::wire::{decode_response, encode_command};
use crate::controller::{ClusterImage, ClusterView, Command, Response};
use crate::peer::{CountedChannel, Peers};
use crate::raft::machine::Role;
use crate::raft::{self, Acks, GroupId, Operation, Reply, Request, Shards};
use crate::replica::{self, Replica};
use crate::service::refusals;

/// The controller's group.
pub(crate) const CONTROLLER_GROUP: GroupId = GroupId(0);
/// Memory of a command beside the text it holds, for the mailbox.
const COMMAND_BYTES: usize = 512;
/// Wait before the controller is looked for again. A change of this broker's role in the group ends it.
const SEARCH_PAUSE: Duration = Duration::from_millis(50);

/// Sends commands to the active controller.
#[derive(Clone)]
pub(crate) struct ControllerClient {
    shards: Shards<Replica>,
    cluster: Arc<ClusterView>,
    peers: Peers,
    timeout: Duration,
}

/// What is asked.
enum Question {
    Execute(Command),
    /// What an image must be to show everything that was acknowledged before.
    Barrier,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answered {
    /// The result.
    pub(crate) response: Response,
    /// Version of the first image that surely shows it.
    pub(crate) metadata_version: u64,
}

/// Where the active controller is, as far as this broker knows.
enum Place {
    Here,
    At(BrokerId),
    Unknown,
}

impl ControllerClient {
    pub(crate) fn new(
        shards: Shards<Replica>,
        cluster: Arc<ClusterView>,
        peers: Peers,
        timeout: Duration,
    ) -> Self {
        Self {
            shards,
            cluster,
            peers,
            timeout,
        }
    }

    /// The same with another limit on how long a question takes.
    pub(crate) fn with_timeout(&self, timeout: Duration) -> Self {
        Self {
            timeout,
            ..self.clone()
        }
    }

    /// Carries out `command`; the answer comes when it is durable on a majority of the controllers and this broker's image
    /// shows it.
    ///
    /// # Errors
    /// What the controller refuses; `NOT_CONTROLLER` when none was found in time; `REQUEST_TIMED_OUT` and others that are
    /// not definite when the outcome is not known.
    pub(crate) async fn ask(&self, command: Command) -> Result<Response, ApiError> {
        let deadline = Instant::now() + self.timeout;
        let answered = self.put(&Question::Execute(command), deadline).await?;
        self.await_image(answered.metadata_version, deadline)
            .await
            .ok_or_else(not_seen_yet)?;
        Ok(answered.response)
    }

    /// This broker's image once it shows every change that anybody was told of before the call.
    ///
    /// # Errors
    /// `NOT_CONTROLLER` when no controller was found in time, `BROKER_NOT_AVAILABLE` when this broker lags behind it.
    pub(crate) async fn read_barrier(&self) -> Result<Arc<ClusterImage>, ApiError> {
        let deadline = Instant::now() + self.timeout;
        let answered = self.put(&Question::Barrier, deadline).await?;
        let lagging = || {
            ApiError::new(
                Reason::BrokerNotAvailable,
                "this broker has not heard of the newest metadata yet: try again, or ask another one",
            )
        };
        self.await_image(answered.metadata_version, deadline)
            .await
            .ok_or_else(lagging)
    }

    /// Carries out `command` if this broker is the active controller.
    ///
    /// # Errors
    /// As [`ask`](Self::ask), and `NOT_CONTROLLER` at once.
    pub(crate) async fn execute_here(&self, command: Command) -> Result<Answered, ApiError> {
        let (reply, answer) = Reply::once();
        self.shards.send(Request {
            group: CONTROLLER_GROUP,
            bytes: COMMAND_BYTES,
            command: replica::Command::Controller(avoiding(command, &self.brokers_down())),
            acks: Acks::default(),
            reply,
        });
        let response = match tokio::time::timeout(self.timeout, answer).await {
            Ok(Ok(Ok(replica::Response::Controller(response)))) => response,
            Ok(Ok(Ok(_))) => return Err(unexpected()),
            Ok(Ok(Err(error))) => return Err(refusal(error)),
            Ok(Err(_)) | Err(_) => return Err(unknown_outcome()),
        };
        Ok(Answered {
            response,
            // The replica publishes before it answers.
            metadata_version: self.cluster.image().version(),
        })
    }

    /// The version of an image that shows everything that was acknowledged before the call, if this broker is the active
    /// controller.
    ///
    /// # Errors
    /// `NOT_CONTROLLER` where it is not, or did not hear from a majority in time.
    pub(crate) async fn barrier_here(&self) -> Result<Answered, ApiError> {
        let (answer, answered) = oneshot::channel();
        let group = CONTROLLER_GROUP;
        self.shards
            .operate(group, Operation::ReadIndex { group, answer })
            .map_err(|error| not_controller(&error.to_string()))?;
        match tokio::time::timeout(self.timeout, answered).await {
            Ok(Ok(Ok(_))) => Ok(Answered {
                response: Response::Done,
                metadata_version: self.cluster.image().version(),
            }),
            Ok(Ok(Err(raft::Error::Refused(refused)))) => {
                Err(refusals::of_raft_to_controller(&refused))
            }
            Ok(Ok(Err(error))) => Err(not_controller(&error.to_string())),
            Ok(Err(_)) | Err(_) => Err(not_controller("it heard from no majority in time")),
        }
    }

    /// Puts the question to whoever is the active controller.
    async fn put(&self, question: &Question, deadline: Instant) -> Result<Answered, ApiError> {
        loop {
            let mut role = self.cluster.watch_role();
            let outcome = match self.place() {
                Place::Here => self.put_here(question).await,
                Place::At(broker) => self.put_to(broker, question, deadline).await,
                Place::Unknown => Err(not_controller("none is elected at the moment")),
            };
            let error = match outcome {
                Err(error) if is_worth_another_try(&error) => error,
                other => return other,
            };
            let pause = tokio::time::sleep(SEARCH_PAUSE);
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return Err(error),
                () = pause => {}
                changed = role.changed() => drop(changed),
            }
        }
    }

    async fn put_here(&self, question: &Question) -> Result<Answered, ApiError> {
        match question {
            Question::Execute(command) => self.execute_here(command.clone()).await,
            Question::Barrier => self.barrier_here().await,
        }
    }

    async fn put_to(
        &self,
        broker: BrokerId,
        question: &Question,
        deadline: Instant,
    ) -> Result<Answered, ApiError> {
        // A broker that joins has no image yet.
        let cluster_id = self.peers.cluster_id().unwrap_or_default();
        let channel = self.peers.channel(broker)?;
        let calling = call(channel, cluster_id, question);
        match tokio::time::timeout_at(deadline, calling).await {
            Ok(answered) => answered,
            Err(_) => Err(unknown_outcome()),
        }
    }

    fn place(&self) -> Place {
        let leader = match self.cluster.role() {
            Some(Role::Leader { .. }) => return Place::Here,
            Some(Role::Follower { leader, .. }) => leader,
            Some(Role::Quarantined) | None => None,
        };
        leader
            .and_then(|leader| self.peers.routes().broker_of(leader))
            .map_or(Place::Unknown, Place::At)
    }

    /// This broker's image once it is at least of this version; `None` when it is not in time.
    async fn await_image(&self, version: u64, deadline: Instant) -> Option<Arc<ClusterImage>> {
        let mut images = self.cluster.watch();
        let newer = images.wait_for(|image| image.version() >= version);
        let image = tokio::time::timeout_at(deadline, newer).await.ok()?.ok()?;
        Some(Arc::clone(&image))
    }

    /// Brokers that are down as far as this one knows.
    fn brokers_down(&self) -> BTreeSet<BrokerId> {
        let up = self.peers.liveness();
        let up = up.borrow();
        let image = self.cluster.image();
        let is_down = |id: &BrokerId| *id != self.peers.me().broker && !up.contains(id);
        image
            .brokers()
            .map(|broker| broker.id)
            .filter(is_down)
            .collect()
    }
}

/// The command, told of brokers that new replicas should not go to.
fn avoiding(mut command: Command, down: &BTreeSet<BrokerId>) -> Command {
    match &mut command {
        Command::CreateTopic(create) => create.avoid.clone_from(down),
        Command::AddPartitions(add) => add.avoid.clone_from(down),
        Command::CreateCoordinators { avoid, .. } => avoid.clone_from(down),
        Command::SetReplicationFactor(set) => set.avoid.clone_from(down),
        Command::Decommission(decommission) => decommission.avoid.clone_from(down),
        Command::CancelMoves(cancel) => cancel.down.clone_from(down),
        Command::AllowReplacement { avoid, .. } | Command::ContinueMoves { avoid } => {
            avoid.clone_from(down);
        }
        _ => {}
    }
    command
}

/// Puts the question to the broker at the other end.
async fn call(
    channel: CountedChannel,
    cluster_id: Uuid,
    question: &Question,
) -> Result<Answered, ApiError> {
    let mut client = ControllerServiceClient::new(channel);
    let cluster_id = crate::controller::wire::encode_cluster_id(cluster_id);
    let command = match question {
        Question::Execute(command) => command,
        Question::Barrier => {
            let request = wire::BarrierRequest { cluster_id };
            let answered = client.barrier(request).await.map_err(|status| {
                // Nothing was to be changed, so that nothing is unknown.
                not_controller(status.message())
            })?;
            return Ok(Answered {
                response: Response::Done,
                metadata_version: answered.into_inner().metadata_version,
            });
        }
    };
    let request = wire::ExecuteRequest {
        cluster_id,
        command: Some(encode_command(command).ok_or_else(unexpected)?),
    };
    let answered = client.execute(request).await.map_err(|status| {
        if never_left(&status) {
            not_controller(status.message())
        } else {
            ApiError::from_status(&status)
        }
    })?;
    let answered = answered.into_inner();
    let result = answered.result.ok_or_else(unexpected)?;
    Ok(Answered {
        response: decode_response(result).map_err(|_| unexpected())?,
        metadata_version: answered.metadata_version,
    })
}

/// Whether the same question may be put to the controller again, because it surely did nothing yet.
fn is_worth_another_try(error: &ApiError) -> bool {
    matches!(
        error.reason,
        Reason::NotController | Reason::BrokerNotAvailable
    )
}

/// What the controller's replica refused, in the words of who asked the controller.
fn refusal(error: replica::Error) -> ApiError {
    match error {
        replica::Error::Refused(refused) => refusals::of_raft_to_controller(&refused),
        other => refusals::of_replica(other),
    }
}

fn not_controller(detail: &str) -> ApiError {
    ApiError::new(
        Reason::NotController,
        format!("the active controller was not reached: {detail}"),
    )
    .retry_after(SEARCH_PAUSE)
}

fn unknown_outcome() -> ApiError {
    ApiError::new(
        Reason::RequestTimedOut,
        "the controller did not answer in time: the change may have been made, or may yet be",
    )
}

fn not_seen_yet() -> ApiError {
    ApiError::new(
        Reason::RequestTimedOut,
        "the change is made, and this broker has not heard of it yet",
    )
}

/// The error for an answer to another question.
pub(crate) fn unexpected() -> ApiError {
    ApiError::new(
        Reason::UnknownServerError,
        "the controller answered another question",
    )
}

#[cfg(test)]
mod tests {
    use tonic::Status;
    use tonic::transport::Endpoint;

    use super::*;

    #[tokio::test]
    async fn a_call_to_nobody_never_left() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let channel = Endpoint::from_shared(address).unwrap().connect_lazy();
        let mut client = ControllerServiceClient::new(channel);
        let request = wire::BarrierRequest::default();
        let status = client.barrier(request).await.unwrap_err();
        assert!(never_left(&status), "{status:?}");
        assert!(!never_left(&Status::unavailable("a proxy said so")));
    }

    #[test]
    fn only_what_did_nothing_is_asked_again() {
        assert!(is_worth_another_try(&not_controller("elsewhere")));
        for error in [unknown_outcome(), unexpected()] {
            assert!(!is_worth_another_try(&error), "{error}");
        }
    }
}
