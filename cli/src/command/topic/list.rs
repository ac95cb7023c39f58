//! `highwater topic list`

use clap::Args;
use highwater_client::protocol::TopicMetadata;
use serde::Serialize;

use super::id_text;
use super::selection::Selection;
use crate::context::Context;
use crate::explain::{explain, unknown_topic};
use crate::failure::Failure;
use crate::table::Table;
use crate::topic_names;

/// Options of `highwater topic list`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Names of topics [default: all]
    #[arg(value_name = "TOPIC", add = topic_names::completer())]
    names: Vec<String>,

    /// Take TOPIC as regular expressions that match a whole name, such as 'flights-.*'
    #[arg(short, long, requires = "names")]
    regex: bool,
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
    let selected = if options.names.is_empty() {
        known.collect()
    } else {
        let Options { names, regex } = options;
        let selection = Selection { names, regex };
        report_unknown(context, &selection, &topics);
        selection.select(known)?
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

/// A name that was given, and is that of no topic, is a failure; an expression may match nothing.
fn report_unknown(context: &Context, selection: &Selection, topics: &[TopicMetadata]) {
    let known = || topics.iter().map(|topic| topic.name.as_str());
    if selection.is_by_expression() {
        return;
    }
    for name in &selection.names {
        if !known().any(|known| known == name) {
            let what = format!("cannot list topic \"{name}\"");
            context.report(&unknown_topic(what, name, known()));
        }
    }
}

fn text(listed: &[Listed]) -> String {
    let mut table = Table::new(["TOPIC", "PARTITIONS", "REPLICAS"]);
    for topic in listed {
        table.row([&topic.topic, &topic.partitions, &topic.replicas]);
    }
    table.to_string()
}
