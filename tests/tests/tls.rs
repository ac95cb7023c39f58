//! The client crate and a broker with TLS: who is let in, and what the others are told.

use std::path::{Path, PathBuf};

use highwater_broker::{Broker, BrokerBuilder};
use highwater_client::{Client, Error, NewTopic, Record, Start, Tls, TlsProblem};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("random bytes");
        Self(CertifiedIssuer::self_signed(params, key).expect("it signs itself"))
    }

    fn trusted(&self) -> Tls {
        Tls::new().ca_pem(self.0.pem())
    }

    /// Certificate and key for a host.
    fn issue(&self, host: &str, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("a host");
        change(&mut params);
        let key = KeyPair::generate().expect("random bytes");
        let certificate = params.signed_by(&key, &self.0).expect("it signs");
        (certificate.pem(), key.serialize_pem())
    }
}

fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).expect("it is written");
    path
}

/// A broker that shows this certificate.
fn showing(directory: &Path, (certificate, key): (String, String)) -> BrokerBuilder {
    let certificate = write(directory, "broker.pem", &certificate);
    let key = write(directory, "broker.key", &key);
    Broker::builder().in_memory().configure(move |config| {
        config.server.client.tls = true;
        config.server.tls.certificate = certificate;
        config.server.tls.key = key;
    })
}

async fn problem(broker: &Broker, tls: Option<Tls>) -> TlsProblem {
    let client = Client::builder();
    let client = match tls {
        Some(tls) => client.tls(tls),
        None => client,
    };
    match client.connect(broker.address()).await {
        Err(Error::Tls { addresses, problem }) => {
            assert_eq!(addresses, broker.address());
            problem
        }
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("it connected"),
    }
}

async fn round_trip(client: &Client) -> Result<(), Error> {
    client.admin().create_topic(NewTopic::new("t")).await?;
    let producer = client.producer().build()?;
    producer.send(Record::to("t").value("v")).await?.await?;
    producer.close().await?;
    let consumer = client.consumer().assign("t", 0, Start::Earliest);
    let record = consumer.build().await?.recv().await?;
    assert_eq!(record.value.as_deref(), Some(&b"v"[..]));
    Ok(())
}

#[tokio::test]
async fn records_go_and_come_over_tls() {
    let directory = tempfile::tempdir().expect("a directory");
    let authority = Authority::new("test");
    let certificate = authority.issue("127.0.0.1", |_| {});
    let broker = showing(directory.path(), certificate);
    let broker = broker.start().await.expect("it starts");
    let client = Client::builder().tls(authority.trusted());
    let client = client.connect(broker.address()).await;
    let client = client.expect("it connects");
    round_trip(&client).await.expect("records come back");
    drop(client);
    broker.shutdown().await;
}

#[tokio::test]
async fn who_does_not_fit_is_told_why() {
    let directory = tempfile::tempdir().expect("a directory");
    let authority = Authority::new("test");
    let certificate = authority.issue("127.0.0.1", |_| {});
    let broker = showing(directory.path(), certificate);
    let broker = broker.start().await.expect("it starts");
    assert_eq!(problem(&broker, None).await, TlsProblem::Needed);
    for other in ["test", "another"] {
        let stranger = Authority::new(other).trusted();
        assert_eq!(
            problem(&broker, Some(stranger)).await,
            TlsProblem::Untrusted
        );
    }
    broker.shutdown().await;

    let plain = Broker::builder().in_memory().start().await;
    let plain = plain.expect("it starts");
    let trusting = authority.trusted();
    assert_eq!(problem(&plain, Some(trusting)).await, TlsProblem::NotSpoken);
    plain.shutdown().await;
}

#[tokio::test]
async fn certificates_of_other_hosts_and_times_are_told_apart() {
    let authority = Authority::new("test");
    let told = async |certificate| {
        let directory = tempfile::tempdir().expect("a directory");
        let broker = showing(directory.path(), certificate).start().await;
        let broker = broker.expect("it starts");
        let told = problem(&broker, Some(authority.trusted())).await;
        broker.shutdown().await;
        told
    };
    let expired = authority.issue("127.0.0.1", |params| {
        params.not_after = date_time_ymd(2020, 1, 1)
    });
    assert_eq!(told(expired).await, TlsProblem::Expired);
    let future = authority.issue("127.0.0.1", |params| {
        params.not_before = date_time_ymd(4000, 1, 1)
    });
    assert_eq!(told(future).await, TlsProblem::NotYetValid);
    let elsewhere = authority.issue("b.example.com", |_| {});
    match told(elsewhere).await {
        TlsProblem::OtherHost(names) => assert!(names.contains("b.example.com"), "{names}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_broker_can_ask_for_certificates_of_its_clients() {
    let directory = tempfile::tempdir().expect("a directory");
    let authority = Authority::new("brokers");
    let of_clients = Authority::new("clients");
    let client_ca = write(directory.path(), "clients.pem", &of_clients.0.pem());
    let broker = showing(directory.path(), authority.issue("127.0.0.1", |_| {}))
        .configure(|config| config.server.tls.client_ca = client_ca);
    let broker = broker.start().await.expect("it starts");

    let without = problem(&broker, Some(authority.trusted())).await;
    assert_eq!(without, TlsProblem::CertificateWanted);
    let (certificate, key) = Authority::new("others").issue("c", |_| {});
    let stranger = authority.trusted().identity_pem(certificate, key);
    assert_eq!(
        problem(&broker, Some(stranger)).await,
        TlsProblem::CertificateRefused
    );

    let (certificate, key) = of_clients.issue("c", |_| {});
    let known = authority.trusted().identity_pem(certificate, key);
    let client = Client::builder().tls(known).connect(broker.address()).await;
    round_trip(&client.expect("it connects"))
        .await
        .expect("records come back");
    broker.shutdown().await;
}

#[tokio::test]
async fn files_that_hold_nothing_are_found_before_anybody_is_asked() {
    let (certificate, key) = Authority::new("test").issue("c", |_| {});
    for (tls, named) in [
        (Tls::new().ca_pem(""), "authorities"),
        (Tls::new().identity_pem("", key.clone()), "certificate"),
        (Tls::new().identity_pem(certificate, "no key"), "key"),
    ] {
        let connected = Client::builder().tls(tls).connect("127.0.0.1:1").await;
        let error = connected.expect_err("there is nothing in the file");
        assert!(
            matches!(error, Error::Config { name: "tls", .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains(named), "{error}");
    }
    let missing = Tls::new()
        .ca_file("/nowhere/ca.pem")
        .expect_err("no such file");
    assert!(missing.to_string().contains("/nowhere/ca.pem"), "{missing}");
}
