//! `highwater topic trim`

use clap::Args;
use highwater_client::Offset;
use jiff::Timestamp;
use serde::Serialize;

use crate::context::Context;
use crate::explain::explain;
use crate::failure::Failure;
use crate::offset_spec::OffsetSpec;
use crate::positions;
use crate::table::Table;

/// Options of `highwater topic trim`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Name of the topic
    #[arg(value_name = "TOPIC")]
    name: String,

    /// First offset to keep: end, N, +N (after the start), -N (before the end) or @TIME
    #[arg(
        short = 'o',
        long = "before",
        value_name = "OFFSET",
        allow_hyphen_values = true
    )]
    #[arg(value_parser = |text: &str| OffsetSpec::parse(text, Timestamp::now()))]
    offset: OffsetSpec,

    /// Partitions to trim, with commas between them [default: all]
    #[arg(short, long, value_name = "LIST", value_delimiter = ',')]
    partitions: Vec<u32>,

    /// Show what would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,
}

/// A trimmed partition, as JSON.
#[derive(Debug, Serialize)]
struct Trimmed {
    topic: String,
    partition: u32,
    from: u64,
    to: u64,
}

/// Trims the partitions, each for itself.
pub(crate) async fn run(options: Options, context: &Context) -> Result<(), Failure> {
    let name = &options.name;
    let what = format!("cannot trim topic \"{name}\"");
    let admin = context.connect(&what).await?.admin();
    let positions =
        positions::find(&admin, &what, name, &options.partitions, options.offset).await?;
    let mut trimmed = Vec::new();
    for position in positions {
        let target = position.offset.max(position.held.start);
        let result = if options.dry_run {
            Ok(target)
        } else {
            admin
                .trim_partition(name, position.partition, Some(Offset(target)))
                .await
                .map(|start| start.0)
        };
        match result {
            Ok(to) => trimmed.push(Trimmed {
                topic: name.clone(),
                partition: position.partition,
                from: position.held.start,
                to,
            }),
            Err(error) => {
                context.report(&explain(&what, &error));
            }
        }
    }
    if options.dry_run {
        context.note("dry run: nothing was deleted");
    }
    context.answer(|| text(&trimmed), || &trimmed)
}

fn text(trimmed: &[Trimmed]) -> String {
    if trimmed.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["TOPIC", "PARTITION", "FROM", "TO"]);
    for partition in trimmed {
        table.row([
            &partition.topic,
            &partition.partition,
            &partition.from,
            &partition.to,
        ]);
    }
    table.to_string()
}
