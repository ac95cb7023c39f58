//! The Highwater broker as a program: flags, configuration file, signals.
//!
//! When it serves, it prints one line `ready HOST:PORT` on stdout, with the address that clients connect to. Everything
//! else it has to say goes to stderr.

use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tracing::Subscriber;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::{self, Effective, Layers, LogConfig, LogFormat};
use crate::{Broker, Config, Error, offline};

/// Threads that serve requests when the machine has fewer cores.
const LEAST_WORKER_THREADS: usize = 2;

/// Exit status of a broker that the cluster has removed: to start it again is of no use. 2 is that of a wrong command line.
const REMOVED_STATUS: u8 = 3;

/// The Highwater event broker.
#[derive(Debug, Parser)]
#[command(
    name = "highwater-broker",
    version,
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a broker (this is also what happens without a subcommand)
    Run(Run),
    /// Check or show the configuration without starting a broker
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Show what is in the data directory of a stopped broker; changes nothing
    Inspect(offline::Inspect),
    /// Let damaged logs of a stopped broker take records again by giving up what is lost
    Repair(offline::AcceptLoss),
    /// Let the controller begin again with a stopped broker, when the majority of the controllers is lost for good
    Recover(offline::Recover),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say everything that is wrong with the configuration
    Check(Run),
    /// Print every value in force and where it comes from
    Print {
        #[command(flatten)]
        run: Run,
        /// TOML that can be used as a file again, or a JSON array
        #[arg(long, value_enum, default_value_t = PrintFormat::Toml)]
        format: PrintFormat,
    },
    /// Print what each key is for, with its default, unit and range, as Markdown
    Reference,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PrintFormat {
    Toml,
    Json,
}

/// What can be set by flags; they win over environment and file.
#[derive(Debug, Args)]
struct Run {
    /// TOML file to configure the broker by
    #[arg(long, value_name = "FILE", env = "HIGHWATER_CONFIG")]
    config: Option<PathBuf>,
    /// Number of this broker, from 1; another for each broker of a cluster
    #[arg(long, value_name = "N")]
    node_id: Option<String>,
    /// Directory that holds everything the broker stores
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where clients connect; port 0 takes any free port
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<String>,
    /// Where the other brokers of the cluster connect; port 0 takes any free port
    #[arg(long, value_name = "IP:PORT")]
    peer_listen: Option<String>,
    /// The brokers that found the cluster, by their addresses for brokers; the same on each of them
    #[arg(long, value_name = "N@HOST:PORT,..")]
    seeds: Option<String>,
    /// Where probes connect by HTTP; port 0 takes any free port
    #[arg(long, value_name = "IP:PORT")]
    http_listen: Option<String>,
    /// Host and port that clients are told to connect to
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Host and port that other brokers are told to connect to
    #[arg(long, value_name = "HOST:PORT")]
    peer_advertise: Option<String>,
    /// Listen where other machines can connect, without encryption or authentication
    #[arg(long)]
    insecure: bool,
    /// Form of the log lines on stderr
    #[arg(long, value_name = "text|json")]
    log_format: Option<String>,
    /// Least level to log: error, warn, info, debug, trace, or directives
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Any key of the configuration; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_assignment)]
    assignments: Vec<(String, String)>,
}

impl Run {
    /// The configuration by defaults, file, environment and flags.
    fn load(&self) -> Result<Effective, config::Error> {
        let mut layers = Layers::new().environment(std::env::vars_os());
        if let Some(path) = &self.config {
            layers = layers.file(path);
        }
        for (key, value) in &self.assignments {
            layers = layers.flag("--set", key, value);
        }
        let flags = [
            ("--node-id", "broker_id", &self.node_id),
            ("--data-dir", "data_dir", &self.data_dir),
            ("--listen", "server.client.address", &self.listen),
            ("--peer-listen", "server.peer.address", &self.peer_listen),
            (
                "--peer-advertise",
                "server.peer.advertised",
                &self.peer_advertise,
            ),
            ("--seeds", "cluster.seeds", &self.seeds),
            ("--http-listen", "server.http.address", &self.http_listen),
            ("--advertise", "server.client.advertised", &self.advertise),
            ("--log-format", "log.format", &self.log_format),
            ("--log-level", "log.level", &self.log_level),
        ];
        for (flag, key, value) in flags {
            if let Some(value) = value {
                layers = layers.flag(flag, key, value);
            }
        }
        if self.insecure {
            layers = layers.flag("--insecure", "insecure", "true");
        }
        layers.load()
    }
}

