//! The configuration of topics by Kafka's names: one table of names, bounds, defaults and meaning.

use std::collections::BTreeMap;
use std::fmt;

use crate::topic::{TimestampType, TopicConfig};

/// Configs that a topic sets itself, by name.
pub type Overrides = BTreeMap<String, String>;

/// Segments are made of whole pages.
const PAGE_BYTES: u64 = 4096;
/// A suggestion must be at least this similar to what was written, from 0 to 1.
const SIMILAR: f64 = 0.8;
/// Characters of a refused name or value that are repeated in the answer.
const SHOWN_CHARS: usize = 64;

/// What a config means and which values it takes.
#[derive(Debug)]
pub struct Key {
    /// Kafka's name of it.
    pub name: &'static str,
    /// What it means, with unit.
    pub documentation: &'static str,
    kind: Kind,
    get: fn(&TopicConfig) -> Value,
    set: fn(&mut TopicConfig, Value),
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A whole number in these bounds.
    Integer { min: i64, max: i64 },
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Choice {
        supported: &'static [&'static str],
        unsupported: &'static [&'static str],
        why: &'static str,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Integer(i64),
    Flag(bool),
    Word(&'static str),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => number.fmt(f),
            Self::Flag(flag) => flag.fmt(f),
            Self::Word(word) => word.fmt(f),
        }
    }
}

impl Value {
    fn integer(self) -> i64 {
        match self {
            Self::Integer(number) => number,
            other => unreachable!("the table gives {other:?} to a number"),
        }
    }

    fn flag(self) -> bool {
        match self {
            Self::Flag(flag) => flag,
            other => unreachable!("the table gives {other:?} to a flag"),
        }
    }

    fn natural(self) -> u64 {
        u64::try_from(self.integer()).expect("the table bounds it from below by 0")
    }

    /// A number where -1 stands for none.
    fn optional(self) -> Option<u64> {
        u64::try_from(self.integer()).ok()
    }

    fn of(number: u64) -> Self {
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }

    fn of_optional(number: Option<u64>) -> Self {
        number.map_or(Self::Integer(-1), Self::of)
    }
}

