//! Callers whose answer is ready but not yet true: their entries are on the way.

use std::collections::VecDeque;

use highwater_storage::RaftIndex;

use super::machine::{Machine, Refusal};
use super::reply::Reply;

/// The callers of one leadership of one group, by the index they wait for.
///
/// Invariant: in order of index; callers of one index in the order in which they came. When leadership ends nobody
/// stays, so an index never means an entry of another term.
pub(super) struct Waiters<M: Machine>(VecDeque<Waiter<M>>);

struct Waiter<M: Machine> {
    index: RaftIndex,
    reply: Reply<M>,
    response: M::Response,
}

impl<M: Machine> Waiters<M> {
    pub(super) fn new() -> Self {
        Self(VecDeque::new())
    }

    /// Answers `reply` with `response` when `index` is applied.
    pub(super) fn add(&mut self, index: RaftIndex, reply: Reply<M>, response: M::Response) {
        let waiter = Waiter {
            index,
            reply,
            response,
        };
        // Proposals come in order; only who joins an earlier one stands further ahead.
        let place = self.0.partition_point(|other| other.index <= index);
        self.0.insert(place, waiter);
    }

    /// Answers all who waited for `applied` or before.
    pub(super) fn applied(&mut self, applied: RaftIndex) {
        while self.0.front().is_some_and(|waiter| waiter.index <= applied) {
            if let Some(waiter) = self.0.pop_front() {
                waiter.reply.answer(Ok(waiter.response));
            }
        }
    }

    /// The entries from `from` on never reached the log.
    pub(super) fn refuse_from(&mut self, from: RaftIndex, refusal: &Refusal) {
        let kept = self.0.partition_point(|waiter| waiter.index < from);
        for waiter in self.0.drain(kept..) {
            waiter.reply.refuse(refusal.clone());
        }
    }

    /// Leadership is over: what was proposed may commit yet, or not.
    pub(super) fn abandon(&mut self) {
        for waiter in self.0.drain(..) {
            waiter.reply.refuse(Refusal::Indefinite);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
