//! What a failure says of what a replica holds: what helps depends on it.

use highwater_storage::{Error as StorageError, Scope};

use super::Error;

/// What is wrong with a quarantined replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ailment {
    /// What it held is damaged or lost: it must not vote with the rest.
    Damaged,
    /// The disk failed under its log, which takes no more writes.
    LogFailed,
    /// The disk failed under what all logs of the data directory need: nothing is written there any more.
    DirectoryFailed,
    /// Its rules do not go on. What it holds is well, and any other replica may fail at the same place.
    Stuck,
    /// It was stopped.
    Stopped,
}

impl From<&Error> for Ailment {
    fn from(error: &Error) -> Self {
        match error {
            Error::Damaged { .. } => Self::Damaged,
            Error::LogFailed { .. } => Self::LogFailed,
            Error::DirectoryFailed { .. } => Self::DirectoryFailed,
            Error::Storage(error) => Self::of_storage(error),
            Error::Stopped => Self::Stopped,
            _ => Self::Stuck,
        }
    }
}

impl Ailment {
    fn of_storage(error: &StorageError) -> Self {
        match error {
            StorageError::Damaged { .. } | StorageError::Corrupt { .. } => Self::Damaged,
            StorageError::Io(_) => Self::LogFailed,
            StorageError::Poisoned { scope, .. } => match scope {
                Scope::Log(_) => Self::LogFailed,
                Scope::Directory => Self::DirectoryFailed,
            },
            _ => Self::Stuck,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::ReplicaId;

    #[test]
    fn a_damaged_log_is_told_from_a_failed_disk_and_from_rules_that_do_not_go_on() {
        let replica = ReplicaId(1);
        let reason = String::new;
        let of = |error: Error| Ailment::from(&error);
        assert_eq!(
            of(Error::Damaged {
                replica,
                reason: reason()
            }),
            Ailment::Damaged
        );
        let corrupt = StorageError::Corrupt {
            path: reason(),
            reason: reason(),
        };
        assert_eq!(of(corrupt.into()), Ailment::Damaged);
        let poisoned = |scope| StorageError::Poisoned {
            scope,
            reason: "".into(),
        };
        assert_eq!(
            of(poisoned(Scope::Log(highwater_storage::LogId(1))).into()),
            Ailment::LogFailed
        );
        assert_eq!(
            of(poisoned(Scope::Directory).into()),
            Ailment::DirectoryFailed
        );
        assert_eq!(
            of(Error::Machine {
                replica,
                reason: reason()
            }),
            Ailment::Stuck
        );
    }
}
