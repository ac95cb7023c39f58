//! Messages, entries and members as scripts show them.

use highwater_storage::{FrameKind, RaftIndex};
use raft::eraftpb::{Entry, Message, MessageType};

use crate::raft::{Members, ReplicaId};

pub(super) fn describe(message: &Message) -> String {
    let kind = format!("{:?}", message.get_msg_type());
    let mut words = vec![
        kind.trim_start_matches("Msg").to_owned(),
        format!("to {} in term {}", message.to, message.term),
    ];
    match message.get_msg_type() {
        MessageType::MsgAppend => {
            words.push(format!("after {}/{}", message.index, message.log_term));
            let entries: Vec<_> = message.entries.iter().map(describe_entry).collect();
            words.push(format!(
                "[{}] commit {}",
                entries.join(", "),
                message.commit
            ));
        }
        MessageType::MsgAppendResponse if message.reject => {
            let (hint, term) = (message.reject_hint, message.log_term);
            words.push(format!("rejects {}, has {hint}/{term}", message.index));
        }
        MessageType::MsgAppendResponse => words.push(format!("up to {}", message.index)),
        MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => {
            words.push(format!("has {}/{}", message.index, message.log_term));
        }
        MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse => {
            words.push(if message.reject { "no" } else { "yes" }.to_owned());
        }
        MessageType::MsgHeartbeat => {
            words.push(format!("commit {}", message.commit));
            if message.context.starts_with(b"sleep") {
                words.push("then sleep".to_owned());
            }
        }
        MessageType::MsgHeartbeatResponse if message.context.starts_with(b"sleep") => {
            words.push("and sleeps".to_owned());
        }
        MessageType::MsgSnapshot => {
            let snapshot = message.get_snapshot();
            let metadata = snapshot.get_metadata();
            let members = Members::from_raft(metadata.get_conf_state());
            words.push(format!("at {}/{}", metadata.index, metadata.term));
            words.push(format!("of {}:", describe_members(&members)));
            words.push(String::from_utf8_lossy(&snapshot.data[16..]).into_owned());
        }
        _ => {}
    }
    words.join(" ")
}

fn describe_entry(entry: &Entry) -> String {
    let what = if entry.context[..] == [FrameKind::Batch.code()] {
        "batch".to_owned()
    } else if !entry.context.is_empty() {
        String::from_utf8_lossy(&entry.data).into_owned()
    } else if entry.get_entry_type() == raft::eraftpb::EntryType::EntryNormal {
        "noop".to_owned()
    } else {
        "members".to_owned()
    };
    format!("{}/{} {what}", RaftIndex(entry.index), entry.term)
}

pub(super) fn describe_members(members: &Members) -> String {
    let list = |ids: &[ReplicaId]| {
        let ids: Vec<_> = ids.iter().map(|id| id.0.to_string()).collect();
        ids.join(" ")
    };
    let mut text = format!("({})", list(&members.voters));
    if !members.learners.is_empty() {
        text.push_str(&format!(" learners ({})", list(&members.learners)));
    }
    if !members.outgoing.is_empty() {
        text.push_str(&format!(" leaving ({})", list(&members.outgoing)));
    }
    text
}
