//! What the data directory holds of the controller.

use highwater_storage::{Frame, FrameKind, Log, RecoveredLog};

use super::Registrations;

/// Logs of the controller group's replicas are in here, each in a directory of its replica's id.
pub(crate) const DIRECTORY: &str = "controller/";
/// Bytes of frames read at once.
const READ_BYTES: u64 = 1 << 20;

/// The logs of this broker's replicas of the controller group.
#[derive(Debug, Default)]
pub(crate) struct ControllerLogs {
    /// That of the replica that it was given last.
    pub(crate) newest: Option<RecoveredLog>,
    /// Why that one cannot be used.
    pub(crate) damage: Option<String>,
    /// Those of replicas whose place others have taken.
    pub(crate) older: Vec<RecoveredLog>,
    /// The brokers that it names.
    pub(crate) registrations: Registrations,
}

/// Whether a log is that of a replica of the controller group.
pub(crate) fn is_controller_log(log: &RecoveredLog) -> bool {
    log.log.spec().directory.starts_with(DIRECTORY)
}

impl ControllerLogs {
    /// Reads all of the newest of `logs`, in order of their ids: it is small, and a replica must not vote with a log that it could not
    /// read. Blocks.
    pub(crate) fn of(mut logs: Vec<RecoveredLog>) -> Self {
        let newest = logs.pop();
        let mut read = Self {
            older: logs,
            ..Self::default()
        };
        if let Some(newest) = newest {
            read.registrations = Registrations::of_snapshot(&newest.applied.snapshot);
            let begun_with = newest.applied.index;
            let unreadable = read_all(&newest.log, |frame| {
                if frame.kind == FrameKind::Events && frame.index > begun_with {
                    read.registrations.add(&frame.payload);
                }
            });
            let damage = newest.damage.as_ref().map(|damage| damage.reason.clone());
            read.damage = damage.or(unreadable.err());
            read.newest = Some(newest);
        }
        read
    }
}

/// Reads every frame. The error says what cannot be read.
fn read_all(log: &Log, mut each: impl FnMut(&Frame)) -> Result<(), String> {
    let mut next = log.first_index();
    let end = log.last_index().next();
    while next < end {
        let frames = log.read(next, end, READ_BYTES);
        for frame in frames.map_err(|error| error.to_string())? {
            next = frame.index.next();
            each(&frame);
        }
    }
    Ok(())
}
