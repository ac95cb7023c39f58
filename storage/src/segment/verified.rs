//! Which bytes of an opened segment were checked since it was opened.

use std::collections::BTreeMap;
use std::ops::Range;

/// More separate runs than this are not remembered; forgetting costs a second check, nothing else.
const MAX_RUNS: usize = 4096;

/// Runs of checked bytes; runs that touch are one.
#[derive(Debug, Default)]
pub(super) struct Verified {
    /// Start to end.
    runs: BTreeMap<u64, u64>,
}

impl Verified {
    pub(super) fn contains(&self, range: &Range<u64>) -> bool {
        self.runs
            .range(..=range.start)
            .next_back()
            .is_some_and(|(_, end)| *end >= range.end)
    }

    pub(super) fn insert(&mut self, range: Range<u64>) {
        if self.contains(&range) {
            return;
        }
        if self.runs.len() >= MAX_RUNS {
            self.runs.clear();
        }
        let mut merged = range;
        if let Some((start, end)) = self
            .runs
            .range(..=merged.start)
            .next_back()
            .filter(|(_, end)| **end >= merged.start)
        {
            merged.end = merged.end.max(*end);
            merged.start = *start;
        }
        while let Some((start, end)) = self
            .runs
            .range(merged.start..=merged.end)
            .next()
            .map(|(start, end)| (*start, *end))
        {
            merged.end = merged.end.max(end);
            self.runs.remove(&start);
        }
        self.runs.insert(merged.start, merged.end);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_agree_with_a_set_of_bytes(ranges in prop::collection::vec((0..60usize, 1..10usize), 0..30), asked in (0..60usize, 1..10usize)) {
            let mut verified = Verified::default();
            let mut bytes = [false; 80];
            for (start, len) in ranges {
                verified.insert(start as u64..(start + len) as u64);
                (start..start + len).for_each(|at| bytes[at] = true);
            }
            let asked = asked.0..asked.0 + asked.1;
            let asked_bytes = asked.start as u64..asked.end as u64;
            prop_assert_eq!(verified.contains(&asked_bytes), asked.clone().all(|at| bytes[at]));
            let runs: Vec<_> = verified.runs.into_iter().collect();
            prop_assert!(runs.windows(2).all(|pair| pair[0].1 < pair[1].0), "runs that touch are one: {:?}", runs);
        }
    }
}
