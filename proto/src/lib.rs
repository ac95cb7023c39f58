//! The protocol of Highwater: gRPC messages, ids, error codes and the record batch codec.
//!
//! This crate is pure: it does no input or output and knows no other crate of the workspace.
