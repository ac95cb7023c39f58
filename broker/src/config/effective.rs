//! A configuration that was put together and checked, with where each value comes from.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::json;

use super::Config;
use super::error::Source;
use super::keys::{self, Key};

/// A valid configuration, made by [`Layers::load`](super::Layers::load).
#[derive(Clone, Debug)]
pub struct Effective {
    config: Config,
    /// Keys that are not at their default.
    sources: BTreeMap<&'static str, Source>,
}

impl Effective {
    pub(super) fn new(config: Config, sources: BTreeMap<&'static str, Source>) -> Self {
        Self { config, sources }
    }

    /// The values.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The values alone.
    #[must_use]
    pub fn into_config(self) -> Config {
        self.config
    }

    /// How many keys were set somewhere.
    #[must_use]
    pub fn set_count(&self) -> usize {
        self.sources.len()
    }

    /// Where the value of a key comes from.
    #[must_use]
    pub fn source(&self, key: &str) -> Source {
        self.sources.get(key).cloned().unwrap_or(Source::Default)
    }

    /// Every key with its value, as the TOML file that would set them, and the source of each as a comment.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let table = keys::table_of(&self.config);
        let mut text = String::new();
        for (section, _) in keys::sections() {
            if !section.is_empty() && keys::in_section(section).next().is_some() {
                writeln!(text, "\n[{section}]").expect("writing to a String cannot fail");
            }
            for key in keys::in_section(section) {
                let (name, value) = (key.last_name(), keys::value(&table, key));
                writeln!(text, "{name} = {value}  # {}", self.source(key.name))
                    .expect("writing to a String cannot fail");
            }
        }
        text
    }

    /// Every key with value, default and source, as a JSON array.
    #[must_use]
    pub fn to_json(&self) -> String {
        let (table, defaults) = (
            keys::table_of(&self.config),
            keys::table_of(&Config::default()),
        );
        let object = |key: Key| {
            let source = self.source(key.name);
            let (kind, place) = match &source {
                Source::Program => ("program", None),
                Source::Default => ("default", None),
                Source::File { .. } => ("file", Some(source.to_string())),
                Source::Environment(variable) => ("environment", Some(variable.clone())),
                Source::Flag(flag) => ("flag", Some(flag.clone())),
            };
            json!({
                "key": key.name,
                "value": keys::value(&table, key),
                "default": keys::value(&defaults, key),
                "source": kind,
                "place": place,
            })
        };
        let lines: Vec<_> = keys::all()
            .map(|key| format!("  {}", object(key)))
            .collect();
        format!("[\n{}\n]\n", lines.join(",\n"))
    }
}
