//! `highwater dev`: a broker on this machine, to try things and to develop against.

use std::fmt::Write;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use highwater_broker::{Broker, BrokerBuilder};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::context;
use crate::failure::Failure;

/// Where the data is kept unless something else is said.
const DEFAULT_DATA_DIR: &str = "./highwater-data";

/// Where clients connect unless something else is said; also the default of `--brokers`.
const DEFAULT_LISTEN: &str = "127.0.0.1:7410";

/// Where probes connect to a broker that clients find at the default address.
const DEFAULT_HTTP: &str = "127.0.0.1:7412";

/// The same for any other broker. Several can run side by side: only the first one has the well-known ports.
const ANY_HTTP: &str = "127.0.0.1:0";

/// The most data that `--ephemeral` keeps, in bytes. Memory is taken as records come.
const EPHEMERAL_BYTES: u64 = 1 << 30;

/// What failed, in every failure to start.
const CANNOT_START: &str = "cannot start a broker";

/// Options of `highwater dev`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where to keep the data; made when it is not there
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,

    /// Keep the data in memory, at most 1 GiB; it goes away when the broker stops
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
    highwater_broker::raise_open_file_limit();
    let builder = builder(&options, resolve(&options.listen).await?);
    let broker = builder
        .start()
        .await
        .map_err(|error| start_failure(&error))?;

    let address = broker.address().to_owned();
    context::print(&format!("ready {address}\n"))?;
    context::tell(&next_steps(&program(), &address));
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

fn builder(options: &Options, listen: SocketAddr) -> BrokerBuilder {
    let builder = if options.ephemeral {
        Broker::builder().memory_limit(EPHEMERAL_BYTES)
    } else {
        Broker::builder().data_dir(&options.data_dir)
    };
    builder.address(listen).http_address(http_address(listen))
}

fn http_address(listen: SocketAddr) -> &'static str {
    if listen.to_string() == DEFAULT_LISTEN {
        DEFAULT_HTTP
    } else {
        ANY_HTTP
    }
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
fn next_steps(program: &str, address: &str) -> String {
    let brokers = match address {
        DEFAULT_LISTEN => String::new(),
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
            next_steps("highwater", DEFAULT_LISTEN),
            "Try in another terminal, and stop this one with Ctrl-C:\n\
             \x20 highwater topic create greetings\n\
             \x20 echo hello | highwater produce greetings\n\
             \x20 highwater consume greetings -o start -e\n"
        );
    }

    #[test]
    fn the_next_steps_name_a_broker_that_is_not_the_default() {
        let steps = next_steps("target/release/highwater", "127.0.0.1:9999");
        assert!(
            steps.contains(
                "echo hello | target/release/highwater produce greetings --brokers 127.0.0.1:9999\n"
            ),
            "{steps}"
        );
    }

    #[test]
    fn only_the_default_address_takes_the_well_known_http_port() {
        assert_eq!(http_address(DEFAULT_LISTEN.parse().unwrap()), DEFAULT_HTTP);
        assert_eq!(http_address("127.0.0.1:0".parse().unwrap()), ANY_HTTP);
    }
}
