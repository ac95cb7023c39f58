//! `highwater topic list`

use clap::Args;
use serde::Serialize;

use super::id_text;
use super::selection::OptionalSelection;
use crate::context::Context;
use crate::explain::unknown_topic;
use crate::failure::Failure;
use crate::table::Table;

/// Options of `highwater topic list`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    selection: OptionalSelection,
}

/// A topic, as JSON.
#[derive(Debug, Serialize)]
struct Listed {
    topic: String,
    topic_id: String,
    partitions: usize,
    replicas: usize,
}

/// Lists all topics, or the selected ones.
pub(crate) async fn run(options: Options, context: &Context) -> Result<(), Failure> {
    const WHAT: &str = "cannot list topics";
    let admin = context.connect(WHAT).await?.admin();
    let topics = context.overview(&admin, WHAT).await?.topics;
    let known: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
    let selected = match options.selection.into_selection() {
        None => known,
        Some(selection) => {
            for name in selection.unknown(&known) {
                let what = format!("cannot list topic \"{name}\"");
                context.report(&unknown_topic(what, name, known.iter().copied()));
            }
            selection.select(known)?
        }
    };
    let listed: Vec<Listed> = topics
        .iter()
        .filter(|topic| selected.contains(&topic.name.as_str()))
        .map(|topic| Listed {
            topic: topic.name.clone(),
            topic_id: id_text(&topic.topic_id),
            partitions: topic.partitions.len(),
            replicas: topic
                .partitions
                .first()
                .map_or(0, |partition| partition.replica_broker_ids.len()),
        })
        .collect();
    context.answer(|| text(&listed), || &listed)
}

fn text(listed: &[Listed]) -> String {
    let mut table = Table::new(["TOPIC", "PARTITIONS", "REPLICAS"]);
    for topic in listed {
        table.row([&topic.topic, &topic.partitions, &topic.replicas]);
    }
    table.to_string()
}
