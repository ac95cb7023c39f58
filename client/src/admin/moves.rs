//! Which brokers hold the replicas of partitions, and which brokers there are.

use futures::future::join_all;
use highwater_proto::v1;
use v1::placement_service_client::PlacementServiceClient;

use super::Admin;
use crate::Error;
use crate::cluster::{MAX_RESPONSE_BYTES, Repeat};
use crate::{metadata, offsets};

/// Other replicas for partitions; all of it or nothing. For [`Admin::move_replicas`].
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct Moves {
    request: v1::MoveReplicasRequest,
}

impl Moves {
    /// No partition.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives a partition its replicas on `brokers`, the preferred leader first.
    pub fn partition(mut self, topic: &str, partition: u32, brokers: &[u32]) -> Self {
        self.request.moves.push(v1::PartitionMove {
            partition: Some(named(topic, partition)),
            broker_ids: brokers.to_vec(),
        });
        self
    }

    /// Only checks whether they could be moved.
    pub fn validate_only(mut self) -> Self {
        self.request.validate_only = true;
        self
    }
}

/// Moves go on after the call that began them is answered; [`Admin::moves`] shows them until they are over.
impl Admin {
    /// Gives partitions other replicas. Partitions that have them already are left out of the answer.
    ///
    /// # Errors
    /// `INVALID_REPLICA_ASSIGNMENT`, `REASSIGNMENT_IN_PROGRESS`, `UNKNOWN_TOPIC_OR_PARTITION`.
    pub async fn move_replicas(&self, moves: Moves) -> Result<Vec<v1::PlannedMove>, Error> {
        let repeat = if moves.request.validate_only {
            Repeat::Safe
        } else {
            Repeat::Unsafe
        };
        let answer = ask!(
            self,
            PlacementServiceClient.move_replicas,
            moves.request,
            repeat
        )?;
        Ok(answer.moves)
    }

    /// Gives each partition of a topic so many replicas, on brokers that the controller chooses.
    ///
    /// # Errors
    /// `INVALID_REPLICATION_FACTOR`, `INVALID_CONFIG`, `REASSIGNMENT_IN_PROGRESS`, `UNKNOWN_TOPIC_OR_PARTITION`.
    pub async fn set_replication_factor(
        &self,
        topic: &str,
        replicas: u32,
    ) -> Result<Vec<v1::PlannedMove>, Error> {
        self.replication_factor(topic, replicas, false).await
    }

    /// Checks whether [`Admin::set_replication_factor`] would be done, and changes nothing.
    ///
    /// # Errors
    /// As [`Admin::set_replication_factor`].
    pub async fn validate_replication_factor(
        &self,
        topic: &str,
        replicas: u32,
    ) -> Result<Vec<v1::PlannedMove>, Error> {
        self.replication_factor(topic, replicas, true).await
    }

    async fn replication_factor(
        &self,
        topic: &str,
        replicas: u32,
        validate_only: bool,
    ) -> Result<Vec<v1::PlannedMove>, Error> {
        let request = v1::SetReplicationFactorRequest {
            topic: topic.to_owned(),
            replication_factor: replicas,
            validate_only,
            ..v1::SetReplicationFactorRequest::default()
        };
        let answer = ask!(
            self,
            PlacementServiceClient.set_replication_factor,
            request,
            Repeat::Safe
        )?;
        Ok(answer.moves)
    }

    /// Undoes moves that are under way: of one partition, of a topic, or all. One that is as good as made is finished.
    ///
    /// # Errors
    /// `NO_REASSIGNMENT_IN_PROGRESS`; `POLICY_VIOLATION` for one that a decommissioning began.
    pub async fn cancel_moves(
        &self,
        topic: Option<&str>,
        partition: Option<u32>,
    ) -> Result<Vec<v1::PlannedMove>, Error> {
        let request = v1::CancelMovesRequest {
            topic: topic.unwrap_or_default().to_owned(),
            partition,
        };
        let answer = ask!(
            self,
            PlacementServiceClient.cancel_moves,
            request,
            Repeat::Safe
        )?;
        Ok(answer.moves)
    }

