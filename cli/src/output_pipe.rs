//! Notices that nobody reads stdout any more, without writing to it.

use std::io;
use std::os::fd::AsFd;

use tokio::io::Interest;
use tokio::net::unix::pipe::Sender;

/// Waits until the reader of the pipe that is stdout has gone, as `head` does when it has its lines. For ever where
/// stdout is no pipe.
pub(crate) async fn reader_gone() {
    if let Ok(pipe) = watched_stdout()
        && pipe.ready(Interest::ERROR).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// Fails for a file, which has no readiness to wait for.
fn watched_stdout() -> io::Result<Sender> {
    let stdout = io::stdout().as_fd().try_clone_to_owned()?;
    // Unchecked, because the checked form makes writes not wait for a slow reader, here and in all processes that share
    // this stdout. Nothing is written through it.
    Sender::from_owned_fd_unchecked(stdout)
}
