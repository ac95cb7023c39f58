//! A simulated producer: batches of its own, in order. From the oldest that is not done up to the newest they are five at most:
//! what lies further back a partition need not remember.

use std::collections::VecDeque;

use bytes::Bytes;
use highwater_broker::raft::GroupId;
use highwater_proto::batch::{BatchBuilder, BatchHeader, Compression, NewRecord, ProducerStamp};
use highwater_proto::{ProducerEpoch, ProducerId, Sequence};

use super::chance::Chance;
use super::ledger::BatchNumber;
use super::plan::NodeId;
use super::schedule::Time;

/// Batches from a producer's oldest that is not done to its newest, at most.
const MOST_IN_FLIGHT: u64 = 5;

/// Names one sending of one batch.
pub(super) type AttemptId = u64;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Producer {
    pub(super) group: GroupId,
    /// `None` for one that sends each batch once, whatever becomes of it.
    id: Option<ProducerId>,
    next_sequence: Sequence,
    pub(super) pending: VecDeque<Pending>,
    /// Batches that it made.
    made: u64,
    /// The broker that it takes for the leader's.
    pub(super) target: NodeId,
    /// When the last that it sent arrives: its connection keeps the order.
    pub(super) last_arrival: Time,
    pub(super) is_resend_planned: bool,
}

/// A batch that is not done.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) number: BatchNumber,
    /// Its place among all batches of its producer.
    place: u64,
    pub(super) batch: Bytes,
    pub(super) header: BatchHeader,
    /// No offset below this is possible: that much was acknowledged when it was sent first.
    pub(super) floor: u64,
    /// The sending whose answer it waits for.
    pub(super) attempt: Option<AttemptId>,
}

impl Producer {
    pub(super) fn new(group: GroupId, id: Option<ProducerId>, target: NodeId) -> Self {
        Self {
            group,
            id,
            next_sequence: Sequence(0),
            pending: VecDeque::new(),
            made: 0,
            target,
            last_arrival: Time::default(),
            is_resend_planned: false,
        }
    }

    pub(super) fn is_idempotent(&self) -> bool {
        self.id.is_some()
    }

    pub(super) fn may_send(&self) -> bool {
        let oldest = self
            .pending
            .front()
            .map_or(self.made, |oldest| oldest.place);
        self.made - oldest < MOST_IN_FLIGHT
    }

    /// Makes the next batch. It is to be given to [`Producer::push`] at once.
    pub(super) fn make(
        &mut self,
        number: BatchNumber,
        chance: &mut Chance,
        max_value_bytes: u64,
    ) -> (Bytes, BatchHeader) {
        let mut builder = BatchBuilder::new();
        for _ in 0..chance.within(1..=4) {
            let bytes = usize::try_from(chance.within(1..=max_value_bytes)).unwrap_or(1);
            let filler = u8::try_from(chance.next() % 256).unwrap_or(0);
            let record = NewRecord {
                timestamp_ms: number.0.cast_signed(),
                value: Some(&vec![filler; bytes]),
                ..NewRecord::default()
            };
            builder.append(&record).expect("small records fit");
        }
        let stamp = self.id.map(|id| ProducerStamp {
            id,
            epoch: ProducerEpoch(0),
            sequence: self.next_sequence,
        });
        let batch = builder
            .finish(Compression::None, stamp)
            .expect("it has a record");
        let header = BatchHeader::parse(&batch).expect("the builder writes headers");
        self.next_sequence = self.next_sequence.plus(header.record_count);
        (batch, header)
    }

    /// Takes the batch that was made last among those to be sent.
    pub(super) fn push(
        &mut self,
        number: BatchNumber,
        batch: Bytes,
        header: BatchHeader,
        floor: u64,
    ) {
        self.pending.push_back(Pending {
            number,
            place: self.made,
            batch,
            header,
            floor,
            attempt: None,
        });
        self.made += 1;
    }

    /// The batches that wait to be sent, oldest first.
    pub(super) fn unsent(&mut self) -> impl Iterator<Item = &mut Pending> {
        self.pending
            .iter_mut()
            .filter(|pending| pending.attempt.is_none())
    }

    /// A batch is done. False when it was before.
    pub(super) fn finish(&mut self, number: BatchNumber) -> bool {
        let before = self.pending.len();
        self.pending.retain(|pending| pending.number != number);
        self.pending.len() < before
    }

    /// An attempt failed: the batch is to be sent again.
    pub(super) fn give_up(&mut self, attempt: AttemptId) {
        for pending in &mut self.pending {
            if pending.attempt == Some(attempt) {
                pending.attempt = None;
            }
        }
    }
}
