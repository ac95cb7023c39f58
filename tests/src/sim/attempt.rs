//! What a client waits for.

use std::fmt;

use bytes::Bytes;
use highwater_broker::partition::{Command, TrimTo};
use highwater_broker::raft::GroupId;
use highwater_proto::batch::BatchHeader;
use highwater_storage::Offset;

use super::ledger::BatchNumber;

/// One request on its way to a broker, and who hears of it.
#[derive(Clone, Debug)]
pub(super) enum Attempt {
    /// Of a producer.
    Produce {
        /// Its place among the producers.
        producer: usize,
        group: GroupId,
        number: BatchNumber,
        batch: Bytes,
        header: BatchHeader,
        /// No offset below this is possible.
        floor: u64,
        /// Whether nobody waits any more. What is acknowledged counts nevertheless.
        is_given_up: bool,
    },
    /// Of somebody who wants records gone.
    Trim { group: GroupId, to: Offset },
}

impl Attempt {
    pub(super) fn group(&self) -> GroupId {
        match self {
            Self::Produce { group, .. } | Self::Trim { group, .. } => *group,
        }
    }

    /// Whether nobody waits for it any more.
    pub(super) fn is_given_up(&self) -> bool {
        matches!(
            self,
            Self::Produce {
                is_given_up: true,
                ..
            }
        )
    }

    /// The command, and the memory that it holds.
    pub(super) fn command(&self) -> (Command, usize) {
        match self {
            Self::Produce { batch, header, .. } => (
                Command::Produce {
                    batch: batch.clone(),
                    header: *header,
                },
                batch.len(),
            ),
            Self::Trim { to, .. } => (
                Command::Trim {
                    to: TrimTo::Offset(*to),
                },
                0,
            ),
        }
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Produce {
                producer,
                number,
                header,
                is_given_up,
                ..
            } => {
                let number = number.0;
                let waits = if *is_given_up { ", given up" } else { "" };
                write!(
                    f,
                    "batch {number} of producer {producer}{waits}: {header:?}"
                )
            }
            Self::Trim { group, to } => write!(f, "a trim of group {} to {to}", group.0),
        }
    }
}
