//! Commands and answers as they cross the network between a broker and the active controller.

mod moves;
mod recovery;

use std::collections::BTreeSet;

use bytes::Bytes;
use highwater_proto::internal::v1 as wire;
use highwater_proto::{BrokerId, PartitionIndex, ProducerId, TopicId};
use uuid::Uuid;
use wire::execute_request::Command as WireCommand;
use wire::execute_response::Result as WireResult;

use super::command::{
    AddPartitions, AlterTopic, CancelMoves, Command, CreateTopic, Decommission, DeleteTopic,
    Registration, Response, SetReplicationFactor,
};
use super::encoding::{
    decode_broker, decode_overrides, decode_topic_id, decode_uuid, encode_broker, encode_overrides,
    encode_uuid,
};
use super::image::Broker;
use crate::raft::ReplicaId;

/// A command for another broker to carry out; `None` for founding a cluster, which is nobody else's.
pub(crate) fn encode_command(command: &Command) -> Option<WireCommand> {
    Some(match command {
        Command::Found { .. } | Command::Succeed { .. } => return None,
        Command::RegisterBroker(registration) => {
            WireCommand::RegisterBroker(encode_registration(registration))
        }
        Command::CreateTopic(create) => WireCommand::CreateTopic(wire::CreateTopicCommand {
            topic_id: encode_uuid(create.topic_id.0),
            name: create.name.clone(),
            partitions: create.partitions,
            replication_factor: create.replication_factor,
            configs: encode_overrides(&create.configs),
            validate_only: create.validate_only,
        }),
        Command::AlterTopic(alter) => WireCommand::AlterTopic(wire::AlterTopicCommand {
            name: alter.name.clone(),
            topic_id: encode_optional(alter.topic_id),
            set: encode_overrides(&alter.set),
            unset: alter.unset.clone(),
            validate_only: alter.validate_only,
        }),
        Command::AddPartitions(add) => WireCommand::AddPartitions(wire::AddPartitionsCommand {
            name: add.name.clone(),
            topic_id: encode_optional(add.topic_id),
            total: add.total,
            validate_only: add.validate_only,
        }),
        Command::DeleteTopic(delete) => WireCommand::DeleteTopic(wire::DeleteTopicCommand {
            name: delete.name.clone(),
            topic_id: encode_optional(delete.topic_id),
        }),
        Command::CreateCoordinators {
            topic_id,
            count,
            avoid: _,
        } => WireCommand::CreateCoordinators(wire::CreateCoordinatorsCommand {
            topic_id: encode_uuid(topic_id.0),
            count: *count,
        }),
        Command::ReportDeletion { topic_id, broker } => {
            WireCommand::ReportDeletion(wire::TopicDeletionReported {
                topic_id: encode_uuid(topic_id.0),
                broker_id: broker.0,
            })
        }
        Command::GrantProducerIds { broker } => {
            WireCommand::GrantProducerIds(wire::GrantProducerIdsCommand {
                broker_id: broker.0,
            })
        }
        Command::MoveReplicas(command) => moves::encode_move(command),
        Command::SetReplicationFactor(command) => {
            WireCommand::SetReplicationFactor(wire::SetReplicationFactorCommand {
                topic: command.topic.clone(),
                topic_id: encode_optional(command.topic_id),
                replication_factor: command.replication_factor,
                validate_only: command.validate_only,
            })
        }
        Command::ReplaceReplica {
            topic_id,
            partition,
            replica,
        } => WireCommand::ReplaceReplica(wire::ReplaceReplicaCommand {
            topic_id: encode_uuid(topic_id.0),
            partition: partition.0,
            replica_id: replica.0,
        }),
        Command::RecoverPartition(command) => recovery::encode_recover(command),
        Command::ReportRecovery(report) => recovery::encode_report(report),
        Command::CancelMoves(command) => WireCommand::CancelMoves(wire::CancelMovesCommand {
            topic: command.topic.clone(),
            partition: command.partition.map(|index| index.0),
        }),
        Command::ReportMembers(report) => moves::encode_report(report),
        Command::ReportRemoval { replica, broker } => {
            WireCommand::ReportRemoval(wire::ReportRemovalCommand {
                replica_id: replica.0,
                broker_id: broker.0,
            })
        }
        Command::Decommission(command) => WireCommand::Decommission(wire::DecommissionCommand {
            broker_id: command.broker.0,
            validate_only: command.validate_only,
        }),
        Command::CancelDecommission { broker } => {
            WireCommand::CancelDecommission(wire::CancelDecommissionCommand {
                broker_id: broker.0,
            })
        }
        Command::AllowReplacement {
            broker,
            validate_only,
            ..
        } => WireCommand::AllowReplacement(wire::AllowReplacementCommand {
            broker_id: broker.0,
            validate_only: *validate_only,
        }),
        Command::ContinueMoves { .. } => WireCommand::ContinueMoves(wire::ContinueMovesCommand {}),
        Command::RemoveBroker { broker } => WireCommand::RemoveBroker(wire::RemoveBrokerCommand {
            broker_id: broker.0,
        }),
    })
}