    /// The moves that are under way, of one topic or all. How far each is, the brokers say that lead the partitions; where one
    /// does not answer, that is missing.
    ///
    /// # Errors
    /// The broker cannot be reached; `UNKNOWN_TOPIC_OR_PARTITION`.
    pub async fn moves(&self, topic: Option<&str>) -> Result<Vec<v1::Move>, Error> {
        let request = v1::ListMovesRequest {
            topic: topic.unwrap_or_default().to_owned(),
        };
        let answer = ask!(
            self,
            PlacementServiceClient.list_moves,
            request.clone(),
            Repeat::Safe
        )?;
        let mut moves = answer.moves;
        if moves.is_empty() {
            return Ok(moves);
        }
        let brokers = self.metadata(&[]).await?.brokers;
        let asked = brokers.iter().filter(|broker| broker.alive).map(|broker| {
            let request = request.clone();
            async move {
                let channel = self.cluster.channel(&metadata::address_of(broker)).ok()?;
                let mut client = PlacementServiceClient::new(channel)
                    .max_decoding_message_size(MAX_RESPONSE_BYTES);
                let answer = client.list_moves(self.cluster.short_request(request)).await;
                Some(answer.ok()?.into_inner().moves)
            }
        });
        for seen_there in join_all(asked).await.into_iter().flatten().flatten() {
            let mut here = moves.iter_mut();
            let here = here.find(|here| {
                (&here.topic, here.partition) == (&seen_there.topic, seen_there.partition)
            });
            if let Some(here) = here
                && seen_there.progress.is_some()
            {
                here.progress = seen_there.progress;
            }
        }
        Ok(moves)
    }

    /// Has another broker lead a partition: `to`, or the one that keeps up best.
    ///
    /// # Errors
    /// `INVALID_REPLICA_ASSIGNMENT` where it has no replica there, `NOT_ENOUGH_REPLICAS` where that does not keep up.
    pub async fn transfer_leader(
        &self,
        topic: &str,
        partition: u32,
        to: Option<u32>,
    ) -> Result<(), Error> {
        let request = v1::TransferLeaderRequest {
            partition: Some(named(topic, partition)),
            to_broker_id: to,
        };
        let transfer = |channel| {
            let request = self.cluster.request(request.clone());
            async move {
                let mut client = PlacementServiceClient::new(channel);
                client.transfer_leader(request).await?;
                Ok(())
            }
        };
        offsets::at_leader(&self.cluster, topic, partition, transfer).await
    }

    /// Moves everything off a broker and then removes it from the cluster. Answers what has to move.
    ///
    /// # Errors
    /// `POLICY_VIOLATION` where the other brokers are not enough; `INVALID_REQUEST` for a broker that is not there.
    pub async fn decommission_broker(&self, broker: u32) -> Result<Vec<v1::PlannedMove>, Error> {
        self.decommission(broker, false).await
    }

    /// Checks whether [`Admin::decommission_broker`] would be done, and changes nothing.
    ///
    /// # Errors
    /// As [`Admin::decommission_broker`].
    pub async fn validate_decommission(&self, broker: u32) -> Result<Vec<v1::PlannedMove>, Error> {
        self.decommission(broker, true).await
    }

    async fn decommission(
        &self,
        broker_id: u32,
        validate_only: bool,
    ) -> Result<Vec<v1::PlannedMove>, Error> {
        let request = v1::DecommissionBrokerRequest {
            broker_id,
            validate_only,
        };
        let answer = ask!(
            self,
            PlacementServiceClient.decommission_broker,
            request,
            Repeat::Safe
        )?;
        Ok(answer.moves)
    }

    /// Lets a broker stay that is being decommissioned, and undoes the moves that were begun for it.
    ///
    /// # Errors
    /// `POLICY_VIOLATION` where it is not being decommissioned.
    pub async fn cancel_decommission(&self, broker: u32) -> Result<Vec<v1::PlannedMove>, Error> {
        let request = v1::CancelDecommissionRequest { broker_id: broker };
        let answer = ask!(
            self,
            PlacementServiceClient.cancel_decommission,
            request,
            Repeat::Unsafe
        )?;
        Ok(answer.moves)
    }

    /// Lets an empty data directory take the place of a broker that is down and whose own is lost for good. With
    /// `validate_only` that is only checked.
    ///
    /// # Errors
    /// `POLICY_VIOLATION` while the broker is up; `INVALID_REQUEST` for one that is not there.
    pub async fn replace_broker(&self, broker: u32, validate_only: bool) -> Result<(), Error> {
        let request = v1::ReplaceBrokerRequest {
            broker_id: broker,
            validate_only,
        };
        ask!(
            self,
            PlacementServiceClient.replace_broker,
            request,
            Repeat::Safe
        )
        .map(drop)
    }
}

fn named(topic: &str, partition: u32) -> v1::TopicPartition {
    v1::TopicPartition {
        topic: topic.to_owned(),
        partition,
        ..v1::TopicPartition::default()
    }
}
