//! `highwater tls dev-ca`

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use highwater_broker::tls::broker_name;
use highwater_proto::BrokerId;
use jiff::{Span, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use serde::Serialize;

use crate::context::Context;
use crate::failure::Failure;
use crate::table::Table;

const CANNOT_MAKE: &str = "cannot make certificates";
/// Hosts by which each broker can be reached on the machine that it runs on.
const LOCAL_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// Name of the files of a client.
const CLIENT: &str = "client";
/// Who may read a key, and a certificate.
const PRIVATE: u32 = 0o600;
const PUBLIC: u32 = 0o644;

/// Options of `highwater tls dev-ca`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater tls dev-ca certs                                     one broker, on this machine
  highwater tls dev-ca certs --broker 1@b1.test,2@b2.test        brokers of a cluster by their hosts
  highwater tls dev-ca certs --broker 1@b1.test,1@10.0.0.1       one with two hosts
All certificates are also good for localhost. They are for development: the key of the authority lies beside them.")]
pub(crate) struct Options {
    /// Where to write the files; made when it is not there. What is there is never written over
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    directory: PathBuf,

    /// Brokers by their numbers, with a host that clients are told; a number may come again with another host
    #[arg(long, value_name = "N@HOST,..", default_value = "1@localhost", value_delimiter = ',', value_parser = parse)]
    broker: Vec<(u32, String)>,

    /// Days until the certificates expire
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..=3650))]
    days: u16,
}

fn parse(text: &str) -> Result<(u32, String), String> {
    const FORM: &str = "use N@HOST, such as 1@broker-1.example.com";
    let (broker, host) = text.split_once('@').ok_or(FORM)?;
    let broker = broker.parse().ok().filter(|broker| *broker != 0);
    let broker = broker.ok_or("brokers have numbers from 1")?;
    if host.is_empty() || host.contains(['/', '@', ' ']) {
        return Err(FORM.into());
    }
    if host.contains(':') && host.parse::<std::net::Ipv6Addr>().is_err() {
        return Err(format!(
            "leave out the port of {host}: certificates hold for hosts"
        ));
    }
    Ok((broker, host.to_owned()))
}

/// What was made, as JSON.
#[derive(Debug, Serialize)]
struct Made {
    ca: PathBuf,
    client: Files,
    brokers: Vec<Files>,
}

/// A certificate, as JSON.
#[derive(Debug, Serialize)]
struct Files {
    #[serde(skip_serializing_if = "Option::is_none")]
    broker: Option<u32>,
    certificate: PathBuf,
    key: PathBuf,
    names: Vec<String>,
}

/// A file to be written.
struct Content {
    path: PathBuf,
    mode: u32,
    text: String,
}

/// Makes everything, then writes it.
pub(crate) fn run(options: &Options, context: &Context) -> Result<(), Failure> {
    let made = |error| Failure::new(CANNOT_MAKE, error);
    let mut contents = Vec::new();
    let made = make(options, &mut contents).map_err(made)?;
    write_all(&options.directory, &contents)?;
    context.answer(|| text(&made), || &made)
}

fn make(options: &Options, contents: &mut Vec<Content>) -> Result<Made, rcgen::Error> {
    let directory = &options.directory;
    let authority = Authority::new(options.days)?;
    let ca = directory.join("ca.pem");
    contents.push(Content::new(ca.clone(), PUBLIC, authority.issuer.pem()));
    let key = authority.issuer.key().serialize_pem();
    contents.push(Content::new(directory.join("ca.key"), PRIVATE, key));

    let mut hosts: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for (broker, host) in &options.broker {
        hosts.entry(*broker).or_default().push(host.clone());
    }
    let mut issue = |broker: Option<u32>, name: String, names: Vec<String>| {
        let certificate = directory.join(format!("{name}.pem"));
        let key = directory.join(format!("{name}.key"));
        let (certificate_text, key_text) = authority.issue(&name, &names)?;
        contents.push(Content::new(certificate.clone(), PUBLIC, certificate_text));
        contents.push(Content::new(key.clone(), PRIVATE, key_text));
        Ok::<_, rcgen::Error>(Files {
            broker,
            certificate,
            key,
            names,
        })
    };
    let client = issue(None, CLIENT.to_owned(), vec![CLIENT.to_owned()])?;
    let brokers = hosts.into_iter().map(|(broker, hosts)| {
        let name = broker_name(BrokerId(broker));
        let mut names = vec![name.clone()];
        let local = LOCAL_HOSTS.map(str::to_owned);
        for host in hosts.into_iter().chain(local) {
            if !names.contains(&host) {
                names.push(host);
            }
        }
        issue(Some(broker), name, names)
    });
    let brokers = brokers.collect::<Result<_, _>>()?;
    Ok(Made {
        ca,
        client,
        brokers,
    })
}

/// An authority that signs for as long as this process runs.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    days: u16,
}

