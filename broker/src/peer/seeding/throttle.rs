//! How fast bytes may come in.

use std::time::{Duration, Instant};

/// Spreads bytes over time. What was not used is not saved up.
#[derive(Debug)]
pub(super) struct Throttle {
    /// 0: as fast as they come.
    bytes_per_second: u64,
    /// When what was taken so far is paid for.
    free_at: Option<Instant>,
}

impl Throttle {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second,
            free_at: None,
        }
    }

    /// Takes so many bytes. How long to wait before the next are taken.
    pub(super) fn take(&mut self, bytes: usize, now: Instant) -> Duration {
        if self.bytes_per_second == 0 {
            return Duration::ZERO;
        }
        let begins = self.free_at.map_or(now, |free_at| free_at.max(now));
        let lasts = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let free_at = begins + lasts;
        self.free_at = Some(free_at);
        free_at - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_spread_over_time_and_a_pause_is_not_saved_up() {
        let mut throttle = Throttle::new(1000);
        let begin = Instant::now();
        assert_eq!(throttle.take(500, begin), Duration::from_millis(500));
        assert_eq!(throttle.take(500, begin), Duration::from_secs(1));
        let later = begin + Duration::from_secs(10);
        assert_eq!(throttle.take(250, later), Duration::from_millis(250));
    }

    #[test]
    fn without_a_limit_nobody_waits() {
        let mut throttle = Throttle::new(0);
        assert_eq!(throttle.take(usize::MAX, Instant::now()), Duration::ZERO);
    }
}
