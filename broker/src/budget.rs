//! One memory budget for everything that clients make the broker hold.
//!
//! A request is charged its size before it is decoded and an answer before it is read; both give the bytes back when
//! the last copy is gone. What does not fit is refused or waits: it never grows.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The bytes that all requests and answers may hold at once. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    free: Arc<Semaphore>,
    total_bytes: u64,
}

/// Bytes taken from a [`Budget`]; dropping it gives them back.
#[derive(Debug)]
pub(crate) struct Charge {
    permit: OwnedSemaphorePermit,
}

impl Budget {
    /// A budget of `total_bytes`.
    pub(crate) fn new(total_bytes: u64) -> Self {
        let total = usize::try_from(total_bytes).unwrap_or(usize::MAX);
        Self {
            free: Arc::new(Semaphore::new(total.min(Semaphore::MAX_PERMITS))),
            total_bytes,
        }
    }

    /// All bytes of the budget.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Bytes that nothing holds now.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.free.available_permits() as u64
    }

    /// Takes `bytes` if they are free now.
    pub(crate) fn try_charge(&self, bytes: u64) -> Option<Charge> {
        let bytes = u32::try_from(bytes).ok()?;
        let permit = Arc::clone(&self.free).try_acquire_many_owned(bytes).ok()?;
        Some(Charge { permit })
    }

    /// Waits, in order of asking, until `bytes` are free. `None` for more than there can ever be.
    pub(crate) async fn charge(self, bytes: u64) -> Option<Charge> {
        if bytes > self.total_bytes {
            return None;
        }
        let bytes = u32::try_from(bytes).ok()?;
        let permit = self.free.acquire_many_owned(bytes).await.ok()?;
        Some(Charge { permit })
    }
}

impl Charge {
    /// Takes `bytes`, or all that is there if that is less, out of this charge into one of its own.
    pub(crate) fn split(&mut self, bytes: u64) -> Self {
        let bytes = usize::try_from(bytes)
            .unwrap_or(usize::MAX)
            .min(self.permit.num_permits());
        let permit = self
            .permit
            .split(bytes)
            .expect("the part is not larger than the whole");
        Self { permit }
    }

    /// Adds `other` to this charge. Both must come from one budget.
    pub(crate) fn merge(&mut self, other: Self) {
        self.permit.merge(other.permit);
    }

    /// Bytes held.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        self.permit.num_permits() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_come_back_when_dropped() {
        let budget = Budget::new(100);
        let first = budget.try_charge(60).unwrap();
        assert!(budget.try_charge(41).is_none());
        let mut second = budget.try_charge(40).unwrap();
        assert_eq!(budget.free_bytes(), 0);
        let part = second.split(30);
        drop(second);
        assert_eq!(budget.free_bytes(), 10);
        drop(part);
        drop(first);
        assert_eq!(budget.free_bytes(), 100);
    }

    #[tokio::test]
    async fn waiting_ends_when_bytes_come_back() {
        let budget = Budget::new(100);
        let held = budget.try_charge(80).unwrap();
        let mut waiting = std::pin::pin!(budget.clone().charge(50));
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(held);
        assert_eq!(waiting.await.unwrap().bytes(), 50);
        assert!(budget.clone().charge(101).await.is_none());
    }
}
