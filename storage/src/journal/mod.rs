//! The journal of one data directory: what makes all of its logs durable with one sync.
//!
//! A turn of a shard writes its frames to their segments, into the page cache only, and hands one buffer of records to the journal. The
//! journal writes all that has gathered as one group and syncs once. While one group syncs, the next gathers: there is no timer.
//!
//! Groups are written one after the other, the next only when the last one's sync has ended. So a record is never on disk without those
//! before it: a hard state that says "committed up to 7" stands in the same group as frame 7 or in a later one.
//!
//! Left out: where the frames go when they are read back (recovery), and when the journal may be forgotten (checkpoint).

mod file;
mod group;
mod reader;
mod record;
mod turn;
mod writer;

pub(crate) use file::{DIRECTORY, Location};
pub(crate) use reader::{FrameSource, Scan, scan, scan_closed};
pub(crate) use record::Record;
pub use turn::{Ticket, Turn};
pub(crate) use writer::{Journal, Random, Start};
