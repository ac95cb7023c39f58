//! Names that the shell completes, asked for at the broker while the user types.

use std::ffi::OsStr;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use clap_complete::{ArgValueCompleter, CompletionCandidate};
use highwater_client::{Client, Error};

use crate::profile::{Connection, Given, file};
use crate::tls_options::TlsOptions;

/// A completion that takes longer is worth less than none: the shell stands still for it.
const PATIENCE: Duration = Duration::from_millis(500);

/// Completes arguments by names that `ask` has from the cluster.
pub(crate) fn of<F>(ask: fn(Client) -> F) -> ArgValueCompleter
where
    F: Future<Output = Result<Vec<String>, Error>> + 'static,
{
    ArgValueCompleter::new(move |current: &OsStr| {
        let beginning = current.to_string_lossy();
        known(ask)
            .into_iter()
            .filter(|name| name.starts_with(&*beginning))
            .map(CompletionCandidate::new)
            .collect()
    })
}

/// The names; none where no broker gives them in time.
fn known<F: Future<Output = Result<Vec<String>, Error>>>(ask: fn(Client) -> F) -> Vec<String> {
    let line = Line {
        arguments: std::env::args().collect(),
        variable: |name: &str| std::env::var(name).ok(),
    };
    let Ok(connection) = line.given().complete(file::read) else {
        return Vec::new();
    };
    let Ok(tls) = connection.tls.read() else {
        return Vec::new();
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let Ok(runtime) = runtime else {
        return Vec::new();
    };
    runtime.block_on(async {
        let names = async {
            let client = match tls {
                Some(tls) => Client::builder().tls(tls),
                None => Client::builder(),
            };
            ask(client.connect(&connection.brokers.join(",")).await?).await
        };
        let asked = tokio::time::timeout(PATIENCE, names).await;
        asked.ok().and_then(Result::ok).unwrap_or_default()
    })
}

/// What was given before the completion was asked for: the command line so far, and the environment.
struct Line<V> {
    arguments: Vec<String>,
    variable: V,
}

impl<V: Fn(&str) -> Option<String>> Line<V> {
    /// What it says of the connection.
    fn given(&self) -> Given {
        let brokers = self.value("--brokers", "HIGHWATER_BROKERS");
        let brokers = brokers.iter().flat_map(|named| named.split(','));
        Given {
            profile: self.value("--profile", "HIGHWATER_PROFILE"),
            connection: Connection {
                brokers: brokers.map(str::to_owned).collect(),
                tls: self.tls(),
                profile: None,
            },
        }
    }

    /// How to talk to them.
    fn tls(&self) -> TlsOptions {
        let file = |flag, variable| self.value(flag, variable).map(PathBuf::from);
        let is_set = (self.variable)("HIGHWATER_TLS").is_some_and(|text| text == "true");
        TlsOptions {
            tls: is_set || self.arguments.iter().any(|argument| argument == "--tls"),
            tls_ca: file("--tls-ca", "HIGHWATER_TLS_CA"),
            tls_certificate: file("--tls-certificate", "HIGHWATER_TLS_CERTIFICATE"),
            tls_key: file("--tls-key", "HIGHWATER_TLS_KEY"),
        }
    }

    /// The value behind the last of these flags, or else of the variable.
    fn value(&self, flag: &str, variable: &str) -> Option<String> {
        let mut arguments = self.arguments.iter();
        let mut value = None;
        while let Some(argument) = arguments.next() {
            if argument == flag {
                value = arguments.next().cloned();
            } else if let Some(rest) = argument.strip_prefix(flag)
                && let Some(joined) = rest.strip_prefix('=')
            {
                value = Some(joined.to_owned());
            }
        }
        value.or_else(|| (self.variable)(variable))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::DEFAULT_BROKERS;
    use crate::profile::Profiles;

    fn given(line: &str, variable: Option<&str>) -> Given {
        let variable = variable.map(str::to_owned);
        let line = Line {
            arguments: line.split(' ').map(str::to_owned).collect(),
            variable: move |name: &str| {
                let is_text = name != "HIGHWATER_TLS" && name != "HIGHWATER_PROFILE";
                variable.clone().filter(|_| is_text)
            },
        };
        line.given()
    }

    fn asked(line: &str, environment: Option<&str>) -> String {
        let given = given(line, environment);
        let connection = given.complete(|| Ok(Profiles::default())).unwrap();
        connection.brokers.join(",")
    }

    #[test]
    fn the_brokers_of_the_command_line_come_first() {
        assert_eq!(asked("-- highwater consume", None), DEFAULT_BROKERS);
        assert_eq!(asked("-- highwater consume", Some("e:1")), "e:1");
        for line in [
            "-- highwater --brokers a:1 consume",
            "-- highwater consume --brokers=a:1",
        ] {
            assert_eq!(asked(line, Some("e:1")), "a:1");
        }
    }

    #[test]
    fn a_profile_that_is_named_is_asked_for() {
        let given = given("-- highwater consume --profile prod", None);
        assert_eq!(given.profile.as_deref(), Some("prod"));
    }

    #[test]
    fn brokers_with_tls_are_asked_with_tls() {
        let tls = given("-- highwater --tls-ca=a.pem consume --tls", None)
            .connection
            .tls;
        assert!(tls.tls);
        assert_eq!(tls.tls_ca, Some("a.pem".into()));
        let tls = given("-- highwater consume", Some("e.pem")).connection.tls;
        assert!(!tls.tls);
        assert_eq!(tls.tls_ca, Some("e.pem".into()));
    }
}