impl Authority {
    fn new(days: u16) -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        // Two authorities of one name would be taken for one with a bad signature.
        let name = format!("Highwater development {}", uuid::Uuid::new_v4());
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        limit(&mut params, days);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Self { issuer, days })
    }

    /// Certificate and key, for servers and clients alike: brokers are both.
    fn issue(&self, name: &str, names: &[String]) -> Result<(String, String), rcgen::Error> {
        let mut params = CertificateParams::new(names.to_vec())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        limit(&mut params, self.days);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

/// Valid from yesterday, since clocks differ, for so many days from today.
fn limit(params: &mut CertificateParams, days: u16) {
    let day = |days: i64| {
        let today = jiff::Zoned::new(Timestamp::now(), jiff::tz::TimeZone::UTC).date();
        let day = today.saturating_add(Span::new().days(days));
        let month = day.month().unsigned_abs();
        date_time_ymd(day.year().into(), month, day.day().unsigned_abs())
    };
    params.not_before = day(-1);
    params.not_after = day(i64::from(days));
}

impl Content {
    fn new(path: PathBuf, mode: u32, text: String) -> Self {
        Self { path, mode, text }
    }

    fn write(&self) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(self.mode)
            .open(&self.path)?;
        file.write_all(self.text.as_bytes())
    }
}

/// Writes all files, or none where one is there already.
fn write_all(directory: &Path, contents: &[Content]) -> Result<(), Failure> {
    let failed = |path: &Path, error: &dyn std::fmt::Display| {
        Failure::new(CANNOT_MAKE, format!("{}: {error}", path.display()))
    };
    if let Some(there) = contents.iter().find(|content| content.path.exists()) {
        return Err(failed(&there.path, &"it is there already")
            .remedy("choose another directory, or remove the files of this one first"));
    }
    std::fs::create_dir_all(directory).map_err(|error| failed(directory, &error))?;
    for content in contents {
        content
            .write()
            .map_err(|error| failed(&content.path, &error))?;
    }
    Ok(())
}

/// The files, and how they are used.
fn text(made: &Made) -> String {
    let mut table = Table::new(["FOR", "CERTIFICATE", "KEY", "NAMES"]);
    for files in made.brokers.iter().chain([&made.client]) {
        let whom = match files.broker {
            Some(broker) => format!("broker {broker}"),
            None => CLIENT.to_owned(),
        };
        let (certificate, key) = (files.certificate.display(), files.key.display());
        table.row([&whom, &certificate, &key, &files.names.join(",")]);
    }
    let mut text = table.to_string();
    let ca = made.ca.display();
    if let Some(first) = made.brokers.first() {
        let (certificate, key) = (first.certificate.display(), first.key.display());
        write!(
            text,
            "\nIn the configuration of the broker, each with its own certificate and key:\n\
             \n[server]\nclient.tls = true\npeer.tls = true\n\
             \n[server.tls]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\npeer_ca = \"{ca}\"\n\
             \nFor clients:\n\n  highwater cluster info --tls-ca {ca}\n\n"
        )
        .expect("writing to a String cannot fail");
    }
    text.push_str("These are for development: whoever reads ca.key can be any broker.\n");
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::arguments::Format;

    fn options(directory: &Path, brokers: &[&str]) -> Options {
        Options {
            directory: directory.to_owned(),
            broker: brokers
                .iter()
                .map(|broker| parse(broker).unwrap())
                .collect(),
            days: 1,
        }
    }

    #[test]
    fn brokers_are_numbers_with_hosts() {
        assert_eq!(parse("1@b.test"), Ok((1, "b.test".into())));
        assert_eq!(parse("2@::1"), Ok((2, "::1".into())));
        for text in ["b.test", "0@b", "x@b", "1@", "1@a b", "1@b.test:7410"] {
            assert!(parse(text).is_err(), "{text}");
        }
        let problem = parse("1@b.test:7410").unwrap_err();
        assert!(problem.contains("leave out the port"), "{problem}");
    }

    #[test]
    fn files_are_made_once_with_keys_for_the_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("certs");
        let context = Context::new(Format::Json);
        let options = options(&place, &["1@a.test", "2@b.test", "2@10.0.0.2"]);
        run(&options, &context).unwrap();
        let mode = |name: &str| {
            let metadata = std::fs::metadata(place.join(name)).unwrap();
            metadata.permissions().mode() & 0o777
        };
        for name in ["ca", "client", "broker-1", "broker-2"] {
            assert_eq!(mode(&format!("{name}.key")), PRIVATE);
            assert_eq!(mode(&format!("{name}.pem")), PUBLIC);
        }
        let before = std::fs::read(place.join("ca.key")).unwrap();
        let refused = run(&options, &context).unwrap_err().to_string();
        assert!(refused.contains("it is there already"), "{refused}");
        assert_eq!(std::fs::read(place.join("ca.key")).unwrap(), before);
    }

    #[test]
    fn a_broker_has_its_hosts_and_those_of_its_machine_among_its_names() {
        let directory = Path::new("certs");
        let options = options(directory, &["2@b.test", "2@localhost", "2@10.0.0.2"]);
        let mut contents = Vec::new();
        let made = make(&options, &mut contents).unwrap();
        assert_eq!(contents.len(), 6);
        assert_eq!(
            made.brokers[0].names,
            [
                "broker-2",
                "b.test",
                "localhost",
                "10.0.0.2",
                "127.0.0.1",
                "::1"
            ]
        );
        let text = text(&made);
        assert!(text.contains("peer_ca = \"certs/ca.pem\""), "{text}");
    }
}
