//! A machine that keeps a list of words, and tells what happens to it.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use highwater_proto::batch::{BatchBuilder, NewRecord, Records};
use highwater_storage::{Offset, RaftIndex};

use crate::raft::machine::{
    CommittedEntry, Decision, EntryKind, Machine, NewEntry, Refusal, Role, Timestamp, Unlawful,
};

/// What a replica's machine shows to the test: it outlives the machine.
#[derive(Clone, Debug, Default)]
pub(in crate::raft) struct Seen(Arc<Mutex<SeenState>>);

#[derive(Debug, Default)]
struct SeenState {
    news: Vec<String>,
    published: Vec<String>,
}

impl Seen {
    /// What happened since the last call.
    pub(in crate::raft) fn take_news(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().news)
    }

    pub(in crate::raft) fn tell(&self, news: String) {
        self.0.lock().unwrap().news.push(news);
    }

    /// What readers see.
    pub(in crate::raft) fn published(&self) -> Vec<String> {
        self.0.lock().unwrap().published.clone()
    }
}

/// Keeps a list of words. Some words do more than that.
#[derive(Debug)]
pub(in crate::raft) struct Words {
    applied: Vec<String>,
    pending: Vec<(RaftIndex, String)>,
    seen: Seen,
    /// Whether the words are all there is to know.
    is_everything: bool,
}

/// Adds a word; one that begins with `#` as a record in a batch. `trim5` says that records below offset 5 may go, too. `bad` is refused, `unlawful` cannot be applied, `bug` panics when applied, `+word` is answered when
/// the pending `word` is applied, and adds nothing.
#[derive(Debug)]
pub(in crate::raft) struct Add(pub(in crate::raft) String);

/// Why a word was not added.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::raft) enum WordError {
    Bad,
    Refused(Refusal),
}

impl From<Refusal> for WordError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Words {
    pub(in crate::raft) fn new(snapshot: &[u8], seen: Seen) -> Self {
        let mut words = Self {
            applied: words_of(snapshot),
            pending: Vec::new(),
            seen,
            is_everything: false,
        };
        words.publish();
        words
    }

    /// The same where a snapshot of it replaces the log.
    pub(in crate::raft) fn everything(snapshot: &[u8], seen: Seen) -> Self {
        Self {
            is_everything: true,
            ..Self::new(snapshot, seen)
        }
    }
}

impl Machine for Words {
    type Command = Add;
    /// The index at which the word stands.
    type Response = RaftIndex;
    type Error = WordError;

    fn decide(
        &self,
        Add(word): Add,
        next_index: RaftIndex,
        _now: Timestamp,
    ) -> Result<Decision<RaftIndex>, WordError> {
        if word == "bad" {
            return Err(WordError::Bad);
        }
        if let Some(joined) = word.strip_prefix('+') {
            let pending = self.pending.iter().find(|(_, word)| word == joined);
            let after = pending.map(|(index, _)| *index);
            return Ok(Decision::Answer {
                response: after.unwrap_or_default(),
                after,
            });
        }
        Ok(Decision::Propose {
            entries: vec![entry_of(word)],
            response: next_index,
        })
    }

    fn proposed(&mut self, index: RaftIndex, entry: &NewEntry) {
        let word = word_of(entry.kind, &entry.data);
        self.pending.push((index, word));
    }

    fn retract(&mut self, from: RaftIndex) {
        let kept = self.pending.partition_point(|(index, _)| *index < from);
        let off: Vec<_> = self.pending.drain(kept..).map(|(_, word)| word).collect();
        if !off.is_empty() {
            self.seen.tell(format!("retracts {}", off.join(" ")));
        }
    }

    fn apply(&mut self, entry: &CommittedEntry) -> Result<(), Unlawful> {
        let word = word_of(entry.kind, &entry.data);
        if word == "bug" {
            panic!("a bug in the machine");
        }
        if word == "unlawful" {
            return Err(Unlawful {
                index: entry.index,
                reason: "no leader writes this".to_owned(),
            });
        }
        let at = match entry.kind {
            EntryKind::Batch => format!(" at offset {}", entry.base_offset),
            EntryKind::Events => String::new(),
        };
        let (index, term) = (entry.index, entry.term);
        self.seen.tell(format!("applies {index}/{term} {word}{at}"));
        self.applied.push(word);
        self.pending.retain(|(index, _)| *index > entry.index);
        Ok(())
    }

    fn snapshot(&self) -> Bytes {
        self.applied.join(" ").into()
    }

    fn log_start(&self) -> Offset {
        let trims = self.applied.iter();
        let trims = trims.filter_map(|word| word.strip_prefix("trim")?.parse().ok());
        Offset(trims.max().unwrap_or(0))
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String> {
        assert_eq!(self.pending, [], "nothing is proposed");
        if snapshot.starts_with(b"strange") {
            return Err("no version wrote this".to_owned());
        }
        self.applied = words_of(snapshot);
        self.seen
            .tell(format!("restores {}", self.applied.join(" ")));
        Ok(())
    }

    fn snapshot_replaces_log(&self) -> bool {
        self.is_everything
    }

    fn role_changed(&mut self, role: Role) {
        let role = match role {
            Role::Leader {
                term,
                serving: true,
            } => format!("leads term {term} and serves"),
            Role::Leader { term, .. } => format!("leads term {term}"),
            Role::Follower { term, leader: None } => format!("follows nobody in term {term}"),
            Role::Follower {
                term,
                leader: Some(leader),
            } => {
                format!("follows {} in term {term}", leader.0)
            }
            Role::Quarantined => "is quarantined".to_owned(),
        };
        self.seen.tell(role);
    }

    fn publish(&mut self) {
        self.seen
            .0
            .lock()
            .unwrap()
            .published
            .clone_from(&self.applied);
    }
}

fn words_of(snapshot: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(snapshot);
    text.split_whitespace().map(str::to_owned).collect()
}

fn entry_of(word: String) -> NewEntry {
    if !word.starts_with('#') {
        return NewEntry {
            kind: EntryKind::Events,
            data: word.into(),
            record_count: 0,
            max_timestamp_ms: -1,
        };
    }
    let mut builder = BatchBuilder::new();
    let record = NewRecord {
        value: Some(word.as_bytes()),
        ..NewRecord::default()
    };
    builder.append(&record).unwrap();
    NewEntry {
        kind: EntryKind::Batch,
        data: builder.finish(Default::default(), None).unwrap(),
        record_count: 1,
        max_timestamp_ms: 0,
    }
}

fn word_of(kind: EntryKind, data: &Bytes) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match kind {
        EntryKind::Events => text(data),
        EntryKind::Batch => {
            let mut records = Records::open(data.clone(), 1 << 20).unwrap();
            let record = records.next().unwrap().unwrap();
            text(&record.value.unwrap())
        }
    }
}
