//! Checking values, and keeping what is allowed for those who read about it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::error::{Problem, Source};

/// Collects what is wrong with the values of a configuration.
#[derive(Debug, Default)]
pub(super) struct Check {
    /// Keys whose value was refused before and stands at its default here: nothing is said about them again.
    refused: BTreeSet<String>,
    problems: Vec<Problem>,
    allowed: BTreeMap<&'static str, Vec<Allowed>>,
}

/// What a key may be set to.
#[derive(Clone, Debug)]
pub(super) enum Allowed {
    /// A number in a range.
    Range(Bound, Bound),
    /// What the sentence says.
    Described(&'static str),
}

/// One end of a range.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub(super) value: u64,
    /// The key that makes the bound what it is.
    pub(super) by: Option<By>,
}

/// How a bound follows from a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct By {
    pub(super) key: &'static str,
    /// Such as `half of `.
    pub(super) relation: &'static str,
}

impl From<u64> for Bound {
    fn from(value: u64) -> Self {
        Self { value, by: None }
    }
}

impl Bound {
    /// The value of another key.
    pub(super) fn of(key: &'static str, value: impl TryInto<u64>) -> Self {
        Self::derived("", key, value)
    }

    /// A value that follows from another key's, such as half of it.
    pub(super) fn derived(
        relation: &'static str,
        key: &'static str,
        value: impl TryInto<u64>,
    ) -> Self {
        Self {
            value: value.try_into().unwrap_or(u64::MAX),
            by: Some(By { key, relation }),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)?;
        match self.by {
            Some(By { key, relation }) => write!(f, " ({relation}`{key}`)"),
            None => Ok(()),
        }
    }
}

impl Check {
    /// A check that is silent about some keys and what depends on them.
    pub(super) fn without(refused: BTreeSet<String>) -> Self {
        Self {
            refused,
            ..Self::default()
        }
    }

    /// Checks that a number lies in a range, both ends included.
    pub(super) fn within(
        &mut self,
        key: &'static str,
        value: impl TryInto<u64>,
        least: impl Into<Bound>,
        most: impl Into<Bound>,
    ) {
        let (least, most) = (least.into(), most.into());
        let value = value.try_into().unwrap_or(u64::MAX);
        self.allow(key, Allowed::Range(least, most));
        let rests_on_refused = [least, most]
            .iter()
            .filter_map(|bound| bound.by)
            .any(|by| self.refused.contains(by.key));
        if (value < least.value || value > most.value) && !rests_on_refused {
            self.wrong(
                key,
                value,
                format!("it must lie between {least} and {most}"),
            );
        }
    }

    /// Checks what is no range. `allowed` goes on from `it must be`.
    pub(super) fn that(
        &mut self,
        key: &'static str,
        value: impl fmt::Display,
        is_right: bool,
        allowed: &'static str,
    ) {
        self.allow(key, Allowed::Described(allowed));
        if !is_right {
            self.wrong(key, value, format!("it must be {allowed}"));
        }
    }

    /// Refuses a value.
    pub(super) fn wrong(&mut self, key: &'static str, value: impl fmt::Display, reason: String) {
        if !self.refused.contains(key) {
            self.problems.push(Problem::Value {
                place: Source::Program,
                key: key.to_owned(),
                value: value.to_string(),
                reason,
            });
        }
    }

    /// What was found wrong.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// What a key may be set to while the others are as they are.
    pub(super) fn allowed(&self, key: &str) -> &[Allowed] {
        self.allowed.get(key).map_or(&[], Vec::as_slice)
    }

    fn allow(&mut self, key: &'static str, allowed: Allowed) {
        self.allowed.entry(key).or_default().push(allowed);
    }
}
