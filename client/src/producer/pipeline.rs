//! The unacknowledged batches of one partition, in order.
//!
//! A producer numbers the records of each partition, and the partition's leader stores a batch only where its number
//! follows the last one, or answers a repeated one with its first offset. So a batch may be sent again after any
//! failure whose effect is unknown, as long as it keeps its number and the order is kept:
//!
//! - At most `max_in_flight` batches are out. Leaders remember the last 16.
//! - After a failure nothing new is sent until every batch that is out has been answered; then all that failed are sent
//!   again, in order, with their old numbers. A batch refused as out of order behind a failed one is such a failure.
//! - A batch given up (refused for good, or too late) leaves a *gap*: its numbers may be unused. Those behind it are
//!   refused then. They get a new producer identity, counting from 0, but only if no attempt of theirs can have been
//!   stored: otherwise they might be stored twice, and they fail instead.
//!
//! A producer that does not number its batches repeats them all the same, and may so store them twice, or behind later
//! ones.
//!
//! This is a pure state machine: `now` comes in, batches to send come out, nothing waits here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use highwater_proto::batch::ProducerStamp;
use highwater_proto::{ApiError, ProducerEpoch, ProducerId, Reason, Sequence};

use super::outcome::Outcome;
use crate::Error;

/// How many rounds in a row may end with the answer that there is no such partition before that is believed, though the
/// metadata names it: metadata reaches brokers one after the other.
const MAX_NOT_FOUND: u32 = 6;

/// What a broker gave the producer to mark its batches with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) id: ProducerId,
    pub(crate) epoch: ProducerEpoch,
}

impl Identity {
    fn stamp(self, sequence: Sequence) -> ProducerStamp {
        ProducerStamp {
            id: self.id,
            epoch: self.epoch,
            sequence,
        }
    }
}

/// One connection to one broker; a later one to the same broker is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnectionId(pub(crate) u64);

/// Where the only attempt that may be under way stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    Out {
        connection: ConnectionId,
        since: Instant,
    },
    Failed,
}

#[derive(Debug)]
struct Sent {
    /// The producer's number for it, in requests and outcomes.
    correlation: u64,
    /// `None` where batches are not numbered.
    stamp: Option<ProducerStamp>,
    record_count: u32,
    /// Absent while it is being encoded.
    payload: Option<Bytes>,
    buffered_bytes: usize,
    outcome: Arc<Outcome>,
    opened_at: Instant,
    attempt: Attempt,
    /// An attempt was made whose effect is unknown.
    maybe_stored: bool,
    last_error: Option<ApiError>,
}

/// Whether batches are numbered, so that leaders recognise those sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Numbering {
    #[default]
    On,
    Off,
}

/// A batch that is over and done with.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) correlation: u64,
    pub(crate) outcome: Arc<Outcome>,
    pub(crate) buffered_bytes: usize,
    /// `None`: it was stored, and the caller knows where.
    pub(crate) error: Option<Error>,
}

/// A batch to send again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Again {
    pub(crate) correlation: u64,
    pub(crate) payload: Bytes,
    /// Set when the batch must be stamped anew before it is sent.
    pub(crate) new_stamp: Option<ProducerStamp>,
}

/// A batch sent for the first time.
#[derive(Debug)]
pub(crate) struct First {
    pub(crate) correlation: u64,
    pub(crate) record_count: u32,
    pub(crate) buffered_bytes: usize,
    pub(crate) outcome: Arc<Outcome>,
    pub(crate) opened_at: Instant,
}

/// See the module.
///
/// Invariants: sequences of `batches` follow each other, except where one was given up; all stamps carry the present
/// identity while there is one; what is out is out on the connection its attempt names.
#[derive(Debug, Default)]
pub(crate) struct Pipeline {
    numbering: Numbering,
    identity: Option<Identity>,
    /// An identity that must not be used here again.
    burnt: Option<ProducerId>,
    next_sequence: Sequence,
    /// A batch of this identity was given up: those behind it may be refused.
    gap: bool,
    /// All batches get a new identity as soon as none of them is out.
    renumber: bool,
    batches: VecDeque<Sent>,
    /// Nothing is sent before.
    retry_at: Option<Instant>,
    /// Rounds of failures in a row.
    failures: u32,
    /// How many of the last of them said that there is no such partition.
    not_found: u32,
    /// The newest epoch of a leader of the partition.
    leader_epoch: u64,
}

