//! How settings are declared: [`settings!`] makes a section of the configuration from one list that gives each key its
//! type, its default and what it is for.
//!
//! The same list is what `docs/configuration.md` is generated from, so that a key cannot come without its reason.

use std::path::PathBuf;

use toml::Value;

/// Declares a section of the configuration. The documentation of a field goes to `docs/configuration.md`.
macro_rules! settings {
    (
        $(#[doc = $about:literal])+
        pub struct $name:ident {
            $(
                $(#[doc = $documentation:literal])+
                pub $field:ident: $type:ty = $default:expr,
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $(
                $(#[doc = $documentation])+
                pub $field: $type,
            )+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl $crate::config::setting::Setting for $name {
            fn declare(
                place: $crate::config::setting::Place,
                found: &mut Vec<$crate::config::setting::Declared>,
            ) {
                found.push($crate::config::setting::Declared {
                    place: place.clone(),
                    kind: None,
                });
                $(
                    <$type as $crate::config::setting::Setting>::declare(
                        place.inner(stringify!($field), concat!($($documentation),+)),
                        found,
                    );
                )+
            }
        }
    };
}

pub(super) use settings;

/// A type that a key, or a whole section, may have.
pub(super) trait Setting {
    /// Adds what it declares, itself first.
    fn declare(place: Place, found: &mut Vec<Declared>);
}

/// A section or key as declared.
#[derive(Clone, Debug)]
pub(super) struct Declared {
    pub(super) place: Place,
    /// What values it takes; `None` for a section.
    pub(super) kind: Option<Kind>,
}

/// Where something stands in the configuration, and what it is for.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// The dotted key; empty for the whole.
    pub(super) key: String,
    /// The documentation of its field.
    pub(super) documentation: &'static str,
}

impl Place {
    /// A field in it.
    pub(super) fn inner(&self, field: &str, documentation: &'static str) -> Self {
        let key = if self.key.is_empty() {
            field.to_owned()
        } else {
            format!("{}.{field}", self.key)
        };
        Self {
            key,
            documentation: documentation.trim(),
        }
    }
}

/// What values a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A whole number, not negative.
    Number {
        /// The largest that its type holds.
        most: u64,
    },
    /// `true` or `false`.
    Switch,
    /// Any text.
    Text,
    /// One of some words.
    Choice(&'static [&'static str]),
}

impl Kind {
    /// Whether the value is of this kind.
    pub(super) fn fits(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Number { most }, Value::Integer(number)) => {
                u64::try_from(*number).is_ok_and(|number| number <= most)
            }
            (Self::Switch, Value::Boolean(_)) | (Self::Text, Value::String(_)) => true,
            (Self::Choice(words), Value::String(text)) => words.contains(&text.as_str()),
            _ => false,
        }
    }

    /// The value that a text gives, as it stands in the environment or behind a flag.
    pub(super) fn parse(self, text: &str) -> Option<Value> {
        match self {
            Self::Number { .. } => text.replace('_', "").parse().map(Value::Integer).ok(),
            Self::Switch => text.parse().map(Value::Boolean).ok(),
            Self::Text | Self::Choice(_) => Some(Value::String(text.to_owned())),
        }
    }
}

/// Says what values a type of a key takes.
macro_rules! key_types {
    ($($type:ty => $kind:expr;)+) => {
        $(
            impl Setting for $type {
                fn declare(place: Place, found: &mut Vec<Declared>) {
                    found.push(Declared { place, kind: Some($kind) });
                }
            }
        )+
    };
}

key_types! {
    u32 => Kind::Number { most: u64::from(u32::MAX) };
    u64 => Kind::Number { most: LARGEST_NUMBER };
    usize => Kind::Number { most: LARGEST_NUMBER };
    bool => Kind::Switch;
    String => Kind::Text;
    PathBuf => Kind::Text;
    super::LogFormat => Kind::Choice(&["text", "json"]);
}

/// The largest number of TOML.
const LARGEST_NUMBER: u64 = i64::MAX.unsigned_abs();
