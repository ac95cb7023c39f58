//! Sockets, and doors inside this process, that accept a limited number of connections.

use std::fmt;
use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use highwater_proto::BrokerId;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use super::handshake::{brokers_shown, shake_hands};
use super::stall::ConnectionCut;
use crate::config::CLIENT_LISTENER;
use crate::tls::{Acceptor, Tls};

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

/// Where connections come in: a socket, memory, both, or neither. Connections beyond its limit are closed at once, so that
/// their clients learn of it. With TLS those that come in by the socket are handed out after their handshake; until then
/// they take a place, for as long as a handshake may take.
#[derive(Debug)]
pub(crate) struct Listener {
    name: ListenerName,
    /// What connections by the socket are accepted with; `None`: without TLS.
    tls: Option<Acceptor>,
    handshakes: JoinSet<Option<Connection>>,
    socket: Option<TcpListener>,
    memory: Option<mpsc::Receiver<DuplexStream>>,
    connections: Connections,
    /// Cuts all connections.
    abort: CancellationToken,
}

impl Listener {
    /// A listener that nothing comes in by yet. `abort` cuts all connections off.
    pub(crate) fn new(name: &str, max_connections: usize, abort: CancellationToken) -> Self {
        Self {
            name: ListenerName(name.into()),
            tls: None,
            handshakes: JoinSet::new(),
            socket: None,
            memory: None,
            connections: Connections::new(max_connections),
            abort,
        }
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &ListenerName {
        &self.name
    }

    /// Takes connections from inside this process.
    pub(crate) fn also(mut self, connections: mpsc::Receiver<DuplexStream>) -> Self {
        self.memory = Some(connections);
        self
    }

    /// Takes connections by the socket with TLS only, if there is an acceptor.
    pub(crate) fn with_tls(mut self, acceptor: Option<Acceptor>) -> Self {
        self.tls = acceptor;
        self
    }

    /// The TLS of connections by the socket.
    pub(crate) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref().map(Acceptor::tls)
    }

    /// Binds `address`.
    ///
    /// # Errors
    /// What the operating system said, with the address.
    pub(crate) async fn bind(mut self, address: SocketAddr) -> io::Result<Self> {
        let bound = TcpListener::bind(address).await.map_err(|error| {
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
        self.socket = Some(bound);
        Ok(self)
    }

    /// Where it listens, if it has a socket.
    pub(crate) fn address(&self) -> io::Result<Option<SocketAddr>> {
        self.socket
            .as_ref()
            .map(TcpListener::local_addr)
            .transpose()
    }

    /// How many connections there are, from now on.
    pub(crate) fn connections(&self) -> Connections {
        self.connections.clone()
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Transport>> {
        if let Some(memory) = &mut self.memory {
            match memory.poll_recv(cx) {
                Poll::Ready(Some(stream)) => return Poll::Ready(Ok(Transport::Memory(stream))),
                Poll::Ready(None) => self.memory = None,
                Poll::Pending => {}
            }
        }
        match &self.socket {
            Some(socket) => socket
                .poll_accept(cx)
                .map_ok(|(stream, peer)| Transport::Socket(stream, peer)),
            None => Poll::Pending,
        }
    }

    /// Gives the connection a place; `None` where none is free.
    fn admit(&self, transport: Transport) -> Option<Connection> {
        let Some(place) = self.connections.take() else {
            let limit = self.connections.limit();
            warn!(peer = %transport, limit, "connection refused: max_connections are open");
            return None;
        };
        if let Transport::Socket(stream, peer) = &transport
            && let Err(error) = stream.set_nodelay(true)
        {
            debug!(%peer, %error, "connection lost while it was accepted");
            return None;
        }
        let origin = Origin {
            cut: ConnectionCut::of(&self.abort),
            listener: self.name.clone(),
            brokers: None,
        };
        Some(Connection {
            transport,
            is_cut: Box::pin(origin.cut.token().clone().cancelled_owned()),
            origin,
            _place: place,
        })
    }

    /// The connection, if it needs no handshake; otherwise one begins.
    fn begin(&mut self, connection: Connection) -> Option<Connection> {
        match (&self.tls, &connection.transport) {
            (Some(acceptor), Transport::Socket(..)) => {
                self.handshakes.spawn(connection.secured(acceptor.clone()));
                None
            }
            _ => Some(connection),
        }
    }
}

impl Stream for Listener {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while let Poll::Ready(accepted) = self.poll_accept(cx) {
            match accepted {
                Ok(transport) => {
                    let admitted = self.admit(transport);
                    if let Some(ready) = admitted.and_then(|connection| self.begin(connection)) {
                        return Poll::Ready(Some(Ok(ready)));
                    }
                }
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
        while let Poll::Ready(Some(ended)) = self.handshakes.poll_join_next(cx) {
            // One that failed, or was given up with the runtime, leads to no connection.
            if let Ok(Some(secured)) = ended {
                return Poll::Ready(Some(Ok(secured)));
            }
        }
        Poll::Pending
    }
}

/// What carries the bytes of a connection.
#[derive(Debug)]
enum Transport {
    Socket(TcpStream, SocketAddr),
    Secured(Box<TlsStream<TcpStream>>, SocketAddr),
    Memory(DuplexStream),
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(_, peer) | Self::Secured(_, peer) => peer.fmt(f),
            Self::Memory(_) => f.write_str("this process"),
        }
    }
}

/// Name of a listener. Clones share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenerName(Arc<str>);

impl Default for ListenerName {
    fn default() -> Self {
        Self(CLIENT_LISTENER.into())
    }
}

impl ListenerName {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which connection a request came by; stands among the request's extensions.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// Cuts the connection off.
    pub(super) cut: ConnectionCut,
    /// The listener it came in by.
    pub(crate) listener: ListenerName,
    /// The brokers that the certificate on the other end speaks for; `None` where none was shown.
    brokers: Option<Arc<[BrokerId]>>,
}

impl Origin {
    /// Whether the other end may speak as `broker`. Without TLS nothing can be said against it.
    pub(crate) fn may_be(&self, broker: BrokerId) -> bool {
        let shown = self.brokers.as_deref();
        shown.is_none_or(|brokers| brokers.contains(&broker))
    }
}

/// An accepted connection; takes one place of its listener until dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    transport: Transport,
    origin: Origin,
    is_cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Held for its drop.
    _place: OwnedSemaphorePermit,
}

impl Connection {
    /// The same with TLS; `None` where the handshake fails.
    async fn secured(self, acceptor: Acceptor) -> Option<Self> {
        let Self {
            transport,
            mut origin,
            mut is_cut,
            _place: place,
        } = self;
        let transport = match transport {
            Transport::Socket(stream, peer) => {
                let shaking = shake_hands(&acceptor, stream, peer);
                let stream = tokio::select! {
                    shaken = shaking => shaken?,
                    () = &mut is_cut => return None,
                };
                origin.brokers = brokers_shown(&stream);
                Transport::Secured(Box::new(stream), peer)
            }
            other => other,
        };
        Some(Self {
            transport,
            origin,
            is_cut,
            _place: place,
        })
    }
}

impl Connected for Connection {
    type ConnectInfo = Origin;

