//! Where values come from: defaults, then a TOML file, then the environment, then flags. The later wins.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::check::{Allowed, Check};
use super::error::{Error, Problem, Source};
use super::keys::{self, Key, VARIABLE_PREFIX};
use super::setting::Kind;
use super::{Config, Effective};

/// Environment variables of Highwater that are no keys, with the key that they set all the same.
const OTHER_VARIABLES: &[(&str, Option<&str>)] = &[
    ("HIGHWATER_CONFIG", None),  // the file to read
    ("HIGHWATER_BROKERS", None), // of the command line, like those below
    ("HIGHWATER_PROFILE", None),
    ("HIGHWATER_TLS", None),
    ("HIGHWATER_TLS_CA", None),
    ("HIGHWATER_TLS_CERTIFICATE", None),
    ("HIGHWATER_TLS_KEY", None),
    ("HIGHWATER_LOG", Some("log.level")),
];

/// Parts of the names of variables that Kubernetes sets for a service called `highwater`. No key has them in its name.
const SERVICE_VARIABLES: &[&str] = &["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"];

/// What may set values. Nothing is read before [`Layers::load`].
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Layers {
    file: Option<PathBuf>,
    variables: BTreeMap<String, OsString>,
    flags: Vec<Assignment>,
}

/// A value for a key, still as text.
#[derive(Clone, Debug)]
struct Assignment {
    place: Source,
    key: String,
    text: String,
}

impl Layers {
    /// Nothing but the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads this TOML file.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// Takes the variables whose names begin with `HIGHWATER_`: `HIGHWATER_FETCH_MAX_BYTES` sets `fetch.max_bytes`.
    pub fn environment(
        mut self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Self {
        let ours = variables
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.starts_with(VARIABLE_PREFIX));
        self.variables.extend(ours);
        self
    }

    /// Sets a key by a flag of the command line, which is named in what is said about it. The last one for a key wins.
    pub fn flag(
        mut self,
        flag: impl Into<String>,
        key: impl Into<String>,
        text: impl Into<String>,
    ) -> Self {
        self.flags.push(Assignment {
            place: Source::Flag(flag.into()),
            key: key.into(),
            text: text.into(),
        });
        self
    }

    /// Puts the layers on top of each other and checks the result.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first thing.
    pub fn load(self) -> Result<Effective, Error> {
        let mut loading = Loading::default();
        if let Some(path) = &self.file {
            loading.file(path);
        }
        loading.environment(self.variables);
        for assignment in self.flags {
            loading.assign(assignment);
        }
        loading.finish()
    }
}

/// What the layers so far came to.
struct Loading {
    /// What is allowed while all is at its default.
    defaults: Check,
    table: Table,
    sources: BTreeMap<&'static str, Source>,
    problems: Vec<Problem>,
}

impl Default for Loading {
    fn default() -> Self {
        let config = Config::default();
        let mut defaults = Check::default();
        config.check(&mut defaults);
        Self {
            defaults,
            table: keys::table_of(&config),
            sources: BTreeMap::new(),
            problems: Vec::new(),
        }
    }
}

