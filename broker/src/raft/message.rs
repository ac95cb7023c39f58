//! Messages between the replicas of a group, and what is taken from a peer.

use highwater_storage::Term;
use raft::eraftpb::{Message, MessageType};

use super::config::{Config, TERM_LIMIT};
use super::seeding::Pull;
use super::{GroupId, ReplicaId, entry, snapshot};

/// A Raft message on its way between two replicas of a group; both stand in it.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerMessage {
    /// The group.
    pub group: GroupId,
    /// The message.
    pub message: Message,
}

/// A replica that leads its group and serves: it has applied an entry of its own term, so nothing that was committed
/// before is missing in what it shows.
///
/// Of two leaderships of one group that with the higher term is the newer; a term has one leader at most, and of two
/// that name it the one that came later counts. Nobody says that a leadership ended: the next one does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// The group.
    pub group: GroupId,
    /// The term that it leads.
    pub term: Term,
    /// Who leads.
    pub replica: ReplicaId,
    /// The voters that keep up with the leader, the leader among them, in order.
    pub in_sync: Vec<ReplicaId>,
}

/// The way to the other replicas: the door that the network will be behind.
pub trait PeerTransport: Send {
    /// Sends the messages, or loses them: Raft repeats what matters. Must not block.
    fn send(&mut self, messages: Vec<PeerMessage>);

    /// Tells this broker and its peers of replicas here that began to lead and serve, or whose voters in sync changed.
    /// Said once: a peer that connects later has to be told by whoever keeps them. Must not block.
    fn announce(&mut self, leaderships: Vec<Leadership>);

    /// Has frames pulled from other brokers, or loses what it is asked for: a leader offers its snapshot again. Must not
    /// block.
    fn pull(&mut self, pulls: Vec<Pull>);
}

/// The transport of a broker without peers.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPeers;

impl PeerTransport for NoPeers {
    fn send(&mut self, messages: Vec<PeerMessage>) {
        tracing::debug!(count = messages.len(), "no peers to send to");
    }

    fn announce(&mut self, _leaderships: Vec<Leadership>) {}

    fn pull(&mut self, pulls: Vec<Pull>) {
        tracing::debug!(count = pulls.len(), "no peers to pull from");
    }
}

impl PeerMessage {
    /// The replica it is for.
    pub fn to(&self) -> ReplicaId {
        ReplicaId(self.message.to)
    }

    /// The replica that sent it.
    pub fn from(&self) -> ReplicaId {
        ReplicaId(self.message.from)
    }

    /// Memory that it holds, in bytes.
    pub fn bytes(&self) -> usize {
        let entries: usize = self
            .message
            .entries
            .iter()
            .map(|entry| entry.data.len() + 64)
            .sum();
        let snapshot = self.message.get_snapshot().data.len();
        entries + snapshot + self.message.context.len() + 128
    }
}

