//! The Highwater broker as a library.

pub mod config;
pub mod raft;

pub use config::Config;