impl Loading {
    fn file(&mut self, path: &Path) {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(reason) => {
                self.problems.push(Problem::Unreadable {
                    path: path.to_owned(),
                    reason,
                });
                return;
            }
        };
        let at = |position: usize| Source::File {
            path: path.to_owned(),
            line: text[..position.min(text.len())].matches('\n').count() + 1,
        };
        let (parsed, errors) = DeTable::parse_recoverable(&text);
        if !errors.is_empty() {
            self.problems
                .extend(errors.iter().map(|error| Problem::Syntax {
                    place: at(error.span().map_or(0, |span| span.start)),
                    reason: error.message().replace('\n', ", "),
                }));
            return;
        }
        let mut positions = BTreeMap::new();
        find_positions("", parsed.get_ref(), &mut positions);
        match text.parse::<Table>() {
            Ok(table) => {
                let mut values: Vec<_> = keys::leaves(table)
                    .into_iter()
                    .map(|(name, value)| (positions.get(&name).copied().unwrap_or(0), name, value))
                    .collect();
                values.sort_by_key(|(position, ..)| *position);
                for (position, name, value) in values {
                    self.set_value(at(position), &name, value);
                }
            }
            Err(error) => self.problems.push(Problem::Syntax {
                place: at(error.span().map_or(0, |span| span.start)),
                reason: error.message().to_owned(),
            }),
        }
    }

    fn environment(&mut self, variables: BTreeMap<String, OsString>) {
        // The more precise variable of a key is applied last.
        let (others, keys): (Vec<_>, Vec<_>) = variables
            .into_iter()
            .partition(|(name, _)| OTHER_VARIABLES.iter().any(|(other, _)| other == name));
        for (name, value) in others.into_iter().chain(keys) {
            let other = OTHER_VARIABLES.iter().find(|(other, _)| *other == name);
            let key = match other {
                Some((_, key)) => key.and_then(keys::find),
                None => keys::all().find(|key| key.variable() == name),
            };
            match key {
                Some(key) => self.set_variable(key, name, value),
                None if other.is_some() || is_of_a_service(&name) => {}
                None => self.unknown_variable(name),
            }
        }
    }

    fn set_variable(&mut self, key: Key, variable: String, value: OsString) {
        let place = Source::Environment(variable);
        match value.into_string() {
            Ok(text) => self.set_text(place, key, &text),
            Err(value) => self.problems.push(Problem::Value {
                place,
                key: key.name.to_owned(),
                value: format!("{value:?}"),
                reason: "it must be UTF-8".to_owned(),
            }),
        }
    }

    fn unknown_variable(&mut self, variable: String) {
        let nearest = keys::nearest(&variable, keys::all().map(Key::variable));
        self.problems
            .push(Problem::UnknownVariable { variable, nearest });
    }

    fn assign(&mut self, assignment: Assignment) {
        let Assignment { place, key, text } = assignment;
        match keys::find(&key) {
            Some(key) => self.set_text(place, key, &text),
            None => self.unknown_key(place, &key, &text),
        }
    }

    fn set_text(&mut self, place: Source, key: Key, text: &str) {
        self.set(place, key, key.kind.parse(text), format!("{text:?}"));
    }

    fn set_value(&mut self, place: Source, name: &str, value: Value) {
        let shown = format!("{value}, {}", type_of(&value));
        match keys::find(name) {
            Some(key) => self.set(place, key, Some(value), shown),
            None => self.unknown_key(place, name, &shown),
        }
    }

    /// Sets the key if the value is of its kind; `shown` is the value as it was written.
    fn set(&mut self, place: Source, key: Key, value: Option<Value>, shown: String) {
        match value.filter(|value| key.kind.fits(value)) {
            Some(value) => {
                keys::set(&mut self.table, key, value);
                self.sources.insert(key.name, place);
            }
            None => self.problems.push(Problem::Value {
                place,
                key: key.name.to_owned(),
                value: shown,
                reason: format!("it must be {}", self.demand(key)),
            }),
        }
    }

    /// What a value must be, for somebody who gave another kind of thing.
    fn demand(&self, key: Key) -> String {
        let range = self
            .defaults
            .allowed(key.name)
            .iter()
            .find_map(|allowed| match allowed {
                Allowed::Range(least, most) => Some(format!(" between {least} and {most}")),
                Allowed::Described(_) => None,
            })
            .unwrap_or_default();
        match key.kind {
            Kind::Number { .. } => match key.unit() {
                "" => format!("a whole number{range}"),
                unit => format!("a whole number of {unit}{range}, written without a unit"),
            },
            Kind::Switch => "true or false".to_owned(),
            Kind::Text => "a string".to_owned(),
            Kind::Choice(words) => format!("one of {}", words.join(", ")),
        }
    }

    fn unknown_key(&mut self, place: Source, name: &str, value: &str) {
        self.problems.push(match keys::first_of_section(name) {
            Some(first) => Problem::Value {
                place,
                key: name.to_owned(),
                value: value.to_owned(),
                reason: format!("it must be a section of keys, such as `{}`", first.name),
            },
            None => Problem::UnknownKey {
                place,
                key: name.to_owned(),
                nearest: keys::nearest(name, keys::all().map(|key| key.name.to_owned())),
            },
        });
    }

    fn finish(mut self) -> Result<Effective, Error> {
        let refused: BTreeSet<_> = self
            .problems
            .iter()
            .filter_map(|problem| Some(problem.key()?.to_owned()))
            .collect();
        let config: Config = self
            .table
            .try_into()
            .expect("values of declared kinds make a configuration");
        let mut check = Check::without(refused);
        config.check(&mut check);
        let wrong = check.into_problems().into_iter().map(|problem| {
            let place = problem.key().and_then(|key| self.sources.get(key)).cloned();
            problem.at(place.unwrap_or(Source::Default))
        });
        self.problems.extend(wrong);
        match Error::of(self.problems) {
            Some(error) => Err(error),
            None => Ok(Effective::new(config, self.sources)),
        }
    }
}

/// Where in the text each key stands.
fn find_positions(section: &str, table: &DeTable<'_>, found: &mut BTreeMap<String, usize>) {
    for (name, value) in table.iter() {
        let key = if section.is_empty() {
            name.get_ref().to_string()
        } else {
            format!("{section}.{}", name.get_ref())
        };
        match Spanned::get_ref(value) {
            DeValue::Table(inner) => find_positions(&key, inner, found),
            _ => drop(found.insert(key, name.span().start)),
        }
    }
}

pub(super) fn is_of_a_service(variable: &str) -> bool {
    SERVICE_VARIABLES.iter().any(|part| variable.contains(part))
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "an integer",
        Value::Float(_) => "a float",
        Value::Boolean(_) => "a boolean",
        Value::Datetime(_) => "a date or time",
        Value::Array(_) => "an array",
        Value::Table(_) => "a table",
    }
}
