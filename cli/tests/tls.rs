//! Certificates that `tls dev-ca` makes, used by a broker and by the command line.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::Path;
use std::process::Output;

use highwater_broker::Broker;
use support::highwater;

/// Runs the command line on another thread: the broker lives on this one's runtime.
async fn run(arguments: &[&str]) -> Output {
    let mut command = highwater();
    command.args(arguments);
    let ran = tokio::task::spawn_blocking(move || command.output().unwrap());
    ran.await.unwrap()
}

/// A broker with TLS for clients and brokers, by the files in `certificates`.
async fn start(certificates: &Path) -> Broker {
    let file = |name: &str| certificates.join(name);
    let (certificate, key, ca) = (file("broker-1.pem"), file("broker-1.key"), file("ca.pem"));
    let builder = Broker::builder().in_memory().peer_address("127.0.0.1:0");
    let builder = builder.configure(|config| {
        (config.server.client.tls, config.server.peer.tls) = (true, true);
        config.server.tls.certificate = certificate;
        config.server.tls.key = key;
        config.server.tls.peer_ca = ca.clone();
        config.server.tls.client_ca = ca;
    });
    builder.start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_with_certificates_for_development_is_talked_to_with_those_of_the_client() {
    let directory = tempfile::tempdir().unwrap();
    let certificates = directory.path().join("certs");
    let place = certificates.to_str().unwrap();
    let made = run(&["tls", "dev-ca", place]).await;
    assert!(made.status.success(), "{made:?}");
    let broker = start(&certificates).await;

    let asked = ["cluster", "brokers", "--brokers", broker.address()];
    let plain = run(&asked).await;
    let told = String::from_utf8_lossy(&plain.stderr);
    assert_eq!(plain.status.code(), Some(1), "{told}");
    assert!(
        told.contains("with TLS only") && told.contains("--tls-ca FILE"),
        "{told}"
    );

    let file = |name: &str| format!("{place}/{name}");
    let (ca, certificate, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
    let trusting = [&asked[..], &["--tls-ca", &ca]].concat();
    let without = run(&trusting).await;
    let told = String::from_utf8_lossy(&without.stderr);
    assert!(told.contains("--tls-certificate FILE"), "{told}");

    let shown = ["--tls-certificate", &certificate, "--tls-key", &key];
    let known = run(&[&trusting[..], &shown].concat()).await;
    assert!(known.status.success(), "{known:?}");
    broker.shutdown().await;
}
