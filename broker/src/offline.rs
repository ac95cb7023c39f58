//! What can be done with the data directory of a stopped broker: look into it, and accept a loss.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use highwater_storage::fs::RealFs;
use highwater_storage::{Detail, Repair};

/// Options of `inspect`.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The data directory
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Show every journal record and every frame, too
    #[arg(long)]
    everything: bool,
}

/// Options of `repair`.
#[derive(Debug, Args)]
pub(crate) struct AcceptLoss {
    /// The data directory
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Give up what is lost; without this it is only shown
    #[arg(long)]
    accept_loss: bool,
    /// Do not ask
    #[arg(long, requires = "accept_loss")]
    yes: bool,
}

/// Prints what is in a data directory.
pub(crate) fn inspect(options: &Inspect) -> anyhow::Result<()> {
    let fs = open_directory(&options.data_dir)?;
    let detail = if options.everything {
        Detail::Everything
    } else {
        Detail::Summary
    };
    let mut report = String::new();
    highwater_storage::inspect(&fs, detail, &mut report)?;
    std::io::stdout().write_all(report.as_bytes())?;
    Ok(())
}

/// Shows what is lost, and gives it up where that is asked for and confirmed.
pub(crate) fn repair(options: &AcceptLoss) -> anyhow::Result<()> {
    let fs = Arc::new(open_directory(&options.data_dir)?);
    let random = Box::new(rand::random::<u64>);
    let plan = Repair::plan(fs, random, highwater_storage::Config::default())?;
    if plan.findings().is_empty() {
        println!("nothing is lost: there is nothing to repair");
        return Ok(());
    }
    for finding in plan.findings() {
        println!("{finding}");
    }
    if !options.accept_loss {
        anyhow::bail!(
            "nothing was changed; to go on without what is lost, run this again with --accept-loss"
        );
    }
    if !options.yes && !is_confirmed()? {
        anyhow::bail!("nothing was changed");
    }
    plan.execute()?;
    println!("the loss is accepted: start the broker, readers pass over what is lost");
    Ok(())
}

/// Asks the person at the terminal.
fn is_confirmed() -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        anyhow::bail!("nothing was changed: there is nobody to ask; add --yes to accept the loss");
    }
    print!("Type `yes` to give up these records for good: ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

/// The data directory of a stopped broker.
fn open_directory(path: &Path) -> anyhow::Result<RealFs> {
    anyhow::ensure!(
        path.join("identity").is_file(),
        "{} is not the data directory of a broker",
        path.display()
    );
    Ok(RealFs::new(path)?)
}
