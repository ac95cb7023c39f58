//! Keeps the documentation, the dashboard and the alerts in step with the metrics.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use super::catalog::Entry;
use super::{Metrics, groups, topics};

const PREAMBLE: &str = "\
# Metrics

A broker shows its metrics on its HTTP listener (`server.http.address`, `127.0.0.1:7412` by default), in Prometheus' text format:

| page | what is there |
|---|---|
| `/metrics` | everything below but the last two sections |
| `/metrics/topics` | series per topic |
| `/metrics/groups` | the lag of the consumer groups that the broker coordinates, as of the moment in which the page is asked for |
| `/livez` | 200 while the process runs |
| `/readyz` | 200 while the broker serves clients, 503 while it starts, stops, or can write nothing; the body says what is wrong |

```yaml
scrape_configs:
  - job_name: highwater
    static_configs: [{ targets: [\"127.0.0.1:7412\"] }]
  - job_name: highwater-topics          # if wanted; less often where there are thousands of topics
    metrics_path: /metrics/topics
    scrape_interval: 1m
    static_configs: [{ targets: [\"127.0.0.1:7412\"] }]
  - job_name: highwater-groups          # if wanted, of all brokers
    metrics_path: /metrics/groups
    scrape_interval: 30s
    static_configs: [{ targets: [\"127.0.0.1:7412\"] }]
```

A dashboard for Grafana is in [ops/grafana/highwater.json](../ops/grafana/highwater.json), alert rules for Prometheus are in
[ops/prometheus/alerts.yml](../ops/prometheus/alerts.yml).

**No metric has a label for the partition**, but for those of the lag. A broker may hold 10,000 of them, which would make as many series for each metric;
`highwater topic describe` shows a single one. The number of topics is not bounded either: what is told per topic is on a page of
its own, read from numbers that the broker has anyhow, so that recording costs nothing per topic. Labels of the main page are
methods, reasons of errors, listeners, shards and states, all few.

The lag of a group is shown by the broker that coordinates it, per group, topic and partition; with more than 10,000 partitions on the page, not
per partition. The leaders of the partitions are asked while the page is made, so that it costs nothing when nobody asks, and the numbers are as right
after a change of leaders as before; a partition without a leader is left out, and so is a group without a coordinator. The lag in seconds is the
age of the oldest record that is not committed yet, by the record's own timestamp: it shows how far behind a group is before it has read
anything at the present rate, and needs no history. Producers whose clocks are wrong, or that send old events, make it wrong in the same way.

Histograms have buckets from 10 us to 10 s. Recording takes a few atomic operations and no lock. What is a level (sizes, queues,
health) is read when the page is asked for.

This page is made from the code: `HIGHWATER_UPDATE_DOCS=1 cargo test -p highwater-broker --lib metrics::reference` writes it.
";

/// Every metric that a broker shows.
fn entries() -> Vec<Entry> {
    let metrics = Metrics::new(&[]);
    let topics = topics::catalog();
    let groups = groups::catalog();
    let all = metrics.catalog.entries().iter().chain(topics.entries());
    all.chain(groups.entries()).cloned().collect()
}

fn markdown() -> String {
    let mut text = PREAMBLE.to_owned();
    let mut section = "";
    for entry in entries() {
        if entry.section != section {
            section = entry.section;
            let page = match section {
                "Topics" => " (`/metrics/topics`)",
                "Lag of consumer groups" => " (`/metrics/groups`)",
                _ => "",
            };
            write!(
                text,
                "\n## {section}{page}\n\n| name | kind | labels | meaning |\n|---|---|---|---|\n"
            )
            .unwrap();
        }
        let labels: Vec<_> = entry
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            entry.name,
            entry.kind.name(),
            labels.join(", "),
            entry.help
        )
        .unwrap();
    }
    text
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(name)
}

/// Words in `text` that begin as our metrics do, without what Prometheus adds to histograms.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
    words
        .filter(|word| word.starts_with("highwater_"))
        .map(|word| {
            ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| word.strip_suffix(suffix))
                .unwrap_or(word)
                .to_owned()
        })
        .collect()
}

#[test]
fn the_documentation_lists_every_metric() {
    let path = path("docs/metrics.md");
    let expected = markdown();
    if std::env::var_os("HIGHWATER_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == expected,
        "docs/metrics.md is stale: run this test with HIGHWATER_UPDATE_DOCS=1"
    );
}

#[test]
fn dashboard_and_alerts_name_metrics_that_exist() {
    let known: BTreeSet<String> = entries()
        .iter()
        .map(|entry| entry.name.to_owned())
        .collect();
    for file in ["ops/grafana/highwater.json", "ops/prometheus/alerts.yml"] {
        let text = std::fs::read_to_string(path(file)).unwrap();
        let named = named(&text);
        assert!(named.len() >= 10, "{file} names {named:?}");
        let unknown: Vec<_> = named.difference(&known).collect();
        assert!(unknown.is_empty(), "{file} names {unknown:?}");
    }
}

#[test]
fn names_follow_the_conventions_of_prometheus() {
    for Entry {
        name, kind, help, ..
    } in entries()
    {
        assert!(name.starts_with("highwater_"), "{name}");
        let is_total = name.ends_with("_total");
        assert_eq!(is_total, kind.name() == "counter", "{name}");
        assert!(!help.is_empty() && !help.ends_with('.'), "{name}: {help}");
        for unit in ["_ms", "_us", "_kb", "_mb", "_millis", "_milliseconds"] {
            assert!(!name.contains(unit), "{name}: seconds and bytes only");
        }
    }
}
