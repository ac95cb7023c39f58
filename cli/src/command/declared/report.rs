//! How steps are shown: to people as lines with `+`, `~` and `-`, to programs as JSON.

use std::fmt::Write;

use serde::Serialize;

use super::plan::{Action, Step};
use crate::quantity::counted;

/// What happens to a topic, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Changed {
    pub(super) topic: String,
    action: Kind,
    changes: Vec<Change>,
    /// Records that are lost with a deleted topic.
    records: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Create,
    Alter,
    Delete,
}

/// A value of a topic that changes, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Change {
    /// `partitions`, `replicas`, or the name of a config.
    field: String,
    from: Option<String>,
    to: Option<String>,
}

/// The steps by topic. Those of one topic stand together.
pub(super) fn by_topic(steps: &[Step]) -> Vec<Changed> {
    let mut topics: Vec<Changed> = Vec::new();
    for step in steps {
        let (action, changes, records) = changes(&step.action);
        match topics.last_mut() {
            Some(last) if last.topic == step.topic => last.changes.extend(changes),
            _ => topics.push(Changed {
                topic: step.topic.clone(),
                action,
                changes,
                records,
            }),
        }
    }
    topics
}

fn changes(action: &Action) -> (Kind, Vec<Change>, Option<u64>) {
    let change = |field: &str, from: Option<String>, to: Option<String>| Change {
        field: field.to_owned(),
        from,
        to,
    };
    let number = |field, from: u32, to: u32| {
        let (from, to) = (Some(from.to_string()), Some(to.to_string()));
        vec![change(field, from, to)]
    };
    match action {
        Action::Create {
            partitions,
            replicas,
            configs,
        } => {
            let numbers = [("partitions", partitions), ("replicas", replicas)];
            let numbers = numbers.into_iter().filter_map(|(field, count)| {
                Some(change(field, None, Some(count.as_ref()?.to_string())))
            });
            let configs = configs
                .iter()
                .map(|(name, value)| change(name, None, Some(value.clone())));
            (Kind::Create, numbers.chain(configs).collect(), None)
        }
        Action::SetConfigs(configs) => {
            let configs = configs
                .iter()
                .map(|config| change(&config.name, config.from.clone(), config.to.clone()));
            (Kind::Alter, configs.collect(), None)
        }
        Action::AddPartitions { from, to } => (Kind::Alter, number("partitions", *from, *to), None),
        Action::SetReplicas { from, to } => (Kind::Alter, number("replicas", *from, *to), None),
        Action::Delete { records, .. } => (Kind::Delete, Vec::new(), Some(*records)),
    }
}

/// Lines for people; none where there is nothing to change.
pub(super) fn text(topics: &[Changed]) -> String {
    let mut text = String::new();
    for topic in topics {
        let mark = match topic.action {
            Kind::Create => '+',
            Kind::Alter => '~',
            Kind::Delete => '-',
        };
        let lost = topic.records.map_or(String::new(), |records| {
            format!(" with {}", counted(records, "record"))
        });
        // Writing to a string does not fail.
        let _ = writeln!(text, "{mark} topic {}{lost}", topic.topic);
        let widths = topic.changes.iter().map(|change| change.field.len());
        let width = widths.max().unwrap_or_default();
        for change in &topic.changes {
            let _ = writeln!(text, "    {}", change.line(width));
        }
    }
    text
}

impl Change {
    fn line(&self, width: usize) -> String {
        let (mark, values) = match (&self.from, &self.to) {
            (None, to) => ('+', to.clone().unwrap_or_default()),
            (Some(from), Some(to)) => ('~', format!("{from} -> {to}")),
            (Some(from), None) => ('-', format!("{from} -> (default)")),
        };
        format!("{mark} {:width$}  {values}", self.field)
    }
}

/// How many topics are touched in which way: `1 topic to create, 2 to alter`.
pub(super) fn summary(topics: &[Changed]) -> String {
    let kinds = [
        (Kind::Create, "create"),
        (Kind::Alter, "alter"),
        (Kind::Delete, "delete"),
    ];
    let mut parts = Vec::new();
    for (kind, verb) in kinds {
        let count = topics.iter().filter(|topic| topic.action == kind).count();
        match count {
            0 => {}
            _ if parts.is_empty() => {
                parts.push(format!("{} to {verb}", counted(count as u64, "topic")));
            }
            _ => parts.push(format!("{count} to {verb}")),
        }
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::plan::ConfigChange;
    use super::*;

    fn step(topic: &str, action: Action) -> Step {
        Step {
            topic: topic.into(),
            place: None,
            action,
        }
    }

    fn steps() -> Vec<Step> {
        let config = |name: &str, from: &str, to: Option<&str>| ConfigChange {
            name: name.into(),
            from: Some(from.into()),
            to: to.map(str::to_owned),
        };
        let create = Action::Create {
            partitions: Some(12),
            replicas: None,
            configs: [("retention.ms".to_owned(), "5".to_owned())].into(),
        };
        let configs = Action::SetConfigs(vec![
            config("retention.ms", "600", Some("700")),
            config("segment.ms", "60", None),
        ]);
        let delete = Action::Delete {
            id: None,
            partitions: 1,
            records: 5,
        };
        vec![
            step("new", create),
            step("known", Action::AddPartitions { from: 1, to: 2 }),
            step("known", configs),
            step("old", delete),
        ]
    }

    #[test]
    fn lines_say_what_comes_changes_and_goes() {
        let expected = "\
+ topic new
    + partitions    12
    + retention.ms  5
~ topic known
    ~ partitions    1 -> 2
    ~ retention.ms  600 -> 700
    - segment.ms    60 -> (default)
- topic old with 5 records
";
        assert_eq!(text(&by_topic(&steps())), expected);
        assert_eq!(text(&[]), "");
    }

    #[test]
    fn the_summary_counts_topics() {
        let topics = by_topic(&steps());
        assert_eq!(
            summary(&topics),
            "1 topic to create, 1 to alter, 1 to delete"
        );
        assert_eq!(summary(&topics[2..]), "1 topic to delete");
    }
}