/// Every config that topics have, by name.
pub static KEYS: &[Key] = &[
    Key {
        name: "cleanup.policy",
        documentation: "How old records leave: `delete` removes whole segments by `retention.ms` and `retention.bytes`.",
        kind: Kind::Choice {
            supported: &["delete"],
            unsupported: &["compact", "compact,delete", "delete,compact"],
            why: "compaction is not built yet",
        },
        get: |_| Value::Word("delete"),
        set: |_, _| {},
    },
    Key {
        name: "compression.type",
        documentation: "Who compresses: with `producer`, batches are stored as their producer compressed them.",
        kind: Kind::Choice {
            supported: &["producer"],
            unsupported: &["uncompressed", "gzip", "snappy", "lz4", "zstd"],
            why: "the broker stores batches as they are sent and never compresses; set the producer's compression",
        },
        get: |_| Value::Word("producer"),
        set: |_, _| {},
    },
    Key {
        name: "max.message.bytes",
        documentation: "Largest batch in bytes, as sent (after compression).",
        kind: Kind::Integer {
            min: 128,
            max: 16 << 20,
        },
        get: |config| Value::of(config.max_message_bytes),
        set: |config, value| config.max_message_bytes = value.natural(),
    },
    Key {
        name: "message.timestamp.after.max.ms",
        documentation: "How far in the future, in milliseconds, a producer may date a record.",
        kind: Kind::Integer {
            min: 0,
            max: i64::MAX,
        },
        get: |config| Value::of(config.timestamp_after_max_ms),
        set: |config, value| config.timestamp_after_max_ms = value.natural(),
    },
    Key {
        name: "message.timestamp.before.max.ms",
        documentation: "How far in the past, in milliseconds, a producer may date a record.",
        kind: Kind::Integer {
            min: 0,
            max: i64::MAX,
        },
        get: |config| Value::of(config.timestamp_before_max_ms),
        set: |config, value| config.timestamp_before_max_ms = value.natural(),
    },
    Key {
        name: "message.timestamp.type",
        documentation: "Who dates records: `CreateTime` the producer, `LogAppendTime` the partition's leader.",
        kind: Kind::Choice {
            supported: &["CreateTime", "LogAppendTime"],
            unsupported: &[],
            why: "",
        },
        get: |config| {
            Value::Word(match config.timestamp_type {
                TimestampType::CreateTime => "CreateTime",
                TimestampType::LogAppendTime => "LogAppendTime",
            })
        },
        set: |config, value| {
            config.timestamp_type = match value {
                Value::Word("LogAppendTime") => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            };
        },
    },
    Key {
        name: "min.insync.replicas",
        documentation: "Replicas that must be able to take part in a write. A majority is always needed.",
        kind: Kind::Integer { min: 1, max: 255 },
        get: |config| Value::of(u64::from(config.min_insync_replicas)),
        set: |config, value| {
            config.min_insync_replicas =
                u32::try_from(value.natural()).expect("the table bounds it from above by 255");
        },
    },
    Key {
        name: "retention.bytes",
        documentation: "The oldest segments of a partition leave while the rest holds this many bytes; -1: never.",
        kind: Kind::Integer {
            min: -1,
            max: i64::MAX,
        },
        get: |config| Value::of_optional(config.retention_bytes),
        set: |config, value| config.retention_bytes = value.optional(),
    },
    Key {
        name: "retention.ms",
        documentation: "Segments whose records are all older than this many milliseconds leave; -1: never.",
        kind: Kind::Integer {
            min: -1,
            max: i64::MAX,
        },
        get: |config| Value::of_optional(config.retention_ms),
        set: |config, value| config.retention_ms = value.optional(),
    },
    Key {
        name: "segment.bytes",
        documentation: "Largest size of a segment in bytes, taken down to whole 4 KiB pages. Records leave by whole segments.",
        kind: Kind::Integer {
            min: 64 << 10,
            max: i32::MAX as i64,
        },
        get: |config| Value::of(config.segment_bytes),
        set: |config, value| config.segment_bytes = value.natural() / PAGE_BYTES * PAGE_BYTES,
    },
    Key {
        name: "segment.ms",
        documentation: "A segment with records is closed after this many milliseconds, so that retention can reach it.",
        kind: Kind::Integer {
            min: 1,
            max: i64::MAX,
        },
        get: |config| Value::of(config.segment_ms),
        set: |config, value| config.segment_ms = value.natural(),
    },
    Key {
        name: "write.caching",
        documentation: "Acknowledge when a majority holds a batch in memory (Kafka's default promise) instead of on disk.",
        kind: Kind::Flag,
        get: |config| Value::Flag(config.write_caching),
        set: |config, value| config.write_caching = value.flag(),
    },
];

/// Names that Kafka knows and Highwater does not, with the reason.
static UNSUPPORTED: &[(&str, &str)] = &[
    ("compression.gzip.level", "the broker never compresses"),
    ("compression.lz4.level", "the broker never compresses"),
    ("compression.zstd.level", "the broker never compresses"),
    ("consumer_byte_rate", "quotas are not built yet"),
    ("controller_mutation_rate", "quotas are not built yet"),
    ("delete.retention.ms", "compaction is not built yet"),
    (
        "file.delete.delay.ms",
        "a file leaves when its last reader has left",
    ),
    (
        "flush.messages",
        "what is acknowledged is on disk; see write.caching",
    ),
    (
        "flush.ms",
        "what is acknowledged is on disk; see write.caching",
    ),
    (
        "follower.replication.throttled.replicas",
        "replication throttles are not built yet",
    ),
    (
        "index.interval.bytes",
        "indexes are derived data and tune themselves",
    ),
    (
        "leader.replication.throttled.replicas",
        "replication throttles are not built yet",
    ),
    ("local.retention.bytes", "tiered storage is not built yet"),
    ("local.retention.ms", "tiered storage is not built yet"),
    ("max.compaction.lag.ms", "compaction is not built yet"),
    (
        "message.downconversion.enable",
        "there is one message format",
    ),
    ("message.format.version", "there is one message format"),
    (
        "message.timestamp.difference.max.ms",
        "use message.timestamp.before.max.ms and message.timestamp.after.max.ms",
    ),
    ("min.cleanable.dirty.ratio", "compaction is not built yet"),
    ("min.compaction.lag.ms", "compaction is not built yet"),
    ("preallocate", "segments always are"),
    ("producer_byte_rate", "quotas are not built yet"),
    ("remote.log.copy.disable", "tiered storage is not built yet"),
    (
        "remote.log.delete.on.disable",
        "tiered storage is not built yet",
    ),
    ("remote.storage.enable", "tiered storage is not built yet"),
    ("request_percentage", "quotas are not built yet"),
    (
        "segment.index.bytes",
        "indexes are derived data and tune themselves",
    ),
    (
        "segment.jitter.ms",
        "segments of different partitions already end at different times",
    ),
    (
        "unclean.leader.election.enable",
        "a leader always has every acknowledged record",
    ),
];

