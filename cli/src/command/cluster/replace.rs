//! `highwater cluster replace`

use clap::Args;
use serde::Serialize;

use crate::confirm::Consent;
use crate::context::Context;
use crate::explain::explain;
use crate::failure::Failure;

/// Options of `highwater cluster replace`.
#[derive(Debug, Args)]
#[command(after_help = "\
For a broker whose data directory is lost for good and that is down. Afterwards start it again with its id and an empty data
directory: it gets new replicas in place of those that it had. Records of which it had the only replica are lost.
If the old directory turns up before, start the broker with that instead: then nothing was lost.")]
pub(crate) struct Options {
    /// The broker
    #[arg(value_name = "BROKER")]
    broker: u32,

    /// Check whether it could be replaced, and change nothing
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    consent: Consent,
}

/// A broker that may be replaced, as JSON.
#[derive(Debug, Serialize)]
struct Replaceable {
    broker: u32,
}

/// Lets a broker be replaced.
pub(crate) async fn run(options: Options, context: &Context) -> Result<(), Failure> {
    let broker = options.broker;
    let what = format!("cannot let broker {broker} be replaced");
    let admin = context.connect(&what).await?.admin();
    let checked = admin.replace_broker(broker, true).await;
    checked.map_err(|error| explain(&what, &error))?;
    if options.dry_run {
        context.note("dry run: nothing was changed");
    } else {
        let question = format!(
            "Give up what broker {broker} holds, and let an empty data directory take its place?"
        );
        options.consent.ask(&what, &question)?;
        let replaced = admin.replace_broker(broker, false).await;
        replaced.map_err(|error| explain(&what, &error))?;
        context.note(&format!(
            "start broker {broker} with an empty data directory: it gets new replicas then"
        ));
    }
    context.answer(String::new, || Replaceable { broker })
}
