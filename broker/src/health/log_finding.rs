//! What is said of a log that is not whole, and of the replica whose log it is: one wording for all who find that out.

use highwater_proto::PartitionIndex;
use highwater_proto::v1::{HealthFinding, HealthState};
use highwater_storage::LogId;

use super::finding;

/// A log that is not whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogFinding<'a> {
    /// Its id, which is the replica's.
    pub(crate) log: LogId,
    /// The topic and the partition that the replica is one of, where that is known.
    pub(crate) partition: Option<(&'a str, PartitionIndex)>,
    pub(crate) trouble: Trouble<'a>,
    pub(crate) help: Help<'a>,
}

/// What is wrong with it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble<'a> {
    /// What it held is damaged or lost, for this reason.
    Damaged(&'a str),
    /// Something else keeps it from going on, for this reason.
    Failed(&'a str),
    /// It was given up with its data directory.
    Lost,
    /// A new replica is taking its place.
    Replaced,
}

/// What helps.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Help<'a> {
    /// A new replica takes its place.
    Rebuild,
    /// The same, after the change of replicas that is under way.
    RebuildLater,
    /// The others have no majority that could rebuild it.
    RestoreMajority {
        topic: &'a str,
        /// Replicas that the partition has.
        replicas: usize,
        /// Replicas that it should have.
        replication_factor: u32,
    },
    /// Nobody else holds the data: a person has to accept what is lost, with this command.
    AcceptLoss { repair_command: &'a str },
    /// The same, unless others hold the data: that is not known yet.
    RebuildOrAcceptLoss { repair_command: &'a str },
    /// The disk takes nothing.
    CheckDisk,
    /// A person has to look at the program.
    Report,
}

impl Help<'_> {
    fn comes_by_itself(&self) -> bool {
        matches!(self, Self::Rebuild | Self::RebuildLater)
    }

    fn words(&self) -> String {
        match self {
            Self::Rebuild => "It is rebuilt from the others; nothing is to be done".to_owned(),
            Self::RebuildLater => {
                "It is rebuilt from the others when the change of replicas that is under way is over; nothing is to be done".to_owned()
            }
            Self::RestoreMajority {
                topic,
                replicas,
                replication_factor,
            } => {
                let recover = format!(
                    "`highwater cluster recover {topic}` shows what would be lost and asks, then `highwater topic alter {topic} -r \
                     {replication_factor}` makes the other replicas anew"
                );
                if *replicas == 2 {
                    format!(
                        "The other one alone is no majority and cannot rebuild it. To go on with what that one holds: {recover}"
                    )
                } else {
                    format!(
                        "It is rebuilt as soon as a majority of the partition's replicas goes on without it: start the brokers that \
                         hold them. Where they are gone for good: {recover}"
                    )
                }
            }
            Self::AcceptLoss { repair_command } => format!(
                "No other broker holds the partition. What is well of it is served, and it takes no records. To go on without what is \
                 lost, stop the broker and run `{repair_command}`"
            ),
            Self::RebuildOrAcceptLoss { repair_command } => format!(
                "What is well of it is served, and it takes no records. Where other brokers hold its partition it is rebuilt from them; \
                 otherwise stop the broker and run `{repair_command}` to go on without what is lost"
            ),
            Self::CheckDisk => {
                "It takes no more writes. Check the disk, then restart the broker".to_owned()
            }
            Self::Report => "Its data is well, but it cannot go on with it. Please report this with the log of the broker".to_owned(),
        }
    }
}

impl From<LogFinding<'_>> for HealthFinding {
    fn from(found: LogFinding<'_>) -> Self {
        let comes_by_itself = found.help.comes_by_itself();
        let whose = match found.partition {
            Some((topic, index)) => {
                format!(
                    "replica {} of partition {index} of topic {topic}",
                    found.log
                )
            }
            None => format!("log {}", found.log),
        };
        let (reason, what) = match found.trouble {
            Trouble::Damaged(why) => ("LOG_DAMAGED", format!("failed: {why}")),
            Trouble::Failed(why) => ("LOG_FAILED", format!("failed: {why}")),
            Trouble::Lost => {
                let reason = if comes_by_itself {
                    "REPLICA_REBUILDING"
                } else {
                    "REPLICA_LOST"
                };
                let why = "is lost, because the data directory was set back or replaced";
                (reason, why.to_owned())
            }
            Trouble::Replaced => (
                "REPLICA_REBUILDING",
                "is being replaced by a new one".to_owned(),
            ),
        };
        let state = if comes_by_itself {
            HealthState::Warning
        } else {
            HealthState::Critical
        };
        finding(
            state,
            reason,
            format!("{whose} {what}. {}", found.help.words()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(trouble: Trouble<'_>, help: Help<'_>) -> HealthFinding {
        HealthFinding::from(LogFinding {
            log: LogId(7),
            partition: Some(("orders", PartitionIndex(2))),
            trouble,
            help,
        })
    }

    #[test]
    fn a_finding_names_the_replica_what_is_wrong_and_what_helps() {
        let repair_command = "repair it";
        let found = told(
            Trouble::Damaged("a hole"),
            Help::AcceptLoss { repair_command },
        );
        assert_eq!(found.reason, "LOG_DAMAGED");
        for said in [
            "replica 7 of partition 2 of topic orders failed: a hole. ",
            "run `repair it`",
        ] {
            assert!(found.message.contains(said), "{said}: {}", found.message);
        }
        let of_storage = HealthFinding::from(LogFinding {
            log: LogId(7),
            partition: None,
            trouble: Trouble::Failed("no space"),
            help: Help::CheckDisk,
        });
        assert_eq!(of_storage.reason, "LOG_FAILED");
        assert!(
            of_storage
                .message
                .starts_with("log 7 failed: no space. It takes no more writes")
        );
    }

    #[test]
    fn what_mends_itself_is_a_warning_and_the_rest_is_critical() {
        let two = Help::RestoreMajority {
            topic: "orders",
            replicas: 2,
            replication_factor: 3,
        };
        for (trouble, help, reason, state) in [
            (
                Trouble::Lost,
                Help::Rebuild,
                "REPLICA_REBUILDING",
                HealthState::Warning,
            ),
            (Trouble::Lost, two, "REPLICA_LOST", HealthState::Critical),
            (
                Trouble::Replaced,
                Help::Rebuild,
                "REPLICA_REBUILDING",
                HealthState::Warning,
            ),
            (
                Trouble::Failed("x"),
                Help::RebuildLater,
                "LOG_FAILED",
                HealthState::Warning,
            ),
            (
                Trouble::Failed("x"),
                Help::Report,
                "LOG_FAILED",
                HealthState::Critical,
            ),
        ] {
            let found = told(trouble, help);
            assert_eq!(found.reason, reason, "{trouble:?}");
            assert_eq!(found.state(), state, "{trouble:?}: {help:?}");
        }
    }
}
