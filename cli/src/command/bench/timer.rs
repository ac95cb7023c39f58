//! Waking at a time, more precisely than the millisecond of Tokio's timers.

use std::io;
use std::time::Instant;

#[cfg(target_os = "linux")]
pub(crate) use precise::Timer;

#[cfg(target_os = "linux")]
mod precise {
    use std::os::fd::OwnedFd;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::unix::AsyncFd;

    use super::{Instant, io};

    /// A timer of the kernel that wakes the runtime through its file descriptor: some ten microseconds late.
    #[derive(Debug)]
    pub(crate) struct Timer {
        descriptor: AsyncFd<OwnedFd>,
    }

    impl Timer {
        /// A timer on the present Tokio runtime.
        ///
        /// # Errors
        /// The process is out of file descriptors.
        pub(crate) fn new() -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let descriptor = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            #[expect(
                deprecated,
                reason = "an OwnedFd stays open until it is dropped: nothing to be unsound"
            )]
            let descriptor = AsyncFd::new(descriptor)?;
            Ok(Self { descriptor })
        }

        /// Waits until `deadline`; returns at once when it has passed.
        ///
        /// # Errors
        /// The kernel refuses the timer.
        pub(crate) async fn sleep_until(&self, deadline: Instant) -> io::Result<()> {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(left) = Timespec::try_from(left) else {
                return std::future::pending().await;
            };
            if left == Timespec::default() {
                return Ok(());
            }
            let once = Itimerspec {
                it_interval: Timespec::default(),
                it_value: left,
            };
            timerfd_settime(self.descriptor.get_ref(), TimerfdTimerFlags::empty(), &once)?;
            loop {
                let mut ready = self.descriptor.readable().await?;
                let mut expirations = [0; 8];
                let read = ready.try_io(|descriptor| {
                    Ok(rustix::io::read(descriptor.get_ref(), &mut expirations)?)
                });
                match read {
                    Ok(read) => return read.map(drop),
                    Err(_would_block) => {}
                }
            }
        }
    }
}

/// A timer of Tokio, where the kernel has none to wait for beside sockets: up to a millisecond late.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
pub(crate) struct Timer;

#[cfg(not(target_os = "linux"))]
impl Timer {
    /// A timer on the present Tokio runtime.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self)
    }

    /// Waits until `deadline`; returns at once when it has passed.
    pub(crate) async fn sleep_until(&self, deadline: Instant) -> io::Result<()> {
        tokio::time::sleep_until(deadline.into()).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_timer_wakes_at_or_after_each_deadline_also_one_that_has_passed() {
        let timer = Timer::new().unwrap();
        for microseconds in [0, 300, 50, 0] {
            let deadline = Instant::now() + Duration::from_micros(microseconds);
            timer.sleep_until(deadline).await.unwrap();
            assert!(Instant::now() >= deadline);
        }
    }
}
