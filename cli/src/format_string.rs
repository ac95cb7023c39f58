//! The output format of `consume -f`: text with fields (`%v`) and escapes (`\n`).
//!
//! | field | what |
//! |---|---|
//! | `%t` | topic |
//! | `%p` | partition |
//! | `%o` | offset |
//! | `%k` | key; nothing for null |
//! | `%v` | value; nothing for null |
//! | `%h` | headers as `name=value`, with `,` between them |
//! | `%T` | timestamp, milliseconds since the Unix epoch |
//! | `%%` | a `%` |

use std::io::Write;
use std::str::FromStr;

use highwater_client::Header;

use crate::escape;
use crate::record::Record;

/// A parsed format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FormatString {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Key,
    Value,
    Headers,
    Timestamp,
}

/// Why a text is no format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Error {
    /// `%` followed by a character that names no field.
    UnknownField(char),
    /// `%` at the end.
    Unfinished,
    /// An escape that is none.
    Escape(escape::Error),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownField(character) => write!(f, "`%{character}` is no field")?,
            Self::Unfinished => write!(f, "a single `%` stands at the end")?,
            Self::Escape(error) => return error.fmt(f),
        }
        write!(
            f,
            "; fields are %t topic, %p partition, %o offset, %k key, %v value, %h headers, %T timestamp, and %% is a %"
        )
    }
}

impl std::error::Error for Error {}

impl FormatString {
    /// The format that prints each value on a line of its own.
    pub(crate) fn value_per_line() -> Self {
        Self {
            parts: vec![Part::Value, Part::Literal(b"\n".to_vec())],
        }
    }

    /// Appends the record in this format to `out`.
    pub(crate) fn write(&self, record: &Record<'_>, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Literal(bytes) => out.extend_from_slice(bytes),
                Part::Topic => out.extend_from_slice(record.topic.as_bytes()),
                Part::Partition => write_number(out, record.partition),
                Part::Offset => write_number(out, record.offset),
                Part::Key => out.extend_from_slice(record.key.unwrap_or_default()),
                Part::Value => out.extend_from_slice(record.value.unwrap_or_default()),
                Part::Headers => write_headers(out, record.headers),
                Part::Timestamp => write_number(out, record.timestamp_ms),
            }
        }
    }
}

fn write_number(out: &mut Vec<u8>, number: impl std::fmt::Display) {
    write!(out, "{number}").expect("writing to a Vec cannot fail");
}

fn write_headers(out: &mut Vec<u8>, headers: &[Header]) {
    for (position, header) in headers.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        out.extend_from_slice(header.key.as_bytes());
        out.push(b'=');
        out.extend_from_slice(header.value.as_deref().unwrap_or_default());
    }
}

impl FromStr for FormatString {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut rest = text.chars();
        while let Some(character) = rest.next() {
            match character {
                '\\' => {
                    literal.push(escape::escaped_byte(&mut rest).map_err(Error::Escape)?);
                    continue;
                }
                '%' => {}
                other => {
                    literal.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
            }
            let Some(field) = parse_field(rest.next().ok_or(Error::Unfinished)?)? else {
                literal.push(b'%');
                continue;
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(field);
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self { parts })
    }
}

/// The field that a letter names; none for `%`, which stands for itself.
fn parse_field(letter: char) -> Result<Option<Part>, Error> {
    Ok(Some(match letter {
        't' => Part::Topic,
        'p' => Part::Partition,
        'o' => Part::Offset,
        'k' => Part::Key,
        'v' => Part::Value,
        'h' => Part::Headers,
        'T' => Part::Timestamp,
        '%' => return Ok(None),
        other => return Err(Error::UnknownField(other)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn formatted(format: &str, record: &Record<'_>) -> String {
        let mut out = Vec::new();
        format
            .parse::<FormatString>()
            .unwrap()
            .write(record, &mut out);
        String::from_utf8(out).unwrap()
    }

    const RECORD: Record<'static> = Record {
        topic: "flights",
        partition: 3,
        offset: 42,
        key: Some(b"UA"),
        value: Some(b"EWR,IAH"),
        headers: &[],
        timestamp_ms: -5,
    };

    #[test]
    fn every_field_prints_its_part_of_the_record() {
        let header = |key: &str, value: Option<&'static [u8]>| Header {
            key: key.into(),
            value: value.map(Bytes::from_static),
        };
        let record = Record {
            headers: &[header("source", Some(b"faa")), header("note", None)],
            ..RECORD
        };
        assert_eq!(
            formatted(r"%t %p %o %k %v %h %T%%\n", &record),
            "flights 3 42 UA EWR,IAH source=faa,note= -5%\n"
        );
    }

    #[test]
    fn null_key_and_value_print_nothing() {
        let record = Record {
            key: None,
            value: None,
            ..RECORD
        };
        assert_eq!(formatted("[%k|%v|%h]", &record), "[||]");
    }

    #[test]
    fn the_default_is_the_value_and_a_line_end() {
        assert_eq!(
            FormatString::value_per_line(),
            r"%v\n".parse::<FormatString>().unwrap()
        );
    }

    #[test]
    fn values_that_are_not_utf8_pass_unchanged() {
        let record = Record {
            value: Some(&[0xff, 0x00]),
            ..RECORD
        };
        let mut out = Vec::new();
        FormatString::value_per_line().write(&record, &mut out);
        assert_eq!(out, [0xff, 0x00, b'\n']);
    }

    #[test]
    fn unknown_fields_and_escapes_are_refused() {
        assert_eq!("%q".parse::<FormatString>(), Err(Error::UnknownField('q')));
        assert_eq!("100%".parse::<FormatString>(), Err(Error::Unfinished));
        assert_eq!(
            r"%v\q".parse::<FormatString>(),
            Err(Error::Escape(escape::Error::Unknown('q')))
        );
    }
}
