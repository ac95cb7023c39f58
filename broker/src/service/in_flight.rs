//! The batches of one produce stream that are not answered yet, and the order of their answers.
//!
//! Answers leave in order per partition: a batch that is refused at once waits for those before it. Other partitions do
//! not wait.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use highwater_proto::v1;
use tokio::time::Instant;

use crate::budget::Charge;
use crate::raft::GroupId;

/// A batch on its way.
#[derive(Debug)]
pub(super) struct Entry {
    /// The client's number for it.
    pub(super) correlation_id: u64,
    /// Its partition; `None` where it could not be found.
    pub(super) group: Option<GroupId>,
    /// Its size.
    pub(super) bytes: u64,
    /// When the client gets an answer at the latest.
    pub(super) deadline: Instant,
    /// The memory of the message it came in.
    pub(super) charge: Option<Arc<Charge>>,
}

#[derive(Debug)]
struct Slot {
    entry: Entry,
    outcome: Option<v1::ProduceOutcome>,
    /// The answer has left.
    answered: bool,
}

/// Batches of one partition in order.
#[derive(Debug, Default)]
struct Lane {
    tags: VecDeque<u64>,
    bytes: u64,
}

/// See the module's documentation.
///
/// Tags count up from 0. The oldest slot is never one whose outcome is known: it would have been answered.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    /// Tag of the first slot.
    first_tag: u64,
    slots: VecDeque<Slot>,
    lanes: HashMap<GroupId, Lane>,
    bytes: u64,
    ready: Vec<v1::ProduceStreamOutcome>,
}

impl InFlight {
    /// Bytes that are not answered yet.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Slots in use.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Bytes of one partition that are not answered yet.
    pub(super) fn lane_bytes(&self, group: GroupId) -> u64 {
        self.lanes.get(&group).map_or(0, |lane| lane.bytes)
    }

    /// Adds a batch and returns its tag.
    pub(super) fn push(&mut self, entry: Entry) -> u64 {
        let tag = self.first_tag + self.slots.len() as u64;
        self.bytes += entry.bytes;
        if let Some(group) = entry.group {
            let lane = self.lanes.entry(group).or_default();
            lane.tags.push_back(tag);
            lane.bytes += entry.bytes;
        }
        self.slots.push_back(Slot {
            entry,
            outcome: None,
            answered: false,
        });
        tag
    }

    /// The outcome of a batch is known. Only the first counts.
    pub(super) fn complete(&mut self, tag: u64, outcome: v1::ProduceOutcome) {
        let Some(slot) = self.slot(tag).filter(|slot| slot.outcome.is_none()) else {
            return;
        };
        slot.outcome = Some(outcome);
        match slot.entry.group {
            None => self.answer(tag),
            Some(group) => self.advance(group),
        }
        while self.slots.front().is_some_and(|slot| slot.answered) {
            self.slots.pop_front();
            self.first_tag += 1;
        }
    }

    /// The partition of a batch without an outcome.
    pub(super) fn group(&mut self, tag: u64) -> Option<GroupId> {
        let slot = self.slot(tag).filter(|slot| slot.outcome.is_none())?;
        slot.entry.group
    }

    /// When a batch without an outcome runs out of time.
    pub(super) fn deadline(&mut self, tag: u64) -> Option<Instant> {
        let slot = self.slot(tag).filter(|slot| slot.outcome.is_none())?;
        Some(slot.entry.deadline)
    }

