//! Why a partition does or does not move.
//!
//! [`gather`] asks brokers and coordinator; what they say is put down as [`facts`]; [`partition`] and [`group`] are rules that
//! make one [`Verdict`] of it and are pure. Facts that contradict each other, because they were asked for one after the
//! other, give a verdict all the same: that of the first rule that applies.

pub(crate) mod age;
mod cause;
mod facts;
pub(crate) mod gather;
mod group;
mod partition;
pub(crate) mod report;

pub(crate) use cause::{Cause, Progress, Verdict};
pub(crate) use facts::GroupFacts;
pub(crate) use group::{
    explain_deleted, explain_idle, explain_member, explain_partition, explain_unknown_topic,
};
pub(crate) use partition::explain as explain_topic_partition;

#[cfg(test)]
mod tests;
