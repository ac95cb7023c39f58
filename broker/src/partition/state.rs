//! The applied state of a partition: what its log says up to the applied index, the same on every replica.

use bytes::Bytes;
use highwater_proto::ProducerId;
use highwater_proto::batch::{BatchHeader, TimestampType};
use highwater_proto::internal::v1 as wire;
use highwater_storage::Offset;
use prost::Message;

use super::producers::{ProducerTable, StoredBatch};
use crate::raft::machine::Timestamp;

/// Form of the events and of the snapshot that this program writes and understands.
pub(super) const VERSION: u32 = 1;

/// What the log says.
///
/// Invariants: `log_start <= next_offset`; neither ever goes back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Offset that the next record gets.
    pub next_offset: Offset,
    /// First offset held.
    pub log_start: Offset,
    /// Idempotent producers.
    pub producers: ProducerTable,
}

/// A snapshot that no known version wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the partition's snapshot cannot be used: {reason}")]
pub struct BadSnapshot {
    /// What is wrong with it.
    pub reason: String,
}

impl State {
    /// Applies a batch that stands at `base_offset`. The error says why no correct leader wrote it.
    pub(super) fn apply_batch(
        &mut self,
        base_offset: Offset,
        record_count: u32,
        batch: &[u8],
    ) -> Result<(), String> {
        let header = BatchHeader::parse(batch).map_err(|error| error.to_string())?;
        self.check_base(base_offset)?;
        if record_count != header.record_count {
            return Err(format!(
                "it takes {record_count} offsets for {} records",
                header.record_count
            ));
        }
        if let Some(stamp) = &header.producer {
            self.producers
                .store(stamp, stored_batch(&header, base_offset));
        }
        self.next_offset = base_offset.plus(record_count);
        Ok(())
    }

    /// Applies what stands where records were lost: the offsets are taken.
    ///
    /// What else was lost with them (a batch's sequence, producers that expired) is not known any more, so a producer
    /// that does not go on where it was begins anew, see [`ProducerTable::store`].
    pub(super) fn apply_lost(
        &mut self,
        base_offset: Offset,
        record_count: u32,
    ) -> Result<(), String> {
        self.check_base(base_offset)?;
        self.next_offset = base_offset.plus(record_count);
        Ok(())
    }

    fn check_base(&self, base_offset: Offset) -> Result<(), String> {
        if base_offset == self.next_offset {
            return Ok(());
        }
        Err(format!(
            "it begins at offset {base_offset}, the next is {}",
            self.next_offset
        ))
    }

    /// Applies encoded events, all or none. The error says why no correct leader of a known version wrote them.
    pub(super) fn apply_events(&mut self, data: &[u8]) -> Result<(), String> {
        let events = decode_events(data)?;
        if let Some(log_start) = events.log_start {
            if log_start < self.log_start || log_start > self.next_offset {
                return Err(format!(
                    "log start {log_start} is not in {}..={}",
                    self.log_start, self.next_offset
                ));
            }
            self.log_start = log_start;
        }
        self.producers.forget(events.expired);
        if let Some(now) = events.noted {
            self.producers.note_time(now);
        }
        Ok(())
    }

    /// The state as bytes; equal states give equal bytes.
    pub(super) fn encode(&self) -> Bytes {
        let snapshot = wire::PartitionSnapshot {
            version: VERSION,
            next_offset: self.next_offset.0,
            log_start: self.log_start.0,
            producers: self.producers.encode(),
        };
        snapshot.encode_to_vec().into()
    }

    /// The state that was encoded; no bytes mean a partition that begins.
    pub(super) fn decode(snapshot: &[u8]) -> Result<Self, BadSnapshot> {
        if snapshot.is_empty() {
            return Ok(Self::default());
        }
        let bad = |reason: String| BadSnapshot { reason };
        let snapshot =
            wire::PartitionSnapshot::decode(snapshot).map_err(|error| bad(error.to_string()))?;
        if snapshot.version != VERSION {
            return Err(bad(format!("version {} is not known", snapshot.version)));
        }
        if snapshot.log_start > snapshot.next_offset {
            return Err(bad("its log start lies beyond its next offset".to_owned()));
        }
        Ok(Self {
            next_offset: Offset(snapshot.next_offset),
            log_start: Offset(snapshot.log_start),
            producers: ProducerTable::decode(snapshot.producers).map_err(bad)?,
        })
    }
}

/// What is remembered of a batch for its producer.
pub(super) fn stored_batch(header: &BatchHeader, base_offset: Offset) -> StoredBatch {
    let sequence = header
        .producer
        .map(|stamp| stamp.sequence)
        .unwrap_or_default();
    let by_leader = header.timestamp_type == TimestampType::LogAppendTime;
    StoredBatch {
        sequence,
        record_count: header.record_count,
        base_offset,
        log_append_time: by_leader.then_some(Timestamp(header.max_timestamp_ms)),
    }
}

/// The events of one entry, taken together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Events {
    /// New log start.
    pub(super) log_start: Option<Offset>,
    /// Producers to forget.
    pub(super) expired: Vec<ProducerId>,
    /// The leader's clock.
    pub(super) noted: Option<Timestamp>,
}

impl Events {
    pub(super) fn encode(&self) -> Bytes {
        use wire::partition_event::Event;
        let mut events = Vec::new();
        if let Some(offset) = self.log_start {
            events.push(Event::LogStartSet(wire::LogStartSet { offset: offset.0 }));
        }
        if !self.expired.is_empty() {
            let producer_ids = self.expired.iter().map(|id| id.0).collect();
            events.push(Event::ProducersExpired(wire::ProducersExpired {
                producer_ids,
            }));
        }
        if let Some(now) = self.noted {
            events.push(Event::TimeNoted(wire::TimeNoted {
                timestamp_ms: now.0,
            }));
        }
        let wrap = |event| wire::PartitionEvent { event: Some(event) };
        let message = wire::PartitionEvents {
            version: VERSION,
            events: events.into_iter().map(wrap).collect(),
        };
        message.encode_to_vec().into()
    }
}

/// Decodes the events of one entry. The error says what is not understood.
pub(super) fn decode_events(data: &[u8]) -> Result<Events, String> {
    use wire::partition_event::Event;
    let message = wire::PartitionEvents::decode(data).map_err(|error| error.to_string())?;
    if message.version != VERSION {
        return Err(format!(
            "events of version {} are not known",
            message.version
        ));
    }
    let mut events = Events::default();
    for event in message.events {
        match event.event {
            Some(Event::LogStartSet(set)) => events.log_start = Some(Offset(set.offset)),
            Some(Event::ProducersExpired(expired)) => {
                events
                    .expired
                    .extend(expired.producer_ids.into_iter().map(ProducerId));
            }
            Some(Event::TimeNoted(noted)) => events.noted = Some(Timestamp(noted.timestamp_ms)),
            None => return Err("it holds an event of an unknown kind".to_owned()),
        }
    }
    Ok(events)
}
