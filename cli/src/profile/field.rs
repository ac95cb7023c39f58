//! The values of a profile one by one, by the names that they have in the file.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::Profile;
use crate::broker_address;

/// Which value of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Field {
    /// Addresses of brokers, with commas between them.
    Brokers,
    /// Whether to talk to them with TLS.
    Tls,
    /// PEM file with the authorities to trust.
    TlsCa,
    /// PEM file with a certificate to show.
    TlsCertificate,
    /// PEM file with its key.
    TlsKey,
}

/// Reads `KEY=VALUE`.
pub(crate) fn parse_setting(text: &str) -> Result<(Field, String), String> {
    let form = || "use KEY=VALUE, such as brokers=broker-1:7410,broker-2:7410".to_owned();
    let (name, value) = text.split_once('=').ok_or_else(form)?;
    let key = Field::from_str(name, false).map_err(|_| {
        let known: Vec<_> = Field::value_variants()
            .iter()
            .map(|key| key.name())
            .collect();
        format!("a profile has no `{name}`; it has {}", known.join(", "))
    })?;
    Ok((key, value.to_owned()))
}

impl Field {
    /// As in the file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Brokers => "brokers",
            Self::Tls => "tls",
            Self::TlsCa => "tls_ca",
            Self::TlsCertificate => "tls_certificate",
            Self::TlsKey => "tls_key",
        }
    }
}

impl Profile {
    /// Changes a value; an empty one unsets that of a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn set(&mut self, key: Field, value: &str) -> Result<(), String> {
        let file = || (!value.is_empty()).then(|| PathBuf::from(value));
        match key {
            Field::Brokers => {
                let brokers = value.split(',').map(broker_address::parse);
                self.brokers = brokers.collect::<Result<_, _>>()?;
            }
            Field::Tls => {
                self.tls = value
                    .parse()
                    .map_err(|_| format!("`{value}` is neither true nor false"))?;
            }
            Field::TlsCa => self.tls_ca = file(),
            Field::TlsCertificate => self.tls_certificate = file(),
            Field::TlsKey => self.tls_key = file(),
        }
        Ok(())
    }

    /// A value as [`Profile::set`] takes it.
    pub(crate) fn value(&self, key: Field) -> String {
        let file = |path: &Option<PathBuf>| {
            let path = path.as_deref();
            path.map_or(String::new(), |path: &Path| path.display().to_string())
        };
        match key {
            Field::Brokers => self.brokers.join(","),
            Field::Tls => self.uses_tls().to_string(),
            Field::TlsCa => file(&self.tls_ca),
            Field::TlsCertificate => file(&self.tls_certificate),
            Field::TlsKey => file(&self.tls_key),
        }
    }

    /// Whether brokers are talked to with TLS: it is asked for, or a file is named that goes with it.
    pub(crate) fn uses_tls(&self) -> bool {
        self.tls || self.names_files()
    }

    /// Whether a file is named that goes with TLS.
    pub(crate) fn names_files(&self) -> bool {
        self.tls_ca.is_some() || self.tls_certificate.is_some() || self.tls_key.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_read_as_it_was_set() {
        let mut profile = Profile::default();
        for (key, value) in [
            (Field::Brokers, "a:1,[::1]:2"),
            (Field::Tls, "true"),
            (Field::TlsCa, "/ca.pem"),
            (Field::TlsCertificate, "/c.pem"),
            (Field::TlsKey, "/c.key"),
        ] {
            let setting = format!("{}={value}", key.name());
            assert_eq!(parse_setting(&setting), Ok((key, value.to_owned())));
            profile.set(key, value).unwrap();
            assert_eq!(profile.value(key), value);
        }
        profile.set(Field::TlsCa, "").unwrap();
        assert_eq!(
            (profile.tls_ca.as_ref(), profile.value(Field::TlsCa)),
            (None, String::new())
        );
    }

    #[test]
    fn what_is_no_setting_is_refused_in_words() {
        for (text, words) in [
            ("brokers", "use KEY=VALUE"),
            (
                "broker=a:1",
                "a profile has no `broker`; it has brokers, tls,",
            ),
        ] {
            let problem = parse_setting(text).unwrap_err();
            assert!(problem.contains(words), "{problem}");
        }
        let mut profile = Profile::default();
        for (key, value) in [
            (Field::Brokers, ""),
            (Field::Brokers, "a:1,b"),
            (Field::Tls, "yes"),
        ] {
            assert!(profile.set(key, value).is_err(), "{value}");
        }
        assert_eq!(profile, Profile::default());
    }
}
