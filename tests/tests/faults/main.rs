//! What happens to a broker's promises when its process, its disk or its files fail.
//!
//! Every test runs the real program on a real file system. The load notes everything that its clients see, and the
//! checker judges it at the end. `HIGHWATER_TEST_ROUNDS` sets how often the broker is killed in the tests that do so in
//! a loop.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod client_crate;
mod damage;
mod disk_full;
mod freeze;
mod kill;
mod scene;
mod stop;
mod topics;
