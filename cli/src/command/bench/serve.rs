//! The broker of an embedded benchmark: a process of its own, so that its processor time and memory are its own.
//!
//! It serves until its stdin ends. That happens also when the benchmark is killed, so none is left behind.

use std::path::PathBuf;

use clap::Args;
use highwater_broker::{Broker, Config};
use tokio::io::AsyncReadExt;

use crate::context;
use crate::failure::Failure;

/// Options of `highwater bench serve`, which no user is shown.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where to keep the data
    #[arg(long)]
    data_dir: PathBuf,
}

/// Runs a broker on free ports; prints `ready HOST:PORT` when it serves.
pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let mut config = Config {
        data_dir: options.data_dir,
        ..Config::default()
    };
    config.server.client.address = "127.0.0.1:0".into();
    config.server.peer.address = "127.0.0.1:0".into();
    config.server.http.address = "127.0.0.1:0".into();
    highwater_broker::raise_open_file_limit();
    let broker = Broker::start(config)
        .await
        .map_err(|error| Failure::new("cannot start a broker", error))?;
    context::print(&format!("ready {}\n", broker.address()))?;
    let mut nothing = Vec::new();
    // An error ends it as well as an end does: there is nobody left.
    let _ = tokio::io::stdin().read_to_end(&mut nothing).await;
    broker.shutdown().await;
    Ok(())
}
