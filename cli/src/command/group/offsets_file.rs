//! Offsets of partitions in a file: a line `TOPIC PARTITION OFFSET` for each, or the JSON that `group seek`,
//! `group describe` or `group offset-delete` printed.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::failure::Failure;
use crate::quantity::parse_digits;

/// Offsets by topic and partition.
pub(super) type Offsets = BTreeMap<String, BTreeMap<u32, u64>>;

/// An object of the JSON: a partition, or a group with its partitions.
#[derive(Deserialize)]
struct Item {
    topic: Option<String>,
    partition: Option<u32>,
    to: Option<u64>,
    offset: Option<u64>,
    committed: Option<u64>,
    partitions: Option<serde_json::Value>,
}

/// Reads `text`, which is what stands in the file of this name.
pub(super) fn parse(file: &str, text: &str) -> Result<Offsets, Failure> {
    let offsets = if text.trim_start().starts_with('[') {
        parse_json(text).map_err(|why| Failure::new(format!("cannot read {file}"), why))
    } else {
        parse_lines(text).map_err(|(line, why)| {
            Failure::new(format!("cannot read {file}, line {line}"), why)
                .remedy("each line is TOPIC PARTITION OFFSET, such as: orders 3 1200")
        })
    }?;
    if offsets.is_empty() {
        let why = "there are no offsets in it";
        return Err(Failure::new(format!("cannot read {file}"), why));
    }
    Ok(offsets)
}

fn parse_lines(text: &str) -> Result<Offsets, (usize, String)> {
    let mut offsets = Offsets::new();
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().take(4).collect();
        let [topic, partition, offset] = words[..] else {
            return Err((number, "there are not three words in it".into()));
        };
        let Some(partition) = parse_digits(partition) else {
            return Err((number, format!("`{partition}` is no number of a partition")));
        };
        let Some(offset) = parse_digits(offset) else {
            return Err((number, format!("`{offset}` is no offset")));
        };
        insert(&mut offsets, topic, partition, offset).map_err(|why| (number, why))?;
    }
    Ok(offsets)
}

fn parse_json(text: &str) -> Result<Offsets, String> {
    let items: Vec<Item> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut offsets = Offsets::new();
    let mut groups = 0;
    for (item, number) in items.into_iter().zip(1..) {
        match item.partitions {
            None => take(&mut offsets, item, &format!("object {number}"))?,
            // Those that `group delete` prints have a number there.
            Some(partitions) => {
                groups += 1;
                let partitions: Vec<Item> = serde_json::from_value(partitions)
                    .map_err(|error| format!("the partitions of object {number}: {error}"))?;
                for (item, place) in partitions.into_iter().zip(1..) {
                    take(
                        &mut offsets,
                        item,
                        &format!("partition {place} of object {number}"),
                    )?;
                }
            }
        }
    }
    if groups > 1 {
        return Err("it is about several groups".into());
    }
    Ok(offsets)
}

/// Takes over what an object says; a partition without a committed offset says nothing.
fn take(offsets: &mut Offsets, item: Item, place: &str) -> Result<(), String> {
    let topic = item
        .topic
        .ok_or_else(|| format!("{place} has no `topic`"))?;
    let partition = item
        .partition
        .ok_or_else(|| format!("{place} has no `partition`"))?;
    match item.to.or(item.offset).or(item.committed) {
        Some(offset) => insert(offsets, &topic, partition, offset),
        None => Ok(()),
    }
}

fn insert(offsets: &mut Offsets, topic: &str, partition: u32, offset: u64) -> Result<(), String> {
    let topic_offsets = offsets.entry(topic.to_owned()).or_default();
    match topic_offsets.insert(partition, offset) {
        None => Ok(()),
        Some(_) => Err(format!("{topic}/{partition} is there twice")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(text: &str) -> Vec<(String, u32, u64)> {
        let parsed = parse("f", text).unwrap().into_iter();
        let each = |(topic, offsets): (String, BTreeMap<u32, u64>)| {
            let of_topic = offsets.into_iter();
            of_topic.map(move |(partition, offset)| (topic.clone(), partition, offset))
        };
        parsed.flat_map(each).collect()
    }

    fn refused(text: &str) -> String {
        parse("f", text).unwrap_err().to_string()
    }

    #[test]
    fn a_line_is_a_partition() {
        let text = "# where they were\n\nb 1 7\n  a\t0  18446744073709551615\r\nb 0 5\n";
        let expected = [("a", 0, u64::MAX), ("b", 0, 5), ("b", 1, 7)];
        assert_eq!(
            offsets(text),
            expected.map(|(t, p, o)| (t.to_owned(), p, o))
        );
    }

    #[test]
    fn what_commands_printed_is_read() {
        let expected = [("a".to_owned(), 1, 7)];
        for json in [
            r#"[{"topic":"a","partition":1,"from":null,"to":7}]"#,
            r#"[{"topic":"a","partition":1,"offset":7}]"#,
            r#"[{"group":"g","lag":1,"partitions":[
                {"topic":"a","partition":1,"committed":7,"end":9},
                {"topic":"a","partition":2,"committed":null,"end":9}]}]"#,
        ] {
            assert_eq!(offsets(json), expected, "{json}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, told) in [
            ("a 0 5\na 1\n", "f, line 2: there are not three words in it"),
            ("a 0 5 6\n", "f, line 1: there are not three words in it"),
            ("a x 5\n", "f, line 1: `x` is no number of a partition"),
            (
                "a 4294967296 5\n",
                "f, line 1: `4294967296` is no number of a partition",
            ),
            ("a 0 -5\n", "f, line 1: `-5` is no offset"),
            ("a 0 5\na 0 6\n", "f, line 2: a/0 is there twice"),
            ("\n# nothing\n", "f: there are no offsets in it"),
            ("[]", "f: there are no offsets in it"),
            ("[{\"topic\":\"a\",\n\"partition\":-1}]", "line 2"),
            ("[{\"topic\":\"a\"}]", "f: object 1 has no `partition`"),
            (
                "[{\"partitions\":[]},{\"partitions\":[]}]",
                "several groups",
            ),
            (
                "[{\"group\":\"g\",\"partitions\":3}]",
                "the partitions of object 1",
            ),
        ] {
            let refused = refused(text);
            assert!(refused.contains(told), "{refused}");
        }
    }
}
