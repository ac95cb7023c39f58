//! How connections are made: over TCP, or by something that the user brings.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use hyper::rt::{Read, Write};
use tonic::transport::{Channel, Endpoint, Error, Uri};
use tower::Service;

/// What a connector's errors are turned into.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A connection that is being established.
pub(crate) type Connecting<'a> = Pin<Box<dyn Future<Output = Result<Channel, Error>> + Send + 'a>>;

/// Makes connections to endpoints.
pub(crate) trait Connect: Send + Sync {
    /// Establishes one now.
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> Connecting<'a>;

    /// Establishes one when it is first used, and again when it is lost.
    fn connect_lazy(&self, endpoint: &Endpoint) -> Channel;
}

impl fmt::Debug for dyn Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connect")
    }
}

/// Connects over TCP.
pub(crate) struct Tcp;

impl Connect for Tcp {
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> Connecting<'a> {
        Box::pin(endpoint.connect())
    }

    fn connect_lazy(&self, endpoint: &Endpoint) -> Channel {
        endpoint.connect_lazy()
    }
}

/// Connects by a service of the user's.
pub(crate) struct Custom<C>(pub(crate) C);

impl<C> Connect for Custom<C>
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: Read + Write + Send + Unpin + 'static,
    C::Future: Send + 'static,
    C::Error: Send,
    BoxError: From<C::Error>,
{
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> Connecting<'a> {
        Box::pin(endpoint.connect_with_connector(self.0.clone()))
    }

    fn connect_lazy(&self, endpoint: &Endpoint) -> Channel {
        endpoint.connect_with_connector_lazy(self.0.clone())
    }
}
