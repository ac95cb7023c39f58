//! How the process ends, for scripts to tell from; docs/cli.md lists the numbers.

use std::process::ExitCode;

/// What came of the command. The worst of several counts, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum ExitStatus {
    /// Everything was done.
    Success = 0,
    /// Something failed; stderr says what.
    Failure = 1,
    /// The command line was wrong, and nothing was done.
    Misuse = 2,
    /// Ctrl-C ended it before its end.
    Interrupted = 130,
    /// SIGTERM ended it before its end.
    Terminated = 143,
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status as u8)
    }
}
