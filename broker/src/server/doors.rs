//! Where connections come in: a broker's listeners, bound, and what others are told of them.

use std::net::SocketAddr;

use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::broker::Addresses;
use super::builder::Ports;
use super::listener::{Connections, Listener, ListenerName};
use crate::config::{CLIENT_LISTENER, Config};
use crate::controller;
use crate::node::Error;
use crate::peer::PEER_LISTENER;
use crate::tls::{Acceptor, Side, Tls};

/// Name of the listener for probes.
const HTTP_LISTENER: &str = "http";
/// The port that a broker without ports gives in metadata.
const PORT_OF_NO_PORT: u16 = 7410;

/// The listeners of a broker.
pub(super) struct Doors {
    /// The listener that every broker has, then the named ones.
    pub(super) clients: Vec<Listener>,
    pub(super) peer: Option<Listener>,
    pub(super) http: Option<Listener>,
    /// By the listener's name, for as long as they are listened for.
    pub(super) connections: Vec<(ListenerName, Connections)>,
    /// What those listeners with TLS have in common.
    pub(super) tls: Option<Tls>,
    pub(super) addresses: Addresses,
    /// Where the named ones listen.
    pub(super) named: Vec<(String, SocketAddr)>,
    /// What clients and other brokers are told.
    pub(super) advertised: Vec<controller::Listener>,
}

impl Doors {
    /// Binds what `ports` allows of the listeners of the configuration. Connections from inside this process come `incoming`.
    pub(super) async fn open(
        config: &Config,
        ports: Ports,
        incoming: mpsc::Receiver<DuplexStream>,
        abort: &CancellationToken,
    ) -> Result<Self, Error> {
        let server = &config.server;
        let tls = Tls::of(config)?;
        let acceptor = |is_wanted: bool, side| {
            let tls = tls.as_ref().filter(|_| is_wanted);
            tls.map(|tls| tls.acceptor(side))
        };
        let listener = |name: &str, most| Listener::new(name, most, abort.clone());
        let of_clients = acceptor(server.client.tls, Side::Clients);
        let client = listener(CLIENT_LISTENER, server.client.max_connections)
            .with_tls(of_clients.clone())
            .also(incoming);
        let client = bind(client, ports.client, &server.client.address).await?;
        let peer = listener(PEER_LISTENER, server.peer.max_connections)
            .with_tls(acceptor(server.peer.tls, Side::Peers));
        let peer = bind(peer, ports.peer, &server.peer.address).await?;
        let http = listener(HTTP_LISTENER, server.http.max_connections)
            .with_tls(acceptor(server.http.tls, Side::Probes));
        let http = bind(http, ports.http, &server.http.address).await?;
        let addresses = Addresses {
            client: client.address().map_err(Error::Listen)?,
            peer: peer.address().map_err(Error::Listen)?,
            http: http.address().map_err(Error::Listen)?,
        };
        let mut doors = Self {
            tls: tls.clone(),
            connections: Vec::new(),
            clients: vec![client],
            peer: addresses.peer.map(|_| peer),
            http: addresses.http.map(|_| http),
            addresses,
            named: Vec::new(),
            advertised: advertised(config, addresses),
        };
        if ports.client {
            doors.open_named(config, of_clients, abort).await?;
        }
        let listeners = doors.clients.iter().chain(&doors.peer).chain(&doors.http);
        doors.connections = listeners
            .map(|listener| (listener.name().clone(), listener.connections()))
            .collect();
        Ok(doors)
    }

    async fn open_named(
        &mut self,
        config: &Config,
        acceptor: Option<Acceptor>,
        abort: &CancellationToken,
    ) -> Result<(), Error> {
        let client = &config.server.client;
        for named in client.named() {
            let listener = Listener::new(&named.name, client.max_connections, abort.clone())
                .with_tls(acceptor.clone());
            let listener = listener.bind(named.address).await.map_err(Error::Listen)?;
            let bound = listener.address().map_err(Error::Listen)?;
            let bound = bound.unwrap_or(named.address);
            let told = named
                .advertised
                .unwrap_or_else(|| (bound.ip().to_string(), bound.port()));
            self.clients.push(listener);
            self.advertised.push(entry(&named.name, told));
            self.named.push((named.name, bound));
        }
        Ok(())
    }
}

async fn bind(listener: Listener, has_port: bool, address: &str) -> Result<Listener, Error> {
    if !has_port {
        return Ok(listener);
    }
    let address = address
        .parse()
        .expect("a valid configuration has addresses");
    listener.bind(address).await.map_err(Error::Listen)
}

/// What a client in this process, or on this machine, connects to.
pub(super) fn address(config: &Config, addresses: Addresses) -> String {
    addresses.client.map_or_else(
        || format!("{}:{PORT_OF_NO_PORT}", name_of_no_port(config)),
        |bound| bound.to_string(),
    )
}

/// The host that a broker without ports gives in metadata: no resolver knows it.
fn name_of_no_port(config: &Config) -> String {
    format!("broker-{}.in-process", config.broker_id)
}

/// What others are told of the listeners that are not named ones.
fn advertised(config: &Config, addresses: Addresses) -> Vec<controller::Listener> {
    let server = &config.server;
    let client = addresses.client.map_or_else(
        || (name_of_no_port(config), PORT_OF_NO_PORT),
        |bound| server.client.advertised_or(bound),
    );
    let peer = addresses.peer.map(|bound| server.peer.advertised_or(bound));
    let peer = peer.map(|told| entry(PEER_LISTENER, told));
    std::iter::once(entry(CLIENT_LISTENER, client))
        .chain(peer)
        .collect()
}

fn entry(name: &str, (host, port): (String, u16)) -> controller::Listener {
    controller::Listener {
        name: name.to_owned(),
        host,
        port,
    }
}