/// The command that was sent. The error says what is wrong with it.
pub(crate) fn decode_command(command: WireCommand) -> Result<Command, String> {
    Ok(match command {
        WireCommand::RegisterBroker(broker) => {
            Command::RegisterBroker(decode_registration(broker)?)
        }
        WireCommand::CreateTopic(create) => Command::CreateTopic(CreateTopic {
            topic_id: decode_topic_id(&create.topic_id)?,
            name: create.name,
            partitions: create.partitions,
            replication_factor: create.replication_factor,
            configs: decode_overrides(create.configs),
            avoid: BTreeSet::new(),
            validate_only: create.validate_only,
        }),
        WireCommand::AlterTopic(alter) => Command::AlterTopic(AlterTopic {
            name: alter.name,
            topic_id: decode_optional(&alter.topic_id)?,
            set: decode_overrides(alter.set),
            unset: alter.unset,
            validate_only: alter.validate_only,
        }),
        WireCommand::AddPartitions(add) => Command::AddPartitions(AddPartitions {
            name: add.name,
            topic_id: decode_optional(&add.topic_id)?,
            total: add.total,
            avoid: BTreeSet::new(),
            validate_only: add.validate_only,
        }),
        WireCommand::DeleteTopic(delete) => Command::DeleteTopic(DeleteTopic {
            name: delete.name,
            topic_id: decode_optional(&delete.topic_id)?,
        }),
        WireCommand::CreateCoordinators(create) => Command::CreateCoordinators {
            topic_id: decode_topic_id(&create.topic_id)?,
            count: create.count,
            avoid: BTreeSet::new(),
        },
        WireCommand::ReportDeletion(report) => Command::ReportDeletion {
            topic_id: decode_topic_id(&report.topic_id)?,
            broker: BrokerId(report.broker_id),
        },
        WireCommand::GrantProducerIds(grant) => Command::GrantProducerIds {
            broker: BrokerId(grant.broker_id),
        },
        WireCommand::MoveReplicas(command) => moves::decode_move(command)?,
        WireCommand::SetReplicationFactor(command) => {
            Command::SetReplicationFactor(SetReplicationFactor {
                topic: command.topic,
                topic_id: decode_optional(&command.topic_id)?,
                replication_factor: command.replication_factor,
                avoid: BTreeSet::new(),
                validate_only: command.validate_only,
            })
        }
        WireCommand::ReplaceReplica(command) => Command::ReplaceReplica {
            topic_id: decode_topic_id(&command.topic_id)?,
            partition: PartitionIndex(command.partition),
            replica: ReplicaId(command.replica_id),
        },
        WireCommand::RecoverPartition(command) => recovery::decode_recover(command)?,
        WireCommand::ReportRecovery(report) => recovery::decode_report(report)?,
        WireCommand::CancelMoves(command) => Command::CancelMoves(CancelMoves {
            topic: command.topic,
            partition: command.partition.map(PartitionIndex),
            down: BTreeSet::new(),
        }),
        WireCommand::ReportMembers(report) => moves::decode_report(report)?,
        WireCommand::ReportRemoval(report) => Command::ReportRemoval {
            replica: ReplicaId(report.replica_id),
            broker: BrokerId(report.broker_id),
        },
        WireCommand::Decommission(command) => Command::Decommission(Decommission {
            broker: BrokerId(command.broker_id),
            avoid: BTreeSet::new(),
            validate_only: command.validate_only,
        }),
        WireCommand::CancelDecommission(command) => Command::CancelDecommission {
            broker: BrokerId(command.broker_id),
        },
        WireCommand::AllowReplacement(command) => Command::AllowReplacement {
            broker: BrokerId(command.broker_id),
            avoid: BTreeSet::new(),
            validate_only: command.validate_only,
        },
        WireCommand::ContinueMoves(_) => Command::ContinueMoves {
            avoid: BTreeSet::new(),
        },
        WireCommand::RemoveBroker(command) => Command::RemoveBroker {
            broker: BrokerId(command.broker_id),
        },
    })
}

