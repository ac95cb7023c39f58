//! `highwater group explain`

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use highwater_client::{Admin, Error, Reason};
use regex::Regex;
use serde::Serialize;

use super::selection::Selection;
use crate::command::bench::amount::Time;
use crate::context::Context;
use crate::diagnosis::gather::{Brokers, now_ms};
use crate::diagnosis::report::{self, Line};
use crate::diagnosis::{
    Cause, GroupFacts, Verdict, explain_deleted, explain_idle, explain_member, explain_partition,
    explain_unknown_topic,
};
use crate::explain::explain;
use crate::failure::Failure;
use crate::table::section;

/// A coordinator that is elected in this time is not missing.
const COORDINATOR_PATIENCE: Duration = Duration::from_secs(8);

/// Options of `highwater group explain`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    selection: Selection,

    /// Only topics whose whole name matches this regular expression, those included that nobody in the group reads
    #[arg(long, value_name = "REGEX", value_parser = whole_name)]
    topics: Option<Regex>,

    /// How long a member that has records to read may commit nothing before that counts as stuck
    #[arg(long, value_name = "TIME", default_value = "30s")]
    commit_within: Time,
}

/// An expression that matches whole names.
fn whole_name(text: &str) -> Result<Regex, regex::Error> {
    Regex::new(&format!("^(?:{text})$"))
}

/// Explains the groups, each for itself. What is wrong with one is no failure of this command.
pub(crate) async fn run(options: Options, context: &Context) -> Result<(), Failure> {
    let admin = context.connect("cannot explain groups").await?.admin();
    let mut of_groups = Vec::new();
    for group in options.selection.names(&admin).await? {
        match lines(&admin, &group, &options).await {
            Ok(lines) => of_groups.push(OfGroup { group, lines }),
            Err(error) => {
                let what = format!("cannot explain group \"{group}\"");
                context.report(&explain(what, &error));
            }
        }
    }
    let lines = of_groups.iter().flat_map(OfGroup::lines);
    context.answer(|| text(&of_groups), || lines.collect::<Vec<_>>())
}

/// What is said of a group.
struct OfGroup {
    group: String,
    lines: Vec<Line>,
}

/// A line that says of which group it is, as JSON.
#[derive(Debug, Serialize)]
struct LineOfGroup<'a> {
    group: &'a str,
    #[serde(flatten)]
    line: &'a Line,
}

impl OfGroup {
    fn lines(&self) -> impl Iterator<Item = LineOfGroup<'_>> {
        let group = &self.group;
        self.lines
            .iter()
            .map(move |line| LineOfGroup { group, line })
    }
}

/// A table; with a heading each where there are several.
fn text(of_groups: &[OfGroup]) -> String {
    match of_groups {
        [sole] => report::table(&sole.lines).to_string(),
        many => {
            let texts = many.iter().map(|of_group| {
                let table = report::table(&of_group.lines);
                format!("{}{table}", section(&of_group.group))
            });
            texts.collect::<Vec<_>>().join("\n")
        }
    }
}

async fn lines(admin: &Admin, group: &str, options: &Options) -> Result<Vec<Line>, Error> {
    let wanted = options.topics.as_ref();
    let asked = async {
        let described = admin.describe_group(group).await?;
        let offsets = admin.group_offsets(group).await?;
        Ok((described, offsets))
    };
    let (described, offsets) = match tokio::time::timeout(COORDINATOR_PATIENCE, asked).await {
        Ok(Ok(answers)) => answers,
        Ok(Err(error)) => return without_group(group, &error).ok_or(error),
        Err(_) => {
            let seconds = COORDINATOR_PATIENCE.as_secs();
            let silence = format!("no coordinator of the group answered within {seconds} s");
            return Ok(vec![Line::of_group(no_coordinator(&silence))]);
        }
    };
    let commit_within = options.commit_within.0.as_millis();
    let commit_within_ms = u64::try_from(commit_within).unwrap_or(u64::MAX);
    let (mut facts, deleted) = GroupFacts::new(described, offsets, now_ms(), commit_within_ms);
    let existing = admin.metadata(&[]).await?.topics;
    let existing: BTreeSet<String> = existing.into_iter().map(|topic| topic.name).collect();
    let mut topics = facts.topics();
    topics.extend(existing.iter().filter(|_| wanted.is_some()).cloned());
    if let Some(regex) = wanted {
        topics.retain(|topic| regex.is_match(topic));
    }
    let brokers = Brokers::ask(admin).await?;
    let mut lines = Vec::new();
    for topic in topics {
        let Some(partitions) = brokers.topic(admin, &topic).await else {
            let verdict = explain_unknown_topic(&facts, &topic);
            lines.push(Line::of_topic(&topic, verdict));
            continue;
        };
        facts.look_at_next_records(admin, &partitions).await;
        lines.extend(partitions.iter().map(|partition| {
            let verdict = explain_partition(&facts, partition);
            Line::of_partition(&topic, partition.partition, verdict)
        }));
    }
    if wanted.is_none() {
        lines.extend(about_group(&facts, deleted, &existing));
    }
    Ok(lines)
}

/// What is to be said beside the partitions.
fn about_group(facts: &GroupFacts, deleted: usize, existing: &BTreeSet<String>) -> Vec<Line> {
    let mut lines = Vec::new();
    if deleted > 0 {
        lines.push(Line::of_group(explain_deleted(deleted)));
    }
    for member in &facts.members {
        let verdict = explain_member(facts, member, existing);
        lines.extend(verdict.map(|verdict| Line::of_member(&member.id, verdict)));
    }
    if facts.members.is_empty() && facts.topics().is_empty() && deleted == 0 {
        lines.push(Line::of_group(explain_idle(&facts.group)));
    }
    lines
}

/// What is said where the group itself cannot be had; `None` where the error says it all.
fn without_group(group: &str, error: &Error) -> Option<Vec<Line>> {
    let verdict = match error.reason() {
        Reason::GroupIdNotFound => Verdict {
            cause: Cause::GroupUnknown,
            explanation: format!(
                "nobody ever joined group {group} or committed to it, or it was deleted; start a member: highwater consume \
                 TOPIC -g {group}"
            ),
        },
        Reason::CoordinatorNotAvailable | Reason::NotCoordinator => {
            no_coordinator(&error.to_string())
        }
        _ => return None,
    };
    Some(vec![Line::of_group(verdict)])
}

fn no_coordinator(why: &str) -> Verdict {
    Verdict {
        cause: Cause::CoordinatorUnavailable,
        explanation: format!(
            "members can neither join nor commit, and what they have committed cannot be seen: {why}; bring the brokers back \
             that are down, see: highwater cluster health"
        ),
    }
}
