//! `highwater group explain`

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use highwater_client::{Admin, Error, Reason};
use regex::Regex;

use crate::context::Context;
use crate::diagnosis::gather::{Brokers, now_ms};
use crate::diagnosis::report::{self, Line};
use crate::diagnosis::{
    Cause, GroupFacts, Verdict, explain_deleted, explain_idle, explain_member, explain_partition,
    explain_unknown_topic,
};
use crate::explain::explain;
use crate::failure::Failure;

/// A coordinator that is elected in this time is not missing.
const COORDINATOR_PATIENCE: Duration = Duration::from_secs(8);

/// Options of `highwater group explain`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Id of the group
    #[arg(value_name = "GROUP")]
    group: String,

    /// Only topics whose whole name matches this regular expression, those included that nobody in the group reads
    #[arg(long, value_name = "REGEX", value_parser = whole_name)]
    topics: Option<Regex>,
}

/// An expression that matches whole names.
fn whole_name(text: &str) -> Result<Regex, regex::Error> {
    Regex::new(&format!("^(?:{text})$"))
}

/// Explains a group. What is wrong with it is no failure of this command.
pub(crate) async fn run(options: Options, context: &Context) -> Result<(), Failure> {
    let what = format!("cannot explain group \"{}\"", options.group);
    let admin = context.connect(&what).await?.admin();
    let lines = lines(&admin, &options).await;
    let lines = lines.map_err(|error| explain(what, &error))?;
    context.answer(|| report::table(&lines).to_string(), || &lines)
}

async fn lines(admin: &Admin, options: &Options) -> Result<Vec<Line>, Error> {
    let group = &options.group;
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
    let (mut facts, deleted) = GroupFacts::new(described, offsets, now_ms());
    let existing = admin.metadata(&[]).await?.topics;
    let existing: BTreeSet<String> = existing.into_iter().map(|topic| topic.name).collect();
    let mut topics = facts.topics();
    topics.extend(
        existing
            .iter()
            .filter(|_| options.topics.is_some())
            .cloned(),
    );
    if let Some(regex) = &options.topics {
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
    if options.topics.is_none() {
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
