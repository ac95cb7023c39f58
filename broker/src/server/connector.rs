//! The way to a broker in the same process: connections that are memory, without a port.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

/// Bytes on their way in one direction of a connection; who sends more waits for the other side to read.
const BUFFER_BYTES: usize = 256 << 10;
/// Connections that wait to be accepted; who asks for more waits.
const WAITING_CONNECTIONS: usize = 64;

/// Connects to a broker in the same process. Clones lead to the same broker.
///
/// It is a `tower` service from a [`Uri`], which it does not look at, to a connection. That is what
/// `highwater_client::ClientBuilder::connector` takes, and `connect_with_connector` of tonic's endpoints.
#[derive(Clone, Debug)]
pub struct Connector {
    door: mpsc::Sender<DuplexStream>,
}

impl Connector {
    /// A connector, and where its connections come out.
    pub(super) fn new() -> (Self, mpsc::Receiver<DuplexStream>) {
        let (door, connections) = mpsc::channel(WAITING_CONNECTIONS);
        (Self { door }, connections)
    }

    /// Makes a connection, as bytes.
    ///
    /// # Errors
    /// [`io::ErrorKind::ConnectionRefused`] when the broker has stopped.
    pub async fn connect(&self) -> io::Result<DuplexStream> {
        let (here, there) = tokio::io::duplex(BUFFER_BYTES);
        match self.door.send(there).await {
            Ok(()) => Ok(here),
            Err(_) => Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                "the broker in this process has stopped",
            )),
        }
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<DuplexStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _address: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect().await.map(TokioIo::new) })
    }
}
