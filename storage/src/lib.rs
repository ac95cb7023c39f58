//! The storage of Highwater: segments, journal, checkpoint and recovery.
//!
//! This crate is synchronous. It knows Raft indexes, terms, offsets and bytes; it knows nothing of Raft or gRPC.

pub mod frame;
pub mod fs;
mod ids;

pub use frame::{Frame, FrameKind, NewFrame};
pub use ids::{LogId, Offset, RaftIndex, Term};
