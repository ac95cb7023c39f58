//! What of a run is measured: what happens after the warm-up and before the end.

use std::time::{Duration, Instant};

/// The measured part of a run. What is counted, is counted by when it happened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// When the generators start: time 0 of schedules.
    pub(crate) start: Instant,
    /// End of the warm-up.
    pub(crate) from: Instant,
    /// Generators send nothing from then on.
    pub(crate) to: Instant,
}

impl Window {
    /// The window of a run that starts at `start`.
    pub(crate) fn new(start: Instant, warmup: Duration, duration: Duration) -> Self {
        let from = start + warmup;
        Self {
            start,
            from,
            to: from + duration,
        }
    }

    /// Whether this moment is measured.
    pub(crate) fn contains(&self, moment: Instant) -> bool {
        self.from <= moment && moment < self.to
    }

    /// How long is measured.
    pub(crate) fn duration(&self) -> Duration {
        self.to - self.from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_and_what_comes_after_the_end_are_not_measured() {
        let second = Duration::from_secs(1);
        let start = Instant::now();
        let window = Window::new(start, second, 2 * second);
        assert!(!window.contains(start));
        assert!(window.contains(start + second));
        assert!(!window.contains(start + 3 * second));
        assert_eq!(window.duration(), 2 * second);
    }
}
