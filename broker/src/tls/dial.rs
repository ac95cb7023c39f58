//! Connections with TLS to other brokers.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use highwater_proto::BrokerId;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Tls, broker_name};

/// Connects to one broker: a `tower` service from an address to a connection on whose other end that broker is, by its
/// certificate.
#[derive(Clone, Debug)]
pub(crate) struct Dial {
    tls: Tls,
    broker: BrokerId,
}

impl Dial {
    pub(super) fn new(tls: Tls, broker: BrokerId) -> Self {
        Self { tls, broker }
    }

    async fn connect(self, address: Uri) -> io::Result<TlsStream<TcpStream>> {
        let host = address.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = address.port_u16().unwrap_or_default();
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(broker_name(self.broker))
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let config = Arc::clone(&self.tls.current.load().dial);
        TlsConnector::from(config).connect(name, stream).await
    }
}

impl tower::Service<Uri> for Dial {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        let dial = self.clone();
        Box::pin(async move { dial.connect(address).await.map(TokioIo::new) })
    }
}
