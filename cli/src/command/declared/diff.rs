//! `highwater diff`

use clap::Args;

use super::report::{by_topic, summary, text};
use super::sources::Sources;
use super::survey;
use crate::context::Context;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;

/// What fails, when all of it does.
const WHAT: &str = "cannot compare topics";

/// Options of `highwater diff`.
#[derive(Debug, Args)]
#[command(after_help = "\
A file says what topics there should be:
  topics:
    - name: orders
      partitions: 12
      replicas: 3
      configs:
        retention.ms: 86400000
What it does not say of a topic is left alone; `configs` is all that a topic sets.
The exit status is 0 where nothing differs, and 3 where something does.")]
pub(crate) struct Options {
    #[command(flatten)]
    sources: Sources,
}

/// Shows what `highwater apply` would change.
pub(crate) async fn run(options: Options, context: &Context) -> Result<(), Failure> {
    let declared = options.sources.read(WHAT)?;
    let admin = context.connect(WHAT).await?.admin();
    let plan = survey::find_plan(&options.sources, &admin, &declared, WHAT, context).await?;
    let Some(plan) = plan else {
        return Ok(());
    };
    let topics = by_topic(&plan.steps);
    if topics.is_empty() {
        context.note("no differences");
    } else {
        context.note(&summary(&topics));
        context.end_with(ExitStatus::Different);
    }
    context.answer(|| text(&topics), || &topics)
}
