//! What replicas say and show to others, and what follows from it: votes, terms, leaders, high watermarks.

use std::collections::BTreeMap;

use highwater_broker::raft::{GroupId, PeerMessage, ReplicaId};
use highwater_storage::{Offset, Term};
use raft::eraftpb::{Message, MessageType};

use super::violation::{Check, Checked, broken};

/// Remembers all that was said and shown.
#[derive(Debug, Default)]
pub(super) struct Witness {
    /// The newest term that a replica spoke of as its own.
    terms: BTreeMap<ReplicaId, u64>,
    votes: BTreeMap<(ReplicaId, u64), u64>,
    leaders: BTreeMap<(GroupId, Term), ReplicaId>,
    marks: BTreeMap<GroupId, BTreeMap<Term, Marks>>,
}

/// High watermark and log start as the leader of a term showed them first and last.
#[derive(Clone, Copy, Debug)]
struct Marks {
    first: (Offset, Offset),
    last: (Offset, Offset),
}

impl Witness {
    /// A replica sent a message.
    pub(super) fn said(&mut self, message: &PeerMessage) -> Checked {
        let raft = &message.message;
        let kind = raft.get_msg_type();
        // A pre-vote speaks of a term that nobody is in.
        if is_of_pre_vote(kind) {
            return Ok(());
        }
        let term = self.terms.entry(message.from()).or_default();
        *term = raft.term.max(*term);
        match vote_of(raft) {
            Some(candidate) => self.voted(message.from(), raft.term, candidate),
            None => Ok(()),
        }
    }

    fn voted(&mut self, voter: ReplicaId, term: u64, candidate: u64) -> Checked {
        let first = *self.votes.entry((voter, term)).or_insert(candidate);
        if first == candidate {
            return Ok(());
        }
        broken(
            Check::OneVotePerTerm,
            format!(
                "replica {} voted for {first} and for {candidate} in term {term}",
                voter.0
            ),
        )
    }

    /// A replica that started is in `term`.
    pub(super) fn started(&self, replica: ReplicaId, term: Term) -> Checked {
        let spoken = self.terms.get(&replica).copied().unwrap_or(0);
        if term.0 >= spoken {
            return Ok(());
        }
        broken(
            Check::TermsOnlyGrow,
            format!(
                "replica {} spoke of term {spoken} and starts in {term}",
                replica.0
            ),
        )
    }

    /// A replica leads. True when that is news.
    pub(super) fn leads(
        &mut self,
        group: GroupId,
        term: Term,
        replica: ReplicaId,
    ) -> Checked<bool> {
        match self.leaders.insert((group, term), replica) {
            None => Ok(true),
            Some(first) if first == replica => Ok(false),
            Some(first) => broken(
                Check::OneLeaderPerTerm,
                format!(
                    "group {} has the leaders {} and {} in term {term}",
                    group.0, first.0, replica.0
                ),
            ),
        }
    }

    /// The serving leader of `term` showed high watermark and log start. A later one never shows less, and one of an
    /// earlier term, which may not know yet that it is over, never more.
    pub(super) fn showed(
        &mut self,
        group: GroupId,
        term: Term,
        marks: (Offset, Offset),
    ) -> Checked {
        let terms = self.marks.entry(group).or_default();
        let before = terms
            .range(..=term)
            .next_back()
            .map(|(term, seen)| (*term, seen.last));
        let after = terms
            .range(Term(term.0 + 1)..)
            .next()
            .map(|(term, seen)| (*term, seen.first));
        let went_back = before.filter(|(_, seen)| marks.0 < seen.0 || marks.1 < seen.1);
        let went_ahead = after.filter(|(_, seen)| marks.0 > seen.0 || marks.1 > seen.1);
        if let Some((other, seen)) = went_back.or(went_ahead) {
            return broken(
                Check::MarksOnlyGrow,
                format!(
                    "group {}: high watermark and log start are {marks:?} in term {term} and were {seen:?} in term {other}",
                    group.0
                ),
            );
        }
        let seen = terms.entry(term).or_insert(Marks {
            first: marks,
            last: marks,
        });
        seen.last = marks;
        Ok(())
    }

    /// Leaders that were elected.
    pub(super) fn leaders(&self) -> usize {
        self.leaders.len()
    }
}

fn is_of_pre_vote(kind: MessageType) -> bool {
    matches!(
        kind,
        MessageType::MsgRequestPreVote | MessageType::MsgRequestPreVoteResponse
    )
}

/// The candidate that the sender of a message votes for.
fn vote_of(message: &Message) -> Option<u64> {
    match message.get_msg_type() {
        MessageType::MsgRequestVote => Some(message.from),
        MessageType::MsgRequestVoteResponse if !message.reject => Some(message.to),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(term: u64, candidate: u64) -> PeerMessage {
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgRequestVoteResponse);
        (message.from, message.to, message.term) = (1, candidate, term);
        PeerMessage {
            group: GroupId(1),
            message,
        }
    }

    fn check(result: Checked) -> Option<Check> {
        result.err().map(|violation| violation.check)
    }

    #[test]
    fn a_second_vote_in_a_term_is_seen() {
        let mut witness = Witness::default();
        witness.said(&vote(3, 2)).unwrap();
        witness.said(&vote(3, 2)).unwrap();
        witness.said(&vote(4, 5)).unwrap();
        let second = check(witness.said(&vote(3, 5)));
        assert_eq!(second, Some(Check::OneVotePerTerm));
    }

    #[test]
    fn a_term_that_was_spoken_of_is_not_forgotten() {
        let mut witness = Witness::default();
        witness.said(&vote(3, 2)).unwrap();
        witness.started(ReplicaId(1), Term(3)).unwrap();
        let forgot = check(witness.started(ReplicaId(1), Term(2)));
        assert_eq!(forgot, Some(Check::TermsOnlyGrow));
    }

    #[test]
    fn marks_may_differ_between_terms_only_upward() {
        let mut witness = Witness::default();
        let group = GroupId(1);
        let mut show =
            |term, high, low| check(witness.showed(group, Term(term), (Offset(high), Offset(low))));
        assert_eq!(show(2, 10, 1), None);
        assert_eq!(show(4, 12, 1), None);
        assert_eq!(show(4, 15, 1), None);
        assert_eq!(show(2, 12, 1), None, "a leader of the past, late");
        assert_eq!(show(2, 13, 1), Some(Check::MarksOnlyGrow));
        assert_eq!(show(5, 15, 0), Some(Check::MarksOnlyGrow));
        assert_eq!(show(4, 14, 1), Some(Check::MarksOnlyGrow));
    }

    #[test]
    fn two_leaders_of_a_term_are_seen() {
        let mut witness = Witness::default();
        let group = GroupId(1);
        assert!(witness.leads(group, Term(2), ReplicaId(1)).unwrap());
        assert!(!witness.leads(group, Term(2), ReplicaId(1)).unwrap());
        assert!(witness.leads(group, Term(3), ReplicaId(2)).unwrap());
        assert!(witness.leads(group, Term(2), ReplicaId(2)).is_err());
    }
}
