//! What a producer's rules tell the shell around them to do.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use highwater_proto::TopicId;
use highwater_proto::batch::{BatchBuilder, ProducerStamp};

use super::outcome::{Outcome, Stored};
use super::pipeline::ConnectionId;
use crate::Error;

/// The body of a batch to send.
#[derive(Debug)]
pub(crate) enum Body {
    /// To be encoded and stamped; the bytes go to [`super::core::Core::encoded`].
    Gathered(BatchBuilder, Option<ProducerStamp>),
    /// To be sent as it is.
    Encoded(Bytes),
    /// To be stamped anew; the bytes go to [`super::core::Core::encoded`].
    Restamp(Bytes, ProducerStamp),
}

/// A batch to send now.
#[derive(Debug)]
pub(crate) struct Send {
    pub(crate) connection: ConnectionId,
    pub(crate) correlation: u64,
    pub(crate) topic: Arc<str>,
    pub(crate) topic_id: TopicId,
    pub(crate) partition: u32,
    pub(crate) body: Body,
}

/// The slots of batches that are over, to be resolved once the core is unlocked: that wakes their waiters.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct Resolutions(Vec<(Arc<Outcome>, Result<Stored, Error>)>);

impl Resolutions {
    pub(crate) fn resolve(self) {
        for (outcome, result) in self.0 {
            outcome.resolve(result);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, outcome: Arc<Outcome>, result: Result<Stored, Error>) {
        self.0.push((outcome, result));
    }

    pub(crate) fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }
}

/// What to do now.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) sends: Vec<Send>,
    /// Connections on which an answer is overdue.
    pub(crate) hung: Vec<ConnectionId>,
    pub(crate) wants_identity: bool,
    pub(crate) wants_metadata: bool,
    /// The topics to watch from now on, when these have changed.
    pub(crate) watch: Option<Vec<String>>,
    /// When to ask again, if nothing happens before.
    pub(crate) wake_at: Option<Instant>,
    pub(crate) resolutions: Resolutions,
}

impl Plan {
    pub(super) fn wake_by(&mut self, at: Instant) {
        self.wake_at = Some(self.wake_at.map_or(at, |wake_at| wake_at.min(at)));
    }
}

/// Why a record was not taken in.
#[derive(Debug)]
pub(crate) enum NotAppended {
    /// The topic must be looked up first; see [`super::core::Core::learn`].
    UnknownTopic,
    /// Wait for room. `completed`: there is a batch to send.
    Full {
        completed: bool,
    },
    Failed(Box<Error>),
}
