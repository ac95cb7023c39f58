//! The Highwater broker as a library.

mod authorize;
mod budget;
pub mod config;
pub mod controller;
mod health;
mod http;
pub mod partition;
pub mod raft;
mod server;

pub use config::Config;
