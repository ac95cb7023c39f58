//! What is seen of a run while it goes on: the broker's process, and on a terminal what is done each second.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::tally::Tally;
use super::usage::{Meter, Usage};
use super::window::Window;
use crate::failure::Failure;
use crate::progress::Progress;

/// How often memory is looked at and progress is shown.
const INTERVAL: Duration = Duration::from_secs(1);

/// What the broker's process took within the window; `None` where it cannot be learned.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Observed {
    /// Seconds on processors.
    pub(crate) cpu_seconds: Option<f64>,
    /// The most memory that was backed by no file, looked at each second, in bytes.
    pub(crate) memory_bytes: Option<u64>,
    /// The most resident pages of mapped files, in bytes.
    pub(crate) mapped_bytes: Option<u64>,
}

/// Records that are done, for everybody to see while the run goes on.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    records: AtomicU64,
    bytes: AtomicU64,
}

impl Counter {
    /// Records with values of so many bytes altogether were done.
    pub(crate) fn add(&self, records: u64, bytes: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Records that are done, those of the warm-up included.
    pub(crate) fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Waits until all generators have ended, and watches the broker's process within the window.
pub(crate) async fn observe(
    window: Window,
    meter: &Meter,
    counter: &Counter,
    mut generators: JoinSet<Tally>,
) -> Result<(Tally, Observed), Failure> {
    let all = async {
        let mut all = Tally::new(window);
        while let Some(generator) = generators.join_next().await {
            match generator {
                Ok(tally) => all.add(tally),
                Err(error) => all.failed(1, error),
            }
        }
        all
    };
    let mut line = Line::new(window, counter);
    let watched = watch(window, meter, &mut line);
    let (all, observed) = tokio::join!(all, watched);
    drop(line);
    let observed =
        observed.map_err(|error| Failure::new("cannot tell what the broker takes", error))?;
    Ok((all, observed))
}

async fn watch(window: Window, meter: &Meter, line: &mut Line<'_>) -> io::Result<Observed> {
    let mut next = window.start;
    while next < window.from {
        next = (next + INTERVAL).min(window.from);
        tokio::time::sleep_until(next.into()).await;
        line.show(" (warming up)");
    }
    let Some(before) = meter.read().await? else {
        while next < window.to {
            next = (next + INTERVAL).min(window.to);
            tokio::time::sleep_until(next.into()).await;
            line.show("");
        }
        return Ok(Observed::default());
    };
    let mut most = before;
    while next < window.to {
        next = (next + INTERVAL).min(window.to);
        tokio::time::sleep_until(next.into()).await;
        line.show("");
        most = larger(most, meter.read().await?.unwrap_or_default());
    }
    Ok(Observed {
        cpu_seconds: Some(most.cpu_seconds - before.cpu_seconds),
        memory_bytes: most.anonymous_bytes,
        mapped_bytes: most.mapped_bytes,
    })
}

/// Processor time only grows; of memory the most is kept.
fn larger(one: Usage, other: Usage) -> Usage {
    Usage {
        cpu_seconds: one.cpu_seconds.max(other.cpu_seconds),
        anonymous_bytes: one.anonymous_bytes.max(other.anonymous_bytes),
        mapped_bytes: one.mapped_bytes.max(other.mapped_bytes),
    }
}

/// The line on the terminal that shows what is done each second.
struct Line<'a> {
    counter: &'a Counter,
    /// When it was last shown, and what was done by then.
    last: (Instant, u64, u64),
    progress: Progress,
}

impl<'a> Line<'a> {
    fn new(window: Window, counter: &'a Counter) -> Self {
        Self {
            counter,
            last: (window.start, 0, 0),
            progress: Progress::open_ended(),
        }
    }

    fn show(&mut self, note: &str) {
        let (now, records, bytes) = (Instant::now(), self.counter.records(), self.counter.bytes());
        let (since, records_before, bytes_before) =
            std::mem::replace(&mut self.last, (now, records, bytes));
        let seconds = (now - since).as_secs_f64().max(1e-9);
        #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
        let per_second = |count: u64| count as f64 / seconds;
        self.progress.draw(format!(
            "{:.0} records/s, {:.1} MB/s{note}",
            per_second(records - records_before),
            per_second(bytes - bytes_before) / 1e6,
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_meter_only_the_records_are_known() {
        let window = Window::new(Instant::now(), Duration::ZERO, Duration::from_millis(1));
        let mut generators = JoinSet::new();
        for _ in 0..2 {
            generators.spawn(async move {
                let mut tally = Tally::new(window);
                tally.done(window.from, 5, 50);
                tally
            });
        }
        let counter = Counter::default();
        let (tally, observed) = observe(window, &Meter::None, &counter, generators)
            .await
            .unwrap();
        assert_eq!(tally.records, 10);
        assert_eq!(observed, Observed::default());
    }

    #[tokio::test]
    async fn a_generator_that_panics_is_an_error() {
        let window = Window::new(Instant::now(), Duration::ZERO, Duration::ZERO);
        let mut generators = JoinSet::new();
        generators.spawn(async { panic!("a generator may have defects") });
        let counter = Counter::default();
        let (tally, _) = observe(window, &Meter::None, &counter, generators)
            .await
            .unwrap();
        assert_eq!(tally.errors, 1);
    }

    #[test]
    fn of_memory_the_most_is_kept() {
        let usage = |cpu_seconds, bytes| Usage {
            cpu_seconds,
            anonymous_bytes: Some(bytes),
            mapped_bytes: None,
        };
        assert_eq!(larger(usage(1.0, 9), usage(2.0, 5)), usage(2.0, 9));
    }
}
