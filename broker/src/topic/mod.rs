//! What a topic is configured to: the names that people set, and the values that partitions go by.
//!
//! The controller checks and keeps what was set; partitions and their upkeep read [`TopicConfig`].

mod config;
pub mod config_keys;

pub use config::{TimestampType, TopicConfig};
