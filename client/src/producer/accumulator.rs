//! Records on their way into batches.
//!
//! Each partition gathers records in one open batch. A batch is complete when the next record would make it larger than
//! `batch_bytes`, and due when it has been open for `linger`, or when the producer flushes. All that is buffered,
//! gathered or sent and not yet acknowledged, counts against `buffer_bytes`: a record that does not fit is refused, and
//! the caller waits.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use highwater_proto::batch::{self, BatchBuilder, NewRecord};

use super::outcome::Outcome;

/// A partition: the place of its topic among the producer's topics, and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Lane {
    pub(crate) topic: usize,
    pub(crate) partition: u32,
}

/// Sizes and times of gathering.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gathering {
    /// Bytes at which a batch is complete. A single larger record makes a batch of its own.
    pub(crate) batch_bytes: usize,
    /// The largest batch, and so the largest record.
    pub(crate) max_batch_bytes: usize,
    /// How long an open batch waits for more records.
    pub(crate) linger: Duration,
    /// Bytes of all batches that are not acknowledged.
    pub(crate) buffer_bytes: usize,
}

/// A batch that is gathered and not yet sent.
#[derive(Debug)]
pub(crate) struct Gathered {
    pub(crate) builder: BatchBuilder,
    pub(crate) outcome: Arc<Outcome>,
    pub(crate) opened_at: Instant,
    /// What it takes of the buffer, to be released when it is acknowledged or has failed.
    pub(crate) buffered_bytes: usize,
}

/// A record that was taken in.
#[derive(Debug)]
pub(crate) struct Appended {
    pub(crate) outcome: Arc<Outcome>,
    /// Its place in the batch.
    pub(crate) place: u32,
    /// It opened a batch: there is a new time at which something is due.
    pub(crate) opened: bool,
    /// A batch is complete: there is something to send now.
    pub(crate) completed: bool,
}

/// A record that was not taken in.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The buffer is full now; there will be room.
    Full {
        /// A batch was completed in trying, so there is something to send.
        completed: bool,
    },
    /// It cannot be sent at all.
    Record(batch::Error),
}

#[derive(Debug, Default)]
struct Queue {
    open: Option<Gathered>,
    complete: VecDeque<Gathered>,
}

/// The gathered batches of all partitions.
///
/// Invariants: an open batch holds at least one record; `buffered_bytes` is the sum over all batches handed out by
/// `take` and not released, and over those still here; complete batches of a lane are older than its open one.
#[derive(Debug)]
pub(crate) struct Accumulator {
    gathering: Gathering,
    lanes: Vec<Vec<Queue>>,
    buffered_bytes: usize,
    /// Builders whose memory can be used again.
    spare: Vec<BatchBuilder>,
}

/// How many idle builders keep their memory.
const MAX_SPARE_BUILDERS: usize = 32;

impl Accumulator {
    pub(crate) fn new(gathering: Gathering) -> Self {
        Self {
            gathering,
            lanes: Vec::new(),
            buffered_bytes: 0,
            spare: Vec::new(),
        }
    }

    /// Makes room for the lanes of a topic; never takes lanes away.
    pub(crate) fn set_partitions(&mut self, topic: usize, partitions: u32) {
        if self.lanes.len() <= topic {
            self.lanes.resize_with(topic + 1, Vec::new);
        }
        let lanes = &mut self.lanes[topic];
        if lanes.len() < partitions as usize {
            lanes.resize_with(partitions as usize, Queue::default);
        }
    }

    pub(crate) fn buffered_bytes(&self) -> usize {
        self.buffered_bytes
    }

    /// Takes a record in. `clock` tells the time, and `outcome` makes the slot, of a new batch: most records open none.
    pub(crate) fn append(
        &mut self,
        clock: impl FnOnce() -> Instant,
        lane: Lane,
        record: &NewRecord<'_>,
        outcome: impl FnOnce() -> Arc<Outcome>,
    ) -> Result<Appended, Refused> {
        let gathering = self.gathering;
        let room = gathering.buffer_bytes.saturating_sub(self.buffered_bytes);
        let queue = &mut self.lanes[lane.topic][lane.partition as usize];
        let mut completed = false;
        if let Some(open) = &mut queue.open {
            let most = gathering.batch_bytes.min(open.buffered_bytes + room);
            if let Some(place) = append_to(open, record, most)? {
                let appended = Appended {
                    outcome: Arc::clone(&open.outcome),
                    place,
                    opened: false,
                    completed: false,
                };
                return Ok(self.note(lane, appended));
            }
            if open.builder.batch_bytes_with(record) <= gathering.batch_bytes {
                return Err(Refused::Full { completed });
            }
            queue.complete.extend(queue.open.take());
            completed = true;
        }
        let builder = self.spare.pop().unwrap_or_default();
        let bytes = builder.batch_bytes_with(record);
        let fits = match bytes <= room {
            true => Ok(()),
            false => Err(Refused::Full { completed }),
        };
        let checked = check_first(bytes, &gathering).and(fits);
        if let Err(refused) = checked {
            self.spare.push(builder);
            return Err(refused);
        }
        let open = queue.open.insert(Gathered {
            builder,
            outcome: outcome(),
            opened_at: clock(),
            buffered_bytes: 0,
        });
        let appended = Appended {
            outcome: Arc::clone(&open.outcome),
            place: 0,
            opened: true,
            completed,
        };
        match append_to(open, record, bytes) {
            Ok(_) => Ok(self.note(lane, appended)),
            Err(refused) => {
                queue.open = None;
                Err(refused)
            }
        }
    }