    fn connect_info(&self) -> Origin {
        self.origin.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.origin.cut.token().is_cancelled() && self.is_cut.as_mut().poll(cx).is_pending() {
            return match &mut self.transport {
                Transport::Socket(stream, _) => Pin::new(stream).poll_read(cx, buffer),
                Transport::Secured(stream, _) => Pin::new(stream).poll_read(cx, buffer),
                Transport::Memory(stream) => Pin::new(stream).poll_read(cx, buffer),
            };
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
        match &mut self.transport {
            Transport::Socket(stream, _) => Pin::new(stream).poll_write(cx, bytes),
            Transport::Secured(stream, _) => Pin::new(stream).poll_write(cx, bytes),
            Transport::Memory(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Socket(stream, _) => Pin::new(stream).poll_write_vectored(cx, slices),
            Transport::Secured(stream, _) => Pin::new(stream).poll_write_vectored(cx, slices),
            Transport::Memory(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Socket(stream, _) => stream.is_write_vectored(),
            Transport::Secured(stream, _) => stream.is_write_vectored(),
            Transport::Memory(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Socket(stream, _) => Pin::new(stream).poll_flush(cx),
            Transport::Secured(stream, _) => Pin::new(stream).poll_flush(cx),
            Transport::Memory(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Socket(stream, _) => Pin::new(stream).poll_shutdown(cx),
            Transport::Secured(stream, _) => Pin::new(stream).poll_shutdown(cx),
            Transport::Memory(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_stream::StreamExt as _;

    use super::*;

    /// A listener for one connection.
    async fn bind(address: SocketAddr) -> io::Result<Listener> {
        let listener = Listener::new("test", 1, CancellationToken::new());
        listener.bind(address).await
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_are_closed_until_one_ends() {
        let mut listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.address().unwrap().unwrap();
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
        let _client = TcpStream::connect(listener.address().unwrap().unwrap())
            .await
            .unwrap();
        let mut accepted = listener.next().await.unwrap().unwrap();
        let Origin { cut, listener, .. } = accepted.connect_info();
        assert_eq!(listener.as_str(), "test");
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
    async fn connections_from_inside_the_process_count_like_others() {
        let (door, connections) = mpsc::channel(2);
        let mut listener = Listener::new("test", 1, CancellationToken::new()).also(connections);
        let (mut first, there) = tokio::io::duplex(16);
        door.send(there).await.unwrap();
        let mut accepted = listener.next().await.unwrap().unwrap();
        first.write_all(b"x").await.unwrap();
        assert_eq!(accepted.read_u8().await.unwrap(), b'x');

        let (mut refused, there) = tokio::io::duplex(16);
        door.send(there).await.unwrap();
        let mut next = std::pin::pin!(listener.next());
        assert!(futures::poll!(&mut next).is_pending());
        assert_eq!(refused.read(&mut [0]).await.unwrap(), 0);
        accepted.origin.cut.token().cancel();
        assert!(accepted.read_u8().await.is_err());
    }

    #[tokio::test]
    async fn a_taken_address_is_named_in_the_error() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.address().unwrap().unwrap();
        let error = bind(address).await.unwrap_err();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }
}
