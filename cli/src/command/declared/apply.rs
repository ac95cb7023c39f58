//! `highwater apply`

use clap::Args;
use highwater_client::Admin;

use super::plan::{Action, Plan, Step};
use super::report::{Changed, by_topic, summary, text};
use super::request::{Mode, failed, request};
use super::sources::Sources;
use super::survey;
use crate::confirm::Consent;
use crate::context::Context;
use crate::explain::explain;
use crate::failure::Failure;
use crate::progress::Progress;

/// What fails, when all of it does.
const WHAT: &str = "cannot apply";

/// Options of `highwater apply`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater apply -f cluster.yaml --dry-run
  highwater apply -f topics/orders.yaml -f topics/flights.yaml
  generate-topics | highwater apply -f - --yes
What stands in the files: highwater diff --help")]
pub(crate) struct Options {
    #[command(flatten)]
    sources: Sources,

    /// Check whether the topics could be changed so, and change nothing
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    consent: Consent,
}

/// Makes the topics what the files say.
pub(crate) async fn run(options: Options, context: &Context) -> Result<(), Failure> {
    let declared = options.sources.read(WHAT)?;
    let admin = context.connect(WHAT).await?.admin();
    let plan = survey::find_plan(&options.sources, &admin, &declared, WHAT, context).await?;
    let Some(plan) = plan else {
        context.note("nothing was changed");
        return Ok(());
    };
    let topics = by_topic(&plan.steps);
    if topics.is_empty() {
        context.note("nothing to change");
        return context.answer(|| text(&topics), || &topics);
    }
    if options.dry_run {
        context.note("dry run: nothing was changed");
        return context.answer(|| text(&topics), || &topics);
    }
    let question = question(&topics);
    if plan.steps.iter().any(Step::deletes) {
        options.consent.insist(WHAT, &question)?;
    } else {
        options.consent.ask(WHAT, &question)?;
    }
    let done = carry_out(&admin, plan, context).await;
    tell_what_follows(&done, context);
    let topics = by_topic(&done);
    context.answer(|| text(&topics), || &topics)
}

fn question(topics: &[Changed]) -> String {
    format!("{}{}: go on?", text(topics), summary(topics))
}

/// Takes the steps one by one; one that fails is reported, and the others are taken nevertheless.
async fn carry_out(admin: &Admin, plan: Plan, context: &Context) -> Vec<Step> {
    let progress = Progress::of_items(plan.steps.len() as u64);
    let mut done = Vec::new();
    for mut step in plan.steps {
        match request(admin, &mut step, Mode::Take).await {
            Ok(()) => done.push(step),
            Err(error) => {
                let failure = explain(failed(WHAT, &step), &error);
                progress.aside(|| context.report(&failure));
            }
        }
        progress.advance(1);
        progress.draw("steps taken");
    }
    progress.finish();
    done
}

fn tell_what_follows(done: &[Step], context: &Context) {
    let is_any = |is: fn(&Action) -> bool| done.iter().any(|step| is(&step.action));
    if is_any(|action| matches!(action, Action::AddPartitions { .. })) {
        context.note(
            "keys are spread anew from now on where partitions were added: older records of a key may lie in another partition than newer ones",
        );
    }
    if is_any(|action| matches!(action, Action::SetReplicas { .. })) {
        context.note("replicas are on their way: highwater cluster moves");
    }
}
