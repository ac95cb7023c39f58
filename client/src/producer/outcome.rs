//! What became of a batch, shared by all of its records.
//!
//! Records of a batch are acknowledged together, so a batch has one slot that all its [`Delivery`] futures look at: a
//! record costs one reference count and no channel of its own, and nothing wakes where nobody waits.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::Error;

/// Where a batch was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) base_offset: u64,
    /// The time the leader gave to all its records, if the topic is configured so.
    pub(crate) log_append_time_ms: Option<i64>,
}

/// The slot of one batch.
#[derive(Debug)]
pub(crate) struct Outcome {
    topic: Arc<str>,
    partition: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Pending(Vec<Waker>),
    Done(Result<Stored, Error>),
}

impl Outcome {
    pub(crate) fn new(topic: Arc<str>, partition: u32) -> Arc<Self> {
        Arc::new(Self {
            topic,
            partition,
            state: Mutex::new(State::Pending(Vec::new())),
        })
    }

    /// Fills the slot and wakes who waits. The first result stays.
    pub(crate) fn resolve(&self, result: Result<Stored, Error>) {
        let mut state = self.lock();
        if let State::Pending(wakers) = &mut *state {
            let wakers = std::mem::take(wakers);
            *state = State::Done(result);
            drop(state);
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    /// Waits until the slot is filled.
    pub(crate) async fn done(&self) -> Result<Stored, Error> {
        let mut place = None;
        std::future::poll_fn(|context| self.poll(context, &mut place)).await
    }

    /// `place` is where the caller's waker stands among the wakers, once it does.
    fn poll(
        &self,
        context: &mut Context<'_>,
        place: &mut Option<usize>,
    ) -> Poll<Result<Stored, Error>> {
        match &mut *self.lock() {
            State::Done(result) => Poll::Ready(result.clone()),
            State::Pending(wakers) => {
                match place.and_then(|place| wakers.get_mut(place)) {
                    Some(waker) => waker.clone_from(context.waker()),
                    None => {
                        *place = Some(wakers.len());
                        wakers.push(context.waker().clone());
                    }
                }
                Poll::Pending
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is replaced as a whole, so it is consistent even if a holder panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where an acknowledged record stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: u32,
    /// Offset in the partition.
    pub offset: u64,
    /// Timestamp as stored, in milliseconds since 1970.
    pub timestamp_ms: i64,
}

/// The promise of a record's acknowledgement.
///
/// It resolves when the record is on disk on a majority of the partition's replicas, or has failed for good. Dropping
/// it changes nothing: the record is sent all the same, and [`Producer::flush`](crate::Producer::flush) reports its
/// failure.
#[derive(Debug)]
#[must_use = "a record is acknowledged only once its delivery has resolved; to wait for many, drop them and flush"]
pub struct Delivery {
    outcome: Arc<Outcome>,
    /// Place of the record in its batch.
    place: u32,
    timestamp_ms: i64,
    waker_place: Option<usize>,
}

impl Delivery {
    pub(crate) fn new(outcome: Arc<Outcome>, place: u32, timestamp_ms: i64) -> Self {
        Self {
            outcome,
            place,
            timestamp_ms,
            waker_place: None,
        }
    }

    /// The partition the record goes to.
    #[must_use]
    pub fn partition(&self) -> u32 {
        self.outcome.partition
    }
}

impl Future for Delivery {
    type Output = Result<Receipt, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        this.outcome
            .poll(context, &mut this.waker_place)
            .map_ok(|stored| Receipt {
                topic: Arc::clone(&this.outcome.topic),
                partition: this.outcome.partition,
                offset: stored.base_offset + u64::from(this.place),
                timestamp_ms: stored.log_append_time_ms.unwrap_or(this.timestamp_ms),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORED: Stored = Stored {
        base_offset: 100,
        log_append_time_ms: None,
    };

    #[tokio::test]
    async fn records_of_a_batch_resolve_together_each_to_its_offset() {
        let outcome = Outcome::new("t".into(), 3);
        let first = Delivery::new(Arc::clone(&outcome), 0, 7);
        let third = Delivery::new(Arc::clone(&outcome), 2, 9);
        let waiting = tokio::spawn(third);
        outcome.resolve(Ok(STORED));
        assert_eq!(waiting.await.unwrap().unwrap().offset, 102);
        let receipt = first.await.unwrap();
        assert_eq!((receipt.offset, receipt.timestamp_ms), (100, 7));
        assert_eq!((&*receipt.topic, receipt.partition), ("t", 3));
    }

    #[tokio::test]
    async fn the_append_time_replaces_the_records_own() {
        let outcome = Outcome::new("t".into(), 0);
        outcome.resolve(Ok(Stored {
            log_append_time_ms: Some(55),
            ..STORED
        }));
        assert_eq!(Delivery::new(outcome, 0, 7).await.unwrap().timestamp_ms, 55);
    }

    #[tokio::test]
    async fn the_first_result_stays() {
        let outcome = Outcome::new("t".into(), 0);
        outcome.resolve(Err(Error::Closed));
        outcome.resolve(Ok(STORED));
        assert!(matches!(outcome.done().await, Err(Error::Closed)));
    }

    #[test]
    fn polling_again_keeps_one_waker() {
        let outcome = Outcome::new("t".into(), 0);
        let mut delivery = Delivery::new(Arc::clone(&outcome), 0, 0);
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..3 {
            assert!(Pin::new(&mut delivery).poll(&mut context).is_pending());
        }
        assert!(matches!(&*outcome.lock(), State::Pending(wakers) if wakers.len() == 1));
    }
}
