//! Connections to other brokers.

use std::time::Duration;

use highwater_proto::BrokerId;
use tonic::transport::{Channel, Endpoint, Error};

use super::routes::Address;
use crate::tls::{Dial, Tls};

/// How long connecting may take. A broker that does not answer by then is not up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Silence after which HTTP/2 asks whether the other end is still there, so that a connection that only looks alive is
/// given up and made anew.
pub(super) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// Silence after that question that ends the connection.
pub(super) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes on their way on one stream that its reader has not taken. Fixed: enough for 10 Gbit/s over 6 ms, and a bound of what
/// a reader that stalls makes this broker hold.
pub(super) const STREAM_WINDOW_BYTES: u32 = 8 << 20;
/// The same for all streams of a connection.
pub(super) const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// The largest HTTP/2 frame that is taken. The default of 16 KiB costs a read and a wake-up for each.
pub(super) const FRAME_BYTES: u32 = 1 << 20;

/// How to connect to one broker.
pub(super) struct Way {
    endpoint: Endpoint,
    /// Connects with TLS, and to that broker only.
    dial: Option<Dial>,
}

impl Way {
    /// To `broker` at `address`; `None` when the address is no host and port.
    pub(super) fn to(broker: BrokerId, address: &Address, tls: Option<&Tls>) -> Option<Self> {
        Some(Self {
            endpoint: endpoint(address)?,
            dial: tls.map(|tls| tls.dial(broker)),
        })
    }

    /// The connection, established.
    pub(super) async fn connect(self) -> Result<Channel, Error> {
        match self.dial {
            Some(dial) => self.endpoint.connect_with_connector(dial).await,
            None => self.endpoint.connect().await,
        }
    }

    /// The connection, established when it is first used, and again when it is lost.
    pub(super) fn connect_lazy(self) -> Channel {
        match self.dial {
            Some(dial) => self.endpoint.connect_with_connector_lazy(dial),
            None => self.endpoint.connect_lazy(),
        }
    }
}

fn endpoint(address: &Address) -> Option<Endpoint> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).ok()?;
    Some(
        endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true),
    )
}
