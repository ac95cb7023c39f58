//! One data directory.

use std::sync::Arc;

use uuid::Uuid;

use crate::LogId;
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error::Result;
use crate::fs::Fs;
use crate::identity::Identity;
use crate::journal::{Ticket, Turn};
use crate::log::{AppliedState, Damage, Log, LogSpec};
use crate::space::Space;

/// One data directory: its journal, its checkpoints and its logs.
#[derive(Debug)]
pub struct Store {}

/// What [`Store::open`] found.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Arc<Store>,
    /// Every log that was neither deleted nor never made durable, by id.
    pub logs: Vec<RecoveredLog>,
    /// Whose directory it is.
    pub identity: Identity,
    /// Directories below `topics/` that belong to no log. They are kept.
    pub unknown_directories: Vec<String>,
}

/// A log as it was left.
#[derive(Debug)]
pub struct RecoveredLog {
    /// The log.
    pub log: Log,
    /// The state of its group as last checkpointed: frames above its index are still to be applied.
    pub applied: AppliedState,
    /// What could not be recovered.
    pub damage: Option<Damage>,
}

/// How urgent a checkpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Not yet.
    None,
    /// Begin one.
    Due,
    /// Nothing may be written before one is done.
    TurnsMustWait,
}

/// Whether the directory works.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Why the directory takes no more writes.
    pub poisoned: Option<Arc<str>>,
    /// The logs that take no more writes, and why.
    pub poisoned_logs: Vec<(LogId, Arc<str>)>,
}

impl Store {
    /// Opens the data directory: takes its lock, reads what is there, and makes all that it keeps durable before it returns. Blocks.
    ///
    /// # Errors
    /// [`crate::Error::Locked`], [`crate::Error::UnsupportedFormat`], [`crate::Error::Corrupt`] when no checkpoint is readable, [`crate::Error::Io`], [`crate::Error::NoSpace`].
    pub fn open(
        _fs: Arc<dyn Fs>,
        _random: Box<dyn FnMut() -> u64 + Send>,
        _config: Config,
    ) -> Result<Opened> {
        unimplemented!()
    }

    /// Whose directory it is.
    pub fn identity(&self) -> Identity {
        unimplemented!()
    }

    /// Writes down the cluster and the broker's number, once. Blocks.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] when the directory belongs to others.
    pub fn adopt(&self, _cluster: Uuid, _broker_id: u64) -> Result<Identity> {
        unimplemented!()
    }

    /// Creates an empty log whose group starts with `applied` (index 0 and the first members). Durable when the turn's ticket is done.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for an id or a directory that is taken or was used before.
    pub fn create_log(
        &self,
        _turn: &mut Turn,
        _id: LogId,
        _spec: LogSpec,
        _applied: AppliedState,
    ) -> Result<Log> {
        unimplemented!()
    }

    /// Deletes a log. Its files go when no checkpoint or journal names them.
    pub fn delete_log(&self, _turn: &mut Turn, _log: Log) {
        unimplemented!()
    }

    /// Begins a turn.
    pub fn turn(&self) -> Turn {
        unimplemented!()
    }

    /// Hands the turn to the next sync. A turn that needs none gets the ticket of the last that did.
    pub fn submit(&self, _turn: Turn) -> Ticket {
        unimplemented!()
    }

    /// Writes and syncs once all that was submitted, and says up to which ticket all is durable. Blocks; concurrent callers take turns.
    ///
    /// # Errors
    /// [`crate::Error::Poisoned`], from the first failure on for ever.
    pub fn sync(&self) -> Result<Ticket> {
        unimplemented!()
    }

    /// The highest ticket that is done.
    pub fn synced(&self) -> Ticket {
        unimplemented!()
    }

    /// Whether something submitted waits for [`Store::sync`].
    pub fn has_unsynced(&self) -> bool {
        unimplemented!()
    }

    /// Whether [`Store::heartbeat_journal`] has something to write.
    pub fn needs_heartbeat(&self) -> bool {
        unimplemented!()
    }

    /// Writes the group that says that the one before it was synced, and commit indexes that wait. To be called within 10 ms of the last
    /// sync when nothing else was submitted since. Blocks.
    ///
    /// # Errors
    /// As [`Store::sync`].
    pub fn heartbeat_journal(&self) -> Result<()> {
        unimplemented!()
    }

    /// How urgent a checkpoint is.
    pub fn checkpoint_pressure(&self) -> Pressure {
        unimplemented!()
    }

    /// Begins a checkpoint; one at a time.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] while another is on its way; [`crate::Error::Poisoned`].
    pub fn begin_checkpoint(&self) -> Result<Checkpoint> {
        unimplemented!()
    }

    /// The room on the disk.
    pub fn space(&self) -> Space {
        unimplemented!()
    }

    /// Whether the directory works.
    pub fn health(&self) -> Health {
        unimplemented!()
    }
}
