//! Ctrl-C and SIGTERM, for commands that have something to finish before they end.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit_status::ExitStatus;
use crate::failure::Failure;

/// The signals that ask the process to end. From the making of this on, they no longer end it by themselves.
#[derive(Debug)]
pub(crate) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    /// Begins to listen.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let signals = signal(SignalKind::interrupt())
            .and_then(|interrupt| Ok((interrupt, signal(SignalKind::terminate())?)));
        match signals {
            Ok((interrupt, terminate)) => Ok(Self {
                interrupt,
                terminate,
            }),
            Err(error) => Err(Failure::new("cannot listen for signals", error)),
        }
    }

    /// Waits for the next of them, and says how the process ends for it.
    pub(crate) async fn next(&mut self) -> ExitStatus {
        tokio::select! {
            _ = self.interrupt.recv() => ExitStatus::Interrupted,
            _ = self.terminate.recv() => ExitStatus::Terminated,
        }
    }
}
