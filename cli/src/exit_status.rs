//! How the process ends, for scripts to tell from; docs/cli.md lists the numbers.

use std::process::ExitCode;

/// What came of the command. The worst of several counts, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ExitStatus {
    /// Everything was done.
    Success,
    /// Everything was done, and `diff` found differences.
    Different,
    /// Something failed; stderr says what.
    Failure,
    /// The command line was wrong, and nothing was done.
    Misuse,
    /// Ctrl-C ended it before its end.
    Interrupted,
    /// SIGTERM ended it before its end.
    Terminated,
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(match status {
            ExitStatus::Success => 0,
            ExitStatus::Different => 3,
            ExitStatus::Failure => 1,
            ExitStatus::Misuse => 2,
            ExitStatus::Interrupted => 130,
            ExitStatus::Terminated => 143,
        })
    }
}
