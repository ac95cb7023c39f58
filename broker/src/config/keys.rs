//! The keys of the configuration: which exist, what each is called in the environment, and which one was meant.

use std::sync::LazyLock;

use serde::Serialize;
use toml::{Table, Value};

use super::Config;
use super::setting::{Declared, Kind, Place, Setting as _};

/// How far a misspelt name may be from a known one to be worth suggesting (1 is equal).
const LEAST_SIMILARITY: f64 = 0.7;

/// What the names of all environment variables of Highwater begin with.
pub(super) const VARIABLE_PREFIX: &str = "HIGHWATER_";

/// Sections and keys in the order of their declaration.
pub(super) static DECLARED: LazyLock<Vec<Declared>> = LazyLock::new(|| {
    let mut found = Vec::new();
    Config::declare(Place::default(), &mut found);
    found
});

/// One key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// Its dotted name.
    pub(super) name: &'static str,
    /// What values it takes.
    pub(super) kind: Kind,
    /// What it is for.
    pub(super) documentation: &'static str,
}

impl Key {
    /// Its name inside its section.
    pub(super) fn last_name(self) -> &'static str {
        self.name
            .rsplit_once('.')
            .map_or(self.name, |(_, last)| last)
    }

    /// What its numbers count, in the words of a sentence; empty where the key's own name says it.
    pub(super) fn unit(self) -> &'static str {
        match self.kind {
            Kind::Number { .. } if self.name.ends_with("_ms") => "milliseconds",
            Kind::Number { .. } if self.name.ends_with("bytes") => "bytes",
            _ => "",
        }
    }

    /// The environment variable that sets it.
    pub(super) fn variable(self) -> String {
        format!(
            "{VARIABLE_PREFIX}{}",
            self.name.replace('.', "_").to_ascii_uppercase()
        )
    }
}

/// All keys in the order of their declaration.
pub(super) fn all() -> impl Iterator<Item = Key> {
    DECLARED.iter().filter_map(|declared| {
        Some(Key {
            name: &declared.place.key,
            kind: declared.kind?,
            documentation: declared.place.documentation,
        })
    })
}

/// The key of a name.
pub(super) fn find(name: &str) -> Option<Key> {
    all().find(|key| key.name == name)
}

/// The first key of a section, if the name is one.
pub(super) fn first_of_section(name: &str) -> Option<Key> {
    all().find(|key| {
        key.name
            .strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('.'))
    })
}

/// The sections in the order of their declaration, each with what it is for. The first is the whole: its name is empty.
pub(super) fn sections() -> impl Iterator<Item = (&'static str, &'static str)> {
    DECLARED
        .iter()
        .filter(|declared| declared.kind.is_none())
        .map(|declared| (declared.place.key.as_str(), declared.place.documentation))
}

/// The keys that stand in a section itself.
pub(super) fn in_section(section: &str) -> impl Iterator<Item = Key> {
    all().filter(move |key| key.name.rsplit_once('.').map_or("", |(section, _)| section) == section)
}

/// The one of `known` that was probably meant by `name`.
pub(super) fn nearest(name: &str, known: impl Iterator<Item = String>) -> Option<String> {
    known
        .map(|known| (strsim::jaro_winkler(&known, name), known))
        .filter(|(similarity, _)| *similarity >= LEAST_SIMILARITY)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

/// A configuration as a table.
pub(super) fn table_of(config: &impl Serialize) -> Table {
    Table::try_from(config).expect("a configuration is a table of plain values")
}

/// The value of a key in a table of the whole configuration.
pub(super) fn value(table: &Table, key: Key) -> &Value {
    let (sections, last) = match key.name.rsplit_once('.') {
        Some((sections, last)) => (sections.split('.').collect(), last),
        None => (Vec::new(), key.name),
    };
    sections
        .into_iter()
        .try_fold(table, |table, section| table.get(section)?.as_table())
        .and_then(|table| table.get(last))
        .expect("declared keys are in the table")
}

/// Sets a key in a table of the whole configuration.
pub(super) fn set(table: &mut Table, key: Key, value: Value) {
    let mut section = table;
    let mut names = key.name.split('.').peekable();
    while let Some(name) = names.next() {
        if names.peek().is_none() {
            section.insert(name.to_owned(), value);
            return;
        }
        section = section
            .get_mut(name)
            .and_then(Value::as_table_mut)
            .expect("sections of declared keys are in the table");
    }
}

/// Every value of a table that is no table itself, with its dotted key.
pub(super) fn leaves(table: Table) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) => found.extend(
                leaves(inner)
                    .into_iter()
                    .map(|(rest, value)| (format!("{key}.{rest}"), value)),
            ),
            _ => found.push((key, value)),
        }
    }
    found
}
