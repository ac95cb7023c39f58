//! Commands about partitions that begin again.

use highwater_proto::internal::v1 as wire;
use highwater_proto::{BrokerId, PartitionIndex};
use wire::execute_request::Command as WireCommand;

use super::{decode_optional, decode_topic_id, encode_optional, encode_uuid};
use crate::controller::command::{Command, RecoverPartition, RecoveryReport};
use crate::raft::{GroupId, ReplicaId};

pub(super) fn encode_recover(command: &RecoverPartition) -> WireCommand {
    WireCommand::RecoverPartition(wire::RecoverPartitionCommand {
        topic: command.topic.clone(),
        topic_id: encode_optional(command.topic_id),
        partition: command.partition.0,
        epoch: command.epoch,
        survivor_replica_id: command.survivor.0,
        lost_broker_ids: command.lost.iter().map(|id| id.0).collect(),
        log_end_offset: command.log_end_offset,
    })
}

pub(super) fn decode_recover(command: wire::RecoverPartitionCommand) -> Result<Command, String> {
    Ok(Command::RecoverPartition(RecoverPartition {
        topic_id: decode_optional(&command.topic_id)?,
        topic: command.topic,
        partition: PartitionIndex(command.partition),
        epoch: command.epoch,
        survivor: ReplicaId(command.survivor_replica_id),
        lost: command.lost_broker_ids.into_iter().map(BrokerId).collect(),
        log_end_offset: command.log_end_offset,
    }))
}

pub(super) fn encode_report(report: &RecoveryReport) -> WireCommand {
    WireCommand::ReportRecovery(wire::ReportRecoveryCommand {
        topic_id: encode_uuid(report.topic_id.0),
        partition: report.partition.0,
        group_id: report.group.0,
    })
}

pub(super) fn decode_report(report: wire::ReportRecoveryCommand) -> Result<Command, String> {
    Ok(Command::ReportRecovery(RecoveryReport {
        topic_id: decode_topic_id(&report.topic_id)?,
        partition: PartitionIndex(report.partition),
        group: GroupId(report.group_id),
    }))
}
