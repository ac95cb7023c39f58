//! Several brokers as one cluster, in one process, over real connections.
#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something unexpected happens"
)]

mod cluster;
mod founding;
mod groups;
mod members;
mod moves;
mod replication;
