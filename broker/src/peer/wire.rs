//! Raft messages as they cross the network.
//!
//! They are messages of our own: the parser of the crate `raft` never sees bytes of a peer. Entry data is neither copied here
//! nor when it arrives: it is a slice of the network's buffer, and so is a snapshot's. What a peer may not send has no form
//! here (proposals, what a replica says to itself) or is refused. Whether a message suits the state of its replica is for the group
//! to judge; here is checked what can be known without one, bytes damaged on their way included.

use bytes::Bytes;
use highwater_proto::batch::BatchHeader;
use highwater_proto::internal::v1;
use highwater_storage::FrameKind;
use raft::eraftpb::{ConfState, Entry, Message, MessageType, Snapshot};

use crate::raft::{GroupId, PeerMessage, TERM_LIMIT, entry_from_peer, kind_of_entry};

/// Bytes of a message's context. Ours have up to sixteen.
const MAX_CONTEXT_BYTES: usize = 256;
/// Entries of one message. A leader puts 1 MiB into one, which the smallest do not fill beyond this.
pub(super) const MAX_ENTRIES: usize = 256 << 10;
/// Members in one list of a snapshot. More than any group has.
const MAX_MEMBERS: usize = 256;
/// Where a batch's own checksum begins to cover it.
const BATCH_CHECKSUM_COVERS_FROM: usize = 21;

/// What one message from a peer may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes of one entry's data.
    pub(super) entry_bytes: usize,
    /// Bytes of a snapshot's data.
    pub(super) snapshot_bytes: usize,
}

/// Why a message of a replica here cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unsendable {
    #[error("{0:?} is not for peers")]
    Kind(MessageType),
    #[error("its entries are not one after the other, or of no kind")]
    Entries,
}

/// Why a peer's message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("its type is none that peers send")]
    Kind,
    #[error("it names no two different replicas")]
    Replicas,
    #[error("its term is 0, or 2^31 or more")]
    Term,
    #[error("its context is too long")]
    Context,
    #[error("it has entries and is no append, too many of them, or beyond the last index")]
    Entries,
    #[error("an entry is longer than the limit")]
    EntryBytes,
    #[error("an entry is of no kind")]
    EntryKind,
    #[error("its snapshot is missing, too large, or no part of such a message")]
    Snapshot,
    #[error("the bytes of an entry or a snapshot are not those that were sent")]
    Damaged,
}

impl Refused {
    /// Its name in metrics.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Kind => "type",
            Self::Replicas => "replicas",
            Self::Term => "term",
            Self::Context => "context",
            Self::Entries => "entries",
            Self::EntryBytes => "entry_bytes",
            Self::EntryKind => "entry_kind",
            Self::Snapshot => "snapshot",
            Self::Damaged => "damaged",
        }
    }
}

/// The message as it is sent.
///
/// # Errors
/// [`Unsendable`] for what no correct group gives out.
pub(super) fn encode(message: PeerMessage) -> Result<v1::RaftMessage, Unsendable> {
    let PeerMessage { group, mut message } = message;
    let kind = message.get_msg_type();
    let kind = type_of(kind).ok_or(Unsendable::Kind(kind))?;
    let mut before = message.index;
    let entries = message.take_entries().into_iter().map(|entry| {
        before = before
            .checked_add(1)
            .filter(|index| *index == entry.index)?;
        encode_entry(entry)
    });
    let entries = entries.collect::<Option<_>>().ok_or(Unsendable::Entries)?;
    let snapshot = message.snapshot.take().map(encode_snapshot);
    Ok(v1::RaftMessage {
        group_id: group.0,
        r#type: kind.into(),
        from_replica_id: message.from,
        to_replica_id: message.to,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        commit: message.commit,
        commit_term: message.commit_term,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: message.take_context(),
        entries,
        snapshot,
    })
}

