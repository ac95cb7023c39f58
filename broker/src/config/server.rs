//! Listeners, HTTP/2 and logging.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{Error, address, within, wrong};

/// Where and how the broker listens.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// gRPC for clients.
    pub client: ListenerConfig,
    /// HTTP for probes.
    pub http: ListenerConfig,
    /// HTTP/2 of the client listener.
    pub http2: Http2Config,
    /// A client that does not read an answer for this long loses its connection: it holds memory that others need.
    pub stall_timeout_ms: u32,
    /// How long a stop waits for requests in flight before it cuts them off.
    pub shutdown_grace_ms: u32,
    /// Threads that serve requests; 0: one per core, at least 2.
    pub worker_threads: usize,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            client: ListenerConfig {
                address: "127.0.0.1:7410".to_owned(),
                advertised: String::new(),
                max_connections: 1024,
            },
            http: ListenerConfig {
                address: "127.0.0.1:7412".to_owned(),
                advertised: String::new(),
                max_connections: 64,
            },
            http2: Http2Config::default(),
            stall_timeout_ms: 60_000,
            shutdown_grace_ms: 10_000,
            worker_threads: 0,
        }
    }
}

impl ServerConfig {
    pub(super) fn validate(&self, insecure: bool) -> Result<(), Error> {
        let listeners = [
            ("server.client.address", &self.client),
            ("server.http.address", &self.http),
        ];
        for (key, listener) in listeners {
            let address = address(key, &listener.address)?;
            if !address.ip().is_loopback() && !insecure {
                return Err(wrong(
                    key,
                    address,
                    "other machines could reach it, and there is neither encryption nor authentication yet: \
                     use a loopback address, or allow it with --insecure (key `insecure`) where the network is trusted",
                ));
            }
        }
        within(
            "server.client.max_connections",
            self.client.max_connections,
            1,
            1 << 20,
        )?;
        within(
            "server.http.max_connections",
            self.http.max_connections,
            1,
            1 << 20,
        )?;
        within(
            "server.stall_timeout_ms",
            self.stall_timeout_ms,
            100,
            3_600_000,
        )?;
        within(
            "server.shutdown_grace_ms",
            self.shutdown_grace_ms,
            1,
            600_000,
        )?;
        within("server.worker_threads", self.worker_threads, 0, 1024)?;
        self.client
            .validate_advertised("server.client.advertised")?;
        self.http2.validate()
    }
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerConfig {
    /// IP address and port; port 0 takes any free one.
    pub address: String,
    /// Host and port that clients are told to use; empty: the address that was bound.
    pub advertised: String,
    /// Connections at once; further ones are closed. Each can hold a window of unread bytes.
    pub max_connections: usize,
}

impl ListenerConfig {
    /// The address to bind.
    ///
    /// # Errors
    /// [`Error::Value`] when it is none.
    pub fn socket_address(&self, key: &'static str) -> Result<SocketAddr, Error> {
        address(key, &self.address)
    }

    /// Host and port that clients are told to use, given what was bound.
    #[must_use]
    pub fn advertised_or(&self, bound: SocketAddr) -> (String, u16) {
        split_host_port(&self.advertised).unwrap_or_else(|| (bound.ip().to_string(), bound.port()))
    }

    fn validate_advertised(&self, key: &'static str) -> Result<(), Error> {
        if !self.advertised.is_empty() && split_host_port(&self.advertised).is_none() {
            return Err(wrong(
                key,
                format!("{:?}", self.advertised),
                "it must be a host and a port, such as broker-1.example.com:7410",
            ));
        }
        Ok(())
    }
}

fn split_host_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

/// HTTP/2 settings of the client listener.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http2Config {
    /// Bytes a client may send on one stream before the broker has read them. Fixed, and large enough that a produce
    /// stream over a link of 1 ms and 10 Gbit/s is not held up.
    pub stream_window_bytes: u32,
    /// The same for all streams of a connection together: what one connection can make the broker hold unread.
    pub connection_window_bytes: u32,
    /// Streams (requests) at once on one connection.
    pub max_concurrent_streams: u32,
    /// Silence after which the broker asks whether the client is still there.
    pub keepalive_interval_ms: u32,
    /// Silence after that question that ends the connection.
    pub keepalive_timeout_ms: u32,
    /// Bytes of all metadata (headers) of a request, as HTTP/2 counts them.
    pub max_metadata_bytes: u32,
}

impl Default for Http2Config {
    fn default() -> Self {
        Self {
            stream_window_bytes: 4 << 20,
            connection_window_bytes: 8 << 20,
            max_concurrent_streams: 256,
            keepalive_interval_ms: 20_000,
            keepalive_timeout_ms: 20_000,
            max_metadata_bytes: 16 << 10,
        }
    }
}

impl Http2Config {
    fn validate(&self) -> Result<(), Error> {
        const LARGEST_WINDOW_BYTES: u32 = (1 << 31) - 1; // RFC 9113, 6.9.1
        within(
            "server.http2.stream_window_bytes",
            self.stream_window_bytes,
            65_535,
            LARGEST_WINDOW_BYTES,
        )?;
        within(
            "server.http2.connection_window_bytes",
            self.connection_window_bytes,
            self.stream_window_bytes,
            LARGEST_WINDOW_BYTES,
        )?;
        within(
            "server.http2.max_concurrent_streams",
            self.max_concurrent_streams,
            1,
            1 << 16,
        )?;
        within(
            "server.http2.keepalive_interval_ms",
            self.keepalive_interval_ms,
            100,
            3_600_000,
        )?;
        within(
            "server.http2.keepalive_timeout_ms",
            self.keepalive_timeout_ms,
            100,
            3_600_000,
        )?;
        within(
            "server.http2.max_metadata_bytes",
            self.max_metadata_bytes,
            1024,
            1 << 20,
        )
    }
}

/// What the process writes about itself, on stderr.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Lines for people or objects for programs.
    pub format: LogFormat,
    /// Least level to write: error, warn, info, debug or trace; or directives such as
    /// `info,highwater_broker::service=debug`.
    pub level: String,
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

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: "info".to_owned(),
        }
    }
}

impl LogConfig {
    pub(super) fn validate(&self) -> Result<(), Error> {
        tracing_subscriber::EnvFilter::try_new(&self.level)
            .map(drop)
            .map_err(|error| wrong("log.level", format!("{:?}", self.level), error.to_string()))
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
        assert!(listener.validate_advertised("k").is_err());
    }
}
