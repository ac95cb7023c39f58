//! `group explain` and `topic explain`: each cause is provoked, and said by the command as its user runs it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod faults;
mod group;
mod stage;
mod topic;
