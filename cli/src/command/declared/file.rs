//! What a file says of topics, in YAML:
//! ```yaml
//! topics:
//!   - name: orders
//!     partitions: 12           # may be left out: the broker's default, or what there is
//!     replicas: 3              # the same
//!     configs:                 # may be left out: then configs are left alone
//!       retention.ms: 86400000
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde_saphyr::{Error as YamlError, Spanned, UserMessageFormatter};

use crate::failure::Failure;
use crate::near_names::near_names;
use crate::quantity::parse_at_least_one;

/// A topic as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Declared {
    pub(super) name: String,
    /// Where it is written.
    pub(super) place: Place,
    /// None: not said.
    pub(super) partitions: Option<u32>,
    /// None: not said.
    pub(super) replicas: Option<u32>,
    /// All configs that the topic sets; none: not said.
    pub(super) configs: Option<BTreeMap<String, String>>,
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: Arc<str>,
    pub(super) line: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}", self.file, self.line)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    topics: Vec<Topic>,
}

/// Numbers are read as text, in order to say in our words what is wrong with them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Topic {
    name: Spanned<String>,
    partitions: Option<Spanned<String>>,
    replicas: Option<Spanned<String>>,
    configs: Option<BTreeMap<String, Spanned<Option<String>>>>,
}

/// Reads `text`, which is what stands in the file of this name.
pub(super) fn parse(file: &str, text: &str) -> Result<Vec<Declared>, Failure> {
    let file = Arc::from(file);
    let document: Document =
        serde_saphyr::from_str(text).map_err(|error| not_understood(&file, &error))?;
    let topics = document.topics.into_iter();
    topics.map(|topic| declared(&file, topic)).collect()
}

/// Puts together what several files say; each topic is in one of them, once.
pub(super) fn merge(files: Vec<Vec<Declared>>) -> Result<Vec<Declared>, Failure> {
    let mut places: BTreeMap<String, Place> = BTreeMap::new();
    let merged: Vec<Declared> = files.into_iter().flatten().collect();
    for topic in &merged {
        if let Some(first) = places.insert(topic.name.clone(), topic.place.clone()) {
            let why = format!("topic \"{}\" is there already: {first}", topic.name);
            return Err(cannot_read(&topic.place, why));
        }
    }
    Ok(merged)
}

fn declared(file: &Arc<str>, topic: Topic) -> Result<Declared, Failure> {
    let place = |line: u64| Place {
        file: Arc::clone(file),
        line,
    };
    let count = |key: &str, written: Option<Spanned<String>>| {
        let Some(written) = written else {
            return Ok(None);
        };
        let place = place(written.referenced.line());
        let count = parse_at_least_one(&written.value);
        count.map(Some).map_err(|why| {
            let why = format!("`{}` is no number of {key}: {why}", written.value);
            cannot_read(&place, why)
        })
    };
    let config = |(name, written): (String, Spanned<Option<String>>)| match written.value {
        Some(value) => Ok((name, value)),
        None => {
            let why = format!("config `{name}` has no value");
            let failure = cannot_read(&place(written.referenced.line()), why);
            Err(failure.remedy("to return it to its default, leave its line out"))
        }
    };
    let configs = |written: BTreeMap<_, _>| written.into_iter().map(config).collect();
    Ok(Declared {
        place: place(topic.name.referenced.line()),
        name: topic.name.value,
        partitions: count("partitions", topic.partitions)?,
        replicas: count("replicas", topic.replicas)?,
        configs: topic.configs.map(configs).transpose()?,
    })
}

fn cannot_read(place: &Place, why: impl fmt::Display) -> Failure {
    Failure::new(format!("cannot read {place}"), why)
}

fn not_understood(file: &Arc<str>, error: &YamlError) -> Failure {
    let error = error.without_snippet();
    let place = Place {
        file: Arc::clone(file),
        line: error.location().map_or(1, |location| location.line()),
    };
    match beneath_aliases(error) {
        YamlError::SerdeUnknownField {
            field, expected, ..
        } => {
            let failure = cannot_read(&place, format!("there is no key `{field}`"));
            let near = near_names(field, expected.iter().copied());
            failure.remedy(if near.is_empty() {
                format!("the keys here are {}", expected.join(", "))
            } else {
                format!("did you mean {}?", near.join(" or "))
            })
        }
        YamlError::SerdeMissingField { field, .. } => {
            cannot_read(&place, format!("`{field}` is missing"))
        }
        YamlError::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or_default();
            cannot_read(&place, format!("`{key}` is there twice"))
        }
        YamlError::MultipleDocuments { .. } => cannot_read(&place, "a second document begins here")
            .remedy(
                "put each document into a file of its own; several may be given: -f FILE -f FILE",
            ),
        YamlError::Budget { .. } => cannot_read(&place, "up to here it is too long")
            .remedy("each use of an alias counts; several files may be given: -f FILE -f FILE"),
        // Its words for users end in the place, which is said already.
        error => {
            let words = error.render_with_formatter(&UserMessageFormatter);
            let words = words.lines().next().unwrap_or_default();
            let end = words.rfind(" at line ").unwrap_or(words.len());
            cannot_read(&place, &words[..end])
        }
    }
}

