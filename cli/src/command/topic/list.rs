//! `highwater topic list`

use clap::Args;
use serde::Serialize;

use super::id_text;
use super::selection::Selection;
use crate::context::Context;
use crate::explain::explain;
use crate::failure::Failure;
use crate::table::Table;

/// Options of `highwater topic list`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    selection: Selection,
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
    let topics = admin
        .list_topics()
        .await
        .map_err(|error| explain(WHAT, &error))?;
    let known = topics.iter().map(|topic| topic.name.as_str());
    let selected = if options.selection.is_empty() {
        known.collect()
    } else {
        options.selection.select(known)?
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
