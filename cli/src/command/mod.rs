//! The commands, one file each: its options, `run`, and what it prints.

pub(crate) mod bench;
pub(crate) mod cluster;
pub(crate) mod completion;
pub(crate) mod consume;
mod consume_group;
pub(crate) mod declared;
pub(crate) mod dev;
pub(crate) mod group;
pub(crate) mod man;
pub(crate) mod produce;
pub(crate) mod profile;
pub(crate) mod tls;
pub(crate) mod top;
pub(crate) mod topic;
