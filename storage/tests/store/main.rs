//! What the store keeps through crashes, damage and failing disks.
//!
//! [`workload`] drives a store over a simulated disk and writes down in a [`model`] what was asked and when it was promised;
//! [`recovery`] compares what a store finds after a crash with that.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod crash;
mod damage;
mod failure;
mod model;
mod property;
mod recovery;
mod workload;
