//! Which brokers hold the replicas of partitions, and which brokers there are: the controller decides, leaders carry it out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use highwater_proto::{ApiError, BrokerId, PartitionIndex, Reason, v1};
use tokio::sync::{Notify, oneshot};
use tonic::{Request, Response, Status};
use tracing::info;
use v1::placement_service_server::PlacementService;

use super::Context;
use crate::authorize::{Operation, Principal, Resource, authorize};
use crate::controller::{
    self, CancelMoves, Command, Decommission, MoveReplicas, Partition, PartitionMove, PlannedMove,
    SetReplicationFactor,
};
use crate::controller_client::unexpected;
use crate::hosted::{HostedPartition, parse_topic_id, unknown_topic};
use crate::raft::machine::Role;
use crate::raft::{self, ReplicaId, ReplicaStatus};

/// The placement service.
#[derive(Clone)]
pub(crate) struct Placement {
    context: Arc<Context>,
}

impl Placement {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// Has the controller change replicas, and answers which.
    async fn change(&self, command: Command) -> Result<Vec<v1::PlannedMove>, ApiError> {
        match self.context.controller.ask(command).await? {
            controller::Response::Moves(planned) => {
                Ok(planned.into_iter().map(planned_move).collect())
            }
            _ => Err(unexpected()),
        }
    }

    /// A change that is under way, with what this broker knows of it.
    async fn describe(
        &self,
        topic: &controller::Topic,
        index: PartitionIndex,
        partition: &Partition,
    ) -> v1::Move {
        let moving = partition.reassignment.as_ref();
        let hosted = self.context.hosted.load();
        let progress = match hosted.replica(topic.id, index) {
            Some(here) => progress(here, partition).await,
            None => None,
        };
        v1::Move {
            topic: topic.name.clone(),
            partition: index.0,
            from_broker_ids: ids(&mut partition.replicas.iter()),
            to_broker_ids: ids(&mut moving.iter().flat_map(|moving| &moving.target)),
            adding_broker_ids: ids(&mut partition.adding()),
            removing_broker_ids: ids(&mut partition.removing()),
            is_cancelled: moving.is_some_and(|moving| moving.is_cancelled),
            progress,
        }
    }

    /// The replica that is to lead a partition instead of the one here.
    fn successor(
        &self,
        here: &HostedPartition,
        wanted: Option<BrokerId>,
    ) -> Result<ReplicaId, ApiError> {
        let context = &self.context;
        let image = context.cluster.image();
        let partition = image.partition(here.topic.id, here.index);
        let partition = partition.ok_or_else(|| unknown_topic(&here.topic.name))?;
        let leader = context.leaders.table.get(here.group);
        let in_sync = leader.map_or_else(Default::default, |leader| leader.in_sync);
        let mut others = partition
            .coming()
            .iter()
            .chain(partition.everybody())
            .filter(|replica| replica.broker != context.broker);
        let name = format!("partition {} of topic {}", here.index, here.topic.name);
        let is_alone = partition
            .everybody()
            .all(|replica| replica.broker == context.broker);
        if is_alone {
            let problem = format!("{name} has no other replica that could lead it");
            return Err(ApiError::new(Reason::InvalidReplicaAssignment, problem));
        }
        let Some(wanted) = wanted else {
            let keeps_up = others.find(|replica| in_sync.contains(&replica.id));
            return keeps_up.map(|replica| replica.id).ok_or_else(|| {
                let problem =
                    format!("{name} has no other replica that keeps up and could lead it");
                ApiError::new(Reason::NotEnoughReplicas, problem)
            });
        };
        let Some(replica) = others.find(|replica| replica.broker == wanted) else {
            let problem = format!("{name} has no replica on broker {wanted}");
            return Err(ApiError::new(Reason::InvalidReplicaAssignment, problem));
        };
        if in_sync.contains(&replica.id) {
            return Ok(replica.id);
        }
        let problem = format!(
            "the replica of {name} on broker {wanted} does not keep up: it can lead when it has caught up"
        );
        Err(ApiError::new(Reason::NotEnoughReplicas, problem))
    }

