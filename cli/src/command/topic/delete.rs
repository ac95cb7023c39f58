//! `highwater topic delete`

use clap::Args;
use highwater_client::{Admin, Error, TopicId};
use serde::Serialize;

use super::selection::Selection;
use super::{held_records, id_text};
use crate::context::{Context, explain_topic};
use crate::failure::Failure;
use crate::table::Table;

/// Options of `highwater topic delete`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Options {
    #[command(flatten)]
    selection: Selection,

    /// Show what would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,
}

/// A deleted topic, as JSON.
#[derive(Debug, Serialize)]
struct Deleted {
    topic: String,
    topic_id: String,
    partitions: usize,
    records: u64,
}

/// Deletes the topics, each for itself.
pub(crate) async fn run(options: Options, context: &Context) -> Result<(), Failure> {
    let admin = context.connect("cannot delete topics").await?.admin();
    let mut deleted = Vec::new();
    for name in options.selection.names(&admin).await? {
        match delete(&admin, &name, options.dry_run).await {
            Ok(topic) => deleted.push(topic),
            Err(error) => {
                let what = format!("cannot delete topic \"{name}\"");
                context.report(&explain_topic(&admin, what, &name, &error).await);
            }
        }
    }
    if options.dry_run {
        context.note("dry run: nothing was deleted");
    }
    context.answer(|| text(&deleted), || &deleted)
}

/// Deletes the topic that was looked at, not one that somebody may have created meanwhile under its name.
async fn delete(admin: &Admin, name: &str, is_dry_run: bool) -> Result<Deleted, Error> {
    let topic = admin.describe_topic(name).await?;
    if !is_dry_run {
        let id = TopicId::from_slice(&topic.topic_id);
        admin.delete_topic(name, id).await?;
    }
    Ok(Deleted {
        topic: name.into(),
        topic_id: id_text(&topic.topic_id),
        partitions: topic.partitions.len(),
        records: held_records(&topic),
    })
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