/// An answer.
pub(crate) fn encode_response(response: &Response) -> WireResult {
    match response {
        Response::Done => WireResult::Done(wire::DoneResult {}),
        Response::Registered { controller_replica } => {
            WireResult::BrokerRegistered(wire::BrokerRegisteredResult {
                controller_replica_id: controller_replica.0,
            })
        }
        Response::Superseded { start_number } => WireResult::Superseded(wire::SupersededResult {
            start_number: *start_number,
        }),
        Response::TopicCreated {
            topic_id,
            partitions,
            replication_factor,
        } => WireResult::TopicCreated(wire::TopicCreatedResult {
            topic_id: encode_optional(*topic_id),
            partitions: *partitions,
            replication_factor: *replication_factor,
        }),
        Response::TopicDeleted { topic_id } => WireResult::TopicDeleted(wire::TopicDeletedResult {
            topic_id: encode_uuid(topic_id.0),
        }),
        Response::ProducerIds { first, count } => {
            WireResult::ProducerIds(wire::ProducerIdsResult {
                first_producer_id: first.0,
                count: *count,
            })
        }
        Response::Moves(planned) => moves::encode_planned(planned),
    }
}

/// The answer that was sent. The error says what is wrong with it.
pub(crate) fn decode_response(result: WireResult) -> Result<Response, String> {
    Ok(match result {
        WireResult::Done(_) => Response::Done,
        WireResult::BrokerRegistered(registered) => Response::Registered {
            controller_replica: ReplicaId(registered.controller_replica_id),
        },
        WireResult::Superseded(superseded) => Response::Superseded {
            start_number: superseded.start_number,
        },
        WireResult::TopicCreated(created) => Response::TopicCreated {
            topic_id: decode_optional(&created.topic_id)?,
            partitions: created.partitions,
            replication_factor: created.replication_factor,
        },
        WireResult::TopicDeleted(deleted) => Response::TopicDeleted {
            topic_id: decode_topic_id(&deleted.topic_id)?,
        },
        WireResult::ProducerIds(granted) => Response::ProducerIds {
            first: ProducerId(granted.first_producer_id),
            count: granted.count,
        },
        WireResult::Moves(planned) => moves::decode_planned(planned),
    })
}

/// What a broker says of itself.
pub(crate) fn encode_registration(registration: &Registration) -> wire::Broker {
    wire::Broker {
        lost_controller_replica_id: registration.lost_controller_replica.map(|lost| lost.0),
        is_set_back: registration.is_set_back,
        ..encode_broker(&registration.clone().with_replica(ReplicaId(0)))
    }
}

/// What a broker said of itself. The error says what is wrong with it.
pub(crate) fn decode_registration(broker: wire::Broker) -> Result<Registration, String> {
    let lost_controller_replica = broker.lost_controller_replica_id.map(ReplicaId);
    let is_set_back = broker.is_set_back;
    let Broker {
        id,
        incarnation_id,
        listeners,
        rack,
        controller_replica: _,
        state: _,
        start,
    } = decode_broker(broker)?;
    if id == BrokerId(0) {
        return Err("a broker has no number".to_owned());
    }
    Ok(Registration {
        id,
        incarnation_id,
        listeners,
        rack,
        start,
        lost_controller_replica,
        is_set_back,
    })
}

