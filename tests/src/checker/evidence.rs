//! Everything known of one partition.

use std::collections::{BTreeMap, HashMap};

use highwater_proto::Offset;

use super::{Circumstances, FinalLog, Rule, Violation};
use crate::history::{
    Ledger, Moment, Page, Read, ReadOutcome, ReadRecord, SendBatch, SendOutcome, Trim,
};
use crate::stamp::{Place, Stamp};

/// Everything known of one partition, each kind in the order of the ledger.
pub(super) struct Evidence<'a> {
    pub(super) place: Place,
    pub(super) sends: Vec<&'a SendBatch>,
    pub(super) reads: Vec<&'a Read>,
    pub(super) trims: Vec<&'a Trim>,
    pub(super) last: Option<&'a FinalLog>,
    /// Whether records expire.
    pub(super) expiring: bool,
    /// Leaders that were replaced may have gone on to answer readers.
    pub(super) lingering_leaders: bool,
    /// Where each record was seen first, by those that read it.
    pub(super) seen: HashMap<Stamp, Offset>,
}

impl<'a> Evidence<'a> {
    /// What is known, by partition.
    pub(super) fn gather(
        ledger: &'a Ledger,
        finals: &'a [FinalLog],
        circumstances: &Circumstances,
    ) -> Vec<Self> {
        let mut places = BTreeMap::new();
        for send in &ledger.sends {
            Self::of(&mut places, send.place).sends.push(send);
        }
        for read in &ledger.reads {
            Self::of(&mut places, read.place).reads.push(read);
        }
        for trim in &ledger.trims {
            Self::of(&mut places, trim.place).trims.push(trim);
        }
        for log in finals {
            let evidence = Self::of(&mut places, log.place);
            assert!(evidence.last.is_none(), "one final log per partition");
            evidence.last = Some(log);
        }
        let mut all: Vec<_> = places.into_values().collect();
        for evidence in &mut all {
            evidence.expiring = circumstances.expiring.contains(&evidence.place);
            evidence.lingering_leaders = circumstances.lingering_leaders;
            evidence.seen = evidence.first_sightings();
        }
        all
    }

    fn of(places: &mut BTreeMap<Place, Self>, place: Place) -> &mut Self {
        places.entry(place).or_insert_with(|| Self {
            place,
            sends: Vec::new(),
            reads: Vec::new(),
            trims: Vec::new(),
            last: None,
            expiring: false,
            lingering_leaders: false,
            seen: HashMap::new(),
        })
    }

    fn first_sightings(&self) -> HashMap<Stamp, Offset> {
        let mut seen = HashMap::new();
        for record in self.sighted() {
            if let Ok(stamp) = record.stamp {
                seen.entry(stamp).or_insert(record.offset);
            }
        }
        seen
    }

    /// Answers that brought something, with the question and the moment.
    pub(super) fn pages(&self) -> impl Iterator<Item = (&'a Read, Moment, &'a Page)> {
        self.reads.iter().filter_map(|read| match &read.outcome {
            Some((moment, ReadOutcome::Records(page))) => Some((*read, *moment, page)),
            _ => None,
        })
    }

    /// Every record that anybody read, as often as it was read.
    pub(super) fn sighted(&self) -> impl Iterator<Item = &'a ReadRecord> {
        let last = self.last.into_iter().flat_map(|log| &log.records);
        self.pages()
            .flat_map(|(_, _, page)| &page.records)
            .chain(last)
    }

    /// Where the batch stands, from its acknowledgement or else from whoever read its first record that was read.
    pub(super) fn position(&self, send: &SendBatch) -> Option<Offset> {
        if let Some((_, base_offset)) = send.acked() {
            return Some(base_offset);
        }
        send.stamps().enumerate().find_map(|(at, stamp)| {
            let offset = self.seen.get(&stamp)?;
            Some(Offset(offset.0.saturating_sub(at as u64)))
        })
    }

    /// Records of batches without a known outcome that are in the log.
    pub(super) fn unknown_found(&self) -> u64 {
        self.sends
            .iter()
            .filter(|send| matches!(send.outcome, None | Some((_, SendOutcome::Unknown { .. }))))
            .flat_map(|send| send.stamps())
            .filter(|stamp| self.seen.contains_key(stamp))
            .count() as u64
    }

    /// Acknowledged records below the final log start that nobody read.
    pub(super) fn expired_unread(&self) -> u64 {
        let Some(last) = self.last else { return 0 };
        let mut unread = 0;
        for send in &self.sends {
            if let Some((_, base_offset)) = send.acked() {
                unread += send
                    .stamps()
                    .zip(base_offset.0..)
                    .filter(|(stamp, offset)| {
                        *offset < last.log_start.0 && !self.seen.contains_key(stamp)
                    })
                    .count() as u64;
            }
        }
        unread
    }

    /// A broken promise in this partition.
    pub(super) fn violation(&self, rule: Rule, detail: String) -> Violation {
        Violation {
            rule,
            place: self.place,
            detail,
        }
    }
}
