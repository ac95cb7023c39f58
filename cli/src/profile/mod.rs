//! Named ways to reach a cluster, kept in a file of the user: whom to ask, and how to talk to them.
//!
//! What the command line or the environment say of a connection comes first; what they leave open comes from the
//! profile that is named by `--profile`, or else from the one in use. This module is the rules; [`mod@file`] reads and
//! writes.

mod field;
pub(crate) mod file;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub(crate) use self::field::{Field, parse_setting};

use crate::arguments::DEFAULT_BROKERS;
use crate::failure::Failure;
use crate::near_names::near_names;
use crate::tls_options::TlsOptions;

/// A name has at most so many characters.
const NAME_LENGTH_MAX: usize = 64;

/// All profiles of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profiles {
    /// The one in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    #[serde(default, rename = "profile")]
    pub(crate) by_name: BTreeMap<String, Profile>,
}

/// How to reach a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    /// Addresses of brokers, `HOST:PORT`.
    #[serde(default)]
    pub(crate) brokers: Vec<String>,
    #[serde(default)]
    pub(crate) tls: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls_ca: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls_certificate: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls_key: Option<PathBuf>,
}

/// What the command line and the environment say.
#[derive(Debug, Default)]
pub(crate) struct Given {
    /// The profile that is named; empty: none is wanted.
    pub(crate) profile: Option<String>,
    pub(crate) connection: Connection,
}

/// How brokers are reached.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connection {
    /// Addresses of brokers; none: not said.
    pub(crate) brokers: Vec<String>,
    pub(crate) tls: TlsOptions,
    /// The profile that filled in what was not said.
    pub(crate) profile: Option<String>,
}

impl Given {
    /// Fills in what is not said: from the profile that is named, or from the one in use; the brokers at last by
    /// default. The profiles are read only where they are needed.
    pub(crate) fn complete(
        &self,
        profiles: impl FnOnce() -> Result<Profiles, Failure>,
    ) -> Result<Connection, Failure> {
        let mut connection = self.connection.clone();
        let named = self.profile.as_deref();
        if named != Some("") {
            let profiles = profiles()?;
            if let Some(name) = named.or(profiles.current.as_deref()) {
                connection.fill_from(name, profiles.get(name, "cannot connect")?);
            }
        }
        if connection.brokers.is_empty() {
            connection.brokers = vec![DEFAULT_BROKERS.to_owned()];
        }
        Ok(connection)
    }
}

impl Connection {
    fn fill_from(&mut self, name: &str, profile: &Profile) {
        self.profile = Some(name.to_owned());
        if self.brokers.is_empty() {
            self.brokers.clone_from(&profile.brokers);
        }
        // Whom to trust is one question, what to show another.
        if !self.tls.tls && self.tls.tls_ca.is_none() {
            self.tls.tls = profile.tls;
            self.tls.tls_ca.clone_from(&profile.tls_ca);
        }
        if self.tls.tls_certificate.is_none() && self.tls.tls_key.is_none() {
            self.tls
                .tls_certificate
                .clone_from(&profile.tls_certificate);
            self.tls.tls_key.clone_from(&profile.tls_key);
        }
    }
}

impl Profiles {
    /// The profile of this name, in order to do `what`.
    pub(crate) fn get(&self, name: &str, what: &str) -> Result<&Profile, Failure> {
        self.by_name.get(name).ok_or_else(|| {
            let failure = Failure::new(what, format!("there is no profile \"{name}\""));
            let near = near_names(name, self.by_name.keys().map(String::as_str));
            if near.is_empty() {
                failure.remedy("see the profiles there are: highwater profile list")
            } else {
                failure.remedy(format!("did you mean {}?", near.join(" or ")))
            }
        })
    }

    /// Reads what [`Profiles::to_text`] wrote, or a person.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| {
                let before = text.as_bytes().get(..span.start).unwrap_or_default();
                1 + before.iter().filter(|&&byte| byte == b'\n').count()
            });
            match line {
                Some(line) => format!("line {line}: {}", error.message()),
                None => error.message().to_owned(),
            }
        })
    }

    /// As it is kept.
    pub(crate) fn to_text(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}

