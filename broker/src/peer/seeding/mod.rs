//! Frames for replicas that are seeded, from broker to broker: [`raft::seeding`](crate::raft) says what for.
//!
//! - `give` answers another broker's call with a stream of frames. What it holds is bounded: a few pieces, and the window of the stream.
//! - [`Pulls`] carries out what the shards of this broker want: a few pulls at once,
//!   each from the leader's broker, again and again until all is there. What was written stays.
//! - [`Throttle`] says how long each side waits for the sake of what else is written.
//!
//! Both checks who is at the other end as the lanes do. Reads and writes run where blocking is allowed.

mod give;
mod pull;
mod throttle;

pub(super) use give::{Given, give};
pub(super) use pull::{Pulls, PullsSpec};
pub(super) use throttle::Throttle;
