//! How a request is answered.

use std::fmt;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::machine::{Machine, Refusal};

/// What becomes of a command.
pub type Outcome<M> = Result<<M as Machine>::Response, <M as Machine>::Error>;

/// Takes the answers to many requests, told apart by the tag each was sent with: a stream's channel of acks. Called
/// on a shard thread: must not block.
pub trait ReplySink<M: Machine>: Send + Sync {
    /// The answer to the request with this tag.
    fn answer(&self, tag: u64, outcome: Outcome<M>);
}

/// The right and the duty to answer one request. It is answered exactly once: dropping it unanswered answers
/// [`Refusal::Indefinite`].
pub struct Reply<M: Machine>(Option<Way<M>>);

enum Way<M: Machine> {
    Once(oneshot::Sender<Outcome<M>>),
    Tagged {
        sink: Arc<dyn ReplySink<M>>,
        tag: u64,
    },
}

impl<M: Machine> Reply<M> {
    /// A reply to one waiting caller, and where that caller waits. Who stops waiting loses the answer, nothing else.
    pub fn once() -> (Self, oneshot::Receiver<Outcome<M>>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Some(Way::Once(sender))), receiver)
    }

    /// A reply that goes to `sink` under `tag`. Costs no allocation.
    pub fn tagged(sink: Arc<dyn ReplySink<M>>, tag: u64) -> Self {
        Self(Some(Way::Tagged { sink, tag }))
    }

    /// Answers.
    pub fn answer(mut self, outcome: Outcome<M>) {
        self.deliver(outcome);
    }

    /// Answers that the Raft layer turned the request away.
    pub fn refuse(self, refusal: Refusal) {
        self.answer(Err(refusal.into()));
    }

    fn deliver(&mut self, outcome: Outcome<M>) {
        match self.0.take() {
            // The caller may be gone; nobody else wants the answer then.
            Some(Way::Once(sender)) => drop(sender.send(outcome)),
            Some(Way::Tagged { sink, tag }) => sink.answer(tag, outcome),
            None => {}
        }
    }
}

impl<M: Machine> Drop for Reply<M> {
    fn drop(&mut self) {
        if self.0.is_some() {
            self.deliver(Err(Refusal::Indefinite.into()));
        }
    }
}

impl<M: Machine> fmt::Debug for Reply<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(Way::Once(_)) => f.write_str("Reply::once"),
            Some(Way::Tagged { tag, .. }) => write!(f, "Reply::tagged({tag})"),
            None => f.write_str("Reply(answered)"),
        }
    }
}
