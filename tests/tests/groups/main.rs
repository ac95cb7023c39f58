//! What a program sees that reads as a member of a consumer group, from the client crate and a broker in one process.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod api;
mod by_key;
mod commits;
mod membership;
mod reset;
mod stage;
