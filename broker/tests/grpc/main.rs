//! A whole broker, asked over gRPC.
#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something unexpected happens"
)]

mod bad_input;
mod embedded;
mod fuzz;
mod good_traffic;
mod groups;
mod listeners;
mod memory;
mod metrics;
mod raw_call;
mod serving;
mod subscription;
mod test_broker;
