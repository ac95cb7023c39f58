//! The page that documents every key, generated from the declarations.

use std::fmt::Write as _;

use toml::Value;

use super::Config;
use super::check::{Allowed, Bound, By, Check};
use super::keys::{self, Key};
use super::setting::Kind;

/// What stands before the tables.
const OPENING: &str = "\
# Configuration

<!-- Generated from broker/src/config by `highwater-broker config reference`; a test compares. -->

A value comes from the first of these that sets it:

1. a flag: `--listen`, `--data-dir` and others (`highwater-broker --help`), or `--set KEY=VALUE` for any key
2. the environment: `HIGHWATER_` and the key in capitals with `_` for `.`, such as `HIGHWATER_FETCH_MAX_BYTES` for `fetch.max_bytes`
3. the TOML file that `--config FILE` or `HIGHWATER_CONFIG` names
4. the default

`highwater-broker config check --config FILE` says everything that is wrong, each with the key, where it was set, and what is allowed;
its exit status is 0 when nothing is. `highwater-broker config print` shows the values in force with the source of each, as TOML that can be
used as a file again, or with `--format json` as an array of `{key, value, default, source, place}`. Both take the flags that the
broker takes. A key or variable that does not exist is refused: a misspelt limit that is silently ignored is no limit.

Numbers are whole and without a unit: the unit is the last word of the key (`_ms` milliseconds, `_bytes` bytes); where there is none, what
the key names is counted. `HIGHWATER_LOG` is short for `HIGHWATER_LOG_LEVEL`. Variables that Kubernetes sets for a service called `highwater`
are not taken for keys. A broker reads its configuration once, at its start.
";

/// The text of `docs/configuration.md`: every key with its default, unit, range and reason.
#[must_use]
pub fn reference() -> String {
    let defaults = keys::table_of(&Config::default());
    let mut check = Check::default();
    Config::default().check(&mut check);
    let mut page = OPENING.to_owned();
    for (section, documentation) in keys::sections() {
        if keys::in_section(section).next().is_none() {
            continue;
        }
        let heading = match section {
            "" => "\n## The broker\n".to_owned(),
            section => format!("\n## `[{section}]`\n\n{documentation}\n"),
        };
        page.push_str(&heading);
        page.push_str(
            "\n| key | default | unit | allowed | what it is for |\n|---|---|---|---|---|\n",
        );
        for key in keys::in_section(section) {
            let default = keys::value(&defaults, key);
            let documentation = key.documentation.replace('|', "\\|");
            writeln!(
                page,
                "| `{}` | {} | {} | {} | {documentation} |",
                key.name,
                show_default(key, default),
                key.unit(),
                allowed(key, &check)
            )
            .expect("writing to a String cannot fail");
        }
    }
    page
}

fn show_default(key: Key, value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => "empty".to_owned(),
        Value::Integer(number) => show_number(key, number.unsigned_abs()),
        value => format!("`{value}`"),
    }
}

fn allowed(key: Key, check: &Check) -> String {
    let allowed: Vec<_> = check
        .allowed(key.name)
        .iter()
        .map(|allowed| match allowed {
            Allowed::Range(least, most) => {
                format!("{} to {}", show_bound(key, least), show_bound(key, most))
            }
            Allowed::Described(sentence) => (*sentence).to_owned(),
        })
        .collect();
    match key.kind {
        _ if !allowed.is_empty() => allowed.join("; "),
        Kind::Choice(words) => words.join(", "),
        Kind::Switch => "true, false".to_owned(),
        _ => "any text".to_owned(),
    }
}

fn show_bound(key: Key, bound: &Bound) -> String {
    match bound.by {
        Some(By { key, relation }) => format!("{relation}`{key}`"),
        None => show_number(key, bound.value),
    }
}

/// A number as it is to be written, with what it means where that is easier to read.
fn show_number(key: Key, number: u64) -> String {
    let units: &[(u64, &str)] = match key.unit() {
        "bytes" => &[
            (1 << 40, "TiB"),
            (1 << 30, "GiB"),
            (1 << 20, "MiB"),
            (1 << 10, "KiB"),
        ],
        "milliseconds" => &[
            (86_400_000, "d"),
            (3_600_000, "h"),
            (60_000, "min"),
            (1_000, "s"),
        ],
        _ => &[],
    };
    let round = units
        .iter()
        .find(|(size, _)| number >= *size && number.is_multiple_of(*size));
    match round {
        Some((size, name)) => format!("{number} ({} {name})", number / size),
        None => number.to_string(),
    }
}
