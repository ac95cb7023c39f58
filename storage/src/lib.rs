//! The storage of Highwater: segments, journal, checkpoint and recovery.
//!
//! This crate is synchronous. It knows Raft indexes, terms, offsets and bytes; it knows nothing of Raft or gRPC.
