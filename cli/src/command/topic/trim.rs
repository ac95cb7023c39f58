//! `highwater topic trim`

use clap::Args;
use highwater_client::{Admin, Offset};
use jiff::Timestamp;
use serde::Serialize;

use super::selection::Selection;
use crate::confirm::Consent;
use crate::context::Context;
use crate::explain::explain;
use crate::failure::Failure;
use crate::offset_spec::OffsetSpec;
use crate::positions::{self, Position};
use crate::progress::Progress;
use crate::quantity::{counted, parse_partition};
use crate::table::Table;

/// What fails, when all of it does.
const WHAT: &str = "cannot trim topics";

/// Options of `highwater topic trim`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater topic trim flights --before end              delete all records, keep the topic
  highwater topic trim flights --before @-7d             delete what is older than a week
  highwater topic trim flights --before 1000 -p 3        delete the offsets below 1000 of partition 3
  highwater topic trim flights --before=-1000            keep the last 1000 records of each partition")]
pub(crate) struct Options {
    #[command(flatten)]
    selection: Selection,

    /// First offset to keep, in each partition: end (delete all), N, +N (after the start), -N (before the end) or
    /// @TIME
    #[arg(
        short = 'o',
        long = "before",
        visible_alias = "offset",
        value_name = "OFFSET",
        allow_hyphen_values = true
    )]
    #[arg(value_parser = |text: &str| OffsetSpec::parse(text, Timestamp::now()))]
    offset: OffsetSpec,

    /// Partitions to trim, with commas between them [default: all]
    #[arg(short, long, value_name = "LIST", value_delimiter = ',', value_parser = parse_partition)]
    partitions: Vec<u32>,

    /// Show what would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    consent: Consent,
}

/// A trimmed partition, as JSON.
#[derive(Debug, Serialize)]
struct Trimmed {
    topic: String,
    partition: u32,
    from: u64,
    to: u64,
}

impl Trimmed {
    fn records(&self) -> u64 {
        self.to.saturating_sub(self.from)
    }
}

/// Trims the partitions, each for itself.
pub(crate) async fn run(options: Options, context: &Context) -> Result<(), Failure> {
    let admin = context.connect(WHAT).await?.admin();
    let mut plan = Vec::new();
    for name in options.selection.names(&admin).await? {
        let what = format!("cannot trim topic \"{name}\"");
        match positions::find(&admin, &what, &name, &options.partitions, options.offset).await {
            Ok(positions) => plan.extend(planned(&name, &positions, &what, context)),
            Err(failure) => context.report(&failure),
        }
    }
    if options.dry_run {
        context.note("dry run: nothing was deleted");
        return context.answer(|| text(&plan), || &plan);
    }
    let records = plan.iter().map(Trimmed::records).sum();
    if records > 0 {
        let records = counted(records, "record");
        let partitions = counted(plan.len() as u64, "partition");
        let question = format!("Delete {records} of {partitions}?");
        options.consent.ask(WHAT, &question)?;
    }
    let trimmed = trim(&admin, plan, context).await;
    context.answer(|| text(&trimmed), || &trimmed)
}

/// What is to be done in each partition of `topic`. Offsets beyond the end are reported: nothing can be kept from there.
fn planned(topic: &str, positions: &[Position], what: &str, context: &Context) -> Vec<Trimmed> {
    let mut planned = Vec::new();
    for Position {
        partition,
        held,
        offset,
    } in positions
    {
        if *offset > held.end {
            let why = format!(
                "{topic}/{partition}: offset {offset} is not there yet, the next one is {}",
                held.end
            );
            context.report(
                &Failure::new(what, why)
                    .remedy("to delete all records whatever their number: --before end"),
            );
            continue;
        }
        planned.push(Trimmed {
            topic: topic.into(),
            partition: *partition,
            from: held.start,
            to: (*offset).max(held.start),
        });
    }
    planned
}

async fn trim(admin: &Admin, plan: Vec<Trimmed>, context: &Context) -> Vec<Trimmed> {
    let progress = Progress::of_items(plan.len() as u64);
    let mut trimmed = Vec::new();
    for mut partition in plan {
        let result = admin
            .trim_partition(
                &partition.topic,
                partition.partition,
                Some(Offset(partition.to)),
            )
            .await;
        match result {
            Ok(start) => {
                partition.to = start.0;
                trimmed.push(partition);
            }
            Err(error) => {
                let what = format!("cannot trim topic \"{}\"", partition.topic);
                progress.aside(|| context.report(&explain(what, &error)));
            }
        }
        progress.advance(1);
        progress.draw("partitions trimmed");
    }
    progress.finish();
    trimmed
}

fn text(trimmed: &[Trimmed]) -> String {
    if trimmed.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["TOPIC", "PARTITION", "FROM", "TO", "RECORDS"]);
    for partition in trimmed {
        table.row([
            &partition.topic,
            &partition.partition,
            &partition.from,
            &partition.to,
            &partition.records(),
        ]);
    }
    table.to_string()
}
