//! `highwater topic explain`

use clap::Args;

use super::selection::Selection;
use crate::context::{Context, no_such_topic};
use crate::diagnosis::explain_topic_partition;
use crate::diagnosis::gather::{Brokers, now_ms};
use crate::diagnosis::report::{self, Line};
use crate::explain::explain;
use crate::failure::Failure;

/// Options of `highwater topic explain`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    selection: Selection,
}

/// Explains the topics, each for itself.
pub(crate) async fn run(options: Options, context: &Context) -> Result<(), Failure> {
    const WHAT: &str = "cannot explain topics";
    let admin = context.connect(WHAT).await?.admin();
    let names = options.selection.names(&admin).await?;
    let brokers = Brokers::ask(&admin).await;
    let brokers = brokers.map_err(|error| explain(WHAT, &error))?;
    let mut lines = Vec::new();
    for name in names {
        match brokers.topic(&admin, &name).await {
            Some(partitions) => lines.extend(partitions.iter().map(|facts| {
                let verdict = explain_topic_partition(facts, now_ms());
                Line::of_partition(&name, facts.partition, verdict)
            })),
            None => {
                let what = format!("cannot explain topic \"{name}\"");
                context.report(&no_such_topic(&admin, what, &name).await);
            }
        }
    }
    context.answer(|| report::table(&lines).to_string(), || &lines)
}
