//! What this term's leader has proposed beyond the applied state.
//!
//! Proposals get their offsets before they are committed, so the next decision must count with them. They leave at the
//! front as they are applied, and at the back when they are taken back.

use std::collections::{HashMap, VecDeque};

use highwater_proto::ProducerId;
use highwater_proto::batch::ProducerStamp;
use highwater_storage::{Offset, RaftIndex};

use super::producers::{Progress, StoredBatch};

/// This term's proposals, in log order.
///
/// Invariants: indexes rise; `by_producer` holds exactly the steps that the proposals name, in the same order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pending {
    proposals: VecDeque<Proposal>,
    by_producer: HashMap<ProducerId, VecDeque<Step>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Proposal {
    index: RaftIndex,
    /// Offset that comes after it.
    next_offset: Offset,
    /// Log start that it sets.
    log_start: Option<Offset>,
    /// Producers with a step in it.
    producers: Vec<ProducerId>,
}

/// What a proposal means for a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    index: RaftIndex,
    /// `None`: it is forgotten.
    stored: Option<(Progress, StoredBatch)>,
}

impl Pending {
    /// Whether nothing is pending.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.proposals.is_empty()
    }

    /// The offset after the last proposal; `None` when nothing is pending.
    pub(super) fn next_offset(&self) -> Option<Offset> {
        self.proposals.back().map(|proposal| proposal.next_offset)
    }

    /// The last proposed log start, and where it is proposed.
    pub(super) fn log_start(&self) -> Option<(Offset, RaftIndex)> {
        let set = |proposal: &Proposal| proposal.log_start.map(|offset| (offset, proposal.index));
        self.proposals.iter().rev().find_map(set)
    }

    /// `Some` when proposals concern the producer: its progress after them, `None` inside when it is forgotten.
    pub(super) fn progress(&self, id: ProducerId) -> Option<Option<Progress>> {
        let step = self.by_producer.get(&id)?.back()?;
        Some(step.stored.map(|(progress, _)| progress))
    }

    /// The pending batch that a batch with this stamp repeats, and its index.
    pub(super) fn duplicate(
        &self,
        stamp: &ProducerStamp,
        record_count: u32,
    ) -> Option<(StoredBatch, RaftIndex)> {
        let steps = self.by_producer.get(&stamp.id)?;
        steps.iter().rev().find_map(|step| {
            let (progress, batch) = step.stored?;
            let repeats = progress.epoch == stamp.epoch && batch.is(stamp, record_count);
            repeats.then_some((batch, step.index))
        })
    }

    /// Producers with proposals that `known` does not hold.
    pub(super) fn new_producers(&self, known: impl Fn(ProducerId) -> bool) -> usize {
        self.by_producer.keys().filter(|id| !known(**id)).count()
    }

    /// Whether proposals concern the producer.
    pub(super) fn concerns(&self, id: ProducerId) -> bool {
        self.by_producer.contains_key(&id)
    }

    /// A batch was proposed.
    pub(super) fn push_batch(
        &mut self,
        index: RaftIndex,
        next_offset: Offset,
        producer: Option<(ProducerId, Progress, StoredBatch)>,
    ) {
        let mut producers = Vec::new();
        if let Some((id, progress, batch)) = producer {
            producers.push(id);
            let stored = Some((progress, batch));
            self.by_producer
                .entry(id)
                .or_default()
                .push_back(Step { index, stored });
        }
        self.push(Proposal {
            index,
            next_offset,
            log_start: None,
            producers,
        });
    }

    /// Events were proposed that set a log start and forget producers.
    pub(super) fn push_events(
        &mut self,
        index: RaftIndex,
        next_offset: Offset,
        log_start: Option<Offset>,
        forgotten: Vec<ProducerId>,
    ) {
        for id in &forgotten {
            let step = Step {
                index,
                stored: None,
            };
            self.by_producer.entry(*id).or_default().push_back(step);
        }
        self.push(Proposal {
            index,
            next_offset,
            log_start,
            producers: forgotten,
        });
    }

    fn push(&mut self, proposal: Proposal) {
        debug_assert!(
            self.proposals
                .back()
                .is_none_or(|last| last.index < proposal.index)
        );
        self.proposals.push_back(proposal);
    }

    /// Everything up to `index` is applied.
    pub(super) fn applied(&mut self, index: RaftIndex) {
        while let Some(first) = self.proposals.pop_front_if(|first| first.index <= index) {
            for id in first.producers {
                self.remove_step(id, VecDeque::pop_front);
            }
        }
    }

    /// Proposals at `from` and above are off.
    pub(super) fn retract(&mut self, from: RaftIndex) {
        while let Some(last) = self.proposals.pop_back_if(|last| last.index >= from) {
            for id in last.producers.into_iter().rev() {
                self.remove_step(id, VecDeque::pop_back);
            }
        }
    }

    fn remove_step(&mut self, id: ProducerId, take: impl Fn(&mut VecDeque<Step>) -> Option<Step>) {
        if let Some(steps) = self.by_producer.get_mut(&id) {
            take(steps);
            if steps.is_empty() {
                self.by_producer.remove(&id);
            }
        }
    }
}
