//! Where groups are coordinated, and asking there.

use std::sync::Arc;
use std::time::Duration;

use highwater_proto::{ApiError, BrokerId, PartitionIndex, Reason, TopicId};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use uuid::Uuid;

use super::Context;
use crate::controller::{self, Topic};
use crate::coordination::coordinator_of;
use crate::coordinator::{self, Command};
use crate::hosted::HostedCoordinator;
use crate::partition::Standing;
use crate::raft::{self, Operation, Reply};
use crate::replica;
use crate::service::refusals;

/// Key of the fact that says which broker coordinates a group.
const HINT: &str = "coordinator_broker_id";
/// Memory of a command beside the text it holds, for the mailbox.
const COMMAND_BYTES: usize = 512;
/// Time between two looks for a coordinator that this broker is about to start.
const START_PAUSE: Duration = Duration::from_millis(20);
/// Advice for who comes before a coordinator is elected.
const RETRY_SOON: Duration = Duration::from_millis(50);

/// A coordinator that is led here, as far as is known.
pub(super) struct Place {
    pub(super) index: PartitionIndex,
    pub(super) coordinator: HostedCoordinator,
}

/// The broker that an error names as the coordinator.
pub(super) fn hint_of(error: &ApiError) -> Option<u32> {
    error.metadata.get(HINT)?.parse().ok()
}

fn not_available(detail: &str) -> ApiError {
    ApiError::new(
        Reason::CoordinatorNotAvailable,
        format!("the group has no coordinator at the moment: {detail}"),
    )
    .retry_after(RETRY_SOON)
}

impl Context {
    /// The coordinator of a group, if it is led here.
    ///
    /// # Errors
    /// `NOT_COORDINATOR` with who is, `COORDINATOR_NOT_AVAILABLE`, and what the controller says where the coordinators are to be made first.
    pub(super) async fn place_of(&self, group: &str) -> Result<Place, ApiError> {
        let topic = self.coordinators().await?;
        let index = coordinator_of(group, topic.partitions.len());
        self.place_at(&topic, index).await
    }

    /// All coordinators, each as [`place_of`](Self::place_of).
    pub(super) async fn places(
        &self,
    ) -> Result<Vec<(PartitionIndex, Result<Place, ApiError>)>, ApiError> {
        let topic = self.coordinators().await?;
        let mut places = Vec::with_capacity(topic.partitions.len());
        for (index, _) in topic.numbered() {
            places.push((index, self.place_at(&topic, index).await));
        }
        Ok(places)
    }

    /// The topic whose partitions are the coordinators. The first who asks has it made.
    async fn coordinators(&self) -> Result<Arc<Topic>, ApiError> {
        if let Some(topic) = self.cluster.image().coordinators() {
            return Ok(Arc::clone(topic));
        }
        let create = controller::Command::CreateCoordinators {
            topic_id: TopicId(Uuid::new_v4()),
            count: self.config.groups.coordinators,
            avoid: std::collections::BTreeSet::new(),
        };
        self.controller.ask(create).await?;
        let image = self.cluster.image();
        let topic = image.coordinators().cloned();
        topic.ok_or_else(|| not_available("this broker has not heard of it yet"))
    }

    async fn place_at(&self, topic: &Topic, index: PartitionIndex) -> Result<Place, ApiError> {
        let deadline =
            Instant::now() + Duration::from_millis(u64::from(self.config.fetch.leader_wait_ms));
        let is_here = topic
            .partition(index)
            .is_some_and(|placed| placed.replica_on(self.broker).is_some());
        let coordinator = loop {
            if let Some(coordinator) = self.hosted.load().coordinator(index) {
                break coordinator.clone();
            }
            if !is_here {
                return Err(self.elsewhere(topic, index, None));
            }
            if Instant::now() >= deadline {
                return Err(not_available(
                    "its replica on this broker is not started yet",
                ));
            }
            tokio::time::sleep(START_PAUSE).await;
        };
        let shared = &coordinator.partition.shared;
        let changed = Arc::new(Notify::new());
        let _watch = shared.watch(Arc::clone(&changed));
        coordinator.partition.wake_if_cold();
        loop {
            match shared.standing() {
                Standing::Serving { .. } => return Ok(Place { index, coordinator }),
                Standing::Following {
                    leader: Some(_), ..
                }
                | Standing::Quarantined => {
                    return Err(self.elsewhere(topic, index, Some(&coordinator)));
                }
                Standing::Opening { .. } | Standing::Following { leader: None, .. } => {}
            }
            if tokio::time::timeout_at(deadline, changed.notified())
                .await
                .is_err()
            {
                return Err(self.elsewhere(topic, index, Some(&coordinator)));
            }
        }
    }

