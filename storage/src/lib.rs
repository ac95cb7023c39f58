//! The storage of Highwater: segments, journal, checkpoint and recovery.
//!
//! This crate is synchronous. It knows Raft indexes, terms, offsets and bytes; it knows nothing of Raft or gRPC.

mod checked;
mod checkpoint;
mod config;
mod cursor;
mod directory;
mod error;
pub mod frame;
pub mod fs;
mod identity;
mod ids;
mod inspect;
mod journal;
mod log;
mod numbered;
mod parallel;
mod poison;
mod pool;
mod recovery;
mod repair;
mod run_mark;
mod segment;
mod space;
mod starts;
mod store;
mod succession;

pub use checkpoint::{CapturedLog, Checkpoint};
pub use config::Config;
pub use error::{Error, Result, Scope};
pub use frame::{Frame, FrameKind, NewFrame};
pub use identity::Identity;
pub use ids::{LogId, Offset, RaftIndex, Term};
pub use inspect::{Detail, inspect};
pub use journal::{Ticket, Turn};
pub use log::{
    AppliedState, Batches, Damage, HardState, Log, LogReader, LogSpec, MissingFrames, SegmentInfo,
    Staged, StagedFrom, Staging, Unsynced,
};
pub use repair::{Finding, Repair};
pub use space::Space;
pub use starts::Starts;
pub use store::{Health, Opened, Pressure, RecoveredLog, Store};
pub use succession::{Part, Succession};
