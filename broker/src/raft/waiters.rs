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
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::Receiver;

    use super::*;
    use crate::raft::reply::Outcome;
    use crate::raft::testing::machine::{WordError, Words};

    fn wait(waiters: &mut Waiters<Words>, index: u64) -> Receiver<Outcome<Words>> {
        let (reply, answered) = Reply::once();
        waiters.add(RaftIndex(index), reply, RaftIndex(index));
        answered
    }

    #[test]
    fn each_is_answered_when_its_index_is_applied_and_not_before() {
        let mut waiters = Waiters::new();
        let mut answered: Vec<_> = [2, 3, 5, 3].map(|index| wait(&mut waiters, index)).into();
        waiters.applied(RaftIndex(3));
        let done: Vec<_> = answered
            .iter_mut()
            .map(|answer| answer.try_recv().is_ok())
            .collect();
        assert_eq!(done, [true, true, false, true]);
        waiters.applied(RaftIndex(4));
        assert!(answered[2].try_recv().is_err());
        waiters.applied(RaftIndex(5));
    }

    #[test]
    fn what_never_reached_the_log_is_refused_and_the_rest_goes_on() {
        let mut waiters = Waiters::new();
        let [mut kept, mut refused] = [2, 3].map(|index| wait(&mut waiters, index));
        waiters.refuse_from(RaftIndex(3), &Refusal::DiskFull);
        assert_eq!(
            refused.try_recv(),
            Ok(Err(WordError::Refused(Refusal::DiskFull)))
        );
        waiters.applied(RaftIndex(2));
        assert_eq!(kept.try_recv(), Ok(Ok(RaftIndex(2))));
    }

    #[test]
    fn who_is_forgotten_hears_that_the_outcome_is_unknown() {
        let mut waiters = Waiters::new();
        let [mut abandoned, mut dropped] = [2, 3].map(|index| wait(&mut waiters, index));
        let (reply, mut alone) = Reply::<Words>::once();
        drop(reply);
        let unknown = || Ok(Err(WordError::Refused(Refusal::Indefinite)));
        assert_eq!(alone.try_recv(), unknown());
        waiters.0.pop_back();
        assert_eq!(dropped.try_recv(), unknown());
        waiters.abandon();
        assert_eq!(abandoned.try_recv(), unknown());
    }
}
