//! What was sent, acknowledged and seen, and what follows from that for everything that is found.

use std::collections::BTreeMap;

use bytes::Bytes;
use highwater_broker::raft::GroupId;
use highwater_proto::batch::BatchHeader;
use highwater_proto::{ProducerId, Sequence};
use highwater_storage::{Frame, FrameKind};

use super::violation::{Check, Checked, broken};

/// From here on a batch is what its producer sent; before it stands what the log writes itself.
pub(super) const SENT_FROM: usize = 21;

/// Names a batch. It stands in the batch as its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BatchNumber(pub(super) u64);

/// All batches of a run, and where they stand.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    sent: BTreeMap<BatchNumber, Sent>,
    groups: BTreeMap<GroupId, Places>,
    acked: u64,
}

#[derive(Debug)]
struct Sent {
    group: GroupId,
    batch: Bytes,
    records: u64,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Acked,
    Refused,
}

/// Where the batches of one group stand.
#[derive(Debug, Default)]
struct Places {
    /// By base offset.
    placed: BTreeMap<u64, Placed>,
    by_batch: BTreeMap<BatchNumber, u64>,
    /// The offset after the last record that was acknowledged.
    acked_end: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Placed {
    end: u64,
    batch: BatchNumber,
    seen: Seen,
}

/// How it is known where a batch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// A leader acknowledged it.
    Acked,
    /// It was read below a high watermark.
    Read,
    /// It stands in a replica's log when all is over.
    Drained,
}

impl Seen {
    /// The promise that is broken when two sights contradict each other.
    fn promise(self, other: Self) -> Check {
        if self == Self::Read || other == Self::Read {
            Check::NoUncommittedRead
        } else if self == Self::Acked && other == Self::Acked {
            Check::StoredOnce
        } else if self == Self::Acked || other == Self::Acked {
            Check::NoAckedLoss
        } else {
            Check::ReplicasAgree
        }
    }
}

impl Ledger {
    /// Notes a batch that is about to be sent for the first time. Answers the offset that it cannot be below: the end of
    /// what is acknowledged already.
    pub(super) fn send(
        &mut self,
        number: BatchNumber,
        group: GroupId,
        batch: Bytes,
        records: u32,
    ) -> u64 {
        let sent = Sent {
            group,
            batch,
            records: u64::from(records),
            fate: Fate::Open,
        };
        self.sent.insert(number, sent);
        self.groups.entry(group).or_default().acked_end
    }

    /// A leader acknowledged a batch at an offset that is not to be below `floor`.
    pub(super) fn ack(&mut self, number: BatchNumber, base_offset: u64, floor: u64) -> Checked {
        let Some(sent) = self.sent.get_mut(&number) else {
            return broken(Check::NoPhantom, format!("batch {} was not sent", number.0));
        };
        if base_offset < floor {
            return broken(
                Check::RealTimeOrder,
                format!(
                    "batch {} was sent when everything below {floor} was acknowledged, and got {base_offset}",
                    number.0
                ),
            );
        }
        if sent.fate != Fate::Acked {
            self.acked += 1;
        }
        sent.fate = Fate::Acked;
        let (group, end) = (sent.group, base_offset + sent.records);
        self.place(group, base_offset, number, Seen::Acked)?;
        let places = self.groups.entry(group).or_default();
        places.acked_end = places.acked_end.max(end);
        Ok(())
    }

    /// A leader refused a batch that is sent only once, for certain.
    pub(super) fn refuse(&mut self, number: BatchNumber) -> Checked {
        if let Some(sent) = self.sent.get_mut(&number) {
            sent.fate = Fate::Refused;
            let place = self
                .groups
                .get(&sent.group)
                .and_then(|places| places.by_batch.get(&number));
            if let Some(offset) = place {
                let detail = format!("batch {} was refused and stands at {offset}", number.0);
                return broken(Check::FailedMeansFailed, detail);
            }
        }
        Ok(())
    }