    /// The answer where another broker, or nobody, coordinates.
    fn elsewhere(
        &self,
        topic: &Topic,
        index: PartitionIndex,
        hosted: Option<&HostedCoordinator>,
    ) -> ApiError {
        let hosted = hosted.map(|hosted| hosted.partition.as_ref());
        let known = topic
            .partition(index)
            .map(|placed| self.leaders.of(placed, hosted).0);
        match known.flatten().filter(|leader| *leader != self.broker) {
            Some(leader) => not_coordinator(leader),
            None => not_available("one is being elected"),
        }
    }

    /// Asks a coordinator.
    ///
    /// # Errors
    /// What it refuses; `NOT_COORDINATOR` with who is, where that changed; `REQUEST_TIMED_OUT` when the outcome is not known.
    pub(super) async fn ask(
        &self,
        place: &Place,
        command: Command,
        bytes: usize,
    ) -> Result<coordinator::Response, ApiError> {
        let (reply, answer) = Reply::once();
        place
            .coordinator
            .send(command, COMMAND_BYTES + bytes, reply);
        let timeout = Duration::from_millis(u64::from(self.config.requests.timeout_ms));
        let error = match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(Ok(replica::Response::Coordinator(response)))) => return Ok(response),
            Ok(Ok(Ok(_))) => return Err(super::answer::unexpected()),
            Ok(Ok(Err(replica::Error::Refused(refusal)))) => {
                refusals::of_raft_to_coordinator(&refusal)
            }
            Ok(Ok(Err(error))) => refusals::of_replica(error),
            Ok(Err(_)) | Err(_) => ApiError::new(
                Reason::RequestTimedOut,
                "the coordinator did not answer in time: what was asked may have been done, or may yet be",
            ),
        };
        Err(self.with_coordinator(place, error))
    }

    /// Makes sure that a coordinator is still led here, as of now.
    ///
    /// # Errors
    /// As [`ask`](Self::ask); all are definite.
    pub(super) async fn confirm_leadership(&self, place: &Place) -> Result<(), ApiError> {
        let (answer, answered) = oneshot::channel();
        let group = place.coordinator.partition.group;
        let asked = place
            .coordinator
            .partition
            .shards
            .operate(group, Operation::ReadIndex { group, answer });
        asked.map_err(|error| not_available(&error.to_string()))?;
        let timeout = Duration::from_millis(u64::from(self.config.requests.timeout_ms));
        let error = match tokio::time::timeout(timeout, answered).await {
            Ok(Ok(Ok(_))) => return Ok(()),
            Ok(Ok(Err(raft::Error::Refused(refusal)))) => {
                refusals::of_raft_to_coordinator(&refusal)
            }
            Ok(Ok(Err(error))) => not_available(&error.to_string()),
            Ok(Err(_)) | Err(_) => not_available("it heard from no majority in time"),
        };
        Err(self.with_coordinator(place, error))
    }

    /// The error with the coordinator, where it says that this broker is not the one to ask.
    fn with_coordinator(&self, place: &Place, error: ApiError) -> ApiError {
        if error.reason != Reason::NotCoordinator {
            return error;
        }
        match self.cluster.image().coordinators() {
            Some(topic) => self.elsewhere(topic, place.index, Some(&place.coordinator)),
            None => error,
        }
    }
}

fn not_coordinator(leader: BrokerId) -> ApiError {
    ApiError::new(
        Reason::NotCoordinator,
        format!("broker {leader} coordinates the group: ask it"),
    )
    .with(HINT, leader)
    .retry_after(RETRY_SOON)
}