    /// Counts what the lane's open batch has grown by, and completes it when it is full.
    fn note(&mut self, lane: Lane, appended: Appended) -> Appended {
        let queue = &mut self.lanes[lane.topic][lane.partition as usize];
        let Some(open) = &mut queue.open else {
            return appended;
        };
        let bytes = open.builder.batch_bytes();
        self.buffered_bytes += bytes - open.buffered_bytes;
        open.buffered_bytes = bytes;
        let is_full = bytes >= self.gathering.batch_bytes;
        if is_full {
            queue.complete.extend(queue.open.take());
        }
        Appended {
            completed: appended.completed || is_full,
            ..appended
        }
    }

    /// Takes the oldest batch of the lane that is complete or due.
    pub(crate) fn take(&mut self, now: Instant, lane: Lane) -> Option<Gathered> {
        let linger = self.gathering.linger;
        let queue = self.queue(lane);
        queue
            .complete
            .pop_front()
            .or_else(|| queue.open.take_if(|open| now >= open.opened_at + linger))
    }

    /// When the lane's next batch is due. `None` when it holds nothing.
    pub(crate) fn due_at(&self, lane: Lane) -> Option<Instant> {
        let queue = &self.lanes[lane.topic][lane.partition as usize];
        match (queue.complete.front(), &queue.open) {
            (Some(complete), _) => Some(complete.opened_at),
            (None, Some(open)) => Some(open.opened_at + self.gathering.linger),
            (None, None) => None,
        }
    }

    /// When the lane's oldest batch was opened. `None` when it holds nothing.
    pub(crate) fn oldest(&self, lane: Lane) -> Option<Instant> {
        let queue = &self.lanes[lane.topic][lane.partition as usize];
        let oldest = queue.complete.front().or(queue.open.as_ref());
        oldest.map(|batch| batch.opened_at)
    }

    /// Completes the lane's open batch, whatever its age.
    pub(crate) fn complete(&mut self, lane: Lane) {
        let queue = self.queue(lane);
        queue.complete.extend(queue.open.take());
    }

    /// The slots of the lane's complete batches.
    pub(crate) fn outcomes(&self, lane: Lane) -> impl Iterator<Item = Arc<Outcome>> + '_ {
        let queue = &self.lanes[lane.topic][lane.partition as usize];
        queue
            .complete
            .iter()
            .map(|batch| Arc::clone(&batch.outcome))
    }

    /// Takes the lane's oldest batch if it was opened at or before `opened_by`.
    pub(crate) fn take_expired(&mut self, lane: Lane, opened_by: Instant) -> Option<Gathered> {
        let expired = |batch: &mut Gathered| batch.opened_at <= opened_by;
        let queue = self.queue(lane);
        queue
            .complete
            .pop_front_if(expired)
            .or_else(|| match queue.complete.is_empty() {
                true => queue.open.take_if(expired),
                false => None,
            })
    }

    /// Takes the lane's oldest complete batch, whatever its age.
    pub(crate) fn take_complete(&mut self, lane: Lane) -> Option<Gathered> {
        self.queue(lane).complete.pop_front()
    }

    /// Gives back what a batch took of the buffer.
    pub(crate) fn release(&mut self, buffered_bytes: usize) {
        self.buffered_bytes -= buffered_bytes;
    }

    /// Keeps the memory of a builder for the next batch.
    pub(crate) fn recycle(&mut self, builder: BatchBuilder) {
        if builder.is_empty() && self.spare.len() < MAX_SPARE_BUILDERS {
            self.spare.push(builder);
        }
    }

    fn queue(&mut self, lane: Lane) -> &mut Queue {
        &mut self.lanes[lane.topic][lane.partition as usize]
    }
}

/// Appends to a batch unless it would then have more than `most` bytes; the record's place in it.
fn append_to(
    open: &mut Gathered,
    record: &NewRecord<'_>,
    most: usize,
) -> Result<Option<u32>, Refused> {
    let appended = open.builder.append_within(record, most);
    appended.map_err(Refused::Record)
}

