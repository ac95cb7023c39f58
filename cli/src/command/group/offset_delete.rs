//! `highwater group offset-delete`

use clap::Args;
use serde::Serialize;

use crate::confirm::Consent;
use crate::context::Context;
use crate::explain::explain;
use crate::failure::Failure;
use crate::group_names;
use crate::quantity::{counted, parse_partition};
use crate::table::Table;
use crate::topic_names;

/// Options of `highwater group offset-delete`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Id of the group
    #[arg(value_name = "GROUP", add = group_names::completer())]
    group: String,

    /// Name of the topic
    #[arg(value_name = "TOPIC", add = topic_names::completer())]
    topic: String,

    /// Only these partitions, with commas between them [default: all]
    #[arg(short, long, value_name = "LIST", value_delimiter = ',', value_parser = parse_partition)]
    partitions: Vec<u32>,

    /// Show what would be forgotten, and forget nothing
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    consent: Consent,
}

/// A committed offset that is forgotten, as JSON.
#[derive(Debug, Serialize)]
struct Forgotten {
    topic: String,
    partition: u32,
    offset: u64,
}

/// Forgets the committed offsets of a topic.
pub(crate) async fn run(options: Options, context: &Context) -> Result<(), Failure> {
    let what = format!("cannot forget offsets of group \"{}\"", options.group);
    let admin = context.connect(&what).await?.admin();
    let committed = admin.group_offsets(&options.group).await;
    let committed = committed.map_err(|error| explain(&what, &error))?;
    let is_meant =
        |partition: u32| options.partitions.is_empty() || options.partitions.contains(&partition);
    let forgotten: Vec<Forgotten> = committed
        .into_iter()
        .filter_map(|offset| {
            let named = offset.partition?;
            let is_wanted = named.topic == options.topic && is_meant(named.partition);
            is_wanted.then_some(Forgotten {
                topic: named.topic,
                partition: named.partition,
                offset: offset.offset?,
            })
        })
        .collect();
    if forgotten.is_empty() {
        let why = format!("it has none of topic \"{}\"", options.topic);
        let remedy = format!(
            "see what there is: highwater group describe {}",
            options.group
        );
        return Err(Failure::new(what, why).remedy(remedy));
    }
    if options.dry_run {
        context.note("dry run: nothing was deleted");
        return context.answer(|| text(&forgotten), || &forgotten);
    }
    let question = format!(
        "Forget {}?",
        counted(forgotten.len() as u64, "committed offset")
    );
    options.consent.ask(&what, &question)?;
    let partitions: Vec<_> = forgotten
        .iter()
        .map(|each| (each.topic.clone(), each.partition))
        .collect();
    let deleted = admin
        .delete_group_offsets(&options.group, &partitions)
        .await;
    deleted.map_err(|error| explain(&what, &error))?;
    context.answer(|| text(&forgotten), || &forgotten)
}

fn text(forgotten: &[Forgotten]) -> String {
    let mut table = Table::new(["TOPIC", "PARTITION", "OFFSET"]);
    for each in forgotten {
        table.row([&each.topic, &each.partition, &each.offset]);
    }
    table.to_string()
}
