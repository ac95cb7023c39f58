//! How fast a checkpoint goes on.
//!
//! Thousands of segments that are synced at once take the disk and the processors from the journal, whose syncs requests wait for. A
//! checkpoint has time until the next is due, and spreads its syncs over half of that, as PostgreSQL does
//! (`checkpoint_completion_target`).

use std::time::Duration;

/// Segments that are synced at once at least: so few take no time to speak of.
const LEAST: usize = 32;
/// For how long syncs are spread at most, however long it was since the last checkpoint: a stop, and whoever waits for one, waits for it.
const MOST_TIME: Duration = Duration::from_secs(1);

/// How fast one checkpoint goes on.
#[derive(Debug)]
pub(super) struct Pace {
    /// After so long every segment is due.
    time: Duration,
    /// After so many bytes that are written meanwhile, too.
    bytes: u64,
}

impl Pace {
    /// The pace of a checkpoint that begins so long, and so many written bytes, after the last began.
    pub(super) fn after(time: Duration, bytes: u64) -> Self {
        Self {
            time: (time / 2).min(MOST_TIME),
            bytes: bytes / 2,
        }
    }

    /// How many of `all` segments are to be synced now, where `done` are; 0 while it is too early for more.
    pub(super) fn due(&self, done: usize, all: usize, elapsed: Duration, written: u64) -> usize {
        let of_time = share(all, elapsed.as_nanos(), self.time.as_nanos());
        let of_bytes = share(all, written.into(), self.bytes.into());
        let due = of_time.max(of_bytes).saturating_sub(done);
        let rest = all - done;
        if done == 0 || due >= LEAST || due >= rest {
            due.max(LEAST).min(rest)
        } else {
            0
        }
    }
}

/// `part` of `whole`, of `all`.
fn share(all: usize, part: u128, whole: u128) -> usize {
    if part >= whole {
        return all;
    }
    usize::try_from(all as u128 * part / whole).unwrap_or(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn segments_become_due_over_half_of_the_last_interval() {
        let pace = Pace::after(2 * SECOND, 200);
        assert_eq!(pace.due(0, 1000, Duration::ZERO, 0), 32, "the first few");
        assert_eq!(pace.due(32, 1000, SECOND / 20, 0), 0, "not one by one");
        assert_eq!(pace.due(32, 1000, SECOND / 10, 0), 68);
        assert_eq!(pace.due(100, 1000, SECOND, 0), 900);
        assert_eq!(pace.due(990, 1000, SECOND * 99 / 100, 0), 0);
        assert_eq!(pace.due(990, 1000, SECOND, 0), 10, "the last few");
    }

    #[test]
    fn what_is_written_meanwhile_hurries_it() {
        let pace = Pace::after(2 * SECOND, 200);
        assert_eq!(pace.due(32, 1000, Duration::ZERO, 50), 468);
        assert_eq!(pace.due(32, 1000, Duration::ZERO, 1 << 40), 968);
    }

    #[test]
    fn few_segments_and_long_intervals_wait_for_nothing() {
        assert_eq!(
            Pace::after(2 * SECOND, 200).due(0, 30, Duration::ZERO, 0),
            30
        );
        let rare = Pace::after(3_600 * SECOND, 1 << 30);
        assert_eq!(rare.due(32, 1000, MOST_TIME, 0), 968);
        assert_eq!(Pace::after(SECOND, 0).due(32, 1000, Duration::ZERO, 0), 968);
    }
}
