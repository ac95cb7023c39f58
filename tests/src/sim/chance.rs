//! Chance that a seed repeats.

use std::ops::RangeInclusive;

/// A generator with 64 bits of state (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014). What it
/// draws is the same on every machine and in every version, so that a seed stays what it was.
#[derive(Clone, Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Another generator, whose draws do not disturb those of this one.
    pub(super) fn split(&mut self) -> Self {
        Self(self.next())
    }

    /// A number in `range`, which is not empty.
    pub(super) fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.next() % (range.end() - range.start() + 1)
    }

    /// A place in something that has `count` places, at least one.
    pub(super) fn place(&mut self, count: usize) -> usize {
        let drawn = self.next() % count.max(1) as u64;
        usize::try_from(drawn).unwrap_or(0)
    }

    pub(super) fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.place(choices.len())]
    }

    pub(super) fn percent(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    pub(super) fn per_mille(&mut self, per_mille: u64) -> bool {
        self.next() % 1000 < per_mille
    }
}
