//! Sockets that accept a limited number of connections.

use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use super::stall::ConnectionCut;

/// The connections of a listener: so many as there are places. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    places: Arc<Semaphore>,
    limit: usize,
    refused: Arc<AtomicU64>,
}

impl Connections {
    fn new(limit: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(limit)),
            limit,
            refused: Arc::default(),
        }
    }

    fn take(&self) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok();
        if place.is_none() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        place
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> usize {
        self.limit.saturating_sub(self.places.available_permits())
    }

    /// Connections that may be open.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Connections that found no place.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// A bound socket. Connections beyond its limit are closed at once, so that their clients learn of it.
#[derive(Debug)]
pub(crate) struct Listener {
    inner: TcpListener,
    connections: Connections,
    /// Cuts all connections.
    abort: CancellationToken,
}

impl Listener {
    /// Binds `address`. `abort` cuts all connections off.
    ///
    /// # Errors
    /// What the operating system said, with the address.
    pub(crate) async fn bind(
        address: SocketAddr,
        max_connections: usize,
        abort: CancellationToken,
    ) -> io::Result<Self> {
        let inner = TcpListener::bind(address).await.map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::AddrInUse => {
                    ": another process listens there; stop it or choose another port (0: any)"
                }
                _ => "",
            };
            io::Error::new(
                error.kind(),
                format!("cannot listen at {address}: {error}{hint}"),
            )
        })?;
        Ok(Self {
            inner,
            connections: Connections::new(max_connections),
            abort,
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// How many connections there are, from now on.
    pub(crate) fn connections(&self) -> Connections {
        self.connections.clone()
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr) -> Option<Connection> {
        let Some(place) = self.connections.take() else {
            let limit = self.connections.limit();
            warn!(%peer, limit, "connection refused: max_connections are open");
            return None;
        };
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%peer, %error, "connection lost while it was accepted");
            return None;
        }
        let cut = ConnectionCut::of(&self.abort);
        Some(Connection {
            stream,
            is_cut: Box::pin(cut.token().clone().cancelled_owned()),
            cut,
            _place: place,
        })
    }
}

impl Stream for Listener {
    type Item = io::Result<Connection>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match ready!(self.inner.poll_accept(cx)) {
                Ok((stream, peer)) => {
                    if let Some(connection) = self.admit(stream, peer) {
                        return Poll::Ready(Some(Ok(connection)));
                    }
                }
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}

/// An accepted connection; takes one place of its listener until dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    cut: ConnectionCut,
    is_cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Held for its drop.
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = ConnectionCut;

    fn connect_info(&self) -> ConnectionCut {
        self.cut.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.cut.token().is_cancelled() && self.is_cut.as_mut().poll(cx).is_pending() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_stream::StreamExt as _;

    use super::*;

    /// A listener for one connection.
    async fn bind(address: SocketAddr) -> io::Result<Listener> {
        Listener::bind(address, 1, CancellationToken::new()).await
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_are_closed_until_one_ends() {
        let mut listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.address().unwrap();
        let mut first = TcpStream::connect(address).await.unwrap();
        let accepted = listener.next().await.unwrap().unwrap();

        let mut refused = TcpStream::connect(address).await.unwrap();
        let pending = listener.next();
        let mut pending = std::pin::pin!(pending);
        let closed = async {
            let mut byte = [0];
            matches!(refused.read(&mut byte).await, Ok(0) | Err(_))
        };
        tokio::select! {
            _ = &mut pending => panic!("a connection beyond the limit was accepted"),
            closed = closed => assert!(closed),
        }
        drop(accepted);
        let mut third = TcpStream::connect(address).await.unwrap();
        let mut accepted = pending.await.unwrap().unwrap();
        third.write_all(b"x").await.unwrap();
        assert_eq!(accepted.read_u8().await.unwrap(), b'x');
        assert_eq!(first.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_cut_wakes_a_connection_that_waits_for_its_client() {
        let mut listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let _client = TcpStream::connect(listener.address().unwrap())
            .await
            .unwrap();
        let mut accepted = listener.next().await.unwrap().unwrap();
        let cut = accepted.connect_info();
        let mut byte = [0];
        let mut reading = std::pin::pin!(accepted.read(&mut byte));
        assert!(futures::poll!(&mut reading).is_pending());
        cut.token().cancel();
        assert_eq!(
            reading.await.unwrap_err().kind(),
            io::ErrorKind::ConnectionAborted
        );
    }

    #[tokio::test]
    async fn a_taken_address_is_named_in_the_error() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.address().unwrap();
        let error = bind(address).await.unwrap_err();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }
}
