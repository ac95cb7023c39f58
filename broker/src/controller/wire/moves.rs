//! Commands and answers about replicas.

use highwater_proto::internal::v1 as wire;
use highwater_proto::{BrokerId, PartitionIndex};
use wire::execute_request::Command as WireCommand;
use wire::execute_response::Result as WireResult;

use super::{decode_optional, decode_topic_id, encode_optional, encode_uuid};
use crate::controller::command::{
    Command, MembersReport, MoveReplicas, PartitionMove, PlannedMove, Response,
};
use crate::raft::ReplicaId;

pub(super) fn encode_move(command: &MoveReplicas) -> WireCommand {
    let encode = |wanted: &PartitionMove| wire::PartitionMove {
        topic: wanted.topic.clone(),
        topic_id: encode_optional(wanted.topic_id),
        partition: wanted.partition.0,
        broker_ids: encode_brokers(&wanted.brokers),
    };
    WireCommand::MoveReplicas(wire::MoveReplicasCommand {
        moves: command.moves.iter().map(encode).collect(),
        validate_only: command.validate_only,
    })
}

pub(super) fn decode_move(command: wire::MoveReplicasCommand) -> Result<Command, String> {
    let decode = |wanted: wire::PartitionMove| {
        Ok::<_, String>(PartitionMove {
            topic_id: decode_optional(&wanted.topic_id)?,
            topic: wanted.topic,
            partition: PartitionIndex(wanted.partition),
            brokers: decode_brokers(wanted.broker_ids),
        })
    };
    Ok(Command::MoveReplicas(MoveReplicas {
        moves: command
            .moves
            .into_iter()
            .map(decode)
            .collect::<Result<_, _>>()?,
        validate_only: command.validate_only,
    }))
}

pub(super) fn encode_report(report: &MembersReport) -> WireCommand {
    WireCommand::ReportMembers(wire::ReportMembersCommand {
        topic_id: encode_uuid(report.topic_id.0),
        partition: report.partition.0,
        epoch: report.epoch,
        voter_ids: report.voters.iter().map(|id| id.0).collect(),
        learner_ids: report.learners.iter().map(|id| id.0).collect(),
    })
}

pub(super) fn decode_report(report: wire::ReportMembersCommand) -> Result<Command, String> {
    Ok(Command::ReportMembers(MembersReport {
        topic_id: decode_topic_id(&report.topic_id)?,
        partition: PartitionIndex(report.partition),
        epoch: report.epoch,
        voters: report.voter_ids.into_iter().map(ReplicaId).collect(),
        learners: report.learner_ids.into_iter().map(ReplicaId).collect(),
    }))
}

pub(super) fn encode_planned(planned: &[PlannedMove]) -> WireResult {
    let encode = |planned: &PlannedMove| wire::PlannedMove {
        topic: planned.topic.clone(),
        partition: planned.partition.0,
        from_broker_ids: encode_brokers(&planned.from),
        to_broker_ids: encode_brokers(&planned.to),
    };
    WireResult::Moves(wire::MovesResult {
        moves: planned.iter().map(encode).collect(),
    })
}

pub(super) fn decode_planned(planned: wire::MovesResult) -> Response {
    let decode = |planned: wire::PlannedMove| PlannedMove {
        topic: planned.topic,
        partition: PartitionIndex(planned.partition),
        from: decode_brokers(planned.from_broker_ids),
        to: decode_brokers(planned.to_broker_ids),
    };
    Response::Moves(planned.moves.into_iter().map(decode).collect())
}

fn encode_brokers(brokers: &[BrokerId]) -> Vec<u32> {
    brokers.iter().map(|id| id.0).collect()
}

fn decode_brokers(ids: Vec<u32>) -> Vec<BrokerId> {
    ids.into_iter().map(BrokerId).collect()
}