    /// Hands leadership over, where this broker has it.
    async fn hand_over(
        &self,
        here: &HostedPartition,
        wanted: Option<BrokerId>,
    ) -> Result<(), ApiError> {
        let standing = here.shared.standing();
        if !standing.is_serving() {
            let refusal = raft::machine::Refusal::NotLeader { leader: None };
            return Err(self
                .context
                .with_leader_of(here, super::refusals::of_raft(&refusal)));
        }
        if wanted == Some(self.context.broker) {
            return Ok(());
        }
        let to = self.successor(here, wanted)?;
        let changed = Arc::new(Notify::new());
        let _watch = here.shared.watch(Arc::clone(&changed));
        let group = here.group;
        here.shards
            .operate(group, raft::Operation::TransferLeader { group, to })
            .map_err(|error| ApiError::new(Reason::Throttled, error.to_string()))?;
        let timeout = Duration::from_millis(u64::from(self.context.config.requests.timeout_ms));
        let handed_over = async {
            while here.shared.standing() == standing {
                changed.notified().await;
            }
        };
        tokio::time::timeout(timeout, handed_over).await.map_err(|_| {
            ApiError::new(
                Reason::RequestTimedOut,
                "the other replica did not take over in time: this broker leads the partition still, and it may yet be taken over",
            )
        })
    }
}

/// How far the new replicas of a partition are, where it is led here.
async fn progress(here: &HostedPartition, partition: &Partition) -> Option<v1::CopyProgress> {
    let (answer, answered) = oneshot::channel();
    let group = here.group;
    let status = raft::Operation::Status { group, answer };
    here.shards.operate(group, status).ok()?;
    let status: ReplicaStatus = answered.await.ok()??;
    if !matches!(status.role, Role::Leader { .. }) {
        return None;
    }
    let adding: BTreeSet<_> = partition.adding().map(|replica| replica.id).collect();
    let has = |id: &ReplicaId| {
        let mut followers = status.followers.iter();
        let found = followers.find(|follower| follower.replica == *id);
        found.map_or(0, |follower| follower.matched.0)
    };
    Some(v1::CopyProgress {
        entries_copied: adding.iter().map(has).min()?,
        entries: status.commit.0,
    })
}

fn ids(replicas: &mut dyn Iterator<Item = &controller::Replica>) -> Vec<u32> {
    replicas.map(|replica| replica.broker.0).collect()
}

fn planned_move(planned: PlannedMove) -> v1::PlannedMove {
    let ids = |brokers: Vec<BrokerId>| brokers.into_iter().map(|id| id.0).collect();
    v1::PlannedMove {
        topic: planned.topic,
        partition: planned.partition.0,
        from_broker_ids: ids(planned.from),
        to_broker_ids: ids(planned.to),
    }
}

/// What is asked for a partition.
fn wanted_move(wanted: v1::PartitionMove) -> Result<PartitionMove, ApiError> {
    let named = wanted.partition.ok_or_else(|| {
        ApiError::new(
            Reason::InvalidRequest,
            "`partition` is missing: name topic and partition",
        )
    })?;
    Ok(PartitionMove {
        topic_id: if named.topic_id.is_empty() {
            None
        } else {
            Some(parse_topic_id(&named.topic_id)?)
        },
        topic: named.topic,
        partition: PartitionIndex(named.partition),
        brokers: wanted.broker_ids.into_iter().map(BrokerId).collect(),
    })
}

fn may(operation: Operation, resource: Resource<'_>) -> Result<(), ApiError> {
    authorize(&Principal::Anonymous, operation, resource)
}

#[tonic::async_trait]
impl PlacementService for Placement {
    async fn move_replicas(
        &self,
        request: Request<v1::MoveReplicasRequest>,
    ) -> Result<Response<v1::MoveReplicasResponse>, Status> {
        may(Operation::Alter, Resource::Cluster)?;
        let request = request.into_inner();
        let most = self.context.config.admin.max_items;
        let count = request.moves.len();
        if count > most {
            return Err(ApiError::new(
                Reason::LimitExceeded,
                format!("the request holds {count} partitions, admin.max_items allows {most}"),
            )
            .with("limit", "admin.max_items")
            .with("most", most)
            .into());
        }
        let command = Command::MoveReplicas(MoveReplicas {
            moves: request
                .moves
                .into_iter()
                .map(wanted_move)
                .collect::<Result<_, _>>()?,
            validate_only: request.validate_only,
        });
        let moves = self.change(command).await?;
        Ok(Response::new(v1::MoveReplicasResponse { moves }))
    }

