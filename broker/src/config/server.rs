//! Listeners, HTTP/2 and logging.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::check::{Bound, Check};
use super::named_listener::{self, NAMED_LISTENERS, NamedListener};
use super::setting::settings;
use super::tls::TlsConfig;

settings! {
    /// Where and how the broker listens.
    pub struct ServerConfig {
        /// gRPC for clients.
        pub client: ListenerConfig = ListenerConfig::default(),
        /// gRPC for the other brokers of the cluster.
        pub peer: PeerListenerConfig = PeerListenerConfig::default(),
        /// HTTP for probes.
        pub http: HttpListenerConfig = HttpListenerConfig::default(),
        /// Certificates and keys, for the listeners that have `tls = true`. `highwater tls dev-ca` makes some to try it.
        pub tls: TlsConfig = TlsConfig::default(),
        /// HTTP/2 of the client listener.
        pub http2: Http2Config = Http2Config::default(),
        /// A client that does not read an answer for this long loses its connection: it holds memory that others need.
        pub stall_timeout_ms: u32 = 60_000,
        /// How long a stop waits for requests in flight before it cuts them off. Below what a supervisor waits before it kills.
        pub shutdown_grace_ms: u32 = 10_000,
        /// Threads that serve requests; 0: one per core, at least 2.
        pub worker_threads: usize = 0,
    }
}

settings! {
    /// The listener for clients.
    pub struct ListenerConfig {
        /// IP address and port; port 0 takes any free one.
        pub address: String = "127.0.0.1:7410".to_owned(),
        /// Host and port that clients are told to use; empty: the address that was bound. Needed where clients reach the broker
        /// by another name or through a proxy.
        pub advertised: String = String::new(),
        /// Further listeners, as `NAME=IP:PORT@HOST:PORT,...`: where some clients reach the brokers by other addresses than the
        /// rest, such as from outside of a container network. Who came in by a listener is told the addresses of that name at
        /// all brokers, what stands behind the `@` (without it: the address that was bound).
        pub named: String = String::new(),
        /// Takes connections with TLS only, here and at the named listeners (`server.tls`).
        pub tls: bool = false,
        /// Connections at once at each of these listeners; further ones are closed. Each can hold a window of unread bytes.
        pub max_connections: usize = 1024,
    }
}

settings! {
    /// The listener for the other brokers of the cluster.
    pub struct PeerListenerConfig {
        /// IP address and port; port 0 takes any free one.
        pub address: String = "127.0.0.1:7411".to_owned(),
        /// Host and port that other brokers are told to use; empty: the address that was bound. Needed where they reach this
        /// broker by another name.
        pub advertised: String = String::new(),
        /// Takes connections with TLS only, from brokers that show a certificate of theirs, and connects to the others in the
        /// same way (`server.tls`). All brokers of a cluster have it or none has.
        pub tls: bool = false,
        /// Connections at once; further ones are closed. Each other broker needs two.
        pub max_connections: usize = 256,
    }
}

settings! {
    /// The listener for probes.
    pub struct HttpListenerConfig {
        /// IP address and port; port 0 takes any free one.
        pub address: String = "127.0.0.1:7412".to_owned(),
        /// Takes connections with TLS only (`server.tls`).
        pub tls: bool = false,
        /// Connections at once; further ones are closed. Probes need few.
        pub max_connections: usize = 64,
    }
}

/// What an address to listen at must be.
const SOCKET_ADDRESS: &str =
    "an IP address and a port, such as 127.0.0.1:7410 (port 0: any free one)";
/// What an address to tell clients must be.
const HOST_AND_PORT: &str = "empty, or a host and a port, such as broker-1.example.com:7410";

const NEEDS_CERTIFICATE: &str =
    "true, false; true only with `server.tls.certificate` and `server.tls.key`";
const NEEDS_PEER_CA: &str = "true, false; true only with `server.tls.certificate`, `server.tls.key` and `server.tls.peer_ca`";

