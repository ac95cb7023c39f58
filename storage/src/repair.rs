//! Accepting a loss: the last resort where no other replica has what is gone.
//!
//! A damaged log takes no records, because nothing that was committed may silently be missing. When there is nobody to get it from, a
//! person can decide to go on without. [`Repair::plan`] reads everything and shows what is gone; [`Repair::execute`] puts a *lost* frame
//! with the same indexes and offsets in each gap, so that no offset ever means another record, and the log takes records again.

use std::fmt;
use std::sync::Arc;

use crate::config::Config;
use crate::error::Result;
use crate::fs::Fs;
use crate::log::MissingFrames;
use crate::store::{Opened, Store};
use crate::{LogId, RaftIndex};

/// A stopped data directory, read and not yet repaired. It is locked as long as this lives.
#[derive(Debug)]
pub struct Repair {
    opened: Opened,
    findings: Vec<Finding>,
}

/// What one log has lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The log.
    pub log: LogId,
    /// Its directory.
    pub directory: String,
    /// The frames that are missing or cannot be read.
    pub missing: Vec<MissingFrames>,
    /// The last index that is there.
    pub last_index: RaftIndex,
    /// Whether frames may have been lost after it.
    pub unknown_tail: bool,
    /// Whether term or vote may have been lost.
    pub hard_state_in_doubt: bool,
    /// What was found at the start; empty where only reading showed the damage.
    pub reason: String,
}

impl Repair {
    /// Opens a data directory and reads all of it. Blocks for as long as that takes.
    ///
    /// # Errors
    /// As [`Store::open`]; [`crate::Error::Io`] when the disk cannot read something: copy the directory to a good disk first.
    pub fn plan(
        fs: Arc<dyn Fs>,
        random: Box<dyn FnMut() -> u64 + Send>,
        config: Config,
    ) -> Result<Self> {
        let opened = Store::open(fs, random, config)?;
        let mut findings = vec![];
        for recovered in &opened.logs {
            let log = &recovered.log;
            let missing = log.find_missing()?;
            let damage = recovered.damage.as_ref();
            if missing.is_empty() && damage.is_none() {
                continue;
            }
            findings.push(Finding {
                log: log.id(),
                directory: log.spec().directory.clone(),
                missing,
                last_index: log.last_index(),
                unknown_tail: damage.is_some_and(|damage| damage.unknown_tail),
                hard_state_in_doubt: damage.is_some_and(|damage| damage.hard_state_in_doubt),
                reason: damage.map_or(String::new(), |damage| damage.reason.clone()),
            });
        }
        Ok(Self { opened, findings })
    }

    /// What is lost; nothing to repair when empty.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Accepts the loss of all findings, durably.
    ///
    /// # Errors
    /// What is not repaired then stays as damaged as it was; try again.
    pub fn execute(self) -> Result<()> {
        let Self {
            mut opened,
            findings,
        } = self;
        for finding in &findings {
            for recovered in opened
                .logs
                .iter_mut()
                .filter(|recovered| recovered.log.id() == finding.log)
            {
                recovered.log.accept_loss(recovered.applied.index)?;
                tracing::warn!(%finding, "the loss was accepted");
            }
        }
        let mut checkpoint = opened.store.begin_checkpoint()?;
        checkpoint.sync_segments()?;
        let captured = opened
            .logs
            .iter_mut()
            .map(|recovered| recovered.log.capture(recovered.applied.clone()))
            .collect();
        checkpoint.finish(captured)?;
        opened.store.close()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "log {} ({})", self.log, self.directory)?;
        for hole in &self.missing {
            write!(
                f,
                "\n  indexes {} to {} are lost, with offsets {} to {} (ends not included)",
                hole.from, hole.to, hole.from_offset, hole.to_offset
            )?;
        }
        if self.unknown_tail {
            write!(f, "\n  records after index {} may be lost", self.last_index)?;
        }
        if self.hard_state_in_doubt {
            write!(f, "\n  the term and the vote may be lost")?;
        }
        if !self.reason.is_empty() {
            write!(f, "\n  because {}", self.reason)?;
        }
        Ok(())
    }
}