/// A record that is too large even for a batch, or a buffer, of its own is refused for good.
fn check_first(bytes: usize, gathering: &Gathering) -> Result<(), Refused> {
    let most = gathering.max_batch_bytes.min(gathering.buffer_bytes);
    if bytes <= most {
        return Ok(());
    }
    Err(Refused::Record(batch::Error::TooLarge {
        found: bytes as u64,
        most: most as u64,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANE: Lane = Lane {
        topic: 0,
        partition: 1,
    };
    const LINGER: Duration = Duration::from_millis(5);

    fn accumulator() -> Accumulator {
        let mut accumulator = Accumulator::new(Gathering {
            batch_bytes: 200,
            max_batch_bytes: 400,
            linger: LINGER,
            buffer_bytes: 500,
        });
        accumulator.set_partitions(0, 2);
        accumulator
    }

    fn append(
        accumulator: &mut Accumulator,
        now: Instant,
        bytes: usize,
    ) -> Result<Appended, Refused> {
        let value = vec![b'x'; bytes];
        let record = NewRecord {
            value: Some(&value),
            ..NewRecord::default()
        };
        accumulator.append(|| now, LANE, &record, || Outcome::new("t".into(), 1))
    }

    #[test]
    fn a_batch_is_due_after_its_linger_and_not_before() {
        let mut accumulator = accumulator();
        let now = Instant::now();
        let first = append(&mut accumulator, now, 10).unwrap();
        assert!(first.opened && !first.completed);
        let second = append(&mut accumulator, now + LINGER / 2, 10).unwrap();
        assert!(!second.opened);
        assert_eq!((first.place, second.place), (0, 1));
        assert!(Arc::ptr_eq(&first.outcome, &second.outcome));
        assert_eq!(accumulator.due_at(LANE), Some(now + LINGER));
        assert!(accumulator.take(now + LINGER / 2, LANE).is_none());
        let batch = accumulator.take(now + LINGER, LANE).unwrap();
        assert_eq!(batch.builder.record_count(), 2);
        assert_eq!(accumulator.due_at(LANE), None);
    }

    #[test]
    fn a_full_batch_is_complete_at_once() {
        let mut accumulator = accumulator();
        let now = Instant::now();
        append(&mut accumulator, now, 100).unwrap();
        let next = append(&mut accumulator, now, 100).unwrap();
        assert!(next.completed && next.opened);
        let batch = accumulator.take(now, LANE).unwrap();
        assert_eq!(batch.builder.record_count(), 1);
        assert!(accumulator.take(now, LANE).is_none());
    }

    #[test]
    fn a_large_record_makes_a_batch_of_its_own() {
        let mut accumulator = accumulator();
        let now = Instant::now();
        let appended = append(&mut accumulator, now, 300).unwrap();
        assert!(appended.completed);
        assert_eq!(
            accumulator.take(now, LANE).unwrap().builder.record_count(),
            1
        );
    }

    #[test]
    fn a_record_larger_than_any_batch_is_refused_for_good() {
        let refused = append(&mut accumulator(), Instant::now(), 400).unwrap_err();
        assert!(matches!(
            refused,
            Refused::Record(batch::Error::TooLarge { most: 400, .. })
        ));
    }

    #[test]
    fn a_full_buffer_refuses_until_a_batch_is_released() {
        let mut accumulator = accumulator();
        let now = Instant::now();
        append(&mut accumulator, now, 300).unwrap();
        let refused = append(&mut accumulator, now, 300).unwrap_err();
        assert!(matches!(refused, Refused::Full { .. }));
        let batch = accumulator.take(now, LANE).unwrap();
        assert!(append(&mut accumulator, now, 300).is_err());
        accumulator.release(batch.buffered_bytes);
        assert_eq!(accumulator.buffered_bytes(), 0);
        append(&mut accumulator, now, 300).unwrap();
    }

    #[test]
    fn the_buffer_counts_exactly_the_bytes_of_its_batches() {
        let mut accumulator = accumulator();
        let now = Instant::now();
        for bytes in [1, 30, 64] {
            append(&mut accumulator, now, bytes).unwrap();
        }
        let batch = accumulator.take(now + LINGER, LANE).unwrap();
        assert_eq!(batch.buffered_bytes, batch.builder.batch_bytes());
        assert_eq!(accumulator.buffered_bytes(), batch.buffered_bytes);
    }

    #[test]
    fn flushing_completes_what_is_open() {
        let mut accumulator = accumulator();
        let now = Instant::now();
        append(&mut accumulator, now, 10).unwrap();
        accumulator.complete(LANE);
        assert_eq!(accumulator.outcomes(LANE).count(), 1);
        assert!(accumulator.take(now, LANE).is_some());
    }

    #[test]
    fn only_batches_opened_by_then_expire() {
        let mut accumulator = accumulator();
        let now = Instant::now();
        append(&mut accumulator, now, 100).unwrap();
        append(&mut accumulator, now + LINGER, 100).unwrap();
        assert_eq!(accumulator.oldest(LANE), Some(now));
        assert!(accumulator.take_expired(LANE, now).is_some());
        assert!(accumulator.take_expired(LANE, now).is_none());
        assert!(accumulator.take_expired(LANE, now + LINGER).is_some());
    }
}
