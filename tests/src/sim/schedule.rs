//! Virtual time, and what happens when.

use std::collections::BTreeMap;
use std::fmt;

/// Microseconds in a millisecond.
pub(super) const MS: u64 = 1_000;
/// Microseconds in a second.
pub(super) const SECOND: u64 = 1_000 * MS;

/// Microseconds of virtual time since the run began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

impl Time {
    pub(super) fn plus(self, micros: u64) -> Self {
        Self(self.0 + micros)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / SECOND, self.0 % SECOND)
    }
}

/// What is still to happen. Of two things at one time the one that was planned first happens first.
#[derive(Debug)]
pub(super) struct Schedule<E> {
    now: Time,
    planned: u64,
    waiting: BTreeMap<(Time, u64), E>,
}

impl<E> Schedule<E> {
    pub(super) fn new() -> Self {
        Self {
            now: Time::default(),
            planned: 0,
            waiting: BTreeMap::new(),
        }
    }

    pub(super) fn now(&self) -> Time {
        self.now
    }

    /// Lets `event` happen `micros` from now.
    pub(super) fn after(&mut self, micros: u64, event: E) {
        self.at(self.now.plus(micros), event);
    }

    /// Lets `event` happen at `time`, or now when that is past.
    pub(super) fn at(&mut self, time: Time, event: E) {
        self.planned += 1;
        self.waiting
            .insert((time.max(self.now), self.planned), event);
    }

    /// The next event; the time is its time from then on.
    pub(super) fn next(&mut self) -> Option<E> {
        let ((time, _), event) = self.waiting.pop_first()?;
        self.now = time;
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_order_of_time_and_then_of_planning() {
        let mut schedule = Schedule::new();
        schedule.after(20, 'c');
        schedule.after(10, 'a');
        schedule.after(20, 'd');
        schedule.after(15, 'b');
        let mut came = Vec::new();
        while let Some(event) = schedule.next() {
            came.push((schedule.now().0, event));
            if event == 'b' {
                schedule.at(Time(1), 'x');
            }
        }
        assert_eq!(
            came,
            [(10, 'a'), (15, 'b'), (15, 'x'), (20, 'c'), (20, 'd')]
        );
    }
}
