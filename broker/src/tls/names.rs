//! Which broker a certificate speaks for.

use highwater_proto::BrokerId;
use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// What the names of brokers begin with.
const PREFIX: &str = "broker-";

/// The DNS name, among the subject alternative names of its certificate, by which a broker proves to others which one it is.
/// Where the broker is reached plays no part in that.
#[must_use]
pub fn broker_name(broker: BrokerId) -> String {
    format!("{PREFIX}{broker}")
}

/// The DNS names in a certificate; none where it cannot be read.
pub(super) fn dns_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let certificate = EndEntityCert::try_from(certificate);
    certificate.map_or_else(
        |_| Vec::new(),
        |certificate| {
            certificate
                .valid_dns_names()
                .map(ToOwned::to_owned)
                .collect()
        },
    )
}

/// The brokers that a certificate speaks for. Whether it is to be trusted is another question.
pub(crate) fn brokers_named(certificate: &CertificateDer<'_>) -> Vec<BrokerId> {
    let names = dns_names(certificate);
    let ids = names.iter().filter_map(|name| {
        let id = name.strip_prefix(PREFIX)?.parse().ok().map(BrokerId)?;
        // One spelling for each broker: the parser also takes "+1" and "01".
        (broker_name(id) == *name).then_some(id)
    });
    ids.collect()
}