impl Pipeline {
    pub(crate) fn new(numbering: Numbering) -> Self {
        Self {
            numbering,
            ..Self::default()
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// The partition is led in this epoch. A leader that is new has refused nothing yet: there is nothing to wait for.
    pub(crate) fn led_in(&mut self, epoch: u64) {
        if epoch > self.leader_epoch {
            self.leader_epoch = epoch;
            self.retry_at = None;
        }
    }

    /// The slots of all batches here.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = Arc<Outcome>> + '_ {
        self.batches.iter().map(|sent| Arc::clone(&sent.outcome))
    }

    /// Whether it needs an identity and has none, and so can send nothing.
    pub(crate) fn wants_identity(&self) -> bool {
        self.numbering == Numbering::On && self.identity.is_none()
    }

    /// Takes up an identity; false when it has been used up here.
    pub(crate) fn adopt(&mut self, identity: Identity) -> bool {
        if self.burnt == Some(identity.id) {
            return false;
        }
        debug_assert!(self.identity.is_none());
        self.identity = Some(identity);
        self.next_sequence = Sequence(0);
        for sent in &mut self.batches {
            sent.stamp = Some(identity.stamp(self.next_sequence));
            self.next_sequence = self.next_sequence.plus(sent.record_count);
        }
        true
    }

    /// Whether a new batch may be sent now.
    pub(crate) fn may_send_new(&self, now: Instant, max_in_flight: usize) -> bool {
        !self.wants_identity()
            && self.batches.len() < max_in_flight
            && self.retry_at.is_none_or(|at| now >= at)
            && self
                .batches
                .iter()
                .all(|sent| sent.attempt != Attempt::Failed)
    }

    /// Whether failed batches may be sent again now.
    pub(crate) fn may_send_again(&self, now: Instant) -> bool {
        !self.wants_identity()
            && self.retry_at.is_none_or(|at| now >= at)
            && self.is_settled()
            && self.batches.iter().all(|sent| sent.payload.is_some())
    }

    /// Something has failed and nothing is out any more.
    fn is_settled(&self) -> bool {
        !self.batches.is_empty()
            && self
                .batches
                .iter()
                .all(|sent| sent.attempt == Attempt::Failed)
    }

    /// When waiting after a failure ends. `None` when something else must happen first.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
            .filter(|_| self.batches.is_empty() || self.is_settled())
    }

    /// The earliest time at which a batch that is out was sent.
    pub(crate) fn oldest_attempt(&self) -> Option<(Instant, ConnectionId)> {
        let attempts = self.batches.iter().filter_map(|sent| match sent.attempt {
            Attempt::Out { connection, since } => Some((since, connection)),
            Attempt::Failed => None,
        });
        attempts.min_by_key(|(since, _)| *since)
    }

