use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_stream::StreamExt as _;
use tonic::transport::server::Connected as _;
use tower::Service as _;

use super::*;
use crate::server::Listener;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// Certificate and key as PEM.
    fn issue(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> (String, String) {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// The files of one broker.
struct Place {
    directory: tempfile::TempDir,
    config: Config,
}

impl Place {
    /// With a certificate for `names`, among brokers with those of `authority`.
    fn new(broker: u32, names: &[&str], authority: &Authority) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        let mut config = Config {
            broker_id: broker,
            ..Config::default()
        };
        let server = &mut config.server;
        (server.client.tls, server.peer.tls, server.http.tls) = (true, true, true);
        server.tls.certificate = file("broker.pem");
        server.tls.key = file("broker.key");
        server.tls.peer_ca = file("ca.pem");
        server.tls.reload_interval_ms = 10;
        let place = Self { directory, config };
        place.write("ca.pem", &authority.0.pem());
        place.show(authority.issue(names, |_| {}));
        place
    }

    fn show(&self, (certificate, key): (String, String)) {
        self.write("broker.pem", &certificate);
        self.write("broker.key", &key);
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.directory.path().join(name), text).unwrap();
    }

    fn tls(&self) -> Tls {
        self.config.validate().unwrap();
        Tls::of(&self.config).unwrap().unwrap()
    }

    fn problem(&self) -> String {
        let error = Tls::of(&self.config).err().unwrap();
        error
            .to_string()
            .replace(self.directory.path().to_str().unwrap(), "DIR")
    }
}

fn broker(id: u32, authority: &Authority) -> Tls {
    Place::new(id, &[&broker_name(BrokerId(id))], authority).tls()
}

