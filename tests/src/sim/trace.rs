//! What happened, as lines: one number for all of them, and the last ones in full.

use std::collections::VecDeque;
use std::fmt;

use super::schedule::Time;

/// Lines that are told with a violation.
const KEPT_LINES: usize = 300;
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// The events of a run. Two runs with one hash did the same.
#[derive(Debug)]
pub(super) struct Trace {
    hash: u64,
    lines: u64,
    last: VecDeque<String>,
    prints: bool,
}

impl Trace {
    pub(super) fn new(prints: bool) -> Self {
        Self {
            hash: FNV_OFFSET,
            lines: 0,
            last: VecDeque::new(),
            prints,
        }
    }

    pub(super) fn note(&mut self, time: Time, event: fmt::Arguments<'_>) {
        let line = format!("{time} {event}");
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        }
        self.lines += 1;
        if self.prints {
            println!("{line}");
        }
        if self.last.len() == KEPT_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    /// Follows from every line so far (FNV-1a).
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn lines(&self) -> u64 {
        self.lines
    }

    /// The last lines, oldest first.
    pub(super) fn into_last(self) -> Vec<String> {
        self.last.into()
    }
}
