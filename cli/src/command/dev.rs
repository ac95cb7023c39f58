//! `highwater dev`: a broker on this machine, to try things and to develop against.

use std::fmt::Write;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use highwater_broker::{Broker, Config};
use tempfile::TempDir;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::context;
use crate::failure::Failure;

/// Where the data is kept unless something else is said.
const DEFAULT_DATA_DIR: &str = "./highwater-data";

/// Where clients connect unless something else is said; also the default of `--brokers`.
const DEFAULT_LISTEN: &str = "127.0.0.1:7410";

/// What failed, in every failure to start.
const CANNOT_START: &str = "cannot start a broker";

/// Options of `highwater dev`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where to keep the data; made when it is not there
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,

    /// Keep the data in a temporary directory that goes away when the broker stops
    #[arg(long, conflicts_with = "data_dir")]
    ephemeral: bool,

    /// Where clients connect; port 0 takes any free port
    #[arg(long, value_name = "HOST:PORT", default_value = DEFAULT_LISTEN)]
    listen: String,

    /// Number of brokers; more than one comes with a later version
    #[arg(short = 'n', value_name = "COUNT", default_value_t = 1)]
    broker_count: u32,
}

/// Runs a broker until Ctrl-C or SIGTERM.
pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    if options.broker_count != 1 {
        let why = format!("`-n {}` is not supported yet", options.broker_count);
        return Err(Failure::new(CANNOT_START, why).remedy(
            "leave out -n: this version runs a single broker, clusters come with a later one",
        ));
    }
    let mut stop_signals =
        StopSignals::new().map_err(|error| Failure::new("cannot listen for signals", error))?;
    let data = Data::new(&options)?;
    let config = config(&data, resolve(&options.listen).await?);
    let broker = Broker::start(config)
        .await
        .map_err(|error| start_failure(&error))?;

    let address = broker.client_address();
    context::print(&format!("ready {address}\n"))?;
    context::tell(&next_steps(&program(), address));
    stop_signals.next().await;
    tokio::select! {
        () = broker.shutdown() => Ok(()),
        () = stop_signals.next() => Err(Failure::new(
            "stopped before the broker had finished",
            "there was a second signal",
        )
        .remedy("nothing acknowledged is lost; the next start takes a little longer")),
    }
}

/// Where the broker keeps its data.
enum Data {
    Kept(PathBuf),
    /// Removed when dropped.
    Ephemeral(TempDir),
}

impl Data {
    fn new(options: &Options) -> Result<Self, Failure> {
        if !options.ephemeral {
            return Ok(Self::Kept(options.data_dir.clone()));
        }
        tempfile::Builder::new()
            .prefix("highwater-dev-")
            .tempdir()
            .map(Self::Ephemeral)
            .map_err(|error| Failure::new(CANNOT_START, error))
    }

    fn path(&self) -> PathBuf {
        match self {
            Self::Kept(path) => path.clone(),
            Self::Ephemeral(directory) => directory.path().to_owned(),
        }
    }
}

fn config(data: &Data, listen: SocketAddr) -> Config {
    let mut config = Config {
        data_dir: data.path(),
        ..Config::default()
    };
    config.server.client.address = listen.to_string();
    if listen.to_string() != DEFAULT_LISTEN {
        // Several brokers for development can run side by side: only the first one has the well-known ports.
        config.server.http.address = "127.0.0.1:0".into();
    }
    config
}

/// The address that `listen` names.
async fn resolve(listen: &str) -> Result<SocketAddr, Failure> {
    let what = format!("cannot listen on {listen}");
    let mut addresses = tokio::net::lookup_host(listen).await.map_err(|error| {
        Failure::new(&what, error).remedy("use HOST:PORT, such as 127.0.0.1:7410 or localhost:0")
    })?;
    match addresses.next() {
        None => Err(Failure::new(what, "the name has no address")),
        Some(address) if !address.ip().is_loopback() => {
            Err(Failure::new(what, "other machines could reach it").remedy(
                "use an address of this machine alone, such as 127.0.0.1:7410; highwater-broker serves others",
            ))
        }
        Some(address) => Ok(address),
    }
}

/// Adds to the broker's own words what the options of this command can do about it.
fn start_failure(error: &highwater_broker::Error) -> Failure {
    let failure = Failure::new(CANNOT_START, error);
    match error {
        highwater_broker::Error::Listen(source) if source.kind() == ErrorKind::AddrInUse => failure
            .remedy("a broker may run there already: highwater cluster info")
            .remedy("or take any free port: --listen 127.0.0.1:0"),
        highwater_broker::Error::Open { .. } => {
            failure.remedy("or keep the data elsewhere: --data-dir DIR, or --ephemeral")
        }
        _ => failure,
    }
}

/// Ctrl-C and SIGTERM.
struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next of them.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// How the user called this program, so that the commands shown can be pasted.
fn program() -> String {
    std::env::args()
        .next()
        .unwrap_or_else(|| "highwater".into())
}

/// Three commands to try, for a terminal beside the one in which the broker runs.
fn next_steps(program: &str, address: SocketAddr) -> String {
    let brokers = match address.to_string() {
        address if address == DEFAULT_LISTEN => String::new(),
        address => format!(" --brokers {address}"),
    };
    let mut steps = String::from("Try in another terminal, and stop this one with Ctrl-C:\n");
    for (before, arguments) in [
        ("", "topic create greetings"),
        ("echo hello | ", "produce greetings"),
        ("", "consume greetings -o start -e"),
    ] {
        writeln!(steps, "  {before}{program} {arguments}{brokers}")
            .expect("writing to a String cannot fail");
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_steps_can_be_pasted() {
        assert_eq!(
            next_steps("highwater", DEFAULT_LISTEN.parse().unwrap()),
            "Try in another terminal, and stop this one with Ctrl-C:\n\
             \x20 highwater topic create greetings\n\
             \x20 echo hello | highwater produce greetings\n\
             \x20 highwater consume greetings -o start -e\n"
        );
    }

    #[test]
    fn the_next_steps_name_a_broker_that_is_not_the_default() {
        let steps = next_steps(
            "target/release/highwater",
            "127.0.0.1:9999".parse().unwrap(),
        );
        assert!(
            steps.contains(
                "echo hello | target/release/highwater produce greetings --brokers 127.0.0.1:9999\n"
            ),
            "{steps}"
        );
    }

    #[test]
    fn only_the_default_address_takes_the_well_known_http_port() {
        let data = Data::Kept("d".into());
        let well_known = config(&data, DEFAULT_LISTEN.parse().unwrap());
        assert_eq!(well_known.server.http.address, "127.0.0.1:7412");
        let other = config(&data, "127.0.0.1:0".parse().unwrap());
        assert_eq!(other.server.http.address, "127.0.0.1:0");
        assert_eq!(other.server.client.address, "127.0.0.1:0");
    }
}
