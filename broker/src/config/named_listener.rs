//! Further listeners for clients: for those who reach the broker by another name than the rest.

use std::net::SocketAddr;

use super::server::split_host_port;

/// The name of the listener that is always there.
pub(crate) const CLIENT_LISTENER: &str = "client";
/// Names of listeners that are not for clients, and of the one that is always there.
const TAKEN_NAMES: &[&str] = &[CLIENT_LISTENER, "peer", "http"];
/// Listeners beside the one that is always there. Each name stands in the metadata of each broker.
const MAX_LISTENERS: usize = 8;
/// Length of a name.
const MAX_NAME_BYTES: usize = 32;

/// What the list must be.
pub(super) const NAMED_LISTENERS: &str = "empty, or at most 8 listeners, each name and address once, such as host=0.0.0.0:9410@localhost:9410 \
     (a name of a-z, 0-9 and `-`; not client, peer or http)";

/// A listener for clients with a name of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedListener {
    /// What brokers that belong together call it alike.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Host and port that its clients are told to use; `None`: the address that was bound.
    pub advertised: Option<(String, u16)>,
}

/// The listeners of `NAME=IP:PORT@HOST:PORT,...`; `None` where the text is not such a list.
pub(super) fn parse_all(text: &str) -> Option<Vec<NamedListener>> {
    if text.trim().is_empty() {
        return Some(Vec::new());
    }
    let listeners: Vec<_> = text
        .split(',')
        .map(|listener| parse(listener.trim()))
        .collect::<Option<_>>()?;
    let is_distinct = |(at, one): (usize, &NamedListener)| {
        listeners[..at].iter().all(|other| {
            other.name != one.name && (other.address != one.address || one.address.port() == 0)
        })
    };
    (listeners.len() <= MAX_LISTENERS && listeners.iter().enumerate().all(is_distinct))
        .then_some(listeners)
}

fn parse(text: &str) -> Option<NamedListener> {
    let (name, addresses) = text.split_once('=')?;
    let is_name = (1..=MAX_NAME_BYTES).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !TAKEN_NAMES.contains(&name);
    let (address, advertised) = match addresses.split_once('@') {
        Some((address, advertised)) => (address, Some(split_host_port(advertised)?)),
        None => (addresses, None),
    };
    is_name.then_some(NamedListener {
        name: name.to_owned(),
        address: address.parse().ok()?,
        advertised,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_have_a_name_an_address_and_perhaps_what_clients_are_told() {
        assert_eq!(parse_all(" "), Some(Vec::new()));
        let listeners = parse_all(
            "host=0.0.0.0:9410@localhost:9410, vpn-2=[::1]:0@[fd00::1]:7410,x=10.0.0.1:0",
        );
        assert_eq!(
            listeners.unwrap(),
            [
                NamedListener {
                    name: "host".to_owned(),
                    address: "0.0.0.0:9410".parse().unwrap(),
                    advertised: Some(("localhost".to_owned(), 9410)),
                },
                NamedListener {
                    name: "vpn-2".to_owned(),
                    address: "[::1]:0".parse().unwrap(),
                    advertised: Some(("fd00::1".to_owned(), 7410)),
                },
                NamedListener {
                    name: "x".to_owned(),
                    address: "10.0.0.1:0".parse().unwrap(),
                    advertised: None,
                },
            ]
        );
    }

    #[test]
    fn what_is_no_list_of_listeners_is_refused() {
        for text in [
            "127.0.0.1:9410",
            "=127.0.0.1:9410",
            "Host=127.0.0.1:9410",
            "client=127.0.0.1:9410",
            "peer=127.0.0.1:9410",
            "a=localhost:9410",
            "a=127.0.0.1:9410@",
            "a=127.0.0.1:9410@localhost",
            "a=127.0.0.1:9410@localhost:0",
            "a=127.0.0.1:9410,",
            "a=127.0.0.1:1,a=127.0.0.1:2",
            "a=127.0.0.1:1,b=127.0.0.1:1",
            "a=127.0.0.1:1 b=127.0.0.1:2",
        ] {
            assert_eq!(parse_all(text), None, "{text}");
        }
        let too_many: Vec<_> = (0..=MAX_LISTENERS)
            .map(|n| format!("l{n}=127.0.0.1:0"))
            .collect();
        assert_eq!(parse_all(&too_many.join(",")), None);
        assert!(parse_all(&too_many[1..].join(",")).is_some());
    }
}
