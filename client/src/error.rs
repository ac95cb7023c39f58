//! What can go wrong, and whether trying again is safe.

use std::sync::Arc;
use std::time::Duration;

use highwater_proto::batch::{self, BadBatch};
use highwater_proto::{ApiError, Offset, Reason};

use crate::TlsProblem;

/// A failed operation.
///
/// Two questions matter to a caller that thinks of trying again: [`Error::is_retriable`], can it help; and
/// [`Error::is_definite`], is it certain that nothing happened, so that trying again does nothing twice.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The broker refused, or the connection to it failed.
    #[error(transparent)]
    Api(#[from] ApiError),

    /// No broker could be reached.
    #[error(
        "cannot reach a broker at {addresses}: {problem}. Is one running there? `highwater dev` starts one"
    )]
    Connect {
        /// The addresses tried, separated by commas.
        addresses: String,
        /// What the last one said.
        problem: String,
    },

    /// A broker was reached, and cannot be talked to because of TLS.
    #[error("cannot talk to the broker at {addresses}: {problem}")]
    Tls {
        /// The addresses tried, separated by commas.
        addresses: String,
        /// What is in the way at the last one.
        problem: TlsProblem,
    },

    /// A record was not acknowledged in time. Its last failure, if there was one, is the source.
    #[error(
        "the record was not acknowledged within {} s ({})",
        waited.as_secs_f64(),
        if *maybe_stored { "it may be stored" } else { "it is not stored" }
    )]
    DeliveryTimeout {
        /// The delivery timeout.
        waited: Duration,
        /// Whether an attempt was made whose effect is not known.
        maybe_stored: bool,
        /// Why the last attempt failed.
        #[source]
        last: Option<ApiError>,
    },

    /// The broker refused a record for good.
    #[error(
        "the record was refused{}: {source}",
        if *maybe_stored { ", though an earlier attempt may have stored it" } else { "" }
    )]
    Delivery {
        /// Whether an attempt was made whose effect is not known.
        maybe_stored: bool,
        /// Why.
        source: ApiError,
    },

    /// The record cannot be put into a batch.
    #[error("the record cannot be sent: {0}")]
    Record(Arc<batch::Error>),

    /// A batch that the broker sent contradicts itself. Records before `offset` were delivered.
    #[error("partition {partition} of topic {topic} is damaged at offset {offset}: {problem}")]
    BadBatch {
        /// Topic.
        topic: Arc<str>,
        /// Partition.
        partition: u32,
        /// The first offset that cannot be read.
        offset: Offset,
        /// What is wrong with the batch.
        #[source]
        problem: Arc<batch::Error>,
    },

    /// An item of one partition failed.
    #[error("partition {partition} of topic {topic}: {source}")]
    Partition {
        /// Topic.
        topic: Arc<str>,
        /// Partition.
        partition: u32,
        /// Why.
        source: ApiError,
    },

    /// A setting is out of range, or settings contradict each other.
    #[error("{name}: {problem}")]
    Config {
        /// Name of the setting.
        name: &'static str,
        /// What is wrong with it.
        problem: String,
    },

    /// The partition is not assigned to this consumer.
    #[error("partition {partition} of topic {topic} is not assigned to this consumer")]
    NotAssigned {
        /// Topic.
        topic: Arc<str>,
        /// Partition.
        partition: u32,
    },

    /// The producer or consumer was closed.
    #[error("it is closed")]
    Closed,
}

impl Error {
    /// Whether the same operation can succeed when tried again.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Api(error)
            | Self::Delivery { source: error, .. }
            | Self::Partition { source: error, .. } => error.is_retriable(),
            Self::Connect { .. } | Self::Tls { .. } | Self::DeliveryTimeout { .. } => true,
            Self::Record(_)
            | Self::BadBatch { .. }
            | Self::Config { .. }
            | Self::NotAssigned { .. }
            | Self::Closed => false,
        }
    }

    /// Whether the operation surely had no effect: trying again does nothing twice.
    #[must_use]
    pub fn is_definite(&self) -> bool {
        match self {
            Self::Api(error) | Self::Partition { source: error, .. } => error.is_definite(),
            Self::Delivery { maybe_stored, .. } | Self::DeliveryTimeout { maybe_stored, .. } => {
                !maybe_stored
            }
            Self::Closed => false,
            Self::Connect { .. }
            | Self::Tls { .. }
            | Self::Record(_)
            | Self::BadBatch { .. }
            | Self::Config { .. }
            | Self::NotAssigned { .. } => true,
        }
    }

    /// The stable reason, as the broker names it or would.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Api(error)
            | Self::Delivery { source: error, .. }
            | Self::Partition { source: error, .. } => error.reason,
            Self::Connect { .. } | Self::Tls { .. } => Reason::BrokerNotAvailable,
            Self::DeliveryTimeout { .. } => Reason::RequestTimedOut,
            Self::Record(error) => error.reason(),
            Self::BadBatch { .. } => Reason::DataLoss,
            Self::Config { .. } => Reason::InvalidConfig,
            Self::NotAssigned { .. } => Reason::InvalidRequest,
            Self::Closed => Reason::ShuttingDown,
        }
    }

    pub(crate) fn bad_batch(topic: Arc<str>, partition: u32, bad: BadBatch) -> Self {
        Self::BadBatch {
            topic,
            partition,
            offset: bad.record_offset,
            problem: Arc::new(bad.source),
        }
    }

    pub(crate) fn config(name: &'static str, problem: impl Into<String>) -> Self {
        Self::Config {
            name,
            problem: problem.into(),
        }
    }
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        Self::Api(ApiError::from(status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_says_whether_the_record_may_be_stored() {
        let timeout = |maybe_stored| Error::DeliveryTimeout {
            waited: Duration::from_secs(120),
            maybe_stored,
            last: None,
        };
        assert!(!timeout(true).is_definite() && timeout(false).is_definite());
        assert!(timeout(true).to_string().contains("may be stored"));
        assert!(timeout(false).to_string().contains("120 s"));
    }

    #[test]
    fn errors_of_brokers_keep_their_judgement() {
        for reason in Reason::ALL {
            let error = Error::from(ApiError::new(*reason, "x").into_status());
            assert_eq!(error.reason(), *reason);
            assert_eq!(error.is_retriable(), reason.is_retriable());
            assert_eq!(error.is_definite(), reason.is_definite());
        }
    }
}
