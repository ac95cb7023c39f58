//! Why a broker does not start.

use highwater_proto::ApiError;

use crate::offline::repair_command;
use crate::{Config, config, raft, tls};

/// Why a broker does not start. The message says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is refused.
    #[error("the configuration cannot be used: {0}")]
    Config(#[from] config::Error),
    /// Certificates or keys cannot be used.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// A listener cannot be bound.
    #[error(transparent)]
    Listen(std::io::Error),
    /// The data directory cannot be opened.
    #[error("cannot open the data directory {data_dir}: {source}{}", open_hint(.source))]
    Open {
        /// Path of the data directory.
        data_dir: String,
        /// What storage said.
        source: highwater_storage::Error,
    },
    /// The data directory belongs to another broker.
    #[error(
        "the data directory belongs to broker {found}, and this is configured as broker {configured}: set broker_id \
         to {found}, or choose another data directory"
    )]
    OtherBroker {
        /// In the data directory.
        found: u64,
        /// Configured.
        configured: u32,
    },
    /// The controller's log is not there or cannot be used.
    #[error(
        "the controller's log in {data_dir} cannot be used, so it is not known what the cluster consists of: {reason}"
    )]
    Controller {
        /// Path of the data directory.
        data_dir: String,
        /// What is wrong, and what to do about it.
        reason: String,
    },
    /// The controller's log is damaged, and no other broker has it.
    #[error(
        "the controller's log in {data_dir} is damaged, so it is not known what the cluster consists of: {reason}. No other \
         broker can have it. To go on without what is lost, run `{}`",
        repair_command(.data_dir)
    )]
    ControllerDamaged {
        /// Path of the data directory.
        data_dir: String,
        /// What is lost.
        reason: String,
    },
    /// The cluster does not take this broker.
    #[error("the cluster does not take this broker: {0}")]
    Join(ApiError),
    /// The cluster has removed this broker, or another data directory took its place.
    #[error(
        "this broker was removed from the cluster, or its place was taken by another data directory: what {data_dir} holds \
         is of no use any more. Delete it when nobody needs it; to be a broker again, start with an empty data directory"
    )]
    Removed {
        /// Path of the data directory.
        data_dir: String,
    },
    /// Storage failed while the broker started.
    #[error("the data directory failed: {0}")]
    Storage(#[from] highwater_storage::Error),
    /// The Raft layer failed while the broker started.
    #[error(transparent)]
    Raft(#[from] raft::Error),
    /// A part of the start panicked.
    #[error("{what} was given up: {reason}")]
    Panicked {
        /// Which part.
        what: &'static str,
        /// What it said.
        reason: String,
    },
}

impl Error {
    /// The cluster has removed the broker with this configuration.
    pub(crate) fn removed(config: &Config) -> Self {
        let data_dir = config.data_dir.display().to_string();
        Self::Removed { data_dir }
    }
}

fn open_hint(error: &highwater_storage::Error) -> &'static str {
    use highwater_storage::Error;
    match error {
        Error::Locked { .. } => ": stop that process first, or choose another data directory",
        Error::NoSpace { .. } => ": free some space first",
        _ => "",
    }
}
