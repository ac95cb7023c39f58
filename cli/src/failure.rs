//! What a user reads when something failed: what, why, and what to do about it.

use std::fmt;

use crate::exit_status::ExitStatus;

/// A failed command, or the failed part of one.
///
/// Shown as `error: WHAT: WHY`, with one line for each thing to do below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    what: String,
    why: String,
    remedies: Vec<String>,
    status: ExitStatus,
}

impl Failure {
    /// `what` could not be done, as in `cannot create topic "flights"`, and `why`.
    pub(crate) fn new(what: impl Into<String>, why: impl fmt::Display) -> Self {
        Self {
            what: what.into(),
            why: why.to_string(),
            remedies: Vec::new(),
            status: ExitStatus::Failure,
        }
    }

    /// `what` could not be done, because the command line contradicts itself: nothing was tried.
    pub(crate) fn misuse(what: impl Into<String>, why: impl fmt::Display) -> Self {
        Self {
            status: ExitStatus::Misuse,
            ..Self::new(what, why)
        }
    }

    /// How the process ends for it.
    pub(crate) fn status(&self) -> ExitStatus {
        self.status
    }

    /// Adds a line that says what to do.
    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedies.push(remedy.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}: {}", self.what, self.why)?;
        for remedy in &self.remedies {
            write!(f, "\n  {remedy}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_why_and_what_to_do() {
        let failure = Failure::new("cannot reach a broker", "connection refused")
            .remedy("start one: highwater dev")
            .remedy("or name one: --brokers HOST:PORT");
        assert_eq!(
            failure.to_string(),
            "error: cannot reach a broker: connection refused\n  start one: highwater dev\n  or name one: --brokers HOST:PORT"
        );
    }
}