fn parse_assignment(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text
        .split_once('=')
        .ok_or("it must be KEY=VALUE, such as fetch.max_bytes=1048576")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

/// Runs the program with the arguments of this process.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        None => run(&arguments.run),
        Some(Command::Run(options)) => run(&options),
        Some(Command::Config(command)) => configure(&command),
        Some(Command::Inspect(options)) => offline::inspect(&options),
        Some(Command::Repair(options)) => {
            start_logging(&LogConfig::default()).and_then(|()| offline::repair(&options))
        }
        Some(Command::Recover(options)) => {
            start_logging(&LogConfig::default()).and_then(|()| offline::recover(&options))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            match error.downcast_ref() {
                Some(Error::Removed { .. }) => ExitCode::from(REMOVED_STATUS),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn configure(command: &ConfigCommand) -> anyhow::Result<()> {
    let text = match command {
        ConfigCommand::Check(run) => {
            let count = run.load()?.set_count();
            format!("the configuration is valid; keys set: {count}\n")
        }
        ConfigCommand::Print { run, format } => match format {
            PrintFormat::Toml => run.load()?.to_toml(),
            PrintFormat::Json => run.load()?.to_json(),
        },
        ConfigCommand::Reference => config::reference(),
    };
    print(&text)
}

fn run(options: &Run) -> anyhow::Result<()> {
    let config = options.load()?.into_config();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = match config.server.worker_threads {
        0 => cores.max(LEAST_WORKER_THREADS),
        threads => threads,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("serve")
        .enable_all()
        .build()
        .context("cannot start the threads that serve requests")?;
    #[cfg(feature = "otlp")]
    if !config.otlp.endpoint.is_empty() {
        return run_traced(&runtime, config);
    }
    start_logging(&config.log)?;
    runtime.block_on(serve(config))
}

/// Serves, and exports the spans of calls meanwhile.
#[cfg(feature = "otlp")]
fn run_traced(runtime: &tokio::runtime::Runtime, config: Config) -> anyhow::Result<()> {
    let exporter = {
        let _entered = runtime.enter();
        crate::otlp::Exporter::start(&config)?
    };
    tracing_subscriber::registry()
        .with(exporter.layer())
        .with(lines(&config.log)?)
        .init();
    let served = runtime.block_on(serve(config));
    exporter.stop();
    served
}

/// Serves until SIGTERM or SIGINT, or until the cluster has removed the broker. A second signal ends the process at once: what was acknowledged is safe, and the
/// next start takes a little longer.
async fn serve(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut stop = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    crate::raise_open_file_limit();
    let removed = Error::removed(&config);
    let broker = tokio::select! {
        started = Broker::start(config) => started?,
        () = stop() => return Ok(()),
    };
    print_ready(broker.address())?;
    let ended = tokio::select! {
        () = stop() => Ok(()),
        () = broker.removed() => Err(removed.into()),
    };
    tokio::select! {
        () = broker.shutdown() => ended,
        () = stop() => anyhow::bail!("stopped by a second signal before everything had ended"),
    }
}

/// Tells whoever started the program where it serves. A broker whose stdout is closed serves all the same.
fn print_ready(address: &str) -> anyhow::Result<()> {
    print(&format!("ready {address}\n"))
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to stdout")
        }
        _ => Ok(()),
    }
}

fn start_logging(config: &LogConfig) -> anyhow::Result<()> {
    tracing_subscriber::registry().with(lines(config)?).init();
    Ok(())
}

/// What writes the log.
fn lines<S>(config: &LogConfig) -> anyhow::Result<impl Layer<S> + use<S>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let filter = EnvFilter::try_new(&config.level)?;
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let lines = match config.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    Ok(lines.with_filter(filter))
}