    /// When the oldest batch was opened.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.batches.front().map(|sent| sent.opened_at)
    }

    /// Numbers a batch and notes it as sent.
    ///
    /// # Panics
    /// When it may not be sent; see [`Pipeline::may_send_new`].
    pub(crate) fn send_new(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        first: First,
    ) -> Option<ProducerStamp> {
        assert!(!self.wants_identity(), "the caller asked whether it may");
        let stamp = self
            .identity
            .map(|identity| identity.stamp(self.next_sequence));
        self.next_sequence = self.next_sequence.plus(first.record_count);
        self.batches.push_back(Sent {
            correlation: first.correlation,
            stamp,
            record_count: first.record_count,
            payload: None,
            buffered_bytes: first.buffered_bytes,
            outcome: first.outcome,
            opened_at: first.opened_at,
            attempt: Attempt::Out {
                connection,
                since: now,
            },
            maybe_stored: false,
            last_error: None,
        });
        stamp
    }

    /// Notes the encoded bytes of a batch, so that it can be sent again.
    pub(crate) fn encoded(&mut self, correlation: u64, payload: Bytes) {
        if let Some(place) = self.place(correlation) {
            self.batches[place].payload = Some(payload);
        }
    }

    /// All batches to send again, in order, noted as sent.
    pub(crate) fn send_again(&mut self, now: Instant, connection: ConnectionId) -> Vec<Again> {
        self.retry_at = None;
        let mut again = Vec::with_capacity(self.batches.len());
        for sent in &mut self.batches {
            let Some(payload) = sent.payload.clone() else {
                break;
            };
            sent.attempt = Attempt::Out {
                connection,
                since: now,
            };
            let header = highwater_proto::batch::BatchHeader::parse(&payload);
            let stamped = header.is_ok_and(|header| header.producer == sent.stamp);
            again.push(Again {
                correlation: sent.correlation,
                payload,
                new_stamp: sent.stamp.filter(|_| !stamped),
            });
        }
        again
    }

    /// The batch was stored. The first of what is finished is that batch.
    pub(crate) fn acknowledged(&mut self, correlation: u64) -> Vec<Finished> {
        let Some(place) = self.place(correlation) else {
            return Vec::new();
        };
        (self.failures, self.not_found) = (0, 0);
        let mut finished = vec![self.remove(place, None)];
        finished.extend(self.settle());
        finished
    }

    /// The batch was refused, or its effect is unknown. Returns what has failed for good.
    pub(crate) fn refused(
        &mut self,
        connection: ConnectionId,
        correlation: u64,
        error: ApiError,
        retry_at: Instant,
    ) -> Vec<Finished> {
        let on = |sent: &Sent| sent.correlation == correlation && sent.is_out_on(connection);
        let Some(place) = self.batches.iter().position(on) else {
            return Vec::new();
        };
        self.batches[place].maybe_stored |= !error.is_definite();
        let out_of_order = error.reason == Reason::OutOfOrderSequenceNumber;
        let behind_a_gap = out_of_order && place == 0 && self.gap;
        // Where nothing at all is stored of a producer, the leader calls it unknown instead of out of order.
        let unknown = error.reason == Reason::UnknownProducerId;
        let forgotten = unknown && place == 0;
        self.renumber |= self.numbering == Numbering::On && (behind_a_gap || forgotten);
        let behind_another = (out_of_order || unknown) && place > 0;
        let mut finished = Vec::new();
        self.count_not_found(&error);
        let absent = self.not_found >= MAX_NOT_FOUND;
        if error.is_retriable() && !absent || behind_another || behind_a_gap || forgotten {
            self.retry(place, error, retry_at);
        } else {
            self.gap |= error.reason != Reason::DuplicateSequenceNumber;
            finished.push(self.give_up(place, error));
        }
        finished.extend(self.settle());
        finished
    }

    /// The connection is gone: nobody will answer what was sent on it. `carried` says whether it ever carried anything.
    pub(crate) fn disconnected(
        &mut self,
        connection: ConnectionId,
        error: &ApiError,
        carried: bool,
        retry_at: Instant,
    ) -> Vec<Finished> {
        self.not_found = 0;
        for place in 0..self.batches.len() {
            let sent = &mut self.batches[place];
            if sent.is_out_on(connection) {
                sent.maybe_stored |= carried;
                self.retry(place, error.clone(), retry_at);
            }
        }
        self.settle()
    }

    /// Gives up the oldest batch if it was opened at or before `opened_by`.
    pub(crate) fn expire(&mut self, opened_by: Instant, waited: Duration) -> Vec<Finished> {
        let Some(oldest) = self.batches.front().filter(|b| b.opened_at <= opened_by) else {
            return Vec::new();
        };
        let error = Error::DeliveryTimeout {
            waited,
            maybe_stored: oldest.maybe_stored || oldest.attempt != Attempt::Failed,
            last: oldest.last_error.clone(),
        };
        self.gap = true;
        let mut finished = vec![self.remove(0, Some(error))];
        finished.extend(self.settle());
        finished
    }

    /// Gives up everything.
    pub(crate) fn abandon(&mut self, error: &Error) -> Vec<Finished> {
        self.gap = true;
        let mut finished = Vec::with_capacity(self.batches.len());
        while !self.batches.is_empty() {
            finished.push(self.remove(0, Some(error.clone())));
        }
        finished.extend(self.settle());
        finished
    }

    fn count_not_found(&mut self, error: &ApiError) {
        let is_first_of_round = !self.batches.iter().any(Sent::has_failed);
        self.not_found = match error.code() {
            tonic::Code::NotFound => self.not_found + u32::from(is_first_of_round),
            _ => 0,
        };
    }

    fn retry(&mut self, place: usize, error: ApiError, retry_at: Instant) {
        if !self.batches.iter().any(Sent::has_failed) {
            self.failures = self.failures.saturating_add(1);
        }
        self.retry_at = Some(self.retry_at.map_or(retry_at, |at| at.max(retry_at)));
        let sent = &mut self.batches[place];
        sent.attempt = Attempt::Failed;
        sent.last_error = Some(error);
    }

    /// Drops the identity once it is known to be of no more use and nothing is out under it. Batches that may be stored
    /// under it cannot be numbered anew: they fail.
    fn settle(&mut self) -> Vec<Finished> {
        let spent = self.renumber || self.gap && self.batches.is_empty();
        if !spent
            || self
                .batches
                .iter()
                .any(|sent| sent.attempt != Attempt::Failed)
        {
            return Vec::new();
        }
        let mut finished = Vec::new();
        while let Some(place) = self.batches.iter().position(|sent| sent.maybe_stored) {
            let last = self.batches[place].last_error.clone();
            let error = last.unwrap_or_else(|| ApiError::new(Reason::UnknownServerError, ""));
            finished.push(self.give_up(place, error));
        }
        (self.renumber, self.gap) = (false, false);
        self.burnt = self
            .identity
            .take()
            .map(|identity| identity.id)
            .or(self.burnt);
        finished
    }

    fn give_up(&mut self, place: usize, error: ApiError) -> Finished {
        let maybe_stored = self.batches[place].maybe_stored;
        self.remove(
            place,
            Some(Error::Delivery {
                maybe_stored,
                source: error,
            }),
        )
    }

    fn place(&self, correlation: u64) -> Option<usize> {
        self.batches
            .iter()
            .position(|sent| sent.correlation == correlation)
    }

    fn remove(&mut self, place: usize, error: Option<Error>) -> Finished {
        let sent = self
            .batches
            .remove(place)
            .expect("the place was just found");
        Finished {
            correlation: sent.correlation,
            outcome: sent.outcome,
            buffered_bytes: sent.buffered_bytes,
            error,
        }
    }
}

