//! `highwater diff` and `highwater apply`: topics as files say them.
//!
//! [`mod@file`] reads what is wanted, [`plan`] compares it with what there is and says the steps from one to the other,
//! [`report`] shows them; all three do no input or output. [`survey`] asks the cluster what there is, and whether it
//! would take the steps; only [`apply`] has them taken.

pub(crate) mod apply;
pub(crate) mod diff;
mod file;
mod plan;
mod report;
mod request;
mod sources;
mod survey;
