//! The rules of a partition.

use bytes::{Bytes, BytesMut};
use highwater_proto::batch::{self, BatchHeader, ProducerStamp};
use highwater_storage::{Offset, RaftIndex};

use super::error::Error;
use super::pending::Pending;
use super::producers::{Place, Progress};
use super::state::{BadSnapshot, Events, State, decode_events, stored_batch};
use crate::raft::machine::{CommittedEntry, Decision, EntryKind, NewEntry, Timestamp, Unlawful};
use crate::topic::{TimestampType, TopicConfig};

/// A batch without a timestamp carries this instead.
const NO_TIMESTAMP: i64 = -1;

/// What a partition remembers at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `partition.max.producers`: idempotent producers remembered at once. Each takes some 300 bytes of memory and of
    /// every snapshot.
    pub max_producers: usize,
    /// `producer.id.expiration.ms`: a producer that was silent for so long is forgotten. Longer than any client
    /// retries a batch.
    pub producer_expiration_ms: u64,
    /// `producer.id.expiration.min.ms`: the same while more than three quarters of `max_producers` are in use.
    pub producer_expiration_min_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_producers: 10_000,
            producer_expiration_ms: 24 * 60 * 60 * 1_000,
            producer_expiration_min_ms: 15 * 60 * 1_000,
        }
    }
}

/// A request to a partition's leader.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Append a batch.
    Produce {
        /// The batch, checked: its bytes and records are what its header says.
        batch: Bytes,
        /// Its header.
        header: BatchHeader,
    },
    /// Drop records.
    Trim {
        /// Up to where.
        to: TrimTo,
    },
    /// Note the time where that is needed, and forget producers that were silent for too long.
    ExpireProducers,
}

/// The log start that a trim asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrimTo {
    /// This offset becomes the first one held.
    Offset(Offset),
    /// Everything that is committed goes.
    HighWatermark,
}

/// The answer to a command that was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    /// The batch is stored.
    Produced {
        /// Offset of its first record.
        base_offset: Offset,
        /// The time that the leader gave it, where the topic is configured so.
        log_append_time: Option<Timestamp>,
        /// First offset held when it was decided.
        log_start: Offset,
    },
    /// Records below `log_start` are gone.
    Trimmed {
        /// First offset held.
        log_start: Offset,
    },
    /// Silent producers are forgotten.
    ProducersExpired {
        /// How many.
        count: usize,
    },
}

/// A partition: applied state, this term's proposals, and the rules.
///
/// Followers have no proposals; there `pending` is empty. The state depends on the log alone.
#[derive(Debug)]
pub struct PartitionMachine {
    state: State,
    pending: Pending,
    limits: Limits,
}

impl PartitionMachine {
    /// The machine whose applied state is `snapshot`; no bytes mean a partition that begins.
    ///
    /// # Errors
    /// [`BadSnapshot`] when no known version wrote it.
    pub fn new(snapshot: &[u8], limits: Limits) -> Result<Self, BadSnapshot> {
        Ok(Self {
            state: State::decode(snapshot)?,
            pending: Pending::default(),
            limits,
        })
    }

    /// Takes the applied state of another replica of the partition, as of a later entry.
    ///
    /// # Errors
    /// Why it is no such state; nothing changed.
    pub fn restore(&mut self, snapshot: &[u8]) -> Result<(), String> {
        let later = State::decode(snapshot).map_err(|error| error.to_string())?;
        let now = &self.state;
        if later.next_offset < now.next_offset || later.log_start < now.log_start {
            return Err(format!(
                "the snapshot holds offsets {} to {}, which is less than {} to {}",
                later.log_start, later.next_offset, now.log_start, now.next_offset
            ));
        }
        (self.state, self.pending) = (later, Pending::default());
        Ok(())
    }

    /// The applied state. Its next offset is the high watermark.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The offset after everything applied and proposed.
    pub fn log_end(&self) -> Offset {
        self.pending.next_offset().unwrap_or(self.state.next_offset)
    }

