//! The keys of the configuration: which exist, and setting one by its dotted name.

use serde::Serialize;
use toml::{Table, Value};

use super::Error;

/// How far a misspelt key may be from a known one to be worth suggesting (1 is equal).
const LEAST_SIMILARITY: f64 = 0.7;

/// A configuration as a table. Its keys are all the keys there are.
pub(super) fn table_of(config: &impl Serialize) -> Table {
    Table::try_from(config).expect("a configuration is a table of plain values")
}

/// Overwrites values of `table` by those of a TOML text.
pub(super) fn merge(table: &mut Table, text: &str, origin: &str) -> Result<(), Error> {
    let changes: Table = text
        .parse()
        .map_err(|error: toml::de::Error| Error::Syntax {
            origin: origin.to_owned(),
            reason: error.to_string(),
        })?;
    for (key, value) in leaves(&changes) {
        set(table, &key, value.clone(), origin)?;
    }
    Ok(())
}

/// Overwrites one value of `table` by an assignment `key=value`. What is no TOML value is taken as a string.
pub(super) fn assign(table: &mut Table, assignment: &str) -> Result<(), Error> {
    let (key, text) = assignment.split_once('=').ok_or_else(|| Error::Syntax {
        origin: format!("--set {assignment}"),
        reason: "it must be key=value".to_owned(),
    })?;
    let value = format!("value = {text}")
        .parse::<Table>()
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_owned()));
    set(table, key.trim(), value, "--set")
}

/// The end of an error message about an unknown key.
pub(super) fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or_else(
        || "; `--print-config` shows all keys".to_owned(),
        |key| format!("; did you mean `{key}`?"),
    )
}

fn set(table: &mut Table, key: &str, value: Value, origin: &str) -> Result<(), Error> {
    let unknown = |table: &Table| Error::UnknownKey {
        origin: origin.to_owned(),
        key: key.to_owned(),
        nearest: nearest(table, key),
    };
    let known = leaves(table).iter().any(|(known, _)| known == key);
    if !known {
        return Err(unknown(table));
    }
    let mut slot = &mut *table;
    let (folders, name) = match key.rsplit_once('.') {
        Some((folders, name)) => (folders.split('.').collect(), name),
        None => (Vec::new(), key),
    };
    for folder in folders {
        slot = slot
            .get_mut(folder)
            .and_then(Value::as_table_mut)
            .expect("the key is one of the table's own");
    }
    slot.insert(name.to_owned(), value);
    Ok(())
}

fn nearest(table: &Table, key: &str) -> Option<String> {
    leaves(table)
        .into_iter()
        .map(|(known, _)| (strsim::jaro_winkler(&known, key), known))
        .filter(|(similarity, _)| *similarity >= LEAST_SIMILARITY)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

/// Every value that is not a table, with its dotted key.
fn leaves(table: &Table) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) => found.extend(
                leaves(inner)
                    .into_iter()
                    .map(|(rest, value)| (format!("{key}.{rest}"), value)),
            ),
            _ => found.push((key.clone(), value)),
        }
    }
    found
}