impl ServerConfig {
    pub(super) fn check(&self, check: &mut Check, insecure: bool) {
        check_address(
            check,
            "server.client.address",
            &self.client.address,
            insecure,
        );
        let named = named_listener::parse_all(&self.client.named);
        check.that(
            "server.client.named",
            format_args!("{:?}", self.client.named),
            named.is_some(),
            NAMED_LISTENERS,
        );
        for listener in named.unwrap_or_default() {
            check_reach(check, "server.client.named", listener.address, insecure);
        }
        check_address(check, "server.peer.address", &self.peer.address, insecure);
        check_address(check, "server.http.address", &self.http.address, insecure);
        for (key, advertised) in [
            ("server.client.advertised", &self.client.advertised),
            ("server.peer.advertised", &self.peer.advertised),
        ] {
            check.that(
                key,
                format_args!("{advertised:?}"),
                advertised.is_empty() || split_host_port(advertised).is_some(),
                HOST_AND_PORT,
            );
        }
        check.within(
            "server.client.max_connections",
            self.client.max_connections,
            1,
            1 << 20,
        );
        check.within(
            "server.peer.max_connections",
            self.peer.max_connections,
            1,
            1 << 20,
        );
        check.within(
            "server.http.max_connections",
            self.http.max_connections,
            1,
            1 << 20,
        );
        check.within(
            "server.stall_timeout_ms",
            self.stall_timeout_ms,
            100,
            3_600_000,
        );
        check.within(
            "server.shutdown_grace_ms",
            self.shutdown_grace_ms,
            1,
            600_000,
        );
        check.within("server.worker_threads", self.worker_threads, 0, 1024);
        self.check_tls(check);
        self.http2.check(check);
    }

    fn check_tls(&self, check: &mut Check) {
        self.tls.check(check);
        let has_identity =
            !self.tls.certificate.as_os_str().is_empty() && !self.tls.key.as_os_str().is_empty();
        let has_peer_ca = !self.tls.peer_ca.as_os_str().is_empty();
        for (key, is_on, can_be) in [
            ("server.client.tls", self.client.tls, has_identity),
            (
                "server.peer.tls",
                self.peer.tls,
                has_identity && has_peer_ca,
            ),
            ("server.http.tls", self.http.tls, has_identity),
        ] {
            let needed = if key == "server.peer.tls" {
                NEEDS_PEER_CA
            } else {
                NEEDS_CERTIFICATE
            };
            check.that(key, is_on, !is_on || can_be, needed);
        }
    }
}

impl ListenerConfig {
    /// Host and port that clients are told to use, given what was bound.
    #[must_use]
    pub fn advertised_or(&self, bound: SocketAddr) -> (String, u16) {
        advertised_or(&self.advertised, bound)
    }

    /// The further listeners; none where the value is not valid.
    #[must_use]
    pub fn named(&self) -> Vec<NamedListener> {
        named_listener::parse_all(&self.named).unwrap_or_default()
    }
}

impl PeerListenerConfig {
    /// Host and port that other brokers are told to use, given what was bound.
    #[must_use]
    pub fn advertised_or(&self, bound: SocketAddr) -> (String, u16) {
        advertised_or(&self.advertised, bound)
    }
}

fn advertised_or(advertised: &str, bound: SocketAddr) -> (String, u16) {
    split_host_port(advertised).unwrap_or_else(|| (bound.ip().to_string(), bound.port()))
}

fn check_address(check: &mut Check, key: &'static str, text: &str, insecure: bool) {
    let address = text.parse::<SocketAddr>();
    check.that(
        key,
        format_args!("{text:?}"),
        address.is_ok(),
        SOCKET_ADDRESS,
    );
    if let Ok(address) = address {
        check_reach(check, key, address, insecure);
    }
}

