//! What is wrong with a configuration, in words that name the key, where it was set, and what is allowed.

use std::fmt;
use std::path::PathBuf;

/// Why a configuration is refused: everything that was found wrong with it, at least one thing.
#[derive(Debug)]
pub struct Error {
    problems: Vec<Problem>,
}

impl Error {
    /// An error of these problems; `None` when there are none.
    pub(super) fn of(problems: Vec<Problem>) -> Option<Self> {
        (!problems.is_empty()).then_some(Self { problems })
    }

    /// What was found, in the order of the files, variables and flags.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problems[..] {
            [only] => only.fmt(f),
            problems => {
                write!(f, "the configuration has {} problems", problems.len())?;
                problems
                    .iter()
                    .try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // Problems are shown whole by the text above; a reader of the chain would see them twice.
        None
    }
}

/// One thing that is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        reason: std::io::Error,
    },
    /// The text is no TOML.
    #[error("{place}: not valid TOML: {reason}")]
    Syntax {
        /// File and line.
        place: Source,
        /// What the parser said.
        reason: String,
    },
    /// There is no such key.
    #[error("{}there is no key `{key}`{}", prefix(.place), suggestion(.nearest.as_deref()))]
    UnknownKey {
        /// Where it is set.
        place: Source,
        /// The key.
        key: String,
        /// The key that was probably meant.
        nearest: Option<String>,
    },
    /// There is no such environment variable.
    #[error("environment variable {variable} sets no key{}", suggestion(.nearest.as_deref()))]
    UnknownVariable {
        /// Its name.
        variable: String,
        /// The variable that was probably meant.
        nearest: Option<String>,
    },
    /// The value cannot be used.
    #[error("{}`{key}` is {value}{}: {reason}", prefix(.place), by_default(.place))]
    Value {
        /// Where it is set.
        place: Source,
        /// The key.
        key: String,
        /// What it is set to.
        value: String,
        /// What it must be.
        reason: String,
    },
}

impl Problem {
    /// The same problem of a key that was set at `place`.
    pub(super) fn at(self, place: Source) -> Self {
        match self {
            Self::Value {
                key, value, reason, ..
            } => Self::Value {
                place,
                key,
                value,
                reason,
            },
            other => other,
        }
    }

    /// The key it is about, if it is about the value of one.
    pub(super) fn key(&self) -> Option<&str> {
        match self {
            Self::Value { key, .. } => Some(key),
            _ => None,
        }
    }
}

/// Where a value was set. Later ones win over earlier ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The program that the broker is embedded in.
    #[default]
    Program,
    /// Nowhere: it is the default.
    Default,
    /// The configuration file.
    File {
        /// Its path.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// An environment variable of this name.
    Environment(String),
    /// A flag of the command line.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program => f.write_str("program"),
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(variable) => write!(f, "environment variable {variable}"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

fn prefix(place: &Source) -> String {
    match place {
        Source::Program | Source::Default => String::new(),
        place => format!("{place}: "),
    }
}

fn by_default(place: &Source) -> &'static str {
    match place {
        Source::Default => " by default",
        _ => "",
    }
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or_else(
        || "; `highwater-broker config print` shows all keys".to_owned(),
        |name| format!("; did you mean `{name}`?"),
    )
}
