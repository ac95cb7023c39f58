//! The broker that is measured: one that runs already, or one that is started for it.

use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use clap::Args;
use highwater_client::Client;
use serde::Serialize;
use tempfile::TempDir;
use tokio::task::spawn_blocking;

use super::probe::{self, Limits};
use super::usage::Meter;
use crate::context::Context;
use crate::explain::explain;
use crate::failure::Failure;

/// What failed, in every failure to start.
const CANNOT_START: &str = "cannot start a broker to measure";

/// Which broker.
#[derive(Debug, Clone, Args, Serialize)]
#[group(id = "target_options")]
#[command(next_help_heading = "What is measured")]
pub(crate) struct Options {
    /// Start a broker in a process of its own and measure it, instead of the one at --brokers
    #[arg(long)]
    pub(crate) embedded: bool,

    /// Where the embedded broker keeps its data, and the disk is probed [default: a temporary directory]
    #[arg(long, value_name = "DIR", requires = "embedded")]
    pub(crate) data_dir: Option<PathBuf>,

    /// Do not measure the limits of the disk and of loopback before
    #[arg(long, requires = "embedded")]
    #[serde(skip)]
    pub(crate) no_probe: bool,

    #[command(flatten)]
    #[serde(skip)]
    pub(crate) probe: probe::Options,

    /// Process of the broker at --brokers, on this machine: its processor time and memory are measured
    #[arg(long, value_name = "PID", conflicts_with = "embedded")]
    #[serde(skip)]
    pub(crate) broker_pid: Option<u32>,

    /// Take processor time from the metrics of the brokers at --brokers, such as 127.0.0.1:7412
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', conflicts_with_all = ["embedded", "broker_pid"])]
    #[serde(skip)]
    pub(crate) broker_metrics: Vec<String>,
}

/// A broker that serves.
pub(crate) struct Target {
    /// Connected to it.
    pub(crate) client: Client,
    /// Where its processor time and memory are read.
    pub(crate) meter: Meter,
    /// What the machine can do, where it was measured.
    pub(crate) limits: Option<Limits>,
    embedded: Option<Embedded>,
}

/// A broker in a process of its own; killed when dropped.
struct Embedded {
    process: Child,
    /// Removed after the process has ended.
    _data: Data,
}

/// Where an embedded broker keeps its data.
enum Data {
    Kept(PathBuf),
    /// Removed when dropped.
    Temporary(TempDir),
}

impl Target {
    /// Connects to the broker that the options name; measures the machine and starts a broker first where they say so.
    pub(crate) async fn new(options: &Options, context: &Context) -> Result<Self, Failure> {
        if !options.embedded {
            return Ok(Self {
                client: context.connect("cannot measure").await?,
                meter: match (options.broker_pid, options.broker_metrics.as_slice()) {
                    (Some(id), _) => Meter::Process(id),
                    (None, []) => Meter::None,
                    (None, addresses) => Meter::Metrics(addresses.to_vec()),
                },
                limits: None,
                embedded: None,
            });
        }
        let data = Data::new(options.data_dir.as_deref())?;
        let limits = match options.no_probe {
            true => None,
            false => Some(probe::run(data.path(), &options.probe).await?.limits()),
        };
        Self::start(data, limits).await
    }

    async fn start(data: Data, limits: Option<Limits>) -> Result<Self, Failure> {
        let started = spawn_blocking(|| Embedded::start(data)).await;
        let (embedded, address) = started
            .map_err(io::Error::other)
            .and_then(|started| started)
            .map_err(|error| Failure::new(CANNOT_START, error))?;
        let client = Client::connect(&address)
            .await
            .map_err(|error| explain(CANNOT_START, &error))?;
        Ok(Self {
            client,
            meter: Meter::Process(embedded.process.id()),
            limits,
            embedded: Some(embedded),
        })
    }

    /// Stops an embedded broker cleanly; one that was running already is left alone.
    pub(crate) async fn stop(self) -> Result<(), Failure> {
        let Some(embedded) = self.embedded else {
            return Ok(());
        };
        let stopped = spawn_blocking(|| embedded.stop()).await;
        stopped
            .map_err(io::Error::other)
            .and_then(|stopped| stopped)
            .map_err(|error| Failure::new("the broker did not stop cleanly", error))
    }
}

impl Embedded {
    /// Starts a process and waits until it serves; returns where.
    fn start(data: Data) -> io::Result<(Self, String)> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["bench", "serve", "--data-dir"])
            .arg(data.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C is for the benchmark, which then stops its broker.
            .process_group(0)
            .spawn()?;
        let output = process.stdout.take().expect("stdout is piped");
        let embedded = Self {
            process,
            _data: data,
        };
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        match line.strip_prefix("ready ") {
            Some(address) => Ok((embedded, address.trim_end().to_owned())),
            None => Err(io::Error::other("its process has ended")),
        }
    }

    /// Lets the broker stop by itself.
    fn stop(mut self) -> io::Result<()> {
        drop(self.process.stdin.take());
        match self.process.wait()? {
            status if status.success() => Ok(()),
            status => Err(io::Error::other(status.to_string())),
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // Both fail only when the process has ended. Its directory must not go away under it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Data {
    fn new(directory: Option<&Path>) -> Result<Self, Failure> {
        let made = match directory {
            Some(directory) => {
                std::fs::create_dir_all(directory).map(|()| Self::Kept(directory.to_owned()))
            }
            None => tempfile::Builder::new()
                .prefix("highwater-bench-")
                .tempdir()
                .map(Self::Temporary),
        };
        made.map_err(|error| Failure::new(CANNOT_START, error))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(directory) => directory.path(),
        }
    }
}