/// A listener with `places` for connections, and where it listens.
async fn listen(tls: &Tls, side: Side, places: usize) -> (Listener, SocketAddr) {
    let listener = Listener::new("test", places, CancellationToken::new())
        .with_tls(Some(tls.acceptor(side)))
        .bind("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let address = listener.address().unwrap().unwrap();
    (listener, address)
}

/// Connects and says one byte; the error of whatever fails first.
async fn dial(tls: &Tls, id: u32, address: SocketAddr) -> std::io::Result<()> {
    let uri = format!("http://{address}").parse().unwrap();
    let mut stream = tls.dial(BrokerId(id)).call(uri).await?.into_inner();
    stream.write_all(b"x").await?;
    stream.read_exact(&mut [0]).await?;
    Ok(())
}

/// Answers the byte of the next connection, and gives what is known of the other end.
async fn answer(listener: &mut Listener) -> crate::server::Origin {
    let mut connection = listener.next().await.unwrap().unwrap();
    let byte = connection.read_u8().await.unwrap();
    connection.write_u8(byte).await.unwrap();
    connection.flush().await.unwrap();
    connection.connect_info()
}

#[test]
fn a_certificate_speaks_for_the_brokers_it_names_in_their_only_spelling() {
    let names = [
        "broker-2",
        "broker-17",
        "broker-02",
        "broker-+3",
        "xbroker-4",
        "broker-",
        "b",
    ];
    // The issuer does not matter here, and neither does whether a resolver knows such names.
    let names: Vec<_> = names
        .iter()
        .filter(|name| !name.contains('+'))
        .copied()
        .collect();
    let (certificate, _) = Authority::new().issue(&names, |_| {});
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    assert_eq!(brokers_named(&certificate), [BrokerId(2), BrokerId(17)]);
    assert_eq!(brokers_named(&CertificateDer::from_slice(b"nonsense")), []);
}

#[tokio::test]
async fn brokers_show_each_other_who_they_are() {
    let authority = Authority::new();
    let (one, two) = (broker(1, &authority), broker(2, &authority));
    let (mut listener, address) = listen(&one, Side::Peers, 8).await;
    let (dialled, origin) = tokio::join!(dial(&two, 1, address), answer(&mut listener));
    dialled.unwrap();
    assert!(origin.may_be(BrokerId(2)));
    assert!(!origin.may_be(BrokerId(1)), "broker 2 is not broker 1");
}

/// What the one who dials is told when the other end is not to be had.
async fn refused(from: &Tls, id: u32, to: &Tls) -> String {
    let (mut listener, address) = listen(to, Side::Peers, 8).await;
    tokio::select! {
        dialled = dial(from, id, address) => dialled.unwrap_err().to_string(),
        _ = listener.next() => panic!("the connection was let in"),
    }
}

#[tokio::test]
async fn a_broker_that_is_another_one_or_of_another_authority_is_not_talked_to() {
    let authority = Authority::new();
    let (one, two) = (broker(1, &authority), broker(2, &authority));
    let problem = refused(&two, 3, &one).await;
    assert!(
        problem.contains("not valid for name \"broker-3\""),
        "{problem}"
    );

    let stranger = broker(2, &Authority::new());
    let problem = refused(&stranger, 1, &one).await;
    assert!(problem.starts_with("invalid peer certificate"), "{problem}");
}

/// Connects as one that is no broker, with the certificate if there is one, and listens.
async fn intrude(
    address: SocketAddr,
    authority: &Authority,
    shown: Option<(String, String)>,
) -> std::io::Error {
    let mut trusted = rustls::RootCertStore::empty();
    trusted.add(authority.0.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(trusted);
    let config = match shown {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
            let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            config
                .with_client_auth_cert(vec![certificate], key)
                .unwrap()
        }
    };
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = "broker-1".try_into().unwrap();
    match connector.connect(name, stream).await {
        Ok(mut stream) => stream.read_u8().await.unwrap_err(),
        Err(error) => error,
    }
}

#[tokio::test]
async fn nobody_comes_in_among_brokers_without_the_certificate_of_one() {
    let authority = Authority::new();
    let (mut listener, address) = listen(&broker(1, &authority), Side::Peers, 8).await;
    let of_client = authority.issue(&["client-2"], |_| {});
    for (shown, expected) in [(None, "CertificateRequired"), (Some(of_client), "")] {
        let error = tokio::select! {
            error = intrude(address, &authority, shown) => error.to_string(),
            _ = listener.next() => panic!("the connection was let in"),
        };
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn an_expired_certificate_is_not_taken() {
    let authority = Authority::new();
    let place = Place::new(1, &["broker-1"], &authority);
    place.show(authority.issue(&["broker-1"], |params| {
        params.not_after = date_time_ymd(2020, 1, 1);
    }));
    let problem = refused(&broker(2, &authority), 1, &place.tls()).await;
    assert!(problem.contains("certificate expired"), "{problem}");
}

#[tokio::test]
async fn a_silent_client_loses_its_place_after_the_time_for_a_handshake() {
    let authority = Authority::new();
    let mut place = Place::new(1, &["broker-1"], &authority);
    place.config.server.tls.handshake_timeout_ms = 10;
    let (mut listener, address) = listen(&place.tls(), Side::Clients, 1).await;
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut byte = [0];
    tokio::select! {
        read = silent.read(&mut byte) => assert_eq!(read.unwrap(), 0, "the broker says nothing"),
        _ = listener.next() => panic!("there was no handshake"),
    }
    assert_eq!(listener.connections().open(), 0);
}

#[tokio::test]
async fn a_client_that_begins_without_tls_is_told_so_in_its_own_protocol() {
    let tls = broker(1, &Authority::new());
    for (side, words, answer) in [
        (
            Side::Clients,
            // Settings and the beginning of a request follow the preface.
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\x05\0\0\0\x01",
            b"\0\0\0\x04\0" as &[u8],
        ),
        (
            Side::Probes,
            "GET /livez HTTP/1.1\r\n\r\n",
            b"HTTP/1.1 400 ",
        ),
    ] {
        let (mut listener, address) = listen(&tls, side, 1).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(words.as_bytes()).await.unwrap();
        let mut told = Vec::new();
        tokio::select! {
            read = client.read_to_end(&mut told) => drop(read.unwrap()),
            _ = listener.next() => panic!("there was no handshake"),
        }
        assert!(told.starts_with(answer), "{told:?}");
        let told = String::from_utf8_lossy(&told);
        assert!(told.contains(highwater_proto::TLS_ONLY), "{told}");
    }
}

#[tokio::test]
async fn changed_files_are_used_for_the_next_connections_and_bad_ones_are_not() {
    let authority = Authority::new();
    let place = Place::new(1, &["broker-1", "before"], &authority);
    let (tls, stop) = (place.tls(), CancellationToken::new());
    let watching = tokio::spawn(tls.clone().watch(stop.clone()));
    let first = tls.acceptor(Side::Clients).config();

    // Certificate and key are replaced one after the other: in between they do not fit together.
    let (certificate, key) = authority.issue(&["broker-1", "after"], |_| {});
    place.write("broker.pem", &certificate);
    let files = tls.source.read().unwrap();
    let problem = tls.take_up(files).unwrap_err().problem;
    assert!(matches!(problem, Problem::OtherKey), "{problem}");
    assert!(Arc::ptr_eq(&first, &tls.acceptor(Side::Clients).config()));

    place.write("broker.key", &key);
    let changed = async {
        while Arc::ptr_eq(&first, &tls.acceptor(Side::Clients).config()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), changed)
        .await
        .unwrap();
    stop.cancel();
    watching.await.unwrap();

    let two = broker(2, &authority);
    let (mut listener, address) = listen(&tls, Side::Peers, 1).await;
    let (dialled, _) = tokio::join!(dial(&two, 1, address), answer(&mut listener));
    dialled.unwrap();
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_key_and_path() {
    let authority = Authority::new();
    let place = |spoil: &dyn Fn(&mut Place)| {
        let mut place = Place::new(1, &["broker-1"], &authority);
        spoil(&mut place);
        place.problem()
    };
    assert_eq!(
        place(&|place| place.config.server.tls.key = Path::new("/nowhere").into()),
        "server.tls.key names /nowhere: it cannot be read: No such file or directory (os error 2)"
    );
    assert_eq!(
        place(&|place| place.write("broker.pem", "")),
        "server.tls.certificate names DIR/broker.pem: there is no certificate in it"
    );
    assert_eq!(
        place(&|place| place.write("broker.key", "what is this?")),
        "server.tls.key names DIR/broker.key: there is no private key in it"
    );
    assert_eq!(
        place(&|place| place.write("ca.pem", "")),
        "server.tls.peer_ca names DIR/ca.pem: there is no certificate in it"
    );
    assert_eq!(
        place(&|place| place.write("broker.pem", &authority.issue(&["broker-1"], |_| {}).0)),
        "server.tls.certificate names DIR/broker.pem: it does not belong to the key that server.tls.key names"
    );
    assert_eq!(
        place(&|place| place.show(authority.issue(&["broker-2", "b.example.com"], |_| {}))),
        "server.tls.certificate names DIR/broker.pem: other brokers take only a certificate for the name broker-1, and this one \
         is for broker-2, b.example.com"
    );
}

#[test]
fn without_a_listener_that_wants_it_no_file_is_read() {
    let mut config = Config::default();
    config.server.tls.certificate = PathBuf::from("/nowhere");
    assert!(Tls::of(&config).unwrap().is_none());
}
