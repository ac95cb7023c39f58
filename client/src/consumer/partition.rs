//! What is known of one partition that a consumer reads.

use std::sync::Arc;
use std::time::Instant;

use highwater_proto::{Offset, TopicId};

use super::feed::FeedId;
use crate::Start;
use crate::metadata::Leader;

/// How far the reading of a partition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Its offset is to be looked up.
    ToLocate(Start),
    /// Its offset is being looked up.
    Locating(Start),
    /// It is to be read, from its offset on.
    ToRead,
    /// It is part of what is read through a feed.
    Reading {
        feed: FeedId,
        /// The broker was told so in this assignment; `None` as long as it is not.
        assignment_id: Option<u64>,
        leader: Leader,
        /// Whether the feed is that of a follower nearby.
        is_near: bool,
        /// It has its share of the buffer, and is left out of what the broker is to push.
        is_full: bool,
        since: Instant,
    },
    /// Nothing is read of it until it is resumed, from there.
    Paused(Start),
    /// It failed; only a seek helps.
    Halted,
}

/// A partition that is read.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) topic: Arc<str>,
    pub(super) topic_id: TopicId,
    pub(super) partition: u32,
    pub(super) generation: u64,
    pub(super) state: State,
    /// Next offset to fetch.
    pub(super) offset: Offset,
    /// Where reading began, once that is known.
    pub(super) started_at: Option<Offset>,
    /// In a row.
    pub(super) failures: u32,
    /// How many of the last failures in a row said that it does not exist.
    pub(super) not_found: u32,
    /// The newest epoch of a leader that was asked.
    pub(super) epoch: u64,
    /// A follower nearby could not serve it in this epoch: the leader is asked.
    pub(super) avoids_near: bool,
    pub(super) retry_at: Option<Instant>,
}

impl Partition {
    /// One of which nothing is read yet.
    pub(super) fn new(topic: Arc<str>, topic_id: TopicId, partition: u32) -> Self {
        Self {
            topic,
            topic_id,
            partition,
            generation: 0,
            state: State::Halted,
            offset: Offset(0),
            started_at: None,
            failures: 0,
            not_found: 0,
            epoch: 0,
            avoids_near: false,
            retry_at: None,
        }
    }

    /// What failed before does not count any more.
    pub(super) fn is_well(&mut self) {
        (self.failures, self.not_found) = (0, 0);
    }

    /// The state in which it goes on from `start`.
    pub(super) fn started(&mut self, start: Start) -> State {
        match start {
            Start::Offset(offset) => {
                self.offset = offset;
                self.started_at = Some(offset);
                State::ToRead
            }
            start => State::ToLocate(start),
        }
    }

    pub(super) fn is_in(&self, id: FeedId) -> bool {
        matches!(self.state, State::Reading { feed, .. } if feed == id)
    }

    /// Whether it is left out of what its broker is to push, because it has its share of the buffer.
    pub(super) fn is_full(&self) -> bool {
        matches!(self.state, State::Reading { is_full: true, .. })
    }

    /// Whether what its broker sends in an assignment is what is wanted of it now.
    pub(super) fn follows(&self, id: FeedId, assignment: u64) -> bool {
        matches!(
            self.state,
            State::Reading { feed, assignment_id, .. } if feed == id && assignment_id == Some(assignment)
        )
    }
}
