//! Whether a partition may begin again with one of its replicas.
//!
//! A person decided that the others are gone for good; here is checked that this is about the partition as it is now, and
//! that it cannot go on without.

use std::collections::BTreeSet;

use super::{ControllerMachine, Decided, propose};
use crate::controller::command::{RecoverPartition, RecoveryReport, Response};
use crate::controller::error::Error;
use crate::controller::event::Event;
use crate::controller::partition::Recovery;
use crate::raft::machine::Decision;

impl ControllerMachine {
    pub(super) fn recover_partition(&self, command: &RecoverPartition) -> Decided {
        let view = self.view();
        let topic = self.find(&command.topic, command.topic_id)?;
        let index = command.partition;
        let partition = topic.partition(index).ok_or(Error::UnknownPartition {
            topic: topic.name.clone(),
            partition: index,
        })?;
        let cannot = |problem: String| {
            let (topic, partition) = (topic.name.clone(), index);
            Err(Error::CannotRecover {
                topic,
                partition,
                problem,
            })
        };
        if partition.epoch != command.epoch {
            return cannot("its replicas changed since it was looked at: look again".to_owned());
        }
        let mut replicas = partition.replicas.iter();
        let Some(survivor) = replicas.find(|at| at.id == command.survivor) else {
            return cannot(format!(
                "replica {} is none of its replicas",
                command.survivor.0
            ));
        };
        if partition.lost.contains(&survivor.id) || command.lost.contains(&survivor.broker) {
            return cannot(format!("replica {} is lost", survivor.id.0));
        }
        let held_by: BTreeSet<_> = partition.replicas.iter().map(|at| at.broker).collect();
        if let Some(stranger) = command.lost.difference(&held_by).next() {
            return cannot(format!("broker {stranger} holds no replica of it"));
        }
        let left = partition.replicas.len() - command.lost.len();
        if left * 2 > partition.replicas.len() {
            return cannot(format!(
                "{left} of its {} replicas are left, which is a majority: nothing has to be given up",
                partition.replicas.len()
            ));
        }
        let recovered = Event::PartitionRecovered {
            topic_id: topic.id,
            partition: index,
            group: view.next.group,
            survivor: survivor.id,
            recovery: Recovery {
                lost: command.lost.clone(),
                log_end_offset: command.log_end_offset,
                has_begun: false,
            },
        };
        Ok(propose(&[recovered], Response::Done))
    }

    /// A report may come twice, or when the partition is another one.
    pub(super) fn report_recovery(&self, report: &RecoveryReport) -> Decision<Response> {
        let partition = self.view().partition(report.topic_id, report.partition);
        let recovery = partition
            .filter(|partition| partition.group == report.group)
            .and_then(|partition| partition.recovery.as_ref());
        if recovery.is_none_or(|recovery| recovery.has_begun) {
            return self.unchanged(Response::Done);
        }
        let reported = Event::RecoveryReported {
            topic_id: report.topic_id,
            partition: report.partition,
        };
        propose(&[reported], Response::Done)
    }
}
