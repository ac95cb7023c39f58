//! When the silence of a broker is a reason to ask another one who leads.
//!
//! A broker that is frozen, or cut off from the others, neither ends what it was asked nor knows that another leads now;
//! and the metadata watch may be kept open by the same one. So whoever waits for a broker asks around from time to time:
//! each question goes to another broker first.

use std::time::{Duration, Instant};

/// How long an answer to a produce request may take before its broker is doubted.
pub(crate) const ANSWER_PATIENCE: Duration = Duration::from_secs(2);
/// How long a subscription may bring nothing before its broker is doubted. There may be nothing to bring, so this is
/// what an idle consumer costs: one small request each time.
pub(crate) const FEED_PATIENCE: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub(crate) struct Doubt {
    patience: Duration,
    asked_at: Option<Instant>,
}

impl Doubt {
    /// Doubts after a silence of `patience`, and again each time that has passed once more.
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            patience,
            asked_at: None,
        }
    }

    /// `None`: ask around now. Otherwise when to come back, if the broker that was last heard at `heard_at` stays silent.
    pub(crate) fn weigh(&mut self, now: Instant, heard_at: Instant) -> Option<Instant> {
        let since = self.asked_at.map_or(heard_at, |at| at.max(heard_at));
        let doubt_at = since + self.patience;
        if now < doubt_at {
            return Some(doubt_at);
        }
        self.asked_at = Some(now);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_silent_broker_is_doubted_once_per_patience() {
        let start = Instant::now();
        let mut doubt = Doubt::new(2 * SECOND);
        assert_eq!(doubt.weigh(start + SECOND, start), Some(start + 2 * SECOND));
        assert_eq!(doubt.weigh(start + 3 * SECOND, start), None);
        assert_eq!(
            doubt.weigh(start + 4 * SECOND, start),
            Some(start + 5 * SECOND)
        );
        assert_eq!(doubt.weigh(start + 5 * SECOND, start), None);
    }

    #[test]
    fn a_broker_that_speaks_is_believed_again() {
        let start = Instant::now();
        let mut doubt = Doubt::new(2 * SECOND);
        assert_eq!(doubt.weigh(start + 2 * SECOND, start), None);
        let heard_at = start + 3 * SECOND;
        assert_eq!(
            doubt.weigh(start + 4 * SECOND, heard_at),
            Some(start + 5 * SECOND)
        );
    }
}