/// What is wrong where an alias is written out.
fn beneath_aliases(mut error: &YamlError) -> &YamlError {
    while let YamlError::AliasError { error: beneath, .. } = error {
        error = beneath.without_snippet();
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(line: u64) -> Place {
        let file = Arc::from("c.yaml");
        Place { file, line }
    }

    fn refused(text: &str) -> String {
        parse("c.yaml", text).unwrap_err().to_string()
    }

    #[test]
    fn a_topic_is_what_its_lines_say() {
        let text = "
topics:
  - name: orders
    partitions: 12
    replicas: 3
    configs:
      retention.ms: 86400000
      write.caching: true
  - name: flights
";
        let configs = [("retention.ms", "86400000"), ("write.caching", "true")];
        let configs = configs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let orders = Declared {
            name: "orders".into(),
            place: place(3),
            partitions: Some(12),
            replicas: Some(3),
            configs: Some(configs.into()),
        };
        let flights = Declared {
            name: "flights".into(),
            place: place(9),
            partitions: None,
            replicas: None,
            configs: None,
        };
        assert_eq!(parse("c.yaml", text).unwrap(), [orders, flights]);
    }

    #[test]
    fn configs_may_be_shared_by_an_anchor() {
        let text =
            "topics:\n- {name: a, configs: &c {retention.ms: 5}}\n- {name: b, configs: *c}\n";
        let topics = parse("c.yaml", text).unwrap();
        assert_eq!(topics[0].configs, topics[1].configs);
        assert_eq!(topics[1].configs.as_ref().unwrap()["retention.ms"], "5");
    }

    #[test]
    fn unknown_keys_are_refused_with_line_and_suggestion() {
        assert_eq!(
            refused("topics:\n- name: a\n  partitons: 3\n"),
            "error: cannot read c.yaml, line 3: there is no key `partitons`\n  did you mean partitions?"
        );
        assert_eq!(
            refused("topics:\n- name: a\n  colour: red\n"),
            "error: cannot read c.yaml, line 3: there is no key `colour`\n  \
             the keys here are name, partitions, replicas, configs"
        );
        assert_eq!(
            refused("topic: []\n"),
            "error: cannot read c.yaml, line 1: there is no key `topic`\n  did you mean topics?"
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, line, why) in [
            ("", 1, ""),
            ("- a\n", 1, ""),
            ("topics:\n- partitions: 1\n", 2, "`name` is missing"),
            (
                "topics:\n- name: a\n  name: b\n",
                3,
                "`name` is there twice",
            ),
            (
                "topics:\n- name: a\n  partitions: 3x\n",
                3,
                "`3x` is no number of partitions",
            ),
            (
                "topics:\n- name: a\n  replicas: 0\n",
                3,
                "`0` is no number of replicas",
            ),
            (
                "topics:\n- name: a\n  replicas: -1\n",
                3,
                "`-1` is no number of replicas",
            ),
            ("topics:\n- name: a\n  replicas: [1]\n", 3, ""),
            (
                "topics:\n- name: a\n  configs:\n    b:\n",
                4,
                "config `b` has no value",
            ),
            (
                "topics:\n- name: a\n  configs: {b: 1, b: 2}\n",
                3,
                "`b` is there twice",
            ),
            (
                "topics: []\n---\ntopics: []\n",
                3,
                "a second document begins here",
            ),
            ("topics:\n\t- name: a\n", 2, ""),
            ("topics: [\n", 1, ""),
        ] {
            let text = refused(text);
            let begin = format!("error: cannot read c.yaml, line {line}: ");
            assert!(text.starts_with(&begin) && text.contains(why), "{text}");
            for word in ["Option", "from_str", "u32"] {
                assert!(!text.contains(word), "words of the library: {text}");
            }
            assert_eq!(text.matches(&format!("line {line}")).count(), 1, "{text}");
        }
    }

    #[test]
    fn a_file_that_grows_when_read_is_refused() {
        let long = "v".repeat(1 << 16);
        let mut text = format!("topics:\n- {{name: a, configs: &c {{b: {long}}}}}\n");
        for number in 0..2_000 {
            text.push_str(&format!("- {{name: a{number}, configs: *c}}\n"));
        }
        let refused = refused(&text);
        assert!(refused.contains("too long"), "{refused}");
    }

    #[test]
    fn a_topic_is_declared_once() {
        let file = |name: &str| parse(name, "topics:\n- name: a\n").unwrap();
        assert_eq!(
            merge(vec![file("b.yaml"), file("c.yaml")])
                .unwrap_err()
                .to_string(),
            "error: cannot read c.yaml, line 2: topic \"a\" is there already: b.yaml, line 2"
        );
        assert_eq!(merge(vec![file("b.yaml")]).unwrap().len(), 1);
    }
}
