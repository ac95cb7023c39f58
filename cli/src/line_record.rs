//! How a line of input becomes a record.

use highwater_client::{Header, Record};

use crate::json_record;
use crate::separator::Separator;

/// What a line holds.
#[derive(Debug)]
pub(crate) enum LineForm {
    /// The value; the key is the same for all records, or there is none.
    Value { key: Option<Vec<u8>> },
    /// Key and value, with this between them.
    KeyAndValue(Separator),
    /// A record as JSON; it stands here while it is sent, as it is not a slice of the line.
    Json(json_record::Input),
}

/// The record that a line stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LineRecord<'a> {
    /// Key.
    pub(crate) key: Option<&'a [u8]>,
    /// Value.
    pub(crate) value: Option<&'a [u8]>,
    /// Headers, in order.
    pub(crate) headers: &'a [Header],
    /// Milliseconds since the Unix epoch; none: the time at which it is sent.
    pub(crate) timestamp_ms: Option<i64>,
}

impl<'a> LineRecord<'a> {
    /// The record as the producer takes it.
    pub(crate) fn to_topic(self, topic: &'a str, partition: Option<u32>) -> Record<'a> {
        let mut record = Record::to(topic).headers(self.headers);
        if let Some(partition) = partition {
            record = record.partition(partition);
        }
        if let Some(key) = self.key {
            record = record.key(key);
        }
        if let Some(value) = self.value {
            record = record.value(value);
        }
        if let Some(timestamp_ms) = self.timestamp_ms {
            record = record.timestamp_ms(timestamp_ms);
        }
        record
    }
}

/// Makes records of lines.
#[derive(Debug)]
pub(crate) struct LineParser {
    form: LineForm,
    /// Headers of every record, then, in JSON, those of the present one.
    headers: Vec<Header>,
    common_headers: usize,
}

/// Why a line is no record.
#[derive(Debug)]
pub(crate) enum Error {
    /// The separator is missing.
    NoSeparator(Separator),
    /// It is not the JSON of a record.
    Json(serde_json::Error),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoSeparator(separator) => write!(f, "there is no separator {separator} in it"),
            Self::Json(error) => {
                // serde_json counts lines within what it was given, which is one line.
                let text = error.to_string();
                let text = text.replace(" at line 1 column ", " at column ");
                write!(f, "it is no record in JSON: {text}")
            }
        }
    }
}

impl std::error::Error for Error {}

impl LineParser {
    /// A parser of lines of this form; all records get `headers`.
    pub(crate) fn new(form: LineForm, headers: Vec<Header>) -> Self {
        Self {
            form,
            common_headers: headers.len(),
            headers,
        }
    }

    /// The record that `line` stands for.
    pub(crate) fn parse<'a>(&'a mut self, line: &'a [u8]) -> Result<LineRecord<'a>, Error> {
        let (timestamp_ms, key, value) = match &mut self.form {
            LineForm::Value { key } => (None, key.as_deref(), Some(line)),
            LineForm::KeyAndValue(separator) => {
                let Some((key_length, separator_length)) = separator.find(line) else {
                    return Err(Error::NoSeparator(separator.clone()));
                };
                let value = &line[key_length + separator_length..];
                (None, Some(&line[..key_length]), Some(value))
            }
            LineForm::Json(record) => {
                *record = json_record::read(line).map_err(Error::Json)?;
                self.headers.truncate(self.common_headers);
                self.headers.extend(record.take_headers());
                (
                    record.timestamp,
                    record.key.as_ref().map(|key| key.0.as_slice()),
                    record.value.as_ref().map(|value| value.0.as_slice()),
                )
            }
        };
        Ok(LineRecord {
            timestamp_ms,
            key,
            value,
            headers: &self.headers,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(key: &str, value: &'static str) -> Header {
        Header {
            key: key.into(),
            value: Some(value.into()),
        }
    }

    #[test]
    fn a_line_is_a_value() {
        let mut parser = LineParser::new(LineForm::Value { key: None }, Vec::new());
        let record = parser.parse(b"a\tb").unwrap();
        assert_eq!((record.key, record.value), (None, Some(&b"a\tb"[..])));
        assert_eq!(record.timestamp_ms, None);
        assert_eq!(parser.parse(b"").unwrap().value, Some(&b""[..]));
    }

    #[test]
    fn one_key_and_headers_can_be_given_to_all() {
        let form = LineForm::Value {
            key: Some(b"k".to_vec()),
        };
        let mut parser = LineParser::new(form, vec![header("h", "1")]);
        for line in [b"a", b"b"] {
            let record = parser.parse(line).unwrap();
            assert_eq!(
                (record.key, record.value),
                (Some(&b"k"[..]), Some(&line[..]))
            );
            assert_eq!(record.headers, [header("h", "1")]);
        }
    }

    #[test]
    fn the_first_separator_ends_the_key() {
        let form = LineForm::KeyAndValue(r"\t".parse().unwrap());
        let mut parser = LineParser::new(form, Vec::new());
        let record = parser.parse(b"k\tv\tw").unwrap();
        assert_eq!(
            (record.key, record.value),
            (Some(&b"k"[..]), Some(&b"v\tw"[..]))
        );
        assert_eq!(
            parser.parse(b"kv").unwrap_err().to_string(),
            "there is no separator \"\\t\" in it"
        );
    }

    #[test]
    fn json_gives_each_record_its_own_parts() {
        let mut parser = LineParser::new(
            LineForm::Json(json_record::Input::default()),
            vec![header("all", "1")],
        );
        let line =
            br#"{"key":"k","value":null,"headers":[{"key":"one","value":"2"}],"timestamp":7}"#;
        let record = parser.parse(line).unwrap();
        assert_eq!((record.key, record.value), (Some(&b"k"[..]), None));
        assert_eq!(record.timestamp_ms, Some(7));
        assert_eq!(record.headers, [header("all", "1"), header("one", "2")]);

        let record = parser.parse(br#"{"value":"v"}"#).unwrap();
        assert_eq!((record.key, record.value), (None, Some(&b"v"[..])));
        assert_eq!(record.timestamp_ms, None);
        assert_eq!(record.headers, [header("all", "1")]);

        let error = parser.parse(b"v").unwrap_err().to_string();
        assert_eq!(error, "it is no record in JSON: expected value at column 1");
    }
}
