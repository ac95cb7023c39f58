//! Leaving behind a controller whose majority is lost for good.

use std::sync::Arc;

use clap::Args;
use highwater_storage::{Opened, Part, Store, Succession};
use uuid::Uuid;

use super::{Stopped, is_confirmed, open_directory};
use crate::controller::{ControllerLogs, is_controller_log};
use crate::raft::Members;

/// Options of `recover`.
#[derive(Debug, Args)]
pub(crate) struct Recover {
    #[command(flatten)]
    stopped: Stopped,
    /// Let the controller begin again with this broker, as another cluster; without this it is only shown what that would lose
    #[arg(long, conflicts_with = "follow")]
    accept_loss: bool,
    /// Have this broker follow another one that began again as this cluster
    #[arg(long, value_name = "CLUSTER")]
    follow: Option<Uuid>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Shows what the cluster would go on with, and has that happen at the next start where it is asked for and confirmed.
pub(crate) fn recover(options: &Recover) -> anyhow::Result<()> {
    let config = options.stopped.config()?;
    let fs = Arc::new(open_directory(&config.data_dir)?);
    let opened = Store::open(
        fs,
        Box::new(rand::random::<u64>),
        config.storage.to_storage(),
    )?;
    let Opened {
        store,
        logs,
        identity,
        ..
    } = opened;
    let own = identity.cluster.ok_or_else(|| {
        anyhow::anyhow!("the data directory belongs to no cluster: there is nothing to recover")
    })?;
    let controller = logs.into_iter().filter(is_controller_log).collect();
    let controller = ControllerLogs::of(controller);
    println!("{}", summary(own, &controller)?);
    if let Some(cluster) = options.follow {
        anyhow::ensure!(
            cluster != own,
            "the data directory belongs to cluster {cluster} already"
        );
        if !options.yes && !is_confirmed("leave its cluster for the other one for good")? {
            anyhow::bail!("nothing was changed");
        }
        let part = Part::Follows;
        store.prepare_succession(Succession { cluster, part })?;
        println!(
            "start the broker: it asks the seeds to take it into cluster {cluster}, with the partitions that it holds"
        );
        return Ok(());
    }
    if let Some(damage) = controller.damage {
        anyhow::bail!(
            "the controller's log here cannot be used, so the cluster cannot go on with it: {damage}"
        );
    }
    if !options.accept_loss {
        anyhow::bail!(
            "nothing was changed; to go on with what this broker knows, run this again with --accept-loss"
        );
    }
    if !options.yes && !is_confirmed("give up what the others acknowledged after that for good")? {
        anyhow::bail!("nothing was changed");
    }
    // Asked twice, the cluster that was announced first stays.
    let cluster = match store.succession()? {
        Some(known) if known.part == Part::Begins => known.cluster,
        _ => Uuid::new_v4(),
    };
    let part = Part::Begins;
    store.prepare_succession(Succession { cluster, part })?;
    println!(
        "start the broker: the cluster goes on as {cluster}. For each other broker that is to take part, stop it, and run \
         `highwater-broker recover --data-dir DIR --follow {cluster}` before it starts again"
    );
    Ok(())
}

/// What this broker knows, and what that may lack.
fn summary(own: Uuid, logs: &ControllerLogs) -> anyhow::Result<String> {
    let Some(newest) = &logs.newest else {
        return Ok(format!(
            "cluster {own}: there is no log of the controller here"
        ));
    };
    let log = &newest.log;
    let last = log.last_index();
    let term = log.term_at(last)?.unwrap_or(newest.applied.term);
    let members = Members::as_of(&newest.applied);
    let brokers = logs.registrations.brokers();
    let (voters, others): (Vec<_>, Vec<_>) =
        brokers.partition(|broker| members.voters.contains(&broker.controller_replica));
    let numbers = |brokers: Vec<&crate::controller::Broker>| {
        let ids: Vec<_> = brokers.iter().map(|broker| broker.id.to_string()).collect();
        if ids.is_empty() {
            "none".to_owned()
        } else {
            ids.join(", ")
        }
    };
    Ok(format!(
        "cluster {own}: the controller's log here ends with entry {last} of term {term}\n\
         controllers: brokers {}; other brokers: {}\n\
         What other controllers acknowledged after that entry is lost: topics that were created, changed or deleted since, replicas that \
         were moved, brokers that came or went. Of several brokers that are left, go on with the one whose entry has the highest term, and of \
         these the highest number. Stop all others first, and never start one again that does not follow: together they could still be \
         the old cluster.",
        numbers(voters),
        numbers(others)
    ))
}
