//! The machines that this broker's shards run: one type for all of them, because a shard owns groups of every kind.

use std::sync::Arc;

use bytes::Bytes;
use highwater_storage::{Offset, RaftIndex};

use crate::controller::{self, ControllerReplica};
use crate::coordinator::{self, CoordinatorReplica};
use crate::partition::{self, PartitionReplica, PartitionShared};
use crate::raft::machine::{
    CommittedEntry, Decision, Machine, NewEntry, Refusal, Role, Timestamp, Unlawful,
};

/// A replica of some group.
#[derive(Debug)]
pub enum Replica {
    /// Of the controller group.
    Controller(Box<ControllerReplica>),
    /// Of a partition.
    Partition(Box<PartitionReplica>),
    /// Of a coordinator of consumer groups.
    Coordinator {
        /// Its rules.
        replica: Box<CoordinatorReplica>,
        /// Where everybody sees who leads it, as that of a partition.
        shared: Arc<PartitionShared>,
    },
}

/// A command for some group.
#[derive(Debug)]
pub enum Command {
    /// For the controller.
    Controller(controller::Command),
    /// For a partition.
    Partition(partition::Command),
    /// For a coordinator.
    Coordinator(coordinator::Command),
}

/// The answer of some group.
#[derive(Debug)]
pub enum Response {
    /// Of the controller.
    Controller(controller::Response),
    /// Of a partition.
    Partition(partition::Response),
    /// Of a coordinator.
    Coordinator(coordinator::Response),
}

/// The refusal of some group.
#[derive(Debug)]
pub enum Error {
    /// Of the controller.
    Controller(controller::Error),
    /// Of a partition.
    Partition(partition::Error),
    /// Of a coordinator.
    Coordinator(coordinator::Error),
    /// Of the Raft layer, or because the command was for another kind of group.
    Refused(Refusal),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Calls the same method of whatever the replica is.
macro_rules! each {
    ($replica:expr, $machine:ident => $call:expr) => {
        match $replica {
            Replica::Controller($machine) => $call,
            Replica::Partition($machine) => $call,
            Replica::Coordinator {
                replica: $machine, ..
            } => $call,
        }
    };
}

impl Machine for Replica {
    type Command = Command;
    type Response = Response;
    type Error = Error;

    fn decide(
        &self,
        command: Command,
        next_index: RaftIndex,
        now: Timestamp,
    ) -> Result<Decision<Response>, Error> {
        match (self, command) {
            (Self::Controller(machine), Command::Controller(command)) => machine
                .decide(command, next_index, now)
                .map(|decision| decided(decision, Response::Controller))
                .map_err(Error::Controller),
            (Self::Partition(machine), Command::Partition(command)) => machine
                .decide(command, next_index, now)
                .map(|decision| decided(decision, Response::Partition))
                .map_err(Error::Partition),
            (Self::Coordinator { replica, .. }, Command::Coordinator(command)) => replica
                .decide(command, next_index, now)
                .map(|decision| decided(decision, Response::Coordinator))
                .map_err(Error::Coordinator),
            _ => Err(Error::Refused(Refusal::UnknownGroup)),
        }
    }

    fn proposed(&mut self, index: RaftIndex, entry: &NewEntry) {
        each!(self, machine => machine.proposed(index, entry));
    }

    fn retract(&mut self, from: RaftIndex) {
        each!(self, machine => machine.retract(from));
    }

    fn apply(&mut self, entry: &CommittedEntry) -> Result<(), Unlawful> {
        each!(self, machine => machine.apply(entry))
    }

    fn apply_lost(
        &mut self,
        index: RaftIndex,
        base_offset: Offset,
        record_count: u32,
    ) -> Result<(), Unlawful> {
        each!(self, machine => machine.apply_lost(index, base_offset, record_count))
    }

    fn snapshot(&self) -> Bytes {
        each!(self, machine => machine.snapshot())
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String> {
        each!(self, machine => machine.restore(snapshot))
    }

    fn log_start(&self) -> Offset {
        each!(self, machine => machine.log_start())
    }

    fn snapshot_replaces_log(&self) -> bool {
        each!(self, machine => machine.snapshot_replaces_log())
    }

    fn role_changed(&mut self, role: Role) {
        if let Self::Coordinator { shared, .. } = self {
            // Who is woken by what follows looks there.
            shared.set_role(role);
        }
        each!(self, machine => machine.role_changed(role));
    }

    fn publish(&mut self) {
        each!(self, machine => machine.publish());
    }
}

fn decided<R>(decision: Decision<R>, wrap: impl FnOnce(R) -> Response) -> Decision<Response> {
    match decision {
        Decision::Propose { entries, response } => Decision::Propose {
            entries,
            response: wrap(response),
        },
        Decision::Answer { response, after } => Decision::Answer {
            response: wrap(response),
            after,
        },
    }
}