/// The brokers of a cluster.
pub(crate) fn encode_brokers<'a>(brokers: impl Iterator<Item = &'a Broker>) -> Vec<wire::Broker> {
    brokers.map(encode_broker).collect()
}

/// The brokers of a cluster that were sent. The error says what is wrong with them.
pub(crate) fn decode_brokers(brokers: Vec<wire::Broker>) -> Result<Vec<Broker>, String> {
    brokers.into_iter().map(decode_broker).collect()
}

/// The UUID of a cluster.
pub(crate) fn encode_cluster_id(cluster_id: Uuid) -> Bytes {
    encode_uuid(cluster_id)
}

/// The UUID of a cluster that was sent. The error says what is wrong with it.
pub(crate) fn decode_cluster_id(bytes: &[u8]) -> Result<Uuid, String> {
    decode_uuid(bytes)
}

fn encode_optional(id: Option<TopicId>) -> Bytes {
    id.map(|id| encode_uuid(id.0)).unwrap_or_default()
}

fn decode_optional(bytes: &[u8]) -> Result<Option<TopicId>, String> {
    if bytes.is_empty() {
        return Ok(None);
    }
    decode_topic_id(bytes).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::{Listener, MembersReport, MoveReplicas, PartitionMove, PlannedMove};
    use crate::controller::{RecoverPartition, RecoveryReport};
    use crate::raft::GroupId;

    fn id(number: u128) -> TopicId {
        TopicId(Uuid::from_u128(number))
    }

    fn overrides() -> crate::topic::config_keys::Overrides {
        [("retention.ms".to_owned(), "5".to_owned())].into()
    }

    fn registration() -> Registration {
        Registration {
            id: BrokerId(3),
            incarnation_id: Uuid::from_u128(9),
            listeners: vec![Listener {
                name: "peer".to_owned(),
                host: "::1".to_owned(),
                port: 7411,
            }],
            rack: Some("b".to_owned()),
            start: crate::controller::Start {
                number: 4,
                run_id: 77,
            },
            lost_controller_replica: Some(ReplicaId(12)),
            is_set_back: true,
        }
    }

    #[test]
    fn commands_arrive_as_they_were_given() {
        let create = |partitions, replication_factor| {
            Command::CreateTopic(CreateTopic {
                topic_id: id(1),
                name: "a".to_owned(),
                partitions,
                replication_factor,
                configs: overrides(),
                avoid: BTreeSet::new(),
                validate_only: partitions.is_none(),
            })
        };
        let alter = |topic_id| {
            Command::AlterTopic(AlterTopic {
                name: "a".to_owned(),
                topic_id,
                set: overrides(),
                unset: vec!["segment.ms".to_owned()],
                validate_only: topic_id.is_none(),
            })
        };
        let commands = [
            Command::RegisterBroker(registration()),
            create(None, Some(0)),
            create(Some(0), None),
            alter(None),
            alter(Some(id(2))),
            Command::AddPartitions(AddPartitions {
                name: "a".to_owned(),
                topic_id: Some(id(2)),
                total: 7,
                avoid: BTreeSet::new(),
                validate_only: true,
            }),
            Command::DeleteTopic(DeleteTopic {
                name: "a".to_owned(),
                topic_id: None,
            }),
            Command::CreateCoordinators {
                topic_id: id(2),
                count: 4,
                avoid: BTreeSet::new(),
            },
            Command::ReportDeletion {
                topic_id: id(2),
                broker: BrokerId(3),
            },
            Command::GrantProducerIds {
                broker: BrokerId(3),
            },
            Command::MoveReplicas(MoveReplicas {
                moves: vec![PartitionMove {
                    topic: "a".to_owned(),
                    topic_id: Some(id(2)),
                    partition: PartitionIndex(4),
                    brokers: vec![BrokerId(3), BrokerId(1)],
                }],
                validate_only: true,
            }),
            Command::SetReplicationFactor(SetReplicationFactor {
                topic: "a".to_owned(),
                topic_id: None,
                replication_factor: 5,
                avoid: BTreeSet::new(),
                validate_only: false,
            }),
            Command::ReplaceReplica {
                topic_id: id(2),
                partition: PartitionIndex(4),
                replica: ReplicaId(9),
            },
            Command::RecoverPartition(RecoverPartition {
                topic: "a".to_owned(),
                topic_id: Some(id(2)),
                partition: PartitionIndex(4),
                epoch: 5,
                survivor: ReplicaId(6),
                lost: BTreeSet::from([BrokerId(1), BrokerId(2)]),
                log_end_offset: 7,
            }),
            Command::ReportRecovery(RecoveryReport {
                topic_id: id(2),
                partition: PartitionIndex(4),
                group: GroupId(8),
            }),
            Command::CancelMoves(CancelMoves::default()),
            Command::CancelMoves(CancelMoves {
                topic: Some("a".to_owned()),
                partition: Some(PartitionIndex(0)),
                down: BTreeSet::new(),
            }),
            Command::ReportMembers(MembersReport {
                topic_id: id(2),
                partition: PartitionIndex(4),
                epoch: 6,
                voters: [ReplicaId(7), ReplicaId(8)].into(),
                learners: [ReplicaId(9)].into(),
            }),
            Command::ReportRemoval {
                replica: ReplicaId(9),
                broker: BrokerId(3),
            },
            Command::Decommission(Decommission {
                broker: BrokerId(3),
                avoid: BTreeSet::new(),
                validate_only: true,
            }),
            Command::CancelDecommission {
                broker: BrokerId(3),
            },
            Command::AllowReplacement {
                broker: BrokerId(3),
                avoid: BTreeSet::new(),
                validate_only: true,
            },
            Command::ContinueMoves {
                avoid: BTreeSet::new(),
            },
            Command::RemoveBroker {
                broker: BrokerId(3),
            },
        ];
        for command in commands {
            let sent = encode_command(&command).unwrap();
            assert_eq!(decode_command(sent), Ok(command));
        }
    }

    #[test]
    fn answers_arrive_as_they_were_given() {
        for response in [
            Response::Done,
            Response::Registered {
                controller_replica: ReplicaId(7),
            },
            Response::Superseded { start_number: 8 },
            Response::TopicCreated {
                topic_id: None,
                partitions: 3,
                replication_factor: 2,
            },
            Response::TopicCreated {
                topic_id: Some(id(4)),
                partitions: 3,
                replication_factor: 2,
            },
            Response::TopicDeleted { topic_id: id(4) },
            Response::ProducerIds {
                first: ProducerId(5),
                count: 6,
            },
            Response::Moves(vec![PlannedMove {
                topic: "a".to_owned(),
                partition: PartitionIndex(4),
                from: vec![BrokerId(1), BrokerId(2)],
                to: vec![BrokerId(3)],
            }]),
        ] {
            assert_eq!(decode_response(encode_response(&response)), Ok(response));
        }
    }

    #[test]
    fn nobody_founds_a_cluster_elsewhere() {
        let found = Command::Found {
            cluster_id: Uuid::from_u128(1),
            feature_level: 1,
            founder: registration(),
        };
        assert_eq!(encode_command(&found), None);
        let cluster_id = Uuid::from_u128(2);
        assert_eq!(encode_command(&Command::Succeed { cluster_id }), None);
    }

    #[test]
    fn what_names_nobody_is_refused() {
        let broken = |change: fn(&mut wire::Broker)| {
            let mut broker = encode_registration(&registration());
            change(&mut broker);
            decode_registration(broker).unwrap_err()
        };
        broken(|broker| broker.broker_id = 0);
        broken(|broker| broker.incarnation_id = Bytes::from_static(b"short"));
        broken(|broker| broker.listeners[0].port = 70_000);
    }
}
