//! The entry: a connection to a cluster, from which producers, consumers and admins are made.

use std::sync::Arc;
use std::time::Duration;

use tonic::transport::Uri;
use tower::Service;

use crate::cluster::{Cluster, Settings};
use crate::connector::Custom;
use crate::{Admin, ConsumerBuilder, Error, ProducerBuilder, Tls};

/// A connection to a cluster. Clones share it.
///
/// One client per process is enough: producers, consumers and admins made of it share its metadata. A producer has a
/// network connection of its own to each broker it sends to; all others share one, on which a broker takes 256 requests at once by
/// default (`server.http2.max_concurrent_streams`). Members of groups and readers keep one or two under way all the time: a process with
/// a hundred of them or more makes more clients.
#[derive(Clone)]
pub struct Client {
    pub(crate) cluster: Arc<Cluster>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// Connects to a cluster by the address of one broker or more, `host:port` separated by commas. The others are
    /// found through them.
    ///
    /// # Errors
    /// [`Error::Connect`] when none of them can be reached.
    pub async fn connect(addresses: &str) -> Result<Self, Error> {
        Self::builder().connect(addresses).await
    }

    /// The same with settings of your own.
    pub fn builder() -> ClientBuilder {
        ClientBuilder {
            settings: Settings::default(),
        }
    }

    /// Makes a producer.
    pub fn producer(&self) -> ProducerBuilder {
        ProducerBuilder::new(Arc::clone(&self.cluster))
    }

    /// Makes a consumer.
    pub fn consumer(&self) -> ConsumerBuilder {
        ConsumerBuilder::new(Arc::clone(&self.cluster))
    }

    /// Administers topics and finds offsets.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(Arc::clone(&self.cluster))
    }
}

/// Settings of a [`Client`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ClientBuilder {
    settings: Settings,
}

impl ClientBuilder {
    /// How long establishing a connection may take; 5 s unless set.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.settings.connect_timeout = timeout;
        self
    }

    /// How long a request may take, with its repetitions; 30 s unless set.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.settings.request_timeout = timeout;
        self
    }

    /// Makes connections with TLS.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.settings.tls = Some(tls);
        self
    }

    /// Makes connections by `connector` instead of over TCP: a `tower` service from the address of a broker, as
    /// `http://HOST:PORT`, to a connection. With the connector of a broker that is embedded in the same program no port is
    /// needed; a proxy or a Unix socket is reached the same way.
    pub fn connector<C>(mut self, connector: C) -> Self
    where
        C: Service<Uri> + Clone + Send + Sync + 'static,
        C::Response: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
        C::Future: Send + 'static,
        C::Error: Send,
        Box<dyn std::error::Error + Send + Sync>: From<C::Error>,
    {
        self.settings.connector = Arc::new(Custom(connector));
        self
    }

    /// Connects; see [`Client::connect`].
    ///
    /// # Errors
    /// [`Error::Connect`] when none of the addresses can be reached; [`Error::Config`] when certificates cannot be used.
    pub async fn connect(self, addresses: &str) -> Result<Client, Error> {
        if let Some(tls) = &self.settings.tls {
            tls.check()?;
        }
        let bootstrap: Vec<String> = addresses
            .split(',')
            .map(|address| address.trim().to_owned())
            .filter(|address| !address.is_empty())
            .collect();
        let cluster = Cluster::new(bootstrap, self.settings);
        cluster.refresh(&[]).await?;
        Ok(Client {
            cluster: Arc::new(cluster),
        })
    }
}
