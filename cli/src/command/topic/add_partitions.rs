//! `highwater topic add-partitions`

use clap::Args;
use serde::Serialize;

use crate::context::{Context, explain_topic};
use crate::explain::explain;
use crate::failure::Failure;
use crate::quantity::PartitionCount;
use crate::table::Table;

/// Options of `highwater topic add-partitions`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Name of the topic
    #[arg(value_name = "TOPIC")]
    name: String,

    /// Number of partitions: 12 for 12 in total, +4 for 4 more than now
    #[arg(short, long, value_name = "COUNT")]
    partitions: PartitionCount,

    /// Check whether the partitions could be added, and add none
    #[arg(long)]
    dry_run: bool,
}

/// An extended topic, as JSON.
#[derive(Debug, Serialize)]
struct Extended {
    topic: String,
    from: u32,
    to: u32,
}

/// Adds the partitions.
pub(crate) async fn run(options: Options, context: &Context) -> Result<(), Failure> {
    let name = &options.name;
    let what = format!("cannot add partitions to topic \"{name}\"");
    let admin = context.connect(&what).await?.admin();
    let topic = match admin.describe_topic(name).await {
        Ok(topic) => topic,
        Err(error) => return Err(explain_topic(&admin, what, name, &error).await),
    };
    let from = u32::try_from(topic.partitions.len())
        .map_err(|_| Failure::new(&what, "it has more partitions than can be counted"))?;
    let to = options
        .partitions
        .total(from)
        .ok_or_else(|| Failure::new(&what, "that is more than there can be"))?;
    let added = if options.dry_run {
        admin.validate_partitions(name, to).await
    } else {
        admin.add_partitions(name, to).await
    };
    added.map_err(|error| explain(what, &error))?;
    if options.dry_run {
        context.note("dry run: nothing was changed");
    } else {
        context.note(
            "keys are spread anew from now on: older records of a key may lie in another partition than newer ones",
        );
    }
    let extended = [Extended {
        topic: name.clone(),
        from,
        to,
    }];
    context.answer(|| text(&extended), || &extended)
}

fn text(extended: &[Extended]) -> String {
    let mut table = Table::new(["TOPIC", "FROM", "TO"]);
    for topic in extended {
        table.row([&topic.topic, &topic.from, &topic.to]);
    }
    table.to_string()
}
