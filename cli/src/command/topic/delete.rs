//! `highwater topic delete`

use clap::Args;
use highwater_client::{Admin, TopicId};
use serde::Serialize;

use super::selection::Selection;
use super::{held_records, id_text};
use crate::confirm::Consent;
use crate::context::{Context, explain_topic};
use crate::failure::Failure;
use crate::progress::Progress;
use crate::quantity::counted;
use crate::table::Table;

/// What fails, when all of it does.
const WHAT: &str = "cannot delete topics";

/// Options of `highwater topic delete`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    selection: Selection,

    /// Show what would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    consent: Consent,
}

/// A deleted topic, as JSON.
#[derive(Debug, Serialize)]
struct Deleted {
    topic: String,
    topic_id: String,
    partitions: usize,
    records: u64,
    #[serde(skip)]
    id: Option<TopicId>,
}

/// Deletes the topics, each for itself.
pub(crate) async fn run(options: Options, context: &Context) -> Result<(), Failure> {
    let admin = context.connect(WHAT).await?.admin();
    let names = options.selection.names(&admin).await?;
    let doomed = look_up(&admin, &names, context).await;
    if options.dry_run {
        context.note("dry run: nothing was deleted");
        return context.answer(|| text(&doomed), || &doomed);
    }
    if !doomed.is_empty() {
        options.consent.ask(WHAT, &question(&doomed))?;
    }
    let deleted = delete(&admin, doomed, context).await;
    context.answer(|| text(&deleted), || &deleted)
}

/// What is to be deleted, as it is now. Topics that do not exist are reported.
async fn look_up(admin: &Admin, names: &[String], context: &Context) -> Vec<Deleted> {
    let mut found = Vec::new();
    for name in names {
        match admin.describe_topic(name).await {
            Ok(topic) => found.push(Deleted {
                topic: name.clone(),
                topic_id: id_text(&topic.topic_id),
                partitions: topic.partitions.len(),
                records: held_records(&topic),
                id: TopicId::from_slice(&topic.topic_id),
            }),
            Err(error) => {
                let what = format!("cannot delete topic \"{name}\"");
                context.report(&explain_topic(admin, what, name, &error).await);
            }
        }
    }
    found
}

/// Deletes the topics that were looked at, not others that somebody may have created meanwhile under their names.
async fn delete(admin: &Admin, doomed: Vec<Deleted>, context: &Context) -> Vec<Deleted> {
    let progress = Progress::of_items(doomed.len() as u64);
    let mut deleted = Vec::new();
    for topic in doomed {
        let name = &topic.topic;
        match admin.delete_topic(name, topic.id).await {
            Ok(()) => deleted.push(topic),
            Err(error) => {
                let what = format!("cannot delete topic \"{name}\"");
                let failure = explain_topic(admin, what, name, &error).await;
                progress.aside(|| context.report(&failure));
            }
        }
        progress.advance(1);
        progress.draw("topics deleted");
    }
    progress.finish();
    deleted
}

/// Names up to three topics, and counts the others.
fn question(doomed: &[Deleted]) -> String {
    const NAMED_MAX: usize = 3;
    let records = doomed.iter().map(|topic| topic.records).sum();
    let names: Vec<&str> = doomed.iter().map(|topic| topic.topic.as_str()).collect();
    let (named, others) = names.split_at(names.len().min(NAMED_MAX));
    let named = named.join(", ");
    let others = match others.len() {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    format!(
        "Delete {named}{others} with {}?",
        counted(records, "record")
    )
}

fn text(deleted: &[Deleted]) -> String {
    if deleted.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["TOPIC", "PARTITIONS", "RECORDS"]);
    for topic in deleted {
        table.row([&topic.topic, &topic.partitions, &topic.records]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doomed(name: &str, records: u64) -> Deleted {
        Deleted {
            topic: name.into(),
            topic_id: String::new(),
            partitions: 1,
            records,
            id: None,
        }
    }

    #[test]
    fn the_question_says_what_would_be_lost() {
        assert_eq!(question(&[doomed("a", 1)]), "Delete a with 1 record?");
        let many: Vec<Deleted> = ["a", "b", "c", "d", "e"].map(|name| doomed(name, 2)).into();
        assert_eq!(
            question(&many),
            "Delete a, b, c and 2 more with 10 records?"
        );
    }
}
