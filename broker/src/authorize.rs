//! One place that says who may do what. Every method of every service asks here before it looks at anything else.
//!
//! Left out: identities and rules. Until a listener can authenticate its clients, everybody is [`Principal::Anonymous`]
//! and may do everything, and a broker listens on loopback addresses only unless it is told otherwise.

use highwater_proto::ApiError;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Principal {
    /// A client of a listener without authentication.
    Anonymous,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// See that it exists and how it stands.
    Describe,
    /// Read records.
    Read,
    /// Append records.
    Write,
    /// Make a topic.
    Create,
    /// Change configuration or partitions.
    Alter,
    /// Remove topics or records.
    Delete,
}

/// What it is to be done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource<'a> {
    /// The cluster as a whole.
    Cluster,
    /// A topic by its name.
    Topic(&'a str),
    /// A consumer group by its id.
    Group(&'a str),
}

/// Whether `principal` may do `operation` with `resource`.
///
/// # Errors
/// `TOPIC_AUTHORIZATION_FAILED`, `GROUP_AUTHORIZATION_FAILED` or `CLUSTER_AUTHORIZATION_FAILED`. A topic that may not be described must be answered
/// as if it did not exist.
#[expect(
    clippy::unnecessary_wraps,
    reason = "callers must be ready for a refusal"
)]
pub(crate) fn authorize(
    principal: &Principal,
    _operation: Operation,
    _resource: Resource<'_>,
) -> Result<(), ApiError> {
    match principal {
        Principal::Anonymous => Ok(()),
    }
}