    async fn set_replication_factor(
        &self,
        request: Request<v1::SetReplicationFactorRequest>,
    ) -> Result<Response<v1::SetReplicationFactorResponse>, Status> {
        let request = request.into_inner();
        may(Operation::Alter, Resource::Topic(&request.topic))?;
        let command = Command::SetReplicationFactor(SetReplicationFactor {
            topic_id: if request.topic_id.is_empty() {
                None
            } else {
                Some(parse_topic_id(&request.topic_id)?)
            },
            topic: request.topic,
            replication_factor: request.replication_factor,
            avoid: BTreeSet::new(),
            validate_only: request.validate_only,
        });
        let moves = self.change(command).await?;
        Ok(Response::new(v1::SetReplicationFactorResponse { moves }))
    }

    async fn cancel_moves(
        &self,
        request: Request<v1::CancelMovesRequest>,
    ) -> Result<Response<v1::CancelMovesResponse>, Status> {
        may(Operation::Alter, Resource::Cluster)?;
        let request = request.into_inner();
        if request.topic.is_empty() && request.partition.is_some() {
            let problem = "a partition is named without its topic";
            return Err(ApiError::new(Reason::InvalidRequest, problem).into());
        }
        let command = Command::CancelMoves(CancelMoves {
            topic: (!request.topic.is_empty()).then_some(request.topic),
            partition: request.partition.map(PartitionIndex),
            down: BTreeSet::new(),
        });
        let moves = self.change(command).await?;
        Ok(Response::new(v1::CancelMovesResponse { moves }))
    }

    async fn list_moves(
        &self,
        request: Request<v1::ListMovesRequest>,
    ) -> Result<Response<v1::ListMovesResponse>, Status> {
        may(Operation::Describe, Resource::Cluster)?;
        let image = self.context.newest_image(&request).await?;
        let named = request.into_inner().topic;
        if !named.is_empty() && image.topic_named(&named).is_none() {
            return Err(unknown_topic(&named).into());
        }
        let mut moves = Vec::new();
        for (topic, index, partition) in image.reassigned() {
            let is_meant = named.is_empty() || topic.name == named;
            if is_meant && may(Operation::Describe, Resource::Topic(&topic.name)).is_ok() {
                moves.push(self.describe(topic, index, partition).await);
            }
        }
        Ok(Response::new(v1::ListMovesResponse { moves }))
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::TransferLeaderResponse>, Status> {
        let request = request.into_inner();
        let here = self.context.find(request.partition.as_ref())?;
        may(Operation::Alter, Resource::Topic(&here.topic.name))?;
        self.hand_over(&here, request.to_broker_id.map(BrokerId))
            .await?;
        info!(partition = ?here, "leadership was handed over");
        Ok(Response::new(v1::TransferLeaderResponse {}))
    }

    async fn decommission_broker(
        &self,
        request: Request<v1::DecommissionBrokerRequest>,
    ) -> Result<Response<v1::DecommissionBrokerResponse>, Status> {
        may(Operation::Alter, Resource::Cluster)?;
        let request = request.into_inner();
        let command = Command::Decommission(Decommission {
            broker: BrokerId(request.broker_id),
            avoid: BTreeSet::new(),
            validate_only: request.validate_only,
        });
        let moves = self.change(command).await?;
        Ok(Response::new(v1::DecommissionBrokerResponse { moves }))
    }

    async fn cancel_decommission(
        &self,
        request: Request<v1::CancelDecommissionRequest>,
    ) -> Result<Response<v1::CancelDecommissionResponse>, Status> {
        may(Operation::Alter, Resource::Cluster)?;
        let broker = BrokerId(request.into_inner().broker_id);
        let moves = self.change(Command::CancelDecommission { broker }).await?;
        Ok(Response::new(v1::CancelDecommissionResponse { moves }))
    }

    async fn replace_broker(
        &self,
        request: Request<v1::ReplaceBrokerRequest>,
    ) -> Result<Response<v1::ReplaceBrokerResponse>, Status> {
        may(Operation::Alter, Resource::Cluster)?;
        let request = request.into_inner();
        let command = Command::AllowReplacement {
            broker: BrokerId(request.broker_id),
            avoid: BTreeSet::new(),
            validate_only: request.validate_only,
        };
        self.context.controller.ask(command).await?;
        Ok(Response::new(v1::ReplaceBrokerResponse {}))
    }
}
