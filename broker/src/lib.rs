//! The Highwater broker as a library.
//!
//! [`Broker::start`] runs one inside any Tokio program, as `highwater dev` does; the `highwater-broker` program adds
//! flags, a configuration file and signals.

mod authorize;
mod budget;
pub mod command_line;
pub mod config;
pub mod controller;
mod controller_client;
mod health;
mod hosted;
mod http;
mod metrics;
mod node;
mod offline;
pub mod partition;
mod producer_ids;
pub mod raft;
mod replica;
mod server;
mod service;
pub mod topic;

pub use config::Config;
pub use node::Error;
pub use server::{Addresses, Broker};