    /// When the first batch runs out of time.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.slots.front().map(|slot| slot.entry.deadline)
    }

    /// Tags of the batches that have no outcome and are out of time.
    pub(super) fn expired(&self, now: Instant) -> Vec<u64> {
        (self.first_tag..)
            .zip(&self.slots)
            .take_while(|(_, slot)| slot.entry.deadline <= now)
            .filter(|(_, slot)| slot.outcome.is_none())
            .map(|(tag, _)| tag)
            .collect()
    }

    /// The answers that may leave now.
    pub(super) fn take_ready(&mut self) -> Vec<v1::ProduceStreamOutcome> {
        std::mem::take(&mut self.ready)
    }

    fn slot(&mut self, tag: u64) -> Option<&mut Slot> {
        let at = usize::try_from(tag.checked_sub(self.first_tag)?).ok()?;
        self.slots.get_mut(at)
    }

    /// Answers the batches of a partition whose turn it is.
    fn advance(&mut self, group: GroupId) {
        while let Some(tag) = self
            .lanes
            .get(&group)
            .and_then(|lane| lane.tags.front().copied())
        {
            let known = self.slot(tag).is_some_and(|slot| slot.outcome.is_some());
            if !known {
                return;
            }
            self.answer(tag);
        }
        self.lanes.remove(&group);
    }

    fn answer(&mut self, tag: u64) {
        let Some(slot) = self.slot(tag) else { return };
        slot.answered = true;
        slot.entry.charge = None;
        let (bytes, group) = (slot.entry.bytes, slot.entry.group);
        let outcome = v1::ProduceStreamOutcome {
            correlation_id: slot.entry.correlation_id,
            outcome: slot.outcome.take(),
        };
        // A second outcome must not be taken for the first.
        slot.outcome = Some(v1::ProduceOutcome::default());
        self.ready.push(outcome);
        self.bytes -= bytes;
        if let Some(lane) = group.and_then(|group| self.lanes.get_mut(&group)) {
            lane.tags.pop_front();
            lane.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn entry(correlation_id: u64, group: Option<u64>) -> Entry {
        Entry {
            correlation_id,
            group: group.map(GroupId),
            bytes: 10,
            deadline: Instant::now() + Duration::from_secs(correlation_id),
            charge: None,
        }
    }

    fn outcome() -> v1::ProduceOutcome {
        v1::ProduceOutcome {
            outcome: Some(v1::produce_outcome::Outcome::Ack(v1::ProduceAck::default())),
        }
    }

    fn ready(in_flight: &mut InFlight) -> Vec<u64> {
        in_flight
            .take_ready()
            .into_iter()
            .map(|outcome| outcome.correlation_id)
            .collect()
    }

    #[tokio::test]
    async fn answers_are_ordered_per_partition_and_not_across() {
        let mut in_flight = InFlight::default();
        let tags: Vec<_> = [Some(1), Some(2), Some(1), None, Some(2)]
            .into_iter()
            .zip(100..)
            .map(|(group, id)| in_flight.push(entry(id, group)))
            .collect();
        in_flight.complete(tags[2], outcome());
        assert_eq!(ready(&mut in_flight), [0; 0]);
        in_flight.complete(tags[3], outcome());
        in_flight.complete(tags[1], outcome());
        assert_eq!(ready(&mut in_flight), [103, 101]);
        in_flight.complete(tags[0], outcome());
        assert_eq!(ready(&mut in_flight), [100, 102]);
        assert_eq!((in_flight.len(), in_flight.bytes()), (1, 10));
        in_flight.complete(tags[4], outcome());
        assert_eq!(ready(&mut in_flight), [104]);
        assert_eq!((in_flight.len(), in_flight.bytes()), (0, 0));
    }

    #[tokio::test]
    async fn a_late_outcome_of_an_answered_batch_is_dropped() {
        let mut in_flight = InFlight::default();
        let first = in_flight.push(entry(1, Some(1)));
        let second = in_flight.push(entry(2, Some(2)));
        in_flight.complete(second, outcome());
        in_flight.complete(second, outcome());
        in_flight.complete(first, outcome());
        in_flight.complete(first, outcome());
        assert_eq!(ready(&mut in_flight), [2, 1]);
    }

    #[tokio::test]
    async fn only_batches_without_outcome_expire() {
        let mut in_flight = InFlight::default();
        let tags: Vec<_> = (0..4)
            .map(|id| in_flight.push(entry(id, Some(1))))
            .collect();
        in_flight.complete(tags[1], outcome());
        let late = Instant::now() + Duration::from_millis(2_500);
        assert_eq!(in_flight.expired(late), [tags[0], tags[2]]);
        assert!(in_flight.next_deadline().unwrap() < late);
        assert_eq!(in_flight.lane_bytes(GroupId(1)), 40);
    }
}
