//! How fast logs are copied.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Without a write for so long, a broker counts as idle.
const IDLE_AFTER: Duration = Duration::from_secs(1);

/// Spreads the bytes of copies over time while other things are written to this broker's logs; while nothing is, copies may
/// have all there is. Time that was not used is not saved up. Copies of one direction share one.
#[derive(Debug)]
pub(in crate::peer) struct Throttle {
    /// 0: as fast as they come, whatever else goes on.
    bytes_per_second: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What had been written when it was looked at last.
    written_bytes: u64,
    /// From then on nobody knows when what was written since was.
    known_until: Option<Instant>,
    busy_until: Option<Instant>,
    /// When what was taken so far is paid for.
    free_at: Option<Instant>,
}

impl Throttle {
    pub(in crate::peer) fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second,
            state: Mutex::default(),
        }
    }

    /// Takes so many bytes of a copy. `written_bytes` is what this broker wrote to its logs since it started, copies apart. How
    /// long to wait before the next are taken.
    pub(super) fn take(&self, bytes: usize, written_bytes: u64, now: Instant) -> Duration {
        if self.bytes_per_second == 0 {
            return Duration::ZERO;
        }
        // A panic while the lock was held leaves points in time.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut state.written_bytes, written_bytes);
        let is_known = state.known_until.is_some_and(|until| now < until);
        if is_known && before != written_bytes {
            state.busy_until = Some(now + IDLE_AFTER);
        }
        let is_idle = state.busy_until.is_none_or(|until| until <= now);
        state.free_at = (!is_idle).then(|| {
            let begins = state.free_at.map_or(now, |free_at| free_at.max(now));
            begins + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64)
        });
        let free_at = state.free_at.unwrap_or(now);
        state.known_until = Some(free_at + IDLE_AFTER);
        free_at - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beside_writes_bytes_are_spread_over_time_and_a_pause_is_not_saved_up() {
        let throttle = Throttle::new(1000);
        let begin = Instant::now();
        assert_eq!(throttle.take(500, 0, begin), Duration::ZERO);
        assert_eq!(throttle.take(500, 1, begin), Duration::from_millis(500));
        assert_eq!(throttle.take(500, 2, begin), Duration::from_secs(1));
        let later = begin + Duration::from_millis(1_500);
        assert_eq!(throttle.take(250, 3, later), Duration::from_millis(250));
    }

    #[test]
    fn where_nothing_is_written_any_more_nobody_waits() {
        let throttle = Throttle::new(1000);
        let begin = Instant::now();
        // How long ago it was that so much was written is not known.
        assert_eq!(throttle.take(500, 3, begin), Duration::ZERO);
        assert_eq!(throttle.take(500, 7, begin), Duration::from_millis(500));
        let soon = begin + IDLE_AFTER / 2;
        assert_eq!(throttle.take(100, 7, soon), Duration::from_millis(100));
        let idle = begin + IDLE_AFTER;
        assert_eq!(throttle.take(500, 7, idle), Duration::ZERO);
        assert_eq!(throttle.take(500, 8, idle), Duration::from_millis(500));
        let next_copy = begin + 10 * IDLE_AFTER;
        assert_eq!(throttle.take(500, 90, next_copy), Duration::ZERO);
    }

    #[test]
    fn without_a_limit_nobody_waits() {
        let throttle = Throttle::new(0);
        let now = Instant::now();
        assert_eq!(throttle.take(usize::MAX, 1, now), Duration::ZERO);
    }
}
