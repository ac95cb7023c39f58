//! Carries the Raft crate's log lines, which go through `slog`, to `tracing`.

use std::fmt;

use slog::{Drain, KV as _, Level, Logger, Never, OwnedKVList, Record};

use super::GroupId;

/// The logger of one replica.
pub(super) fn of_group(group: GroupId) -> Logger {
    Logger::root(ToTracing { group }, slog::o!())
}

/// Writes a line as one `tracing` event. An election is news for the one who debugs it, not for the operator of ten
/// thousand groups: what the crate calls information is `debug` here.
struct ToTracing {
    group: GroupId,
}

impl Drain for ToTracing {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        let group = self.group.0;
        match record.level() {
            Level::Critical | Level::Error => {
                tracing::error!(target: "raft", group, "{}", Line(record, values));
            }
            Level::Warning => tracing::warn!(target: "raft", group, "{}", Line(record, values)),
            Level::Info => tracing::debug!(target: "raft", group, "{}", Line(record, values)),
            Level::Debug | Level::Trace => {
                tracing::trace!(target: "raft", group, "{}", Line(record, values));
            }
        }
        Ok(())
    }
}

/// Formats a record only when a subscriber wants it.
struct Line<'a>(&'a Record<'a>, &'a OwnedKVList);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.msg())?;
        let mut values = Values(f);
        let written = self.0.kv().serialize(self.0, &mut values);
        written
            .and_then(|()| self.1.serialize(self.0, &mut values))
            .map_err(|_| fmt::Error)
    }
}

struct Values<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl slog::Serializer for Values<'_, '_> {
    fn emit_arguments(&mut self, key: slog::Key, value: &fmt::Arguments<'_>) -> slog::Result {
        write!(self.0, " {key}={value}").map_err(slog::Error::from)
    }
}