impl Sent {
    fn has_failed(&self) -> bool {
        self.attempt == Attempt::Failed
    }

    fn is_out_on(&self, connection: ConnectionId) -> bool {
        matches!(self.attempt, Attempt::Out { connection: on, .. } if on == connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: ConnectionId = ConnectionId(1);
    const SECOND: ConnectionId = ConnectionId(2);
    const OLD: Identity = Identity {
        id: ProducerId(7),
        epoch: ProducerEpoch(0),
    };
    const NEW: Identity = Identity {
        id: ProducerId(8),
        epoch: ProducerEpoch(0),
    };

    /// A pipeline with `count` batches of ten records out on the first connection, numbered 1, 2, ...
    fn pipeline(now: Instant, count: u64) -> Pipeline {
        let mut pipeline = Pipeline::default();
        assert!(pipeline.adopt(OLD));
        for correlation in 1..=count {
            send(&mut pipeline, now, correlation);
        }
        pipeline
    }

    fn send(pipeline: &mut Pipeline, now: Instant, correlation: u64) -> ProducerStamp {
        assert!(pipeline.may_send_new(now, 5));
        let first = First {
            correlation,
            record_count: 10,
            buffered_bytes: 100,
            outcome: Outcome::new("t".into(), 0),
            opened_at: now,
        };
        let stamp = pipeline.send_new(now, FIRST, first).unwrap();
        let mut builder = highwater_proto::batch::BatchBuilder::new();
        builder.append(&Default::default()).unwrap();
        let payload = builder.finish(Default::default(), Some(stamp)).unwrap();
        pipeline.encoded(correlation, payload);
        stamp
    }

    fn error(reason: Reason) -> ApiError {
        ApiError::new(reason, "because")
    }

    fn correlations(finished: &[Finished]) -> Vec<u64> {
        finished.iter().map(|f| f.correlation).collect()
    }

    fn again(pipeline: &mut Pipeline, now: Instant) -> Vec<(u64, Option<(i64, i32)>)> {
        assert!(pipeline.may_send_again(now));
        pipeline
            .send_again(now, SECOND)
            .into_iter()
            .map(|again| {
                let stamp = again.new_stamp.map(|s| (s.id.0, s.sequence.0));
                (again.correlation, stamp)
            })
            .collect()
    }

    #[test]
    fn sequences_follow_the_record_counts() {
        let now = Instant::now();
        let mut pipeline = pipeline(now, 2);
        assert_eq!(send(&mut pipeline, now, 3).sequence, Sequence(20));
    }

    #[test]
    fn no_more_than_the_limit_is_in_flight() {
        let now = Instant::now();
        let mut pipeline = pipeline(now, 5);
        assert!(!pipeline.may_send_new(now, 5));
        assert_eq!(correlations(&pipeline.acknowledged(1)), [1]);
        assert!(pipeline.may_send_new(now, 5));
    }

    #[test]
    fn after_a_lost_connection_all_are_sent_again_in_order_with_their_numbers() {
        let now = Instant::now();
        let mut pipeline = pipeline(now, 3);
        pipeline.acknowledged(1);
        let retry_at = now + Duration::from_secs(1);
        let lost = error(Reason::NetworkException);
        assert!(
            pipeline
                .disconnected(FIRST, &lost, true, retry_at)
                .is_empty()
        );
        assert!(!pipeline.may_send_again(now) && !pipeline.may_send_new(now, 5));
        assert_eq!(pipeline.retry_at(), Some(retry_at));
        assert_eq!(again(&mut pipeline, retry_at), [(2, None), (3, None)]);
        assert_eq!(correlations(&pipeline.acknowledged(2)), [2]);
        assert_eq!(correlations(&pipeline.acknowledged(3)), [3]);
    }

    #[test]
    fn nothing_is_sent_again_before_all_have_been_answered() {
        let now = Instant::now();
        let mut pipeline = pipeline(now, 2);
        pipeline.refused(FIRST, 1, error(Reason::Throttled), now);
        assert!(!pipeline.may_send_again(now) && !pipeline.may_send_new(now, 5));
        // The leader refuses what follows a batch it has not stored. That is no failure of its own.
        let refused = pipeline.refused(FIRST, 2, error(Reason::OutOfOrderSequenceNumber), now);
        assert!(refused.is_empty());
        assert_eq!(again(&mut pipeline, now), [(1, None), (2, None)]);
    }

    #[test]
    fn batches_behind_the_first_of_all_keep_their_numbers_while_it_is_not_stored() {
        let now = Instant::now();
        let mut pipeline = pipeline(now, 2);
        pipeline.refused(FIRST, 1, error(Reason::Throttled), now);
        let refused = pipeline.refused(FIRST, 2, error(Reason::UnknownProducerId), now);
        assert!(refused.is_empty() && !pipeline.wants_identity());
        assert_eq!(again(&mut pipeline, now), [(1, None), (2, None)]);
    }

    #[test]
    fn batches_behind_a_refused_one_get_a_new_identity() {
        let now = Instant::now();
        let mut pipeline = pipeline(now, 3);
        let finished = pipeline.refused(FIRST, 1, error(Reason::MessageTooLarge), now);
        assert_eq!(correlations(&finished), [1]);
        for correlation in [2, 3] {
            let error = error(Reason::OutOfOrderSequenceNumber);
            assert!(pipeline.refused(FIRST, correlation, error, now).is_empty());
        }
        assert!(pipeline.wants_identity() && !pipeline.may_send_again(now));
        assert!(!pipeline.adopt(OLD));
        assert!(pipeline.adopt(NEW));
        assert_eq!(
            again(&mut pipeline, now),
            [(2, Some((8, 0))), (3, Some((8, 10)))]
        );
    }

    #[test]
    fn a_batch_that_may_be_stored_is_never_numbered_anew() {
        let now = Instant::now();
        let mut pipeline = pipeline(now, 3);
        pipeline.refused(FIRST, 1, error(Reason::MessageTooLarge), now);
        pipeline.refused(FIRST, 2, error(Reason::OutOfOrderSequenceNumber), now);
        let lost = error(Reason::NetworkException);
        let finished = pipeline.disconnected(FIRST, &lost, true, now);
        assert_eq!(correlations(&finished), [3]);
        assert!(!finished[0].error.as_ref().unwrap().is_definite());
        assert!(pipeline.adopt(NEW));
        assert_eq!(again(&mut pipeline, now), [(2, Some((8, 0)))]);
    }

    #[test]
    fn a_gap_with_nothing_behind_it_ends_the_identity() {
        let now = Instant::now();
        let mut pipeline = pipeline(now, 1);
        pipeline.refused(FIRST, 1, error(Reason::InvalidRecord), now);
        assert!(pipeline.wants_identity() && !pipeline.adopt(OLD));
    }

    #[test]
    fn out_of_order_without_a_gap_means_lost_records_and_is_reported() {
        let now = Instant::now();
        let mut pipeline = pipeline(now, 1);
        let finished = pipeline.refused(FIRST, 1, error(Reason::OutOfOrderSequenceNumber), now);
        assert_eq!(
            finished[0].error.as_ref().unwrap().reason(),
            Reason::OutOfOrderSequenceNumber
        );
    }

    #[test]
    fn a_forgotten_producer_starts_again_under_a_new_identity() {
        let now = Instant::now();
        let mut pipeline = pipeline(now, 1);
        pipeline.refused(FIRST, 1, error(Reason::UnknownProducerId), now);
        assert!(pipeline.adopt(NEW));
        assert_eq!(again(&mut pipeline, now), [(1, Some((8, 0)))]);
    }

    #[test]
    fn a_late_batch_is_given_up_and_its_error_says_whether_it_may_be_stored() {
        let now = Instant::now();
        let waited = Duration::from_secs(9);
        let mut out = pipeline(now, 1);
        assert!(out.expire(now - waited, waited).is_empty());
        let finished = out.expire(now, waited);
        assert!(!finished[0].error.as_ref().unwrap().is_definite());

        let mut refused = pipeline(now, 1);
        refused.refused(FIRST, 1, error(Reason::DiskFull), now);
        let finished = refused.expire(now, waited);
        let error = finished[0].error.as_ref().unwrap();
        assert!(error.is_definite());
        assert!(
            std::error::Error::source(error)
                .unwrap()
                .to_string()
                .contains("DISK_FULL")
        );
    }

    #[test]
    fn a_connection_that_never_carried_anything_leaves_no_doubt() {
        let now = Instant::now();
        let mut pipeline = pipeline(now, 1);
        pipeline.disconnected(FIRST, &error(Reason::NetworkException), false, now);
        let finished = pipeline.expire(now, Duration::ZERO);
        assert!(finished[0].error.as_ref().unwrap().is_definite());
    }

    #[test]
    fn outcomes_from_a_connection_given_up_change_nothing() {
        let now = Instant::now();
        let mut pipeline = pipeline(now, 1);
        pipeline.disconnected(FIRST, &error(Reason::NetworkException), true, now);
        again(&mut pipeline, now);
        let stale = pipeline.refused(FIRST, 1, error(Reason::InvalidRecord), now);
        assert!(stale.is_empty() && !pipeline.is_empty());
    }

    #[test]
    fn a_partition_that_stays_unknown_is_given_up_unless_connections_were_lost_between() {
        let now = Instant::now();
        let mut pipeline = pipeline(now, 1);
        let unknown = || error(Reason::UnknownTopicId);
        let lost = error(Reason::NetworkException);
        pipeline.disconnected(FIRST, &lost, false, now);
        again(&mut pipeline, now);
        for _ in 0..2 {
            for _ in 1..MAX_NOT_FOUND {
                assert!(pipeline.refused(SECOND, 1, unknown(), now).is_empty());
                again(&mut pipeline, now);
            }
            pipeline.disconnected(SECOND, &lost, false, now);
            again(&mut pipeline, now);
        }
        for _ in 1..MAX_NOT_FOUND {
            pipeline.refused(SECOND, 1, unknown(), now);
            again(&mut pipeline, now);
        }
        let finished = pipeline.refused(SECOND, 1, unknown(), now);
        let failure = finished[0].error.as_ref().unwrap();
        assert_eq!(failure.reason(), Reason::UnknownTopicId);
    }

    #[test]
    fn failures_count_rounds_not_batches_and_end_with_success() {
        let now = Instant::now();
        let mut pipeline = pipeline(now, 3);
        let lost = error(Reason::NetworkException);
        pipeline.disconnected(FIRST, &lost, true, now);
        assert_eq!(pipeline.failures(), 1);
        again(&mut pipeline, now);
        pipeline.disconnected(SECOND, &lost, true, now);
        assert_eq!(pipeline.failures(), 2);
        again(&mut pipeline, now);
        pipeline.acknowledged(1);
        assert_eq!(pipeline.failures(), 0);
    }
}