/// Checks that only this machine can reach the address, unless that was allowed.
fn check_reach(check: &mut Check, key: &'static str, address: SocketAddr, insecure: bool) {
    if !address.ip().is_loopback() && !insecure {
        let reason = "other machines could reach it, and clients are not authenticated yet: use a \
                      loopback address, or allow it with --insecure (key `insecure`) where the network is trusted";
        check.wrong(key, address, reason.to_owned());
    }
}

pub(super) fn split_host_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

settings! {
    /// HTTP/2 settings of the client listener.
    pub struct Http2Config {
        /// Bytes a client may send on one stream before the broker has read them. Fixed, and large enough that a produce
        /// stream over a link of 1 ms and 10 Gbit/s is not held up.
        pub stream_window_bytes: u32 = 4 << 20,
        /// The same for all streams of a connection together: what one connection can make the broker hold unread.
        pub connection_window_bytes: u32 = 8 << 20,
        /// Streams (requests) at once on one connection, so that one client cannot take all of a broker.
        pub max_concurrent_streams: u32 = 256,
        /// Silence after which the broker asks whether the client is still there. A dead one holds its streams until then.
        pub keepalive_interval_ms: u32 = 20_000,
        /// Silence after that question that ends the connection. Long enough for a client that collects garbage.
        pub keepalive_timeout_ms: u32 = 20_000,
        /// Bytes of all metadata (headers) of a request, as HTTP/2 counts them. Clients of Highwater send some hundred.
        pub max_metadata_bytes: u32 = 16 << 10,
    }
}

impl Http2Config {
    fn check(&self, check: &mut Check) {
        const LARGEST_WINDOW_BYTES: u64 = (1 << 31) - 1; // RFC 9113, 6.9.1
        check.within(
            "server.http2.stream_window_bytes",
            self.stream_window_bytes,
            65_535,
            LARGEST_WINDOW_BYTES,
        );
        check.within(
            "server.http2.connection_window_bytes",
            self.connection_window_bytes,
            Bound::of("server.http2.stream_window_bytes", self.stream_window_bytes),
            LARGEST_WINDOW_BYTES,
        );
        check.within(
            "server.http2.max_concurrent_streams",
            self.max_concurrent_streams,
            1,
            1 << 16,
        );
        check.within(
            "server.http2.keepalive_interval_ms",
            self.keepalive_interval_ms,
            100,
            3_600_000,
        );
        check.within(
            "server.http2.keepalive_timeout_ms",
            self.keepalive_timeout_ms,
            100,
            3_600_000,
        );
        check.within(
            "server.http2.max_metadata_bytes",
            self.max_metadata_bytes,
            1024,
            1 << 20,
        );
    }
}

settings! {
    /// What the process writes about itself, on stderr.
    pub struct LogConfig {
        /// Lines for people (`text`) or objects for programs (`json`).
        pub format: LogFormat = LogFormat::Text,
        /// Least level to write: error, warn, info, debug or trace; or directives such as
        /// `info,highwater_broker::service=debug`.
        pub level: String = "info".to_owned(),
    }
}

/// Form of a line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogConfig {
    pub(super) fn check(&self, check: &mut Check) {
        check.that(
            "log.level",
            format_args!("{:?}", self.level),
            tracing_subscriber::EnvFilter::try_new(&self.level).is_ok(),
            "error, warn, info, debug, trace, or directives of `tracing`",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advertised_address_wins_over_the_bound_one() {
        let mut listener = ServerConfig::default().client;
        let bound = "127.0.0.1:40000".parse().unwrap();
        assert_eq!(
            listener.advertised_or(bound),
            ("127.0.0.1".to_owned(), 40000)
        );
        listener.advertised = "broker-1.example.com:7410".to_owned();
        assert_eq!(
            listener.advertised_or(bound),
            ("broker-1.example.com".to_owned(), 7410)
        );
        listener.advertised = "[::1]:7410".to_owned();
        assert_eq!(listener.advertised_or(bound), ("::1".to_owned(), 7410));
        listener.advertised = "nowhere".to_owned();
        assert_eq!(split_host_port(&listener.advertised), None);
    }
}
