//! What happens to the promises of a cluster of three brokers when its processes, its disks or its network fail.
//!
//! Every test runs the real program three times, with a network between the brokers that can be cut. The load notes
//! everything that its clients see, and the checker judges it at the end. `HIGHWATER_TEST_ROUNDS` sets how often the tests
//! do again what they are about.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod behind;
mod chaos;
mod client_crate;
mod controller_damage;
mod damage;
mod founding;
mod freeze;
mod group_processes;
mod groups;
mod identity;
mod kill;
mod moves;
mod partition;
mod recover;
mod removal;
mod restart;
mod scene;
mod topics;