/// Why a config is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No config has this name.
    #[error("there is no topic config `{name}`{}", suggest(*.suggestion))]
    Unknown {
        /// The name, cut to 64 characters.
        name: String,
        /// A config whose name is similar.
        suggestion: Option<&'static str>,
    },
    /// Kafka has this config or value; this version does not.
    #[error("topic config `{what}` is not supported: {why}")]
    Unsupported {
        /// Name, or name and value.
        what: String,
        /// The reason.
        why: &'static str,
    },
    /// The value is not one that the config takes.
    #[error("topic config `{name}` is `{value}`, it must be {expected}")]
    Invalid {
        /// The config.
        name: &'static str,
        /// The value, cut to 64 characters.
        value: String,
        /// What it takes.
        expected: String,
    },
}

fn suggest(suggestion: Option<&'static str>) -> String {
    suggestion.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

/// The config of this name.
///
/// # Errors
/// [`ConfigError::Unknown`], or [`ConfigError::Unsupported`] when only Kafka has it.
pub fn key(name: &str) -> Result<&'static Key, ConfigError> {
    if let Some(key) = KEYS.iter().find(|key| key.name == name) {
        return Ok(key);
    }
    if let Some((name, why)) = UNSUPPORTED.iter().find(|(known, _)| *known == name) {
        return Err(ConfigError::Unsupported {
            what: (*name).to_owned(),
            why,
        });
    }
    let name = shown(name);
    let similarity = |key: &Key| strsim::jaro_winkler(key.name, &name);
    let closest = KEYS
        .iter()
        .max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    let suggestion = closest
        .filter(|key| similarity(key) >= SIMILAR)
        .map(|key| key.name);
    Err(ConfigError::Unknown { name, suggestion })
}

/// Checks configs that a topic is to set; returns them as they are to be stored, without blanks around the values.
///
/// # Errors
/// The first name or value that is refused.
pub fn check(overrides: &Overrides) -> Result<Overrides, ConfigError> {
    let check_one = |(name, text): (&String, &String)| {
        let value = key(name)?.parse(text)?;
        Ok((name.clone(), value.to_string()))
    };
    overrides.iter().map(check_one).collect()
}

/// The configuration of a topic whose overrides were accepted, perhaps by another version: what this one does not take
/// stays at its default.
pub fn resolve(overrides: &Overrides) -> TopicConfig {
    let mut config = TopicConfig::default();
    for (name, text) in overrides {
        if let Ok(key) = key(name)
            && let Ok(value) = key.parse(text)
        {
            (key.set)(&mut config, value);
        }
    }
    config
}

/// A config of a topic as it is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Kafka's name of it.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// Whether the topic sets it itself.
    pub is_override: bool,
    /// What it means, with unit.
    pub documentation: &'static str,
}

/// Every config of a topic, by name.
pub fn describe(overrides: &Overrides) -> Vec<Setting> {
    let config = resolve(overrides);
    let setting = |key: &Key| Setting {
        name: key.name,
        value: (key.get)(&config).to_string(),
        is_override: overrides.contains_key(key.name),
        documentation: key.documentation,
    };
    KEYS.iter().map(setting).collect()
}