/// Reads the name of a profile.
pub(crate) fn parse_name(text: &str) -> Result<String, String> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if text.is_empty() || text.len() > NAME_LENGTH_MAX || !text.bytes().all(is_allowed) {
        return Err(format!(
            "a name consists of 1 to {NAME_LENGTH_MAX} of a-z, A-Z, 0-9, `.`, `_` and `-`"
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profiles() -> Profiles {
        Profiles::parse(
            "current = \"prod\"\n\
             [profile.prod]\nbrokers = [\"p:1\", \"q:1\"]\ntls_ca = \"/ca.pem\"\n\
             tls_certificate = \"/c.pem\"\ntls_key = \"/c.key\"\n\
             [profile.test]\nbrokers = [\"t:1\"]\n",
        )
        .unwrap()
    }

    fn given(named: Option<&str>, brokers: &[&str], ca: Option<&str>) -> Given {
        let connection = Connection {
            brokers: brokers.iter().map(|&broker| broker.to_owned()).collect(),
            tls: TlsOptions {
                tls_ca: ca.map(PathBuf::from),
                ..TlsOptions::default()
            },
            profile: None,
        };
        let profile = named.map(str::to_owned);
        Given {
            profile,
            connection,
        }
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let text = profiles().to_text().unwrap();
        assert_eq!(Profiles::parse(&text), Ok(profiles()), "{text}");
        assert_eq!(Profiles::parse(""), Ok(Profiles::default()));
    }

    #[test]
    fn what_is_said_comes_before_the_profile_and_that_before_the_default() {
        let complete = |given: Given| given.complete(|| Ok(profiles())).unwrap();
        let plain = complete(given(None, &[], None));
        assert_eq!(plain.brokers, ["p:1", "q:1"]);
        assert_eq!(plain.profile.as_deref(), Some("prod"));
        assert_eq!(plain.tls.tls_ca, Some("/ca.pem".into()));
        assert_eq!(plain.tls.tls_key, Some("/c.key".into()));

        let said = complete(given(None, &["s:1"], Some("/other.pem")));
        assert_eq!(said.brokers, ["s:1"]);
        assert_eq!(said.tls.tls_ca, Some("/other.pem".into()));
        assert_eq!(said.tls.tls_key, Some("/c.key".into()));

        let named = complete(given(Some("test"), &[], None));
        assert_eq!(named.brokers, ["t:1"]);
        assert_eq!(named.tls.tls_ca, None);

        let none = complete(given(Some(""), &[], None));
        assert_eq!(none.brokers, [DEFAULT_BROKERS]);
        assert_eq!(none.tls.tls_ca, None);
    }

    #[test]
    fn a_profile_that_does_not_exist_is_no_reason_to_ask_others() {
        let failure = given(Some("prd"), &[], None)
            .complete(|| Ok(profiles()))
            .unwrap_err();
        assert_eq!(
            failure.to_string(),
            "error: cannot connect: there is no profile \"prd\"\n  did you mean prod?"
        );
    }

    #[test]
    fn what_is_wrong_in_the_file_is_said_with_its_line() {
        for (text, line, word) in [
            ("current = 5\n", 1, "string"),
            (
                "[profile.a]\nbroker = [\"a:1\"]\n",
                2,
                "unknown field `broker`",
            ),
            ("\n[profile.a\n", 2, ""),
        ] {
            let error = Profiles::parse(text).unwrap_err();
            assert!(error.starts_with(&format!("line {line}: ")), "{error}");
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn names_are_words() {
        assert_eq!(parse_name("prod-eu.1"), Ok("prod-eu.1".into()));
        for name in ["", "a b", "a/b", "ä", &"x".repeat(65)] {
            assert!(parse_name(name).is_err(), "{name}");
        }
    }
}