/// Why a message is dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unacceptable {
    #[error("it is for replica {0}")]
    NotForUs(u64),
    #[error("its sender is no other replica")]
    Sender,
    #[error("peers do not send {0:?}")]
    Kind(MessageType),
    #[error("term {0} is 2^31 or more")]
    TermLimit(u64),
    #[error("term {found} is too far ahead of term {own}")]
    TermJump { found: u64, own: u64 },
    #[error("its entries are not in order")]
    Order,
    #[error("its snapshot cannot be: {0}")]
    Snapshot(&'static str),
    #[error(transparent)]
    Entry(#[from] entry::BadEntry),
}

/// Checks what a peer sent to replica `own`, which is in `term`.
pub(super) fn check(
    message: &Message,
    own: ReplicaId,
    term: u64,
    config: &Config,
) -> Result<(), Unacceptable> {
    if message.to != own.0 {
        return Err(Unacceptable::NotForUs(message.to));
    }
    if message.from == own.0 || message.from == raft::INVALID_ID {
        return Err(Unacceptable::Sender);
    }
    let kind = message.get_msg_type();
    if !is_for_peers(kind) {
        return Err(Unacceptable::Kind(kind));
    }
    // A term of 0 would pass for a message of our own.
    if message.term == 0 {
        return Err(Unacceptable::Sender);
    }
    if message.term >= TERM_LIMIT {
        return Err(Unacceptable::TermLimit(message.term));
    }
    if message.term > term.saturating_add(config.term_jump) {
        return Err(Unacceptable::TermJump {
            found: message.term,
            own: term,
        });
    }
    if kind == MessageType::MsgSnapshot {
        snapshot::check(message.get_snapshot(), message.term, config)
            .map_err(Unacceptable::Snapshot)?;
    }
    check_entries(message, config)
}

fn check_entries(message: &Message, config: &Config) -> Result<(), Unacceptable> {
    if !message.entries.is_empty() && message.get_msg_type() != MessageType::MsgAppend {
        return Err(Unacceptable::Order);
    }
    let (mut index, mut term) = (message.index, message.log_term);
    for entry in message.entries.iter() {
        if index.checked_add(1) != Some(entry.index)
            || entry.term < term
            || entry.term > message.term
        {
            return Err(Unacceptable::Order);
        }
        entry::check(entry, config.entry_bytes)?;
        (index, term) = (entry.index, entry.term);
    }
    Ok(())
}

/// What every replica says to another. Proposals are never forwarded, reads go through the leader's own broker, and the
/// rest is a replica's own affair.
fn is_for_peers(kind: MessageType) -> bool {
    matches!(
        kind,
        MessageType::MsgAppend
            | MessageType::MsgAppendResponse
            | MessageType::MsgRequestVote
            | MessageType::MsgRequestVoteResponse
            | MessageType::MsgRequestPreVote
            | MessageType::MsgRequestPreVoteResponse
            | MessageType::MsgHeartbeat
            | MessageType::MsgHeartbeatResponse
            | MessageType::MsgTimeoutNow
            | MessageType::MsgSnapshot
    )
}

#[cfg(test)]
mod tests {
    use raft::eraftpb::Entry;

    use super::*;

    fn append() -> Message {
        let entry = Entry {
            index: 5,
            term: 2,
            ..Entry::default()
        };
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgAppend);
        (message.from, message.to, message.term) = (1, 2, 3);
        (message.index, message.log_term) = (4, 2);
        message.entries = vec![entry].into();
        message
    }

    fn checked(change: impl FnOnce(&mut Message)) -> Result<(), Unacceptable> {
        let mut message = append();
        change(&mut message);
        check(&message, ReplicaId(2), 3, &Config::default())
    }

    #[test]
    fn an_honest_append_is_taken() {
        checked(|_| {}).unwrap();
    }

    #[test]
    fn a_message_for_another_life_of_the_replica_is_dropped() {
        assert_eq!(checked(|m| m.to = 3), Err(Unacceptable::NotForUs(3)));
        assert_eq!(checked(|m| m.from = 2), Err(Unacceptable::Sender));
        assert_eq!(checked(|m| m.from = 0), Err(Unacceptable::Sender));
    }

    #[test]
    fn what_only_a_replica_itself_may_say_is_refused_from_a_peer() {
        for kind in [
            MessageType::MsgPropose,
            MessageType::MsgHup,
            MessageType::MsgBeat,
            MessageType::MsgUnreachable,
            MessageType::MsgSnapStatus,
            MessageType::MsgCheckQuorum,
            MessageType::MsgTransferLeader,
            MessageType::MsgReadIndex,
        ] {
            let refused = checked(|m| {
                m.entries.clear();
                m.set_msg_type(kind);
            });
            assert_eq!(refused, Err(Unacceptable::Kind(kind)));
        }
    }

    #[test]
    fn terms_that_would_use_up_the_terms_are_refused() {
        assert_eq!(checked(|m| m.term = 0), Err(Unacceptable::Sender));
        assert_eq!(
            checked(|m| m.term = TERM_LIMIT),
            Err(Unacceptable::TermLimit(TERM_LIMIT))
        );
        let far = 4 + Config::default().term_jump;
        assert_eq!(
            checked(|m| m.term = far),
            Err(Unacceptable::TermJump { found: far, own: 3 })
        );
        checked(|m| m.term = far - 1).unwrap();
    }

    #[test]
    fn entries_out_of_order_are_refused() {
        for change in [
            (|m: &mut Message| m.index = 3) as fn(&mut Message),
            |m| m.log_term = 3,
            |m| m.term = 1,
            |m| m.index = u64::MAX,
            |m| m.set_msg_type(MessageType::MsgHeartbeat),
        ] {
            assert_eq!(checked(change), Err(Unacceptable::Order));
        }
    }
}
