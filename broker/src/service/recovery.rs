//! Partitions that nobody leads: what is left of them, and how they begin again.

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_proto::{ApiError, BrokerId, PartitionIndex, Reason, v1};
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};
use tracing::warn;
use v1::recovery_service_server::RecoveryService;

use super::Context;
use super::metadata::replica_brokers;
use crate::authorize::{Operation, Principal, Resource, authorize};
use crate::controller::{Command, Partition, RecoverPartition, Replica, Topic};
use crate::hosted::{HostedPartition, parse_topic_id, unknown_topic};
use crate::partition::Standing;
use crate::raft::{self, ReplicaId, ReplicaStatus};

/// Brokers that one request may name: more than a partition has replicas.
const MAX_BROKERS: usize = 64;

/// The recovery service.
#[derive(Clone)]
pub(crate) struct Recovery {
    context: Arc<Context>,
}

impl Recovery {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// Whether nobody leads a partition, as its replica here knows. What leaders announced says nothing of their end, so that a
    /// broker without a replica knows only whether anybody is left who could tell.
    fn is_leaderless(&self, topic: &Topic, index: PartitionIndex, partition: &Partition) -> bool {
        let leaders = &self.context.leaders;
        let hosted = self.context.hosted.load();
        let Some(here) = hosted.get(topic.id, index) else {
            // Who has lost its own replica cannot tell, and must not keep the others from it.
            let me = self.context.broker;
            let mut lost = partition.replicas.iter();
            if lost.any(|at| at.broker == me && partition.lost.contains(&at.id))
                || hosted
                    .lost()
                    .any(|(id, at, _)| (id, at) == (topic.id, index))
            {
                return true;
            }
            let mut replicas = partition.replicas.iter();
            return !replicas.any(|replica| leaders.is_up(replica.broker));
        };
        match here.shared.standing() {
            Standing::Serving { .. } | Standing::Opening { .. } => false,
            Standing::Following { leader, .. } => {
                let leads = |at: &&Replica| Some(at.id) == leader;
                let leader = partition.replicas.iter().find(leads);
                !leader.is_some_and(|leader| leaders.is_up(leader.broker))
            }
            Standing::Quarantined => true,
        }
    }

    async fn describe(
        &self,
        topic: &Topic,
        index: PartitionIndex,
        partition: &Partition,
    ) -> v1::LeaderlessPartition {
        let hosted = self.context.hosted.load();
        let here = hosted.get(topic.id, index).cloned();
        let replica = match here {
            Some(here) => state(&here).await,
            None => None,
        };
        v1::LeaderlessPartition {
            partition: Some(v1::TopicPartition {
                topic: topic.name.clone(),
                topic_id: topic.id.as_bytes().to_vec().into(),
                partition: index.0,
            }),
            epoch: partition.epoch,
            replica_broker_ids: replica_brokers(partition),
            replica,
        }
    }

    /// The command that a request asks for.
    fn command(&self, request: &v1::RecoverPartitionRequest) -> Result<RecoverPartition, ApiError> {
        let named = request.partition.as_ref().ok_or_else(|| {
            ApiError::new(
                Reason::InvalidRequest,
                "`partition` is missing: name topic and partition",
            )
        })?;
        if request.lost_broker_ids.len() > MAX_BROKERS {
            let message = format!("`lost_broker_ids` names more than {MAX_BROKERS} brokers");
            return Err(ApiError::new(Reason::InvalidRequest, message));
        }
        let index = PartitionIndex(named.partition);
        let image = self.context.cluster.image();
        let topic = image
            .topic_named(&named.topic)
            .ok_or_else(|| unknown_topic(&named.topic))?;
        let partition = topic.partition(index).ok_or_else(|| {
            let message = format!("topic {} has no partition {index}", topic.name);
            ApiError::new(Reason::UnknownTopicOrPartition, message)
        })?;
        let survivor = partition.replica_on(self.context.broker);
        if survivor.is_none_or(|survivor| survivor.id.0 != request.replica_id) {
            let message = format!(
                "replica {} is not on this broker: ask the one that holds it, which knows whether somebody leads it",
                request.replica_id
            );
            return Err(ApiError::new(Reason::InvalidRequest, message));
        }
        if !self.is_leaderless(topic, index, partition) {
            let message = format!(
                "partition {index} of topic {} is led: nothing has to be given up",
                topic.name
            );
            return Err(ApiError::new(Reason::PolicyViolation, message));
        }
        let topic_id = match named.topic_id.is_empty() {
            true => None,
            false => Some(parse_topic_id(&named.topic_id)?),
        };
        Ok(RecoverPartition {
            topic: named.topic.clone(),
            topic_id,
            partition: index,
            epoch: request.epoch,
            survivor: ReplicaId(request.replica_id),
            lost: request
                .lost_broker_ids
                .iter()
                .copied()
                .map(BrokerId)
                .collect::<BTreeSet<_>>(),
            log_end_offset: request.log_end_offset,
        })
    }
}

#[tonic::async_trait]
impl RecoveryService for Recovery {
    async fn describe_leaderless(
        &self,
        request: Request<v1::DescribeLeaderlessRequest>,
    ) -> Result<Response<v1::DescribeLeaderlessResponse>, Status> {
        authorize(
            &Principal::Anonymous,
            Operation::Describe,
            Resource::Cluster,
        )?;
        let wanted = request.into_inner().topics;
        self.context.check_names(&wanted)?;
        let image = self.context.cluster.image();
        let mut partitions = Vec::new();
        for topic in image.topics() {
            if !wanted.is_empty() && !wanted.contains(&topic.name) {
                continue;
            }
            for (index, partition) in topic.numbered() {
                if self.is_leaderless(topic, index, partition) {
                    partitions.push(self.describe(topic, index, partition).await);
                }
            }
        }
        Ok(Response::new(v1::DescribeLeaderlessResponse { partitions }))
    }

    async fn recover_partition(
        &self,
        request: Request<v1::RecoverPartitionRequest>,
    ) -> Result<Response<v1::RecoverPartitionResponse>, Status> {
        authorize(&Principal::Anonymous, Operation::Alter, Resource::Cluster)?;
        let command = self.command(&request.into_inner())?;
        let told = command.clone();
        self.context
            .controller
            .ask(Command::RecoverPartition(command))
            .await?;
        warn!(
            topic = told.topic,
            partition = %told.partition,
            replica = told.survivor.0,
            lost = ?told.lost.iter().map(|broker| broker.0).collect::<Vec<_>>(),
            log_end_offset = told.log_end_offset,
            "a partition begins again with one replica; what was acknowledged behind its log is given up"
        );
        Ok(Response::new(v1::RecoverPartitionResponse {}))
    }
}

/// What the replica here holds.
async fn state(here: &HostedPartition) -> Option<v1::ReplicaState> {
    let group = here.group;
    let (answer, answered) = oneshot::channel();
    let asked = raft::Operation::Status { group, answer };
    here.shards.operate(group, asked).ok()?;
    let status: ReplicaStatus = answered.await.ok()??;
    Some(v1::ReplicaState {
        replica_id: status.replica.0,
        is_voter: status.members.voters.contains(&status.replica)
            || status.members.outgoing.contains(&status.replica),
        last_term: status.last_term.0,
        last_index: status.last.0,
        log_start_offset: here.shared.log_start().0,
        log_end_offset: status.next_offset.0,
        high_watermark: here.shared.high_watermark().0,
        failure: status
            .failure
            .map(|failure| failure.reason)
            .unwrap_or_default(),
    })
}
