//! What can be done with the data directory of a stopped broker: look into it, and accept a loss.

mod recover;

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use highwater_storage::fs::RealFs;
use highwater_storage::{Detail, Repair};

pub(crate) use recover::{Recover, recover};

use crate::Config;
use crate::config::{self, Layers};

/// Which data directory, and how its broker is configured.
#[derive(Debug, Args)]
struct Stopped {
    /// The data directory; without this it is that of the configuration
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// TOML file that the broker is configured by
    #[arg(long, value_name = "FILE", env = "HIGHWATER_CONFIG")]
    config: Option<PathBuf>,
}

/// Options of `inspect`.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    stopped: Stopped,
    /// Show every journal record and every frame, too
    #[arg(long)]
    everything: bool,
}

/// Options of `repair`.
#[derive(Debug, Args)]
pub(crate) struct AcceptLoss {
    #[command(flatten)]
    stopped: Stopped,
    /// Give up what is lost; without this it is only shown
    #[arg(long)]
    accept_loss: bool,
    /// Do not ask
    #[arg(long, requires = "accept_loss")]
    yes: bool,
}

impl Stopped {
    fn config(&self) -> Result<Config, config::Error> {
        // Nothing listens, so where the broker would is of no concern.
        let mut layers =
            Layers::new()
                .environment(std::env::vars_os())
                .flag("--insecure", "insecure", "true");
        if let Some(path) = &self.config {
            layers = layers.file(path);
        }
        if let Some(data_dir) = &self.data_dir {
            layers = layers.flag("--data-dir", "data_dir", data_dir);
        }
        layers.load().map(config::Effective::into_config)
    }
}

/// The command that gives up what the data directory of a stopped broker has lost.
pub(crate) fn repair_command(data_dir: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@%,".contains(&byte);
    let quoted = if !data_dir.is_empty() && data_dir.bytes().all(is_plain) {
        data_dir.to_owned()
    } else {
        format!("'{}'", data_dir.replace('\'', r"'\''"))
    };
    format!("highwater-broker repair --data-dir {quoted} --accept-loss")
}

/// Prints what is in a data directory.
pub(crate) fn inspect(options: &Inspect) -> anyhow::Result<()> {
    let fs = open_directory(&options.stopped.config()?.data_dir)?;
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
    let config = options.stopped.config()?;
    let fs = Arc::new(open_directory(&config.data_dir)?);
    let random = Box::new(rand::random::<u64>);
    let plan = Repair::plan(fs, random, config.storage.to_storage())?;
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
    if !options.yes && !is_confirmed("give up these records for good")? {
        anyhow::bail!("nothing was changed");
    }
    plan.execute()?;
    println!("the loss is accepted: start the broker, readers pass over what is lost");
    Ok(())
}

/// Asks the person at the terminal.
fn is_confirmed(to_do: &str) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        anyhow::bail!("nothing was changed: there is nobody to ask; add --yes to accept the loss");
    }
    print!("Type `yes` to {to_do}: ");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_can_be_pasted_into_a_shell() {
        assert_eq!(
            repair_command("/var/lib/highwater"),
            "highwater-broker repair --data-dir /var/lib/highwater --accept-loss"
        );
        assert_eq!(
            repair_command("it's here"),
            r"highwater-broker repair --data-dir 'it'\''s here' --accept-loss"
        );
    }
}