impl Key {
    /// The value in force when a topic does not set it.
    pub fn default_value(&self) -> String {
        (self.get)(&TopicConfig::default()).to_string()
    }

    fn parse(&self, text: &str) -> Result<Value, ConfigError> {
        let text = text.trim();
        match self.kind {
            Kind::Integer { min, max } => match text.parse() {
                Ok(number) if (min..=max).contains(&number) => Ok(Value::Integer(number)),
                _ if max == i64::MAX => {
                    Err(self.invalid(text, format!("a whole number, at least {min}")))
                }
                _ => Err(self.invalid(text, format!("a whole number from {min} to {max}"))),
            },
            Kind::Flag => match text {
                "true" => Ok(Value::Flag(true)),
                "false" => Ok(Value::Flag(false)),
                _ => Err(self.invalid(text, "`true` or `false`".to_owned())),
            },
            Kind::Choice {
                supported,
                unsupported,
                why,
            } => {
                if let Some(word) = supported.iter().find(|word| **word == text) {
                    return Ok(Value::Word(word));
                }
                if unsupported.contains(&text.replace(' ', "").as_str()) {
                    let what = format!("{}={text}", self.name);
                    return Err(ConfigError::Unsupported { what, why });
                }
                Err(self.invalid(text, format!("one of {}", supported.join(", "))))
            }
        }
    }

    fn invalid(&self, value: &str, expected: String) -> ConfigError {
        ConfigError::Invalid {
            name: self.name,
            value: shown(value),
            expected,
        }
    }
}

