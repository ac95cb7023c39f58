//! Callers whose answer is ready but not yet true: their entries are on the way.

use std::collections::VecDeque;

use highwater_storage::RaftIndex;

use super::machine::{Machine, Refusal};
use super::reply::Reply;

/// The callers of one leadership of one group, by the index they wait for.
///
/// When leadership ends nobody stays, so an index never means an entry of another term.
pub(super) struct Waiters<M: Machine> {
    /// For their index to be applied.
    applied: Queue<M>,
    /// For their index to be on the leader's own disk.
    synced: Queue<M>,
    /// For their index to be applied, and on the disks of more voters than a majority.
    held: Queue<M>,
}

/// What has to become of an index before the caller that waits for it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// It is applied.
    Applied,
    /// It is on the leader's own disk.
    Synced,
    /// It is applied, and on the disks of this many voters.
    Held(usize),
}

/// Invariant: in order of index; callers of one index in the order in which they came.
struct Queue<M: Machine>(VecDeque<Waiter<M>>);

struct Waiter<M: Machine> {
    index: RaftIndex,
    /// How many voters must have it on disk.
    holders: usize,
    reply: Reply<M>,
    response: M::Response,
}

impl<M: Machine> Waiters<M> {
    pub(super) fn new() -> Self {
        Self {
            applied: Queue::new(),
            synced: Queue::new(),
            held: Queue::new(),
        }
    }

    /// Answers `reply` with `response` when `index` is as far as `until`.
    pub(super) fn add(
        &mut self,
        index: RaftIndex,
        until: Until,
        reply: Reply<M>,
        response: M::Response,
    ) {
        let (queue, holders) = match until {
            Until::Applied => (&mut self.applied, 0),
            Until::Synced => (&mut self.synced, 0),
            Until::Held(holders) => (&mut self.held, holders),
        };
        queue.add(Waiter {
            index,
            holders,
            reply,
            response,
        });
    }

    /// Answers all who waited for `applied` or before to be applied.
    pub(super) fn applied(&mut self, applied: RaftIndex) {
        self.applied.answer(applied);
    }

    /// Whether anybody waits for [`Waiters::synced`].
    pub(super) fn await_sync(&self) -> bool {
        !self.synced.0.is_empty()
    }

    /// Answers all who waited for `synced` or before to be on the leader's own disk.
    pub(super) fn synced(&mut self, synced: RaftIndex) {
        self.synced.answer(synced);
    }

    /// Whether anybody waits for [`Waiters::held`].
    pub(super) fn await_holders(&self) -> bool {
        !self.held.0.is_empty()
    }

    /// Answers those who waited for `applied` or before and for as many voters as `holders` says have it.
    pub(super) fn held(&mut self, applied: RaftIndex, holders: impl Fn(RaftIndex) -> usize) {
        let end = self.held.end(applied);
        let mut still = VecDeque::new();
        for waiter in self.held.0.drain(..end) {
            if holders(waiter.index) >= waiter.holders {
                waiter.reply.answer(Ok(waiter.response));
            } else {
                still.push_back(waiter);
            }
        }
        still.append(&mut self.held.0);
        self.held.0 = still;
    }

    /// Only `in_sync` voters keep up: who waits for more is told so.
    pub(super) fn fall_short(&mut self, in_sync: usize) {
        let (short, enough) = std::mem::take(&mut self.held.0)
            .into_iter()
            .partition(|waiter| waiter.holders > in_sync);
        self.held.0 = enough;
        let short: VecDeque<Waiter<M>> = short;
        for waiter in short {
            waiter.reply.refuse(Refusal::NotEnoughReplicas {
                needed: waiter.holders,
                in_sync,
                appended: true,
            });
        }
    }

    /// The entries from `from` on never reached the log.
    pub(super) fn refuse_from(&mut self, from: RaftIndex, refusal: &Refusal) {
        for queue in [&mut self.applied, &mut self.synced, &mut self.held] {
            let kept = queue.end(from.previous());
            for waiter in queue.0.drain(kept..) {
                waiter.reply.refuse(refusal.clone());
            }
        }
    }

    /// Leadership is over: what was proposed may commit yet, or not.
    pub(super) fn abandon(&mut self) {
        for queue in [&mut self.applied, &mut self.synced, &mut self.held] {
            for waiter in queue.0.drain(..) {
                waiter.reply.refuse(Refusal::Indefinite);
            }
        }
    }
}

impl<M: Machine> Queue<M> {
    fn new() -> Self {
        Self(VecDeque::new())
    }

    fn add(&mut self, waiter: Waiter<M>) {
        // Proposals come in order; only who joins an earlier one stands further ahead.
        let place = self.end(waiter.index);
        self.0.insert(place, waiter);
    }

    /// Where those who wait for more than `index` begin.
    fn end(&self, index: RaftIndex) -> usize {
        self.0.partition_point(|waiter| waiter.index <= index)
    }

    fn answer(&mut self, reached: RaftIndex) {
        while self.0.front().is_some_and(|waiter| waiter.index <= reached) {
            if let Some(waiter) = self.0.pop_front() {
                waiter.reply.answer(Ok(waiter.response));
            }
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
        waiters.add(RaftIndex(index), Until::Applied, reply, RaftIndex(index));
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
        waiters.applied.0.pop_back();
        assert_eq!(dropped.try_recv(), unknown());
        waiters.abandon();
        assert_eq!(abandoned.try_recv(), unknown());
    }

    #[test]
    fn who_wants_more_than_a_majority_waits_for_them() {
        let mut waiters = Waiters::new();
        let mut wait = |index, until| {
            let (reply, answered) = Reply::<Words>::once();
            waiters.add(RaftIndex(index), until, reply, RaftIndex(index));
            answered
        };
        let mut two = wait(2, Until::Held(2));
        let mut three = wait(3, Until::Held(3));
        let mut also_two = wait(4, Until::Held(2));
        let mut later = wait(5, Until::Held(2));
        waiters.held(RaftIndex(4), |_| 2);
        assert_eq!(two.try_recv(), Ok(Ok(RaftIndex(2))));
        assert_eq!(also_two.try_recv(), Ok(Ok(RaftIndex(4))));
        assert!(three.try_recv().is_err() && later.try_recv().is_err());
        waiters.fall_short(2);
        let short = Refusal::NotEnoughReplicas {
            needed: 3,
            in_sync: 2,
            appended: true,
        };
        assert_eq!(three.try_recv(), Ok(Err(WordError::Refused(short))));
        waiters.held(RaftIndex(5), |index| usize::from(index < RaftIndex(5)));
        assert!(later.try_recv().is_err());
    }

    #[test]
    fn the_leaders_own_disk_is_enough_for_some() {
        let mut waiters = Waiters::new();
        let (reply, mut answered) = Reply::<Words>::once();
        waiters.add(RaftIndex(2), Until::Synced, reply, RaftIndex(2));
        waiters.applied(RaftIndex(2));
        waiters.synced(RaftIndex(1));
        assert!(answered.try_recv().is_err() && waiters.await_sync());
        waiters.synced(RaftIndex(2));
        assert_eq!(answered.try_recv(), Ok(Ok(RaftIndex(2))));
    }
}
