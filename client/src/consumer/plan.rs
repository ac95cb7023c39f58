//! What a consumer's rules and the shell around them say to each other: what to do now, and what brokers sent.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use highwater_proto::{ApiError, Offset, TopicId};

use super::feed::FeedId;
use crate::Start;

/// A partition as of one assignment or seek: results that name another are too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cursor {
    /// Place among the assigned partitions.
    pub(crate) place: usize,
    pub(super) generation: u64,
}

/// One partition in an assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) topic: Arc<str>,
    pub(crate) topic_id: TopicId,
    pub(crate) partition: u32,
    pub(crate) offset: Offset,
    pub(crate) max_bytes: u32,
    pub(crate) leader_epoch: u64,
}

/// What to tell the broker of a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Assign {
        id: u64,
        allow_follower: bool,
        reads: Vec<Read>,
    },
    Credit {
        bytes: u64,
    },
}

/// A feed to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) feed: FeedId,
    pub(crate) address: String,
}

/// An offset to look up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Locate {
    pub(crate) cursor: Cursor,
    pub(crate) topic: Arc<str>,
    pub(crate) partition: u32,
    pub(crate) start: Start,
}

/// What to do now.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) opens: Vec<Open>,
    /// Feeds that nothing is read through any more.
    pub(crate) closes: Vec<FeedId>,
    /// Feeds for whose broker there is something: see [`super::core::Core::ask`].
    pub(crate) asks: Vec<FeedId>,
    pub(crate) locates: Vec<Locate>,
    pub(crate) wants_metadata: bool,
    /// Whether metadata is wanted that is not older than half of [`FEED_PATIENCE`](crate::doubt::FEED_PATIENCE).
    pub(crate) doubts: bool,
    /// The topics to watch from now on, when these have changed.
    pub(crate) watch: Option<Vec<String>>,
    /// When to ask again, if nothing happens before.
    pub(crate) wake_at: Option<Instant>,
}

impl Plan {
    pub(super) fn wake_by(&mut self, at: Instant) {
        self.wake_at = Some(self.wake_at.map_or(at, |wake_at| wake_at.min(at)));
    }
}

/// A message of a broker.
#[derive(Debug)]
pub(crate) struct Pushed {
    pub(crate) assignment_id: u64,
    pub(crate) credit_used_bytes: u64,
    pub(crate) partitions: Vec<PushedPartition>,
}

/// What a message says of one partition.
#[derive(Debug)]
pub(crate) struct PushedPartition {
    pub(crate) topic_id: TopicId,
    pub(crate) partition: u32,
    pub(crate) result: Result<Fetched, ApiError>,
}

/// What was read of one partition.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) batches: Vec<Bytes>,
    pub(crate) next_offset: Offset,
}
