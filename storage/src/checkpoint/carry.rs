//! Frames that only the journal has.
//!
//! When a segment cannot be synced, its log takes no more writes, and what was acknowledged of it is still durable: in the journal. So
//! that the journal can be forgotten all the same, each checkpoint writes those frames again, after the position where the journal of the
//! checkpoint begins. The next start finds them there, and writes and syncs them as it does with all frames beyond a durable end.
//!
//! They are synced before the checkpoint is written. Until it has its name, a start replays from the older position and meets them
//! twice; the second time changes nothing. Where they cannot be read or written the checkpoint is given up, and the journal stays.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::Begun;
use crate::LogId;
use crate::directory::Directory;
use crate::error::Result;
use crate::journal::{Record, Start, scan_closed};
use crate::log::Frontier;
use crate::segment::Generation;

/// Bytes of records that are synced at once.
const TURN_BYTES: u64 = 4 << 20;

/// Records that were written again: log, generation and position of their frames.
pub(super) type Carried = HashSet<(LogId, Generation, u64)>;

impl Begun {
    /// Writes the frames of `unsynced` segments again that the journal from `older` to this checkpoint has and no sync covers, and the
    /// hard states of their logs.
    ///
    /// # Errors
    /// When the journal cannot be read or written: it has to stay as it is.
    pub(super) fn carry(
        &mut self,
        directory: &Directory,
        older: Start,
        unsynced: &[Arc<Frontier>],
    ) -> Result<()> {
        let durable_positions: BTreeMap<_, _> = unsynced
            .iter()
            .map(|frontier| {
                let segment = (frontier.log().id(), frontier.generation());
                (segment, frontier.durable().position)
            })
            .collect();
        let logs: HashSet<LogId> = durable_positions.keys().map(|(log, _)| *log).collect();
        let journal = &directory.journal;
        let mut hard_states = BTreeMap::new();
        let mut turn = journal.turn();
        let mut turn_bytes = 0;
        let scanned = scan_closed(&*directory.fs, older, self.journal, &mut |mut group| {
            while let Some((record, _)) = group.next_record()? {
                if matches!(record, Record::HardStateSet { .. }) && logs.contains(&record.log()) {
                    hard_states.insert(record.log(), record);
                    continue;
                }
                let Record::FramesWritten {
                    log,
                    generation,
                    position,
                    frames,
                } = &record
                else {
                    continue;
                };
                let bytes = frames.len() as u64;
                let durable = durable_positions.get(&(*log, *generation));
                if durable.is_none_or(|durable| position + bytes <= *durable)
                    || !self.carried.insert((*log, *generation, *position))
                {
                    continue;
                }
                turn.add(&record);
                turn_bytes += bytes;
                self.covered_bytes += bytes;
                if turn_bytes >= TURN_BYTES {
                    journal.submit(std::mem::replace(&mut turn, journal.turn()));
                    journal.sync()?;
                    turn_bytes = 0;
                }
            }
            Ok(())
        });
        // The checkpoint calls no more committed than segments have; these come after the frames that they speak of.
        hard_states.values().for_each(|record| turn.add(record));
        // What is noted as written again is submitted in any case.
        journal.submit(turn);
        scanned?;
        journal.sync()?;
        Ok(())
    }
}