    /// A frame with records was found in a group's log. Answers the number of its batch.
    pub(super) fn found(
        &mut self,
        group: GroupId,
        frame: &Frame,
        seen: Seen,
    ) -> Checked<BatchNumber> {
        let offset = frame.base_offset.0;
        let phantom = |what: &str| {
            broken(
                Check::NoPhantom,
                format!("group {} has at {offset} {what}", group.0),
            )
        };
        if frame.kind != FrameKind::Batch {
            return phantom("what is no batch");
        }
        let Ok(header) = BatchHeader::parse(&frame.payload) else {
            return phantom("a batch without a header");
        };
        if header.base_offset.0 != offset || header.record_count != frame.record_count {
            return phantom("a batch that says that it stands elsewhere");
        }
        let number = BatchNumber(header.base_timestamp_ms.unsigned_abs());
        match self.sent.get(&number) {
            Some(sent) if sent.group != group => return phantom("a batch of another group"),
            Some(sent) if sent.batch[SENT_FROM..] != frame.payload[SENT_FROM..] => {
                return phantom("a batch that was changed");
            }
            None => return phantom("a batch that nobody sent"),
            Some(_) => {}
        }
        self.place(group, offset, number, seen)?;
        Ok(number)
    }

    /// Notes where a batch stands; a place once taken stays as it is, and so does a batch.
    fn place(&mut self, group: GroupId, base: u64, number: BatchNumber, seen: Seen) -> Checked {
        let sent = &self.sent[&number];
        let (fate, end) = (sent.fate, base + sent.records);
        let places = self.groups.entry(group).or_default();
        let around = places.placed.range(..end).next_back();
        if let Some((at, other)) = around
            && other.end > base
            && (*at != base || other.batch != number)
        {
            return broken(
                seen.promise(other.seen),
                format!(
                    "group {} has batch {} at {base} ({seen:?}), where batch {} was at {at} ({:?})",
                    group.0, number.0, other.batch.0, other.seen
                ),
            );
        }
        if let Some(at) = places.by_batch.get(&number).filter(|at| **at != base) {
            return broken(
                Check::StoredOnce,
                format!(
                    "group {} has batch {} at {at} and at {base}",
                    group.0, number.0
                ),
            );
        }
        if fate == Fate::Refused {
            return broken(
                Check::FailedMeansFailed,
                format!(
                    "batch {} was refused and stands at {base} of group {}",
                    number.0, group.0
                ),
            );
        }
        places.placed.entry(base).or_insert(Placed {
            end,
            batch: number,
            seen,
        });
        places.by_batch.insert(number, base);
        Ok(())
    }

    /// The batches that were acknowledged and end above `log_start` must be among `found`, which is in order of offset.
    pub(super) fn check_nothing_lost(
        &self,
        group: GroupId,
        log_start: u64,
        found: &[(u64, BatchNumber)],
    ) -> Checked {
        let Some(places) = self.groups.get(&group) else {
            return Ok(());
        };
        for (base, placed) in &places.placed {
            let is_kept = placed.end > log_start;
            if is_kept && found.binary_search(&(*base, placed.batch)).is_err() {
                let check = if self.sent[&placed.batch].fate == Fate::Acked {
                    Check::NoAckedLoss
                } else {
                    Check::NoUncommittedRead
                };
                return broken(
                    check,
                    format!(
                        "group {} had batch {} at {base} ({:?}); it is gone",
                        group.0, placed.batch.0, placed.seen
                    ),
                );
            }
        }
        Ok(())
    }

    /// An idempotent producer's batches follow one another in its order without a gap. `found` is in order of offset.
    pub(super) fn check_producers(&self, group: GroupId, found: &[(u64, BatchNumber)]) -> Checked {
        let mut next: BTreeMap<ProducerId, Sequence> = BTreeMap::new();
        for (offset, number) in found {
            let header = BatchHeader::parse(&self.sent[number].batch);
            let Some(stamp) = header.as_ref().ok().and_then(|header| header.producer) else {
                continue;
            };
            let records = u32::try_from(self.sent[number].records).unwrap_or(u32::MAX);
            let expected = next.insert(stamp.id, stamp.sequence.plus(records));
            if expected.is_some_and(|expected| expected != stamp.sequence) {
                return broken(
                    Check::ProducerOrder,
                    format!(
                        "group {} has sequence {} of producer {} at {offset}, where {expected:?} comes next",
                        group.0, stamp.sequence, stamp.id
                    ),
                );
            }
        }
        Ok(())
    }

    /// The bytes of a batch as it was sent.
    pub(super) fn batch(&self, number: BatchNumber) -> Bytes {
        self.sent[&number].batch.clone()
    }

    /// Batches that were acknowledged.
    pub(super) fn acked(&self) -> u64 {
        self.acked
    }
}
