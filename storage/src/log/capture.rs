//! What a checkpoint has to say of a log.

use super::log::{Active, Log, Sealed};
use super::shared::Frontier;
use super::{AppliedState, Damage};
use crate::checkpoint::{
    Applied, CapturedLog, LogEntry, LogStart, NO_LIMIT, SegmentEntry, Snapshot,
};
use crate::segment::SegmentSpec;
use crate::{Offset, RaftIndex};
use bytes::Bytes;

/// Lets go of the segments that may leave, and captures the rest.
pub(super) fn capture(log: &mut Log, applied: AppliedState) -> CapturedLog {
    note_damage_met(log);
    drop_front(log, applied.index);
    let synced = log
        .heads
        .last()
        .map_or(log.synced_index(), |head| head.end().next_index.previous());
    let mut hard_state = log.hard_state;
    // A commit index that came from others can be ahead of what this disk holds.
    hard_state.commit = hard_state.commit.min(synced.max(applied.index));
    let entry = LogEntry {
        log: log.id(),
        spec: log.spec.clone(),
        hard_state,
        log_start: log.log_start,
        start: log.start,
        next_generation: log.next_generation,
        applied: Applied {
            index: applied.index,
            term: applied.term,
            conf_state: applied.conf_state,
            snapshot: Snapshot::Inline(Bytes::new()),
        },
        damage: damage(log),
        terms: log.terms.clone(),
        segments: segments(log),
    };
    CapturedLog {
        entry,
        snapshot: applied.snapshot,
        retired: std::mem::take(&mut log.retired),
    }
}

/// What a reader met is damage from here on, until somebody repairs it.
fn note_damage_met(log: &mut Log) {
    let Some(met) = log.shared.damage_met().cloned() else {
        return;
    };
    let damage = log.damage.get_or_insert_with(|| Damage {
        missing: vec![],
        unknown_tail: false,
        hard_state_in_doubt: false,
        reason: met.reason.to_string(),
    });
    if met.missing.to > log.start.index && !damage.missing.contains(&met.missing) {
        damage.missing.push(met.missing);
        damage.missing.sort_by_key(|hole| hole.from);
    }
}

/// A poisoned log that is journaled has lost nothing: what its segments may lack, the journal has. What was only cached is in doubt
/// for good.
fn damage(log: &Log) -> Option<Damage> {
    let mut damage = log.damage.clone();
    if let Some(reason) = log
        .shared
        .poison_reason()
        .filter(|_| log.spec.write_caching)
    {
        let damage = damage.get_or_insert_with(|| Damage {
            missing: vec![],
            unknown_tail: true,
            hard_state_in_doubt: false,
            reason: reason.to_string(),
        });
        damage.unknown_tail = true;
    }
    damage
}

fn segments(log: &Log) -> Vec<SegmentEntry> {
    let sealed = log
        .sealed
        .iter()
        .map(|Sealed { segment, frontier }| file_entry(segment.spec(), frontier));
    let active = log
        .active
        .iter()
        .map(|Active { segment, frontier }| file_entry(segment.spec(), frontier));
    let heads = log.heads.iter().map(|head| SegmentEntry {
        spec: *head.spec(),
        end: head.end(),
        limit: NO_LIMIT,
        head: head.encode(),
    });
    let mut segments: Vec<SegmentEntry> = sealed.chain(active).chain(heads).collect();
    // What a later generation, or a truncation that none has followed yet, leaves of each.
    let mut limit = log.next_index;
    let mut is_last = true;
    for segment in segments.iter_mut().rev() {
        let is_open = is_last && segment.spec.generation.next() == log.next_generation;
        segment.limit = if is_open { NO_LIMIT } else { limit };
        limit = limit.min(segment.spec.first_index);
        is_last = false;
    }
    segments
}

fn file_entry(spec: &SegmentSpec, frontier: &Frontier) -> SegmentEntry {
    SegmentEntry {
        spec: *spec,
        end: frontier.durable(),
        limit: NO_LIMIT,
        head: Bytes::new(),
    }
}

/// Removes the oldest segments that hold nothing that is wanted: below the log start or the compaction bound, and applied.
fn drop_front(log: &mut Log, applied: RaftIndex) {
    let (log_start, below) = (log.log_start, log.compact_below);
    let may_leave = |next_index: RaftIndex, base_offset: Offset, next_offset: Offset| {
        let is_trimmed = base_offset < log_start && next_offset <= log_start;
        next_index <= applied.next() && (is_trimmed || next_index <= below)
    };
    let leaves = |sealed: &Sealed| {
        let end = sealed.segment.end();
        may_leave(
            end.next_index,
            sealed.segment.spec().base_offset,
            end.next_offset,
        )
    };
    let count = log
        .sealed
        .iter()
        .rposition(leaves)
        .map_or(0, |last| last + 1);
    if count > 0 {
        let end = log.sealed[count - 1].segment.end();
        move_start(log, end.next_index, end.next_offset);
        let leaving: Vec<Sealed> = log.sealed.drain(..count).collect();
        log.retired.extend(leaving);
        log.show();
    }
    while let Some(head) = log.heads.first().filter(|_| log.sealed.is_empty()) {
        let (end, base) = (head.end(), head.spec().base_offset);
        if !may_leave(end.next_index, base, end.next_offset) {
            break;
        }
        move_start(log, end.next_index, end.next_offset);
        log.heads.remove(0);
    }
}

fn move_start(log: &mut Log, index: RaftIndex, offset: Offset) {
    let term_before = log.term_of(index.previous());
    log.start = LogStart {
        index,
        offset,
        term_before,
    };
    let kept = log
        .terms
        .partition_point(|(first, _)| *first <= index)
        .saturating_sub(1);
    log.terms.drain(..kept);
    if let Some((first, _)) = log.terms.first_mut() {
        *first = (*first).max(index);
    }
    if log.next_index == index {
        log.terms.clear();
    }
    if let Some(damage) = &mut log.damage {
        damage.missing.retain(|hole| hole.to > index);
    }
}
