//! The listener for other brokers.

use tokio_util::sync::CancellationToken;
use tonic::service::Routes as Services;
use tonic::transport::Server;
use tracing::warn;

use super::counting::Counting;
use super::endpoint::{
    CONNECTION_WINDOW_BYTES, FRAME_BYTES, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT,
    STREAM_WINDOW_BYTES,
};
use crate::server::Listener;

/// Calls at once on one connection: two lanes, forwarded commands, bulk reads.
const MAX_STREAMS: u32 = 256;
/// Bytes of the metadata of a call. Brokers send none of their own.
const MAX_METADATA_BYTES: u32 = 16 << 10;

/// Serves other brokers until `stop` cuts them off: what they sent and was not answered is repeated by them.
pub(crate) async fn serve(
    listener: Listener,
    services: Services,
    counting: Counting,
    stop: CancellationToken,
) {
    let serving = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .http2_adaptive_window(Some(false))
        .max_concurrent_streams(MAX_STREAMS)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(MAX_METADATA_BYTES)
        .layer(counting)
        .serve_with_incoming(services.prepare(), listener);
    tokio::select! {
        served = serving => if let Err(error) = served {
            warn!(%error, "the listener for brokers failed");
        },
        () = stop.cancelled() => {}
    }
}
