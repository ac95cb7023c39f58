//! Progress bars for long work: on stderr, and only where that is a terminal.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Work that is over sooner than this shows no bar: it would only flash.
const APPEARS_AFTER: Duration = Duration::from_secs(1);

/// How far some work has come. Counting costs next to nothing; drawing happens in [`Progress::draw`].
#[derive(Debug)]
pub(crate) struct Progress {
    started_at: Instant,
    /// Where the work ends, as far as that is known; in the unit of `position`.
    total: Option<u64>,
    position: Cell<u64>,
    form: &'static str,
    bar: OnceCell<ProgressBar>,
}

/// Shape of a bar whose end is known.
const OF_ITEMS: &str = "[{bar:30}] {human_pos}/{human_len} {msg}, {eta} left";
/// The same, where the position is one in a file.
const OF_BYTES: &str =
    "[{bar:30}] {binary_bytes}/{binary_total_bytes} {msg}, {binary_bytes_per_sec}, {eta} left";
/// Shape of a line about work whose end nobody knows.
const OPEN_ENDED: &str = "{spinner} {msg}, {elapsed}";

impl Progress {
    /// Work on so many things.
    pub(crate) fn of_items(total: u64) -> Self {
        Self::new(Some(total), OF_ITEMS)
    }

    /// Work that goes through a file of so many bytes.
    pub(crate) fn of_bytes(total: u64) -> Self {
        Self::new(Some(total), OF_BYTES)
    }

    /// Work whose end nobody knows.
    pub(crate) fn open_ended() -> Self {
        Self::new(None, OPEN_ENDED)
    }

    /// Work that is not shown.
    pub(crate) fn hidden() -> Self {
        let hidden = Self::new(None, OPEN_ENDED);
        hidden.bar.get_or_init(ProgressBar::hidden);
        hidden
    }

    fn new(total: Option<u64>, form: &'static str) -> Self {
        Self {
            started_at: Instant::now(),
            total,
            position: Cell::new(0),
            form,
            bar: OnceCell::new(),
        }
    }

    /// Counts, and draws nothing.
    pub(crate) fn advance(&self, by: u64) {
        self.position.set(self.position.get() + by);
    }

    /// How far the work is.
    pub(crate) fn position(&self) -> u64 {
        self.position.get()
    }

    /// Shows where the work is, with a message, once it has taken long enough to be worth it.
    pub(crate) fn draw(&self, message: impl Into<Cow<'static, str>>) {
        if self.bar.get().is_none() && self.started_at.elapsed() < APPEARS_AFTER {
            return;
        }
        let bar = self.bar.get_or_init(|| self.new_bar());
        bar.set_message(message);
        bar.set_position(self.position.get());
        bar.tick();
    }

    fn new_bar(&self) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(self.total, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template(self.form);
        bar.with_style(style.expect("the forms are constants, and a test reads them all"))
            .with_elapsed(self.started_at.elapsed())
    }

    /// Writes something to the terminal without tearing the bar.
    pub(crate) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        match self.bar.get() {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_are_templates() {
        for form in [OF_ITEMS, OF_BYTES, OPEN_ENDED] {
            ProgressStyle::with_template(form).unwrap();
        }
    }

    #[test]
    fn short_work_shows_nothing() {
        let progress = Progress::of_bytes(100);
        progress.advance(60);
        progress.draw("a note");
        assert!(progress.bar.get().is_none());
        assert_eq!(progress.position(), 60);
    }

    #[test]
    fn what_is_written_aside_is_written_with_and_without_a_bar() {
        for progress in [Progress::of_items(3), Progress::open_ended()] {
            assert_eq!(progress.aside(|| 7), 7);
        }
    }
}
