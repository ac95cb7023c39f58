//! Logs: one replica's frames, in segments.

mod append;
mod capture;
pub(crate) mod encoding;
mod entries;
mod frontiers;
mod head;
mod install;
#[expect(clippy::module_inception, reason = "the noun of this folder")]
mod log;
mod reader;
mod repair;
mod shared;
mod staging;
mod state;
mod truncate;

pub(crate) use frontiers::Frontiers;
pub(crate) use head::{Head, take_frame};
pub use log::Log;
pub(crate) use log::{LogParts, Sealed};
pub use reader::{Batches, LogReader};
pub(crate) use shared::{Frontier, LogShared};
pub use staging::{Staged, StagedFrom, Staging, Unsynced};
pub use state::{AppliedState, Damage, HardState, LogSpec, MissingFrames, SegmentInfo};
