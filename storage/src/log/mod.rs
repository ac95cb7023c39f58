//! Logs: one replica's frames, in segments.

#[expect(clippy::module_inception, reason = "the noun of this folder")]
mod log;
mod reader;
mod state;

pub use log::Log;
pub use reader::{Batches, LogReader};
pub use state::{AppliedState, Damage, HardState, LogSpec, MissingFrames, SegmentInfo};
