//! In which order records stand (invariants I13, I14).

use std::collections::BTreeMap;

use super::evidence::Evidence;
use super::{Rule, Violation};
use crate::history::SendBatch;

/// Checks the order of records.
pub(super) fn check(evidence: &Evidence<'_>, violations: &mut Vec<Violation>) {
    sessions_are_in_order(evidence, violations);
    real_time_is_respected(evidence, violations);
}

/// Batches of one session stand in the order of their sequences.
fn sessions_are_in_order(evidence: &Evidence<'_>, violations: &mut Vec<Violation>) {
    let mut sessions: BTreeMap<_, Vec<&SendBatch>> = BTreeMap::new();
    for send in &evidence.sends {
        sessions
            .entry((send.writer, send.session))
            .or_default()
            .push(send);
    }
    for mut sends in sessions.into_values() {
        sends.sort_by_key(|send| send.sequences.start);
        let placed: Vec<_> = sends
            .into_iter()
            .filter_map(|send| Some((send, evidence.position(send)?)))
            .collect();
        for pair in placed.windows(2) {
            let ((first, before), (second, after)) = (pair[0], pair[1]);
            if after < before {
                violations.push(evidence.violation(
                    Rule::SessionOrder,
                    format!(
                        "of writer {} sequence {} is at offset {before}, the later {} at {after}",
                        first.writer, first.sequences.start, second.sequences.start
                    ),
                ));
            }
        }
    }
}

/// What was acknowledged before something else was sent stands before it.
fn real_time_is_respected(evidence: &Evidence<'_>, violations: &mut Vec<Violation>) {
    let mut acks: Vec<_> = evidence
        .sends
        .iter()
        .filter_map(|send| Some((send.acked()?, *send)))
        .collect();
    acks.sort_by_key(|((moment, _), _)| *moment);
    let mut acks = acks.into_iter().peekable();
    // Of all batches acknowledged so far, the one that reaches farthest.
    let mut farthest: Option<(u64, &SendBatch)> = None;
    for send in &evidence.sends {
        while let Some(((_, base), acked)) = acks.next_if(|((moment, _), _)| *moment < send.invoked)
        {
            let end = base.0 + acked.record_count();
            if farthest.is_none_or(|(most, _)| most < end) {
                farthest = Some((end, acked));
            }
        }
        if let Some((end, earlier)) = farthest
            && let Some(offset) = evidence.position(send)
            && offset.0 < end
        {
            violations.push(evidence.violation(
                Rule::RealTimeOrder,
                format!(
                    "w{}#{} was sent when w{}#{} was acknowledged up to offset {}, and is at {offset}",
                    send.writer,
                    send.sequences.start,
                    earlier.writer,
                    earlier.sequences.start,
                    end - 1
                ),
            ));
        }
    }
}
