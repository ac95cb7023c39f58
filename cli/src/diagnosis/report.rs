//! What is said of partitions, as it is printed.

use serde::Serialize;

use super::{Progress, Verdict};
use crate::table::Table;

/// What is said of one thing, as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    /// Absent where it is about the group as a whole, or about a member.
    pub(crate) topic: Option<String>,
    /// Absent where it is about the whole topic, too.
    pub(crate) partition: Option<u32>,
    /// Present where it is about a member to which no partition belongs.
    pub(crate) member: Option<String>,
    pub(crate) progress: Progress,
    pub(crate) cause: &'static str,
    pub(crate) explanation: String,
}

impl Line {
    fn new(topic: Option<&str>, partition: Option<u32>, verdict: Verdict) -> Self {
        Self {
            topic: topic.map(str::to_owned),
            partition,
            member: None,
            progress: verdict.cause.progress(),
            cause: verdict.cause.name(),
            explanation: verdict.explanation,
        }
    }

    /// About a partition.
    pub(crate) fn of_partition(topic: &str, partition: u32, verdict: Verdict) -> Self {
        Self::new(Some(topic), Some(partition), verdict)
    }

    /// About a topic.
    pub(crate) fn of_topic(topic: &str, verdict: Verdict) -> Self {
        Self::new(Some(topic), None, verdict)
    }

    /// About the group.
    pub(crate) fn of_group(verdict: Verdict) -> Self {
        Self::new(None, None, verdict)
    }

    /// About a member.
    pub(crate) fn of_member(member: &str, verdict: Verdict) -> Self {
        Self {
            member: Some(member.to_owned()),
            ..Self::of_group(verdict)
        }
    }
}

/// Lines for people.
pub(crate) fn table(lines: &[Line]) -> Table {
    let mut table = Table::new(["TOPIC", "PARTITION", "PROGRESS", "CAUSE", "EXPLANATION"]);
    for line in lines {
        let partition = line.partition;
        table.row([
            &line.topic.as_deref().unwrap_or("-"),
            &partition.map_or("-".to_owned(), |partition| partition.to_string()),
            &line.progress.name(),
            &line.cause,
            &line.explanation,
        ]);
    }
    table
}
