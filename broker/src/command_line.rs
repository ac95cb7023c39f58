//! The Highwater broker as a program: flags, configuration file, signals.
//!
//! When it serves, it prints one line `ready HOST:PORT` on stdout, with the address that clients connect to. Everything
//! else it has to say goes to stderr.

use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};
use crate::{Broker, Config, offline};

/// Threads that serve requests when the machine has fewer cores.
const LEAST_WORKER_THREADS: usize = 2;

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
    /// Show what is in the data directory of a stopped broker; changes nothing
    Inspect(offline::Inspect),
    /// Let damaged logs of a stopped broker take records again by giving up what is lost
    Repair(offline::AcceptLoss),
}

/// What can be set by flags; they win over the file.
#[derive(Debug, Args)]
struct Run {
    /// TOML file to configure the broker by
    #[arg(long, value_name = "FILE", env = "HIGHWATER_CONFIG")]
    config: Option<PathBuf>,
    /// Directory that holds everything the broker stores
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where clients connect; port 0 takes any free port
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<String>,
    /// Where probes connect by HTTP; port 0 takes any free port
    #[arg(long, value_name = "IP:PORT")]
    http_listen: Option<String>,
    /// Host and port that clients are told to connect to
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Listen where other machines can connect, without encryption or authentication
    #[arg(long)]
    insecure: bool,
    /// Form of the log lines on stderr
    #[arg(long, value_name = "text|json")]
    log_format: Option<String>,
    /// Least level to log: error, warn, info, debug, trace, or directives
    #[arg(long, value_name = "LEVEL", env = "HIGHWATER_LOG")]
    log_level: Option<String>,
    /// Any key of the configuration; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    assignments: Vec<String>,
    /// Print the configuration that these flags and files make, and exit
    #[arg(long)]
    print_config: bool,
}

/// Runs the program with the arguments of this process.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        None => run(&arguments.run),
        Some(Command::Run(options)) => run(&options),
        Some(Command::Inspect(options)) => offline::inspect(&options),
        Some(Command::Repair(options)) => {
            start_logging(&LogConfig::default()).and_then(|()| offline::repair(&options))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Run) -> anyhow::Result<()> {
    let config = load(options)?;
    if options.print_config {
        print!("{}", config.to_toml());
        return Ok(());
    }
    config.validate()?;
    start_logging(&config.log)?;
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
    runtime.block_on(serve(config))
}

/// Serves until SIGTERM or SIGINT. A second signal ends the process at once: what was acknowledged is safe, and the
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
    let broker = tokio::select! {
        started = Broker::start(config) => started?,
        () = stop() => return Ok(()),
    };
    print_ready(broker.addresses().client)?;
    stop().await;
    tokio::select! {
        () = broker.shutdown() => Ok(()),
        () = stop() => anyhow::bail!("stopped by a second signal before everything had ended"),
    }
}

/// Tells whoever started the program where it serves. A broker whose stdout is closed serves all the same.
fn print_ready(address: SocketAddr) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "ready {address}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to stdout")
        }
        _ => Ok(()),
    }
}

/// The configuration by file and flags.
fn load(options: &Run) -> anyhow::Result<Config> {
    let mut config = Config::load(options.config.as_deref(), &options.assignments)?;
    let set = |target: &mut String, value: &Option<String>| {
        if let Some(value) = value {
            target.clone_from(value);
        }
    };
    if let Some(data_dir) = &options.data_dir {
        config.data_dir.clone_from(data_dir);
    }
    set(&mut config.server.client.address, &options.listen);
    set(&mut config.server.http.address, &options.http_listen);
    set(&mut config.server.client.advertised, &options.advertise);
    set(&mut config.log.level, &options.log_level);
    config.insecure |= options.insecure;
    match options.log_format.as_deref() {
        None => {}
        Some("text") => config.log.format = LogFormat::Text,
        Some("json") => config.log.format = LogFormat::Json,
        Some(other) => anyhow::bail!("--log-format is {other:?}: it must be text or json"),
    }
    Ok(config)
}

fn start_logging(config: &LogConfig) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.level)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match config.format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}
