//! `highwater cluster decommission`

use std::time::Duration;

use clap::Args;
use highwater_client::Admin;

use super::moves::{Planned, planned_table, summary};
use crate::confirm::Consent;
use crate::context::Context;
use crate::explain::explain;
use crate::failure::Failure;
use crate::progress::Progress;
use crate::quantity::counted;

/// Time between two looks at a broker that is waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Options of `highwater cluster decommission`.
#[derive(Debug, Args)]
#[command(after_help = "\
Its replicas go to other brokers, a few at a time, while everything is served; then it is removed. It may be up or down. Stop it
when `highwater cluster brokers` does not list it any more; its data directory is of no use then.
How far it is: highwater cluster moves. To undo it: highwater cluster cancel --broker BROKER")]
pub(crate) struct Options {
    /// The broker
    #[arg(value_name = "BROKER")]
    broker: u32,

    /// Show what would move, and move nothing
    #[arg(long)]
    dry_run: bool,

    /// Wait until it is removed
    #[arg(long)]
    wait: bool,

    #[command(flatten)]
    consent: Consent,
}

/// Decommissions a broker.
pub(crate) async fn run(options: Options, context: &Context) -> Result<(), Failure> {
    let broker = options.broker;
    let what = format!("cannot decommission broker {broker}");
    let admin = context.connect(&what).await?.admin();
    let planned = admin.validate_decommission(broker).await;
    let planned = planned.map_err(|error| explain(&what, &error))?;
    let mut planned: Vec<_> = planned.into_iter().map(Planned::from).collect();
    if options.dry_run {
        context.note("dry run: nothing was changed");
        return context.answer(|| planned_table(&planned), || &planned);
    }
    let replicas = counted(planned.len() as u64, "replica");
    let question = format!("Move {replicas} off broker {broker} and remove it from the cluster?");
    options.consent.ask(&what, &question)?;
    let begun = admin.decommission_broker(broker).await;
    let begun = begun.map_err(|error| explain(&what, &error))?;
    planned = begun.into_iter().map(Planned::from).collect();
    if options.wait {
        wait(&admin, &what, broker).await?;
    }
    context.answer(|| planned_table(&planned), || &planned)
}

/// Waits until the broker is removed.
async fn wait(admin: &Admin, what: &str, broker: u32) -> Result<(), Failure> {
    let progress = Progress::open_ended();
    loop {
        let metadata = admin.metadata(&[]).await;
        let metadata = metadata.map_err(|error| explain(what, &error))?;
        let mut brokers = metadata.brokers.iter();
        if !brokers.any(|known| known.broker_id == broker) {
            progress.finish();
            return Ok(());
        }
        let moves = admin.moves(None).await;
        let mut moves = moves.map_err(|error| explain(what, &error))?;
        moves.retain(|moving| moving.removing_broker_ids.contains(&broker));
        progress.draw(summary(&moves));
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