    /// See [`Machine::decide`](crate::raft::machine::Machine::decide); `config` is the topic's configuration in force.
    ///
    /// # Errors
    /// Why the command is refused; nothing was written.
    pub fn decide(
        &self,
        config: &TopicConfig,
        command: Command,
        now: Timestamp,
    ) -> Result<Decision<Response>, Error> {
        match command {
            Command::Produce { batch, header } => self.decide_produce(config, batch, &header, now),
            Command::Trim { to } => self.decide_trim(to),
            Command::ExpireProducers => Ok(self.decide_expiry(now)),
        }
    }

    /// Repeated batches are found before size and time are judged: what is stored stays acknowledged, whatever the
    /// configuration says by now.
    fn decide_produce(
        &self,
        config: &TopicConfig,
        batch: Bytes,
        header: &BatchHeader,
        now: Timestamp,
    ) -> Result<Decision<Response>, Error> {
        if let Some(stamp) = &header.producer
            && let Some(answer) = self.place(stamp, header.record_count)?
        {
            return Ok(answer);
        }
        check_size(config, batch.len() as u64)?;
        let (data, max_timestamp_ms) = match config.timestamp_type {
            TimestampType::CreateTime => {
                check_timestamps(config, header, now)?;
                (batch, header.max_timestamp_ms)
            }
            TimestampType::LogAppendTime => (stamp_with_append_time(batch, now)?, now.0),
        };
        let by_leader = config.timestamp_type == TimestampType::LogAppendTime;
        Ok(Decision::Propose {
            entries: vec![NewEntry {
                kind: EntryKind::Batch,
                data,
                record_count: header.record_count,
                max_timestamp_ms,
            }],
            response: Response::Produced {
                base_offset: self.log_end(),
                log_append_time: by_leader.then_some(now),
                log_start: self.state.log_start,
            },
        })
    }

    /// Where an idempotent producer's batch belongs: `None` means append it.
    fn place(
        &self,
        stamp: &ProducerStamp,
        record_count: u32,
    ) -> Result<Option<Decision<Response>>, Error> {
        let Some(progress) = self.progress(stamp) else {
            return self.admit(stamp).map(|()| None);
        };
        match progress.place(stamp, record_count) {
            Place::Next => Ok(None),
            Place::Stored => self.duplicate(stamp, record_count).map(Some),
            Place::OutOfOrder => Err(Error::OutOfOrderSequence {
                producer_id: stamp.id,
                epoch: stamp.epoch,
                expected: if stamp.epoch == progress.epoch {
                    progress.next
                } else {
                    highwater_proto::Sequence(0)
                },
                found: stamp.sequence,
            }),
            Place::Fenced => Err(Error::InvalidProducerEpoch {
                producer_id: stamp.id,
                found: stamp.epoch,
                current: progress.epoch,
            }),
        }
    }

    /// The producer's progress in applied state and proposals.
    fn progress(&self, stamp: &ProducerStamp) -> Option<Progress> {
        let applied = || self.state.producers.progress(stamp.id);
        self.pending.progress(stamp.id).unwrap_or_else(applied)
    }

    /// Lets a producer in that is not remembered.
    fn admit(&self, stamp: &ProducerStamp) -> Result<(), Error> {
        if stamp.sequence != highwater_proto::Sequence(0) {
            return Err(Error::UnknownProducerId {
                producer_id: stamp.id,
                sequence: stamp.sequence,
            });
        }
        let producers = &self.state.producers;
        if producers.contains(stamp.id) {
            // About to be forgotten: it takes its own place again.
            return Ok(());
        }
        let arriving = self.pending.new_producers(|id| producers.contains(id));
        if producers.len() + arriving >= self.limits.max_producers {
            return Err(Error::TooManyProducers {
                limit: self.limits.max_producers,
            });
        }
        Ok(())
    }

