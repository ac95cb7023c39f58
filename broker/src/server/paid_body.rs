//! The memory of answers: each message's is held until the transport has sent the bytes of it, or dropped them.
//!
//! hyper asks a body for more as soon as it has handed to HTTP/2 what it got before, whether the client takes that or not. So
//! being asked says nothing, nor does being dropped, and the memory goes with the bytes themselves.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use tonic::body::Body;

use crate::budget::Charge;

/// The memory of the messages of an answer that were given out and are not encoded yet. Put a clone into the extensions of the
/// response.
#[derive(Clone, Debug, Default)]
pub(crate) struct AnswerCharges(Arc<Mutex<Option<Charge>>>);

impl AnswerCharges {
    /// The memory of a message that is given out right after. All that is added must come from one budget.
    pub(crate) fn add(&self, charge: Charge) {
        let mut charges = self.lock();
        match &mut *charges {
            Some(charges) => charges.merge(charge),
            None => *charges = Some(charge),
        }
    }

    fn take(&self) -> Option<Charge> {
        self.lock().take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Charge>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A body whose bytes hold the memory of their messages.
pub(super) fn paid(body: Body, charges: AnswerCharges) -> Body {
    // The encoder keeps nothing back of what it was given until it returns something.
    let pay = move |bytes: Bytes| match charges.take() {
        Some(charge) => Bytes::from_owner(Paid {
            bytes,
            _charge: charge,
        }),
        None => bytes,
    };
    Body::new(body.map_frame(move |frame| frame.map_data(&pay)))
}

/// Bytes with the memory of what they say.
struct Paid {
    bytes: Bytes,
    /// Held for its drop.
    _charge: Charge,
}

impl AsRef<[u8]> for Paid {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;

    #[tokio::test]
    async fn memory_is_held_until_the_bytes_are_gone_and_no_longer() {
        let budget = Budget::new(100);
        let charges = AnswerCharges::default();
        charges.add(budget.try_charge(20).unwrap());
        charges.add(budget.try_charge(10).unwrap());
        let full = Body::new(http_body_util::Full::new(Bytes::from_static(b"answer")));
        let mut body = paid(full, charges);
        let frame = body.frame().await.unwrap().unwrap();
        let mut bytes = frame.into_data().unwrap();
        assert_eq!(bytes, &b"answer"[..]);
        assert!(body.frame().await.is_none());
        drop(body);
        let part = bytes.split_off(3);
        drop(bytes);
        assert_eq!(budget.free_bytes(), 70);
        drop(part);
        assert_eq!(budget.free_bytes(), 100);
    }

    #[tokio::test]
    async fn memory_of_what_is_never_sent_is_given_back() {
        let budget = Budget::new(100);
        let charges = AnswerCharges::default();
        charges.add(budget.try_charge(20).unwrap());
        drop(paid(Body::empty(), charges));
        assert_eq!(budget.free_bytes(), 100);
    }
}