/// What is repeated of text that a client sent.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(overrides: &Overrides) -> Result<TopicConfig, ConfigError> {
        check(overrides).map(|checked| resolve(&checked))
    }

    fn one(name: &str, value: &str) -> Overrides {
        Overrides::from([(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn defaults_are_kafkas() {
        let defaults: Vec<_> = KEYS
            .iter()
            .map(|key| (key.name, key.default_value()))
            .collect();
        let expected = [
            ("cleanup.policy", "delete"),
            ("compression.type", "producer"),
            ("max.message.bytes", "1048588"),
            ("message.timestamp.after.max.ms", "3600000"),
            ("message.timestamp.before.max.ms", "9223372036854775807"),
            ("message.timestamp.type", "CreateTime"),
            ("min.insync.replicas", "1"),
            ("retention.bytes", "-1"),
            ("retention.ms", "604800000"),
            ("segment.bytes", "1073741824"),
            ("segment.ms", "604800000"),
            ("write.caching", "false"),
        ];
        assert_eq!(
            defaults,
            expected.map(|(name, value)| (name, value.to_owned()))
        );
    }

    #[test]
    fn every_default_is_a_value_that_its_config_takes() {
        for key in KEYS {
            let parsed = parse(&one(key.name, &key.default_value()));
            assert_eq!(parsed, Ok(TopicConfig::default()), "{}", key.name);
        }
    }

    #[test]
    fn the_tables_are_in_order_and_hold_no_name_twice() {
        assert!(KEYS.is_sorted_by(|a, b| a.name < b.name));
        assert!(UNSUPPORTED.is_sorted_by(|a, b| a.0 < b.0));
        assert!(
            UNSUPPORTED
                .iter()
                .all(|(name, _)| KEYS.iter().all(|key| key.name != *name))
        );
    }

    #[test]
    fn values_are_taken_in_their_bounds() {
        let overrides = Overrides::from(
            [
                ("retention.ms", " 5 "),
                ("retention.bytes", "0"),
                ("segment.bytes", "70000"),
                ("segment.ms", "1"),
                ("max.message.bytes", "128"),
                ("message.timestamp.type", "LogAppendTime"),
                ("message.timestamp.before.max.ms", "7"),
                ("message.timestamp.after.max.ms", "8"),
                ("min.insync.replicas", "2"),
                ("write.caching", "true"),
                ("cleanup.policy", "delete"),
                ("compression.type", "producer"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let expected = TopicConfig {
            retention_ms: Some(5),
            retention_bytes: Some(0),
            segment_bytes: 69_632,
            segment_ms: 1,
            max_message_bytes: 128,
            timestamp_type: TimestampType::LogAppendTime,
            timestamp_before_max_ms: 7,
            timestamp_after_max_ms: 8,
            min_insync_replicas: 2,
            write_caching: true,
        };
        assert_eq!(parse(&overrides), Ok(expected));
        assert_eq!(
            parse(&one("retention.ms", "-1")).unwrap().retention_ms,
            None
        );
    }

    #[test]
    fn what_is_stored_has_no_blanks_around_it() {
        let checked = check(&one("retention.ms", " 5 \t")).unwrap();
        assert_eq!(checked, one("retention.ms", "5"));
    }

    #[test]
    fn values_out_of_bounds_are_refused_by_name() {
        for (name, value) in [
            ("retention.ms", "-2"),
            ("retention.ms", "9223372036854775808"),
            ("retention.ms", "7d"),
            ("retention.ms", ""),
            ("segment.ms", "0"),
            ("segment.bytes", "65535"),
            ("segment.bytes", "2147483648"),
            ("max.message.bytes", "16777217"),
            ("min.insync.replicas", "0"),
            ("write.caching", "yes"),
            ("message.timestamp.type", "createtime"),
            ("cleanup.policy", "purge"),
        ] {
            let error = parse(&one(name, value)).unwrap_err();
            let ConfigError::Invalid { name: named, .. } = &error else {
                panic!("{name}={value}: {error}");
            };
            assert_eq!(*named, name);
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_a_suggestion() {
        let suggested = |name: &str| match key(name).unwrap_err() {
            ConfigError::Unknown { suggestion, .. } => suggestion,
            other => panic!("{other}"),
        };
        assert_eq!(suggested("retention.msec"), Some("retention.ms"));
        assert_eq!(suggested("retension.bytes"), Some("retention.bytes"));
        assert_eq!(suggested("Retention.Ms"), Some("retention.ms"));
        assert_eq!(suggested("xyzzy"), None);
        let error = parse(&one("segmentbytes", "1")).unwrap_err();
        let text = "there is no topic config `segmentbytes`; did you mean `segment.bytes`?";
        assert_eq!(error.to_string(), text);
        assert!(key(&"x".repeat(10_000)).unwrap_err().to_string().len() < 200);
    }

    #[test]
    fn what_kafka_has_and_highwater_has_not_is_unsupported() {
        for (name, value) in [
            ("cleanup.policy", "compact"),
            ("cleanup.policy", "compact, delete"),
            ("compression.type", "zstd"),
            ("flush.messages", "1"),
            ("producer_byte_rate", "1"),
        ] {
            let error = parse(&one(name, value)).unwrap_err();
            assert!(
                matches!(error, ConfigError::Unsupported { .. }),
                "{name}: {error}"
            );
        }
    }

    #[test]
    fn a_config_of_another_version_stays_at_its_default() {
        let mut overrides = one("a.config.of.tomorrow", "1");
        overrides.insert("retention.ms".to_owned(), "5".to_owned());
        overrides.insert("segment.ms".to_owned(), "soon".to_owned());
        let expected = TopicConfig {
            retention_ms: Some(5),
            ..TopicConfig::default()
        };
        assert_eq!(resolve(&overrides), expected);
    }

    #[test]
    fn a_description_shows_what_is_in_force() {
        let settings = describe(&one("retention.ms", "5"));
        assert_eq!(settings.len(), KEYS.len());
        let overridden: Vec<_> = settings
            .iter()
            .filter(|setting| setting.is_override)
            .collect();
        assert_eq!(overridden.len(), 1);
        assert_eq!(
            (overridden[0].name, overridden[0].value.as_str()),
            ("retention.ms", "5")
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(name in ".{0,40}", value in ".{0,40}", number: i64) {
            let _ = parse(&one(&name, &value));
            for key in KEYS {
                let _ = parse(&one(key.name, &value));
                if let Ok(config) = parse(&one(key.name, &number.to_string())) {
                    prop_assert_eq!(config, resolve(&one(key.name, &number.to_string())));
                }
            }
        }
    }
}
