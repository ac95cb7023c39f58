//! `highwater dev`: a broker on this machine, or a cluster of several, to try things and to develop against.

mod directory;

use std::fmt::Write;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use directory::Seeds;
use futures::future::{join_all, try_join_all};
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

    /// Keep the data in memory, at most 1 GiB; it goes away when the brokers stop
    #[arg(long, conflicts_with = "data_dir")]
    ephemeral: bool,

    /// Where clients connect, of several brokers to the first; port 0 takes any free port
    #[arg(long, value_name = "HOST:PORT", default_value = DEFAULT_LISTEN)]
    listen: String,

    /// Number of brokers, which form one cluster
    #[arg(short = 'n', value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=9))]
    broker_count: u32,
}

/// Runs the brokers until Ctrl-C or SIGTERM.
pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let mut stop_signals =
        StopSignals::new().map_err(|error| Failure::new("cannot listen for signals", error))?;
    highwater_broker::raise_open_file_limit();
    let listen = resolve(&options.listen).await?;
    let builders = match options.broker_count {
        1 => vec![single(&options, listen)?],
        _ => several(&options, listen)?,
    };
    // They found the cluster together: none of them serves before all have started.
    let starting = try_join_all(builders.into_iter().map(BrokerBuilder::start));
    let brokers = tokio::select! {
        started = starting => started.map_err(|error| start_failure(&error))?,
        () = stop_signals.next() => return Err(Failure::new(CANNOT_START, "there was a signal to stop")),
    };

    let address = brokers.first().map_or("", Broker::address).to_owned();
    context::print(&format!("ready {address}\n"))?;
    context::tell(&others(&brokers));
    context::tell(&next_steps(&program(), &address, brokers.len()));
    stop_signals.next().await;
    tokio::select! {
        _ = join_all(brokers.into_iter().map(Broker::shutdown)) => Ok(()),
        () = stop_signals.next() => Err(Failure::new(
            "stopped before the broker had finished",
            "there was a second signal",
        )
        .remedy("nothing acknowledged is lost; the next start takes a little longer")),
    }
}

fn single(options: &Options, listen: SocketAddr) -> Result<BrokerBuilder, Failure> {
    let builder = if options.ephemeral {
        Broker::builder().memory_limit(EPHEMERAL_BYTES)
    } else {
        directory::check_for_one(&options.data_dir)?;
        Broker::builder().data_dir(&options.data_dir)
    };
    Ok(builder.address(listen).http_address(http_address(listen)))
}

/// The brokers of a cluster. Clients find the first one where they are told, and the others through it.
fn several(options: &Options, listen: SocketAddr) -> Result<Vec<BrokerBuilder>, Failure> {
    let count = options.broker_count;
    let seeds = if options.ephemeral {
        Seeds::free(count)?
    } else {
        Seeds::of(&options.data_dir, count)?
    };
    let builders = seeds.numbered().map(|(number, peer_address)| {
        let builder = if options.ephemeral {
            Broker::builder().memory_limit(EPHEMERAL_BYTES / u64::from(count))
        } else {
            Broker::builder().data_dir(directory::of_broker(&options.data_dir, number))
        };
        let listen = match number {
            1 => listen,
            _ => SocketAddr::new(listen.ip(), 0),
        };
        builder
            .address(listen)
            .http_address(http_address(listen))
            .broker_id(number)
            .peer_address(peer_address)
            .seeds(seeds.text())
    });
    Ok(builders.collect())
}

/// Where the other brokers of a cluster are.
fn others(brokers: &[Broker]) -> String {
    let mut text = String::new();
    for (number, broker) in (1..).zip(brokers).skip(1) {
        writeln!(text, "broker {number} is at {}", broker.address())
            .expect("writing to a String cannot fail");
    }
    text
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

/// Most replicas of the topic that is shown.
const SHOWN_REPLICAS: usize = 3;

/// Three commands to try, for a terminal beside the one in which the brokers run.
fn next_steps(program: &str, address: &str, brokers: usize) -> String {
    let create = match brokers {
        0 | 1 => "topic create greetings".to_owned(),
        _ => format!("topic create greetings -r {}", brokers.min(SHOWN_REPLICAS)),
    };
    let several = brokers > 1;
    let at = match address {
        DEFAULT_LISTEN => String::new(),
        address => format!(" --brokers {address}"),
    };
    let mut steps = String::from("Try in another terminal, and stop this one with Ctrl-C:\n");
    let mut commands = vec![
        ("", create.as_str()),
        ("echo hello | ", "produce greetings"),
        ("", "consume greetings -o start -e"),
    ];
    if several {
        commands.push(("", "topic describe greetings"));
    }
    for (before, arguments) in commands {
        writeln!(steps, "  {before}{program} {arguments}{at}")
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
            next_steps("highwater", DEFAULT_LISTEN, 1),
            "Try in another terminal, and stop this one with Ctrl-C:\n\
             \x20 highwater topic create greetings\n\
             \x20 echo hello | highwater produce greetings\n\
             \x20 highwater consume greetings -o start -e\n"
        );
    }

    #[test]
    fn the_next_steps_name_a_broker_that_is_not_the_default() {
        let steps = next_steps("target/release/highwater", "127.0.0.1:9999", 1);
        assert!(
            steps.contains(
                "echo hello | target/release/highwater produce greetings --brokers 127.0.0.1:9999\n"
            ),
            "{steps}"
        );
    }

    #[test]
    fn a_cluster_is_shown_with_a_replicated_topic() {
        let steps = next_steps("highwater", DEFAULT_LISTEN, 5);
        assert!(steps.contains("topic create greetings -r 3\n"), "{steps}");
        assert!(steps.contains("topic describe greetings\n"), "{steps}");
    }

    #[test]
    fn only_the_default_address_takes_the_well_known_http_port() {
        assert_eq!(http_address(DEFAULT_LISTEN.parse().unwrap()), DEFAULT_HTTP);
        assert_eq!(http_address("127.0.0.1:0".parse().unwrap()), ANY_HTTP);
    }
}