/// The message that a peer sent.
///
/// # Errors
/// [`Refused`] for what no correct broker sends, or what was damaged on its way.
pub(super) fn decode(message: v1::RaftMessage, limits: &Limits) -> Result<PeerMessage, Refused> {
    let kind = kind_of(message.r#type()).ok_or(Refused::Kind)?;
    let (from, to) = (message.from_replica_id, message.to_replica_id);
    if from == raft::INVALID_ID || to == raft::INVALID_ID || from == to {
        return Err(Refused::Replicas);
    }
    if message.term == 0 || message.term >= TERM_LIMIT {
        return Err(Refused::Term);
    }
    if message.context.len() > MAX_CONTEXT_BYTES {
        return Err(Refused::Context);
    }
    let count = message.entries.len();
    let is_append = kind == MessageType::MsgAppend;
    let last = message.index.checked_add(count as u64);
    if (count > 0 && !is_append) || count > MAX_ENTRIES || last.is_none() {
        return Err(Refused::Entries);
    }
    let mut decoded = Message {
        from,
        to,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        commit: message.commit,
        commit_term: message.commit_term,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: message.context,
        ..Message::default()
    };
    decoded.set_msg_type(kind);
    decoded.entries = (message.index + 1..)
        .zip(message.entries)
        .map(|(index, entry)| decode_entry(index, entry, limits))
        .collect::<Result<Vec<_>, _>>()?
        .into();
    if message.snapshot.is_some() != (kind == MessageType::MsgSnapshot) {
        return Err(Refused::Snapshot);
    }
    if let Some(snapshot) = message.snapshot {
        decoded.set_snapshot(decode_snapshot(snapshot, limits)?);
    }
    Ok(PeerMessage {
        group: GroupId(message.group_id),
        message: decoded,
    })
}

/// Entries of a log as they are sent; `None` for what no log of ours holds.
pub(super) fn encode_entries(entries: Vec<Entry>) -> Option<Vec<v1::LogEntry>> {
    entries.into_iter().map(encode_entry).collect()
}

/// The entries that were sent of a log, the first of which stands at `first`.
///
/// # Errors
/// [`Refused`] for what no correct broker sends, or what was damaged on its way.
pub(super) fn decode_entries(
    first: u64,
    entries: Vec<v1::LogEntry>,
    limits: &Limits,
) -> Result<Vec<Entry>, Refused> {
    let count = entries.len();
    if count > MAX_ENTRIES || first.checked_add(count as u64).is_none() {
        return Err(Refused::Entries);
    }
    let entries = (first..).zip(entries);
    entries
        .map(|(index, entry)| decode_entry(index, entry, limits))
        .collect()
}

fn encode_entry(entry: Entry) -> Option<v1::LogEntry> {
    let kind = kind_of_entry(&entry)?;
    Some(v1::LogEntry {
        term: entry.term,
        kind: match kind {
            FrameKind::Batch => v1::LogEntryKind::Batch,
            FrameKind::NoOp => v1::LogEntryKind::NoOp,
            FrameKind::ConfChange => v1::LogEntryKind::MemberChange,
            FrameKind::Events => v1::LogEntryKind::Events,
            FrameKind::Lost => v1::LogEntryKind::Lost,
        }
        .into(),
        checksum: match kind {
            FrameKind::Batch => 0,
            _ => crc32c::crc32c(&entry.data),
        },
        data: entry.data,
    })
}

fn decode_entry(index: u64, entry: v1::LogEntry, limits: &Limits) -> Result<Entry, Refused> {
    let kind = match entry.kind() {
        v1::LogEntryKind::Unspecified => return Err(Refused::EntryKind),
        v1::LogEntryKind::Batch => FrameKind::Batch,
        v1::LogEntryKind::NoOp => FrameKind::NoOp,
        v1::LogEntryKind::MemberChange => FrameKind::ConfChange,
        v1::LogEntryKind::Events => FrameKind::Events,
        v1::LogEntryKind::Lost => FrameKind::Lost,
    };
    if entry.data.len() > limits.entry_bytes {
        return Err(Refused::EntryBytes);
    }
    let is_whole = match kind {
        FrameKind::Batch => is_whole_batch(&entry.data),
        FrameKind::NoOp => entry.data.is_empty() && entry.checksum == 0,
        _ => crc32c::crc32c(&entry.data) == entry.checksum,
    };
    if !is_whole {
        return Err(Refused::Damaged);
    }
    Ok(entry_from_peer(kind, index, entry.term, entry.data))
}

fn encode_snapshot(mut snapshot: Snapshot) -> v1::RaftSnapshot {
    let mut metadata = snapshot.take_metadata();
    let members = metadata.take_conf_state();
    v1::RaftSnapshot {
        index: metadata.index,
        term: metadata.term,
        voter_ids: members.voters,
        learner_ids: members.learners,
        outgoing_voter_ids: members.voters_outgoing,
        next_learner_ids: members.learners_next,
        leaves_by_itself: members.auto_leave,
        checksum: crc32c::crc32c(&snapshot.data),
        data: snapshot.data,
    }
}

/// Whether its members make a group is for the group to judge.
fn decode_snapshot(snapshot: v1::RaftSnapshot, limits: &Limits) -> Result<Snapshot, Refused> {
    let lists = [
        &snapshot.voter_ids,
        &snapshot.learner_ids,
        &snapshot.outgoing_voter_ids,
        &snapshot.next_learner_ids,
    ];
    let is_long = lists.iter().any(|list| list.len() > MAX_MEMBERS);
    if is_long || snapshot.data.len() > limits.snapshot_bytes {
        return Err(Refused::Snapshot);
    }
    if crc32c::crc32c(&snapshot.data) != snapshot.checksum {
        return Err(Refused::Damaged);
    }
    let mut decoded = Snapshot {
        data: snapshot.data,
        ..Snapshot::default()
    };
    let metadata = decoded.mut_metadata();
    (metadata.index, metadata.term) = (snapshot.index, snapshot.term);
    metadata.set_conf_state(ConfState {
        voters: snapshot.voter_ids,
        learners: snapshot.learner_ids,
        voters_outgoing: snapshot.outgoing_voter_ids,
        learners_next: snapshot.next_learner_ids,
        auto_leave: snapshot.leaves_by_itself,
        ..ConfState::default()
    });
    Ok(decoded)
}

/// Whether these are the bytes of one batch as its producer sent it. What stands before the part that the checksum covers
/// is written anew on each replica.
fn is_whole_batch(data: &Bytes) -> bool {
    BatchHeader::parse(data).is_ok_and(|header| {
        let covered = data.get(BATCH_CHECKSUM_COVERS_FROM..).unwrap_or_default();
        u64::from(header.batch_bytes) == data.len() as u64 && crc32c::crc32c(covered) == header.crc
    })
}

fn type_of(kind: MessageType) -> Option<v1::RaftMessageType> {
    Some(match kind {
        MessageType::MsgAppend => v1::RaftMessageType::Append,
        MessageType::MsgAppendResponse => v1::RaftMessageType::AppendResponse,
        MessageType::MsgRequestVote => v1::RaftMessageType::RequestVote,
        MessageType::MsgRequestVoteResponse => v1::RaftMessageType::RequestVoteResponse,
        MessageType::MsgRequestPreVote => v1::RaftMessageType::RequestPreVote,
        MessageType::MsgRequestPreVoteResponse => v1::RaftMessageType::RequestPreVoteResponse,
        MessageType::MsgHeartbeat => v1::RaftMessageType::Heartbeat,
        MessageType::MsgHeartbeatResponse => v1::RaftMessageType::HeartbeatResponse,
        MessageType::MsgTimeoutNow => v1::RaftMessageType::TimeoutNow,
        MessageType::MsgSnapshot => v1::RaftMessageType::Snapshot,
        _ => return None,
    })
}

fn kind_of(kind: v1::RaftMessageType) -> Option<MessageType> {
    Some(match kind {
        v1::RaftMessageType::Unspecified => return None,
        v1::RaftMessageType::Append => MessageType::MsgAppend,
        v1::RaftMessageType::AppendResponse => MessageType::MsgAppendResponse,
        v1::RaftMessageType::RequestVote => MessageType::MsgRequestVote,
        v1::RaftMessageType::RequestVoteResponse => MessageType::MsgRequestVoteResponse,
        v1::RaftMessageType::RequestPreVote => MessageType::MsgRequestPreVote,
        v1::RaftMessageType::RequestPreVoteResponse => MessageType::MsgRequestPreVoteResponse,
        v1::RaftMessageType::Heartbeat => MessageType::MsgHeartbeat,
        v1::RaftMessageType::HeartbeatResponse => MessageType::MsgHeartbeatResponse,
        v1::RaftMessageType::TimeoutNow => MessageType::MsgTimeoutNow,
        v1::RaftMessageType::Snapshot => MessageType::MsgSnapshot,
    })
}

#[cfg(test)]
mod tests {
    use highwater_proto::batch::{BatchBuilder, NewRecord};
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    const LIMITS: Limits = Limits {
        entry_bytes: 64 << 10,
        snapshot_bytes: 1 << 10,
    };

    fn batch(value: &[u8]) -> Bytes {
        let mut builder = BatchBuilder::new();
        let record = NewRecord {
            value: Some(value),
            ..NewRecord::default()
        };
        builder.append(&record).unwrap();
        builder.finish(Default::default(), None).unwrap()
    }

    fn entries() -> impl Strategy<Value = Vec<(u8, u64, Vec<u8>)>> {
        let data = prop::collection::vec(any::<u8>(), 1..100);
        prop::collection::vec((0..5_u8, 1..TERM_LIMIT, data), 0..8)
    }

    fn entry(index: u64, (kind, term, data): (u8, u64, Vec<u8>)) -> Entry {
        let (kind, data) = match kind {
            0 => (FrameKind::Batch, batch(&data)),
            1 => (FrameKind::NoOp, Bytes::new()),
            2 => (FrameKind::ConfChange, data.into()),
            3 => (FrameKind::Events, data.into()),
            _ => (FrameKind::Lost, data.into()),
        };
        entry_from_peer(kind, index, term, data)
    }

    fn kinds() -> impl Strategy<Value = MessageType> {
        (1..=10).prop_map(|number| kind_of(v1::RaftMessageType::try_from(number).unwrap()).unwrap())
    }

    fn snapshot(
        index: u64,
        term: u64,
        members: &[Vec<u64>],
        auto_leave: bool,
        data: Vec<u8>,
    ) -> Snapshot {
        let mut snapshot = Snapshot {
            data: data.into(),
            ..Snapshot::default()
        };
        let metadata = snapshot.mut_metadata();
        (metadata.index, metadata.term) = (index, term);
        metadata.set_conf_state(ConfState {
            voters: members[0].clone(),
            learners: members[1].clone(),
            voters_outgoing: members[2].clone(),
            learners_next: members[3].clone(),
            auto_leave,
            ..ConfState::default()
        });
        snapshot
    }

    prop_compose! {
        fn messages()(
            kind in kinds(),
            group in any::<u64>(),
            (from, to) in (1..1_u64 << 63, 1_u64 << 63..u64::MAX),
            (term, log_term, commit_term) in (1..TERM_LIMIT, any::<u64>(), any::<u64>()),
            (index, commit, reject_hint) in (0..1_u64 << 62, any::<u64>(), any::<u64>()),
            reject in any::<bool>(),
            context in prop::collection::vec(any::<u8>(), 0..MAX_CONTEXT_BYTES),
            new in entries(),
            members in prop::collection::vec(prop::collection::vec(any::<u64>(), 0..5), 4),
            data in prop::collection::vec(any::<u8>(), 0..100),
        ) -> PeerMessage {
            let mut message = Message {
                from, to, term, log_term, index, commit, commit_term, reject, reject_hint,
                context: context.into(),
                ..Message::default()
            };
            message.set_msg_type(kind);
            if kind == MessageType::MsgAppend {
                let new = (index + 1..).zip(new).map(|(index, new)| entry(index, new));
                message.entries = new.collect::<Vec<_>>().into();
            }
            if kind == MessageType::MsgSnapshot {
                message.set_snapshot(snapshot(index, log_term, &members, reject, data));
            }
            PeerMessage { group: GroupId(group), message }
        }
    }

    fn over_the_network(message: &v1::RaftMessage) -> v1::RaftMessage {
        v1::RaftMessage::decode(Bytes::from(message.encode_to_vec())).unwrap()
    }

    proptest! {
        #[test]
        fn a_message_arrives_as_it_was_sent(message in messages()) {
            let sent = encode(message.clone()).unwrap();
            prop_assert_eq!(decode(over_the_network(&sent), &LIMITS), Ok(message));
        }

        #[test]
        fn a_flipped_bit_of_an_entry_is_noticed(
            at in any::<prop::sample::Index>(), bit in 0..8_u8, kind in 0..5_u8,
        ) {
            prop_assume!(kind != 1);
            let mut sent = encode(append(vec![(kind, 3, b"some bytes".to_vec())])).unwrap();
            let mut data = sent.entries[0].data.to_vec();
            // What stands before is written anew by each replica.
            let first = if kind == 0 { 16 } else { 0 };
            let at = first + at.index(data.len() - first);
            data[at] ^= 1 << bit;
            sent.entries[0].data = data.into();
            prop_assert_eq!(decode(sent, &LIMITS), Err(Refused::Damaged));
        }

        #[test]
        fn garbage_is_refused_or_read_but_never_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            if let Ok(message) = v1::RaftMessage::decode(Bytes::from(bytes)) {
                drop(decode(message, &LIMITS));
            }
        }
    }

    fn append(new: Vec<(u8, u64, Vec<u8>)>) -> PeerMessage {
        let mut message = Message {
            from: 1,
            to: 2,
            term: 9,
            index: 4,
            ..Message::default()
        };
        message.set_msg_type(MessageType::MsgAppend);
        let new = (5..).zip(new).map(|(index, new)| entry(index, new));
        message.entries = new.collect::<Vec<_>>().into();
        PeerMessage {
            group: GroupId(7),
            message,
        }
    }

    #[test]
    fn entry_data_is_copied_neither_when_sent_nor_when_received() {
        let message = append(vec![(3, 3, b"events of some length".to_vec())]);
        let place = message.message.entries[0].data.as_ptr();
        let sent = encode(message).unwrap();
        assert_eq!(sent.entries[0].data.as_ptr(), place);

        let buffer = Bytes::from(sent.encode_to_vec());
        let received = v1::RaftMessage::decode(buffer.clone()).unwrap();
        let received = decode(received, &LIMITS).unwrap();
        let data = received.message.entries[0].data.as_ptr();
        assert!(buffer.as_ptr_range().contains(&data));
    }

    /// What becomes of an honest append that is changed before it is sent.
    fn refused(change: impl FnOnce(&mut v1::RaftMessage)) -> Refused {
        let mut sent = encode(append(vec![(3, 3, b"events".to_vec())])).unwrap();
        decode(sent.clone(), &LIMITS).unwrap();
        change(&mut sent);
        decode(over_the_network(&sent), &LIMITS).unwrap_err()
    }

    #[test]
    fn what_no_broker_sends_is_refused() {
        assert_eq!(refused(|m| m.r#type = 0), Refused::Kind);
        // Of a newer version, or invented.
        assert_eq!(refused(|m| m.r#type = 99), Refused::Kind);
        assert_eq!(refused(|m| m.r#type = -1), Refused::Kind);
        assert_eq!(refused(|m| m.from_replica_id = 0), Refused::Replicas);
        assert_eq!(refused(|m| m.to_replica_id = 0), Refused::Replicas);
        assert_eq!(refused(|m| m.to_replica_id = 1), Refused::Replicas);
        assert_eq!(refused(|m| m.term = 0), Refused::Term);
        assert_eq!(refused(|m| m.term = TERM_LIMIT), Refused::Term);
        let long = Bytes::from_static(&[0; MAX_CONTEXT_BYTES + 1]);
        assert_eq!(refused(|m| m.context = long), Refused::Context);
        let heartbeat = v1::RaftMessageType::Heartbeat;
        assert_eq!(refused(|m| m.set_type(heartbeat)), Refused::Entries);
        assert_eq!(refused(|m| m.index = u64::MAX), Refused::Entries);
        let many = vec![v1::LogEntry::default(); MAX_ENTRIES + 1];
        assert_eq!(refused(|m| m.entries = many), Refused::Entries);
        let large = Bytes::from(vec![0; LIMITS.entry_bytes + 1]);
        assert_eq!(refused(|m| m.entries[0].data = large), Refused::EntryBytes);
        assert_eq!(refused(|m| m.entries[0].kind = 0), Refused::EntryKind);
        assert_eq!(refused(|m| m.entries[0].kind = 6), Refused::EntryKind);
        assert_eq!(refused(|m| m.entries[0].checksum ^= 1), Refused::Damaged);
        let no_op = v1::LogEntryKind::NoOp;
        assert_eq!(refused(|m| m.entries[0].set_kind(no_op)), Refused::Damaged);
        let batch = v1::LogEntryKind::Batch;
        assert_eq!(refused(|m| m.entries[0].set_kind(batch)), Refused::Damaged);
    }

    #[test]
    fn snapshot_that_no_broker_sends_is_refused() {
        let mut message = append(vec![]);
        message.message.set_msg_type(MessageType::MsgSnapshot);
        let members = [vec![1, 2], vec![], vec![], vec![]];
        let data = b"state".to_vec();
        message
            .message
            .set_snapshot(snapshot(4, 2, &members, false, data));
        let sent = encode(message).unwrap();
        let refused = |change: fn(&mut v1::RaftMessage)| {
            let mut sent = sent.clone();
            change(&mut sent);
            decode(over_the_network(&sent), &LIMITS).unwrap_err()
        };
        assert_eq!(refused(|m| m.snapshot = None), Refused::Snapshot);
        let as_append = |m: &mut v1::RaftMessage| m.set_type(v1::RaftMessageType::Append);
        assert_eq!(refused(as_append), Refused::Snapshot);
        let changed = |change: fn(&mut v1::RaftSnapshot)| {
            let mut sent = sent.clone();
            change(sent.snapshot.as_mut().unwrap());
            decode(over_the_network(&sent), &LIMITS).unwrap_err()
        };
        let large = |s: &mut v1::RaftSnapshot| s.data = vec![0; (1 << 10) + 1].into();
        assert_eq!(changed(large), Refused::Snapshot);
        let many = |s: &mut v1::RaftSnapshot| s.voter_ids = vec![1; MAX_MEMBERS + 1];
        assert_eq!(changed(many), Refused::Snapshot);
        let flipped = |s: &mut v1::RaftSnapshot| s.data = Bytes::from_static(b"state of another");
        assert_eq!(changed(flipped), Refused::Damaged);
    }

    #[test]
    fn what_a_replica_says_to_itself_has_no_form_on_the_network() {
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
            let mut message = append(vec![]);
            message.message.set_msg_type(kind);
            assert_eq!(encode(message), Err(Unsendable::Kind(kind)));
        }
    }

    #[test]
    fn entries_that_leave_one_out_are_not_sent() {
        let mut message = append(vec![(3, 3, vec![1]), (3, 3, vec![2])]);
        message.message.entries[1].index += 1;
        assert_eq!(encode(message), Err(Unsendable::Entries));
    }
}