    /// The answer to a batch that was sent before.
    fn duplicate(
        &self,
        stamp: &ProducerStamp,
        record_count: u32,
    ) -> Result<Decision<Response>, Error> {
        let pending = self.pending.duplicate(stamp, record_count);
        let (stored, after) = match pending {
            Some((stored, index)) => (stored, Some(index)),
            None => match self.state.producers.duplicate(stamp, record_count) {
                Some(stored) => (stored, None),
                None => {
                    return Err(Error::DuplicateSequence {
                        producer_id: stamp.id,
                        sequence: stamp.sequence,
                    });
                }
            },
        };
        let response = Response::Produced {
            base_offset: stored.base_offset,
            log_append_time: stored.log_append_time,
            log_start: self.state.log_start,
        };
        Ok(Decision::Answer { response, after })
    }

    fn decide_trim(&self, to: TrimTo) -> Result<Decision<Response>, Error> {
        let high_watermark = self.state.next_offset;
        let target = match to {
            TrimTo::Offset(offset) => offset,
            TrimTo::HighWatermark => high_watermark,
        };
        if target > high_watermark {
            return Err(Error::OffsetOutOfRange {
                offset: target,
                log_start: self.state.log_start,
                high_watermark,
            });
        }
        let proposed = self.pending.log_start();
        if target <= self.state.log_start {
            let response = Response::Trimmed {
                log_start: self.state.log_start,
            };
            return Ok(Decision::Answer {
                response,
                after: None,
            });
        }
        if let Some((log_start, index)) = proposed
            && target <= log_start
        {
            let response = Response::Trimmed { log_start };
            return Ok(Decision::Answer {
                response,
                after: Some(index),
            });
        }
        let events = Events {
            log_start: Some(target),
            ..Events::default()
        };
        let response = Response::Trimmed { log_start: target };
        Ok(propose_events(&events, response))
    }

    fn decide_expiry(&self, now: Timestamp) -> Decision<Response> {
        let producers = &self.state.producers;
        let crowded =
            producers.len().saturating_mul(4) > self.limits.max_producers.saturating_mul(3);
        let silence_ms = if crowded {
            self.limits.producer_expiration_min_ms
        } else {
            self.limits.producer_expiration_ms
        };
        let mut expired = producers.silent(now, silence_ms);
        expired.retain(|id| !self.pending.concerns(*id));
        let response = Response::ProducersExpired {
            count: expired.len(),
        };
        let noted = producers.wants_time().then_some(now);
        if expired.is_empty() && noted.is_none() {
            return Decision::Answer {
                response,
                after: None,
            };
        }
        let events = Events {
            log_start: None,
            expired,
            noted,
        };
        propose_events(&events, response)
    }

    /// See [`Machine::proposed`](crate::raft::machine::Machine::proposed).
    pub fn proposed(&mut self, index: RaftIndex, entry: &NewEntry) {
        let base_offset = self.log_end();
        match entry.kind {
            EntryKind::Batch => {
                let header = BatchHeader::parse(&entry.data)
                    .expect("decide proposes batches whose header was parsed");
                let producer = header.producer.map(|stamp| {
                    let count = header.record_count;
                    let progress = match self.progress(&stamp) {
                        Some(progress) => progress.after(&stamp, count),
                        None => Progress::begin(&stamp, count),
                    };
                    (stamp.id, progress, stored_batch(&header, base_offset))
                });
                let next_offset = base_offset.plus(entry.record_count);
                self.pending.push_batch(index, next_offset, producer);
            }
            EntryKind::Events => {
                let events =
                    decode_events(&entry.data).expect("decide proposes events of this version");
                self.pending
                    .push_events(index, base_offset, events.log_start, events.expired);
            }
        }
    }

    /// See [`Machine::retract`](crate::raft::machine::Machine::retract).
    pub fn retract(&mut self, from: RaftIndex) {
        self.pending.retract(from);
    }

