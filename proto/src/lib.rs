//! The protocol of Highwater: gRPC messages, ids, error codes and the record batch codec.
//!
//! This crate is pure: it does no input or output and knows no other crate of the workspace.

pub mod batch;
mod codec;
mod error;
mod ids;
mod reason;

/// Messages and services for clients, generated from `proto/highwater/v1`.
#[allow(
    missing_docs,
    clippy::all,
    unreachable_pub,
    clippy::cast_possible_truncation
)]
pub mod v1 {
    tonic::include_proto!("highwater.v1");
}

/// Messages between brokers and in their logs, generated from `proto/highwater/internal/v1`.
pub mod internal {
    /// Version 1.
    #[allow(
        missing_docs,
        clippy::all,
        unreachable_pub,
        clippy::cast_possible_truncation
    )]
    pub mod v1 {
        tonic::include_proto!("highwater.internal.v1");
    }
}

/// What a listener that takes TLS only says to those who begin without, as the debug data of an HTTP/2 GOAWAY or in an HTTP/1
/// answer.
pub const TLS_ONLY: &str = "connections are taken with TLS only";

pub use codec::{SizedCodec, SizedEncoder};
pub use error::{ApiError, ERROR_DOMAIN, is_unsent, never_left};
pub use ids::{
    BrokerId, Offset, PartitionIndex, ProducerEpoch, ProducerId, ReplicaId, Sequence, TopicId,
};
pub use reason::{Reason, UnknownReason};

/// How many batches of an idempotent producer each partition remembers, so that it recognises one that is sent again. A
/// producer has at most that many of a partition on their way.
pub const REMEMBERED_BATCHES: usize = 16;

/// The compiled `.proto` files as an encoded `FileDescriptorSet`, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/highwater.binpb"));