    /// See [`Machine::apply`](crate::raft::machine::Machine::apply).
    ///
    /// # Errors
    /// [`Unlawful`] when no correct leader of a known version wrote the entry; the state is unchanged.
    pub fn apply(&mut self, entry: &CommittedEntry) -> Result<(), Unlawful> {
        let applied = match entry.kind {
            EntryKind::Batch => {
                self.state
                    .apply_batch(entry.base_offset, entry.record_count, &entry.data)
            }
            EntryKind::Events => self.state.apply_events(&entry.data),
        };
        applied.map_err(|reason| Unlawful {
            index: entry.index,
            reason,
        })?;
        self.pending.applied(entry.index);
        Ok(())
    }

    /// See [`Machine::apply_lost`](crate::raft::machine::Machine::apply_lost).
    ///
    /// # Errors
    /// [`Unlawful`] when the hole does not begin where the log ends; the state is unchanged.
    pub fn apply_lost(
        &mut self,
        index: RaftIndex,
        base_offset: Offset,
        record_count: u32,
    ) -> Result<(), Unlawful> {
        self.state
            .apply_lost(base_offset, record_count)
            .map_err(|reason| Unlawful { index, reason })?;
        self.pending.applied(index);
        Ok(())
    }

    /// See [`Machine::snapshot`](crate::raft::machine::Machine::snapshot).
    pub fn snapshot(&self) -> Bytes {
        self.state.encode()
    }
}

fn propose_events(events: &Events, response: Response) -> Decision<Response> {
    let entry = NewEntry {
        kind: EntryKind::Events,
        data: events.encode(),
        record_count: 0,
        max_timestamp_ms: NO_TIMESTAMP,
    };
    Decision::Propose {
        entries: vec![entry],
        response,
    }
}

fn check_size(config: &TopicConfig, bytes: u64) -> Result<(), Error> {
    if bytes > config.max_message_bytes {
        return Err(Error::MessageTooLarge {
            bytes,
            limit_bytes: config.max_message_bytes,
        });
    }
    Ok(())
}

/// Holds first and greatest timestamp against the topic's bounds. What lies between in a compressed batch is not seen;
/// nothing but time-based retention and lookup depends on it.
fn check_timestamps(
    config: &TopicConfig,
    header: &BatchHeader,
    now: Timestamp,
) -> Result<(), Error> {
    let refuse = |timestamp_ms, limit_name, limit_ms| {
        Err(Error::InvalidTimestamp {
            timestamp_ms,
            now_ms: now.0,
            limit_name,
            limit_ms,
        })
    };
    let exceeds = |difference: i64, limit_ms: u64| {
        u64::try_from(difference).is_ok_and(|difference| difference > limit_ms)
    };
    for timestamp_ms in [header.base_timestamp_ms, header.max_timestamp_ms] {
        if timestamp_ms == NO_TIMESTAMP {
            continue;
        }
        let limit_ms = config.timestamp_after_max_ms;
        if exceeds(timestamp_ms.saturating_sub(now.0), limit_ms) {
            return refuse(timestamp_ms, "message.timestamp.after.max.ms", limit_ms);
        }
        let limit_ms = config.timestamp_before_max_ms;
        if exceeds(now.0.saturating_sub(timestamp_ms), limit_ms) {
            return refuse(timestamp_ms, "message.timestamp.before.max.ms", limit_ms);
        }
    }
    Ok(())
}

/// The one rewrite of a batch on its way to the log. Copies it only when somebody else still holds its bytes.
fn stamp_with_append_time(batch: Bytes, now: Timestamp) -> Result<Bytes, Error> {
    let mut copy = BytesMut::from(batch);
    batch::set_log_append_time(&mut copy, now.0).map_err(|error| Error::Malformed {
        reason: error.to_string(),
    })?;
    Ok(copy.freeze())
}

#[cfg(test)]
mod tests;
