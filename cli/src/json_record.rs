//! Records as JSON, one object per line: what `consume --format json` prints and `produce --format json` reads.
//!
//! ```json
//! {"topic":"flights","partition":3,"offset":42,"key":"UA","value":"EWR,IAH","headers":[{"key":"source","value":"faa"}],"timestamp":1767225600000}
//! ```
//!
//! Null keys and values are `null`. Bytes that are not UTF-8 are `{"base64": ".."}`.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use highwater_client::Header;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq, SerializeStruct, Serializer};
use serde::{Deserialize, Serialize};

use crate::record::Record;

/// Appends the record as one line to `out`.
pub(crate) fn write(record: &Record<'_>, out: &mut Vec<u8>) {
    serde_json::to_writer(&mut *out, &Output(record))
        .expect("a record has only string keys, and writing to a Vec cannot fail");
    out.push(b'\n');
}

struct Output<'a>(&'a Record<'a>);

impl Serialize for Output<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(record) = self;
        let mut object = serializer.serialize_struct("Record", 7)?;
        object.serialize_field("topic", record.topic)?;
        object.serialize_field("partition", &record.partition)?;
        object.serialize_field("offset", &record.offset)?;
        object.serialize_field("key", &record.key.map(BytesOutput))?;
        object.serialize_field("value", &record.value.map(BytesOutput))?;
        object.serialize_field("headers", &HeadersOutput(record.headers))?;
        object.serialize_field("timestamp", &record.timestamp_ms)?;
        object.end()
    }
}

struct HeadersOutput<'a>(&'a [Header]);

impl Serialize for HeadersOutput<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut headers = serializer.serialize_seq(Some(self.0.len()))?;
        for header in self.0 {
            headers.serialize_element(&HeaderOutput {
                key: &header.key,
                value: header.value.as_deref().map(BytesOutput),
            })?;
        }
        headers.end()
    }
}

#[derive(Serialize)]
struct HeaderOutput<'a> {
    key: &'a str,
    value: Option<BytesOutput<'a>>,
}

/// Bytes: a string where they are UTF-8, otherwise base64 in an object.
struct BytesOutput<'a>(&'a [u8]);

impl Serialize for BytesOutput<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => {
                let mut object = serializer.serialize_map(Some(1))?;
                object.serialize_entry("base64", &BASE64_STANDARD.encode(self.0))?;
                object.end()
            }
        }
    }
}

/// A record to produce. `topic`, `partition` and `offset` may be there and are ignored: they say where the record
/// stood, so that the output of `consume` can be produced to another topic.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    #[serde(default, rename = "topic")]
    _topic: de::IgnoredAny,
    #[serde(default, rename = "partition")]
    _partition: de::IgnoredAny,
    #[serde(default, rename = "offset")]
    _offset: de::IgnoredAny,
    /// Key; missing or null: no key.
    #[serde(default)]
    pub(crate) key: Option<BytesInput>,
    /// Value; missing or null: null.
    #[serde(default)]
    pub(crate) value: Option<BytesInput>,
    /// Headers, in order.
    #[serde(default)]
    headers: Vec<HeaderInput>,
    /// Milliseconds since the Unix epoch; missing: now.
    #[serde(default)]
    pub(crate) timestamp: Option<i64>,
}

impl Input {
    /// Takes the headers out.
    pub(crate) fn take_headers(&mut self) -> impl Iterator<Item = Header> {
        std::mem::take(&mut self.headers)
            .into_iter()
            .map(|header| Header {
                key: header.key,
                value: header.value.map(|value| value.0.into()),
            })
    }
}

/// A header to produce.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderInput {
    key: String,
    /// Missing or null: null.
    #[serde(default)]
    value: Option<BytesInput>,
}

/// Bytes, given as a string or as `{"base64": ".."}`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BytesInput(pub(crate) Vec<u8>);

/// Reads a record from one line.
pub(crate) fn read(line: &[u8]) -> Result<Input, serde_json::Error> {
    serde_json::from_slice(line)
}

impl<'de> Deserialize<'de> for BytesInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BytesVisitor)
    }
}

struct BytesVisitor;

impl<'de> Visitor<'de> for BytesVisitor {
    type Value = BytesInput;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string, null or {\"base64\": \"..\"}")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<BytesInput, E> {
        Ok(BytesInput(text.as_bytes().to_vec()))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<BytesInput, E> {
        Ok(BytesInput(text.into_bytes()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<BytesInput, A::Error> {
        let Some((name, text)) = map.next_entry::<String, String>()? else {
            return Err(de::Error::missing_field("base64"));
        };
        if name != "base64" {
            return Err(de::Error::unknown_field(&name, &["base64"]));
        }
        if let Some(further) = map.next_key::<String>()? {
            return Err(de::Error::unknown_field(&further, &[]));
        }
        BASE64_STANDARD
            .decode(text)
            .map(BytesInput)
            .map_err(|error| de::Error::custom(format!("bad base64: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const RECORD: Record<'static> = Record {
        topic: "flights",
        partition: 3,
        offset: 42,
        key: Some(b"UA"),
        value: Some(b"\"EWR\",IAH"),
        headers: &[],
        timestamp_ms: 1_767_225_600_000,
    };

    fn header(key: &str, value: Option<&'static [u8]>) -> Header {
        Header {
            key: key.into(),
            value: value.map(Bytes::from_static),
        }
    }

    fn written(record: &Record<'_>) -> String {
        let mut out = Vec::new();
        write(record, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_record_is_one_line_with_its_fields_in_order() {
        assert_eq!(
            written(&RECORD),
            r#"{"topic":"flights","partition":3,"offset":42,"key":"UA","value":"\"EWR\",IAH","headers":[],"timestamp":1767225600000}"#
                .to_owned()
                + "\n"
        );
    }

    #[test]
    fn null_and_bytes_that_are_not_utf8_have_forms_of_their_own() {
        let record = Record {
            key: None,
            value: Some(&[0xff, 0xfe]),
            headers: &[
                header("a", Some(&[0x80])),
                header("a", None),
                header("b", Some(b"")),
            ],
            ..RECORD
        };
        assert_eq!(
            written(&record),
            r#"{"topic":"flights","partition":3,"offset":42,"key":null,"value":{"base64":"//4="},"headers":[{"key":"a","value":{"base64":"gA=="}},{"key":"a","value":null},{"key":"b","value":""}],"timestamp":1767225600000}"#
                .to_owned()
                + "\n"
        );
    }

    #[test]
    fn what_is_written_can_be_read() {
        let record = Record {
            key: None,
            value: Some(&[0xff]),
            headers: &[header("a", Some(b"1")), header("a", None)],
            ..RECORD
        };
        let input = read(written(&record).as_bytes()).unwrap();
        assert_eq!(
            input,
            Input {
                value: Some(BytesInput(vec![0xff])),
                headers: vec![
                    HeaderInput {
                        key: "a".into(),
                        value: Some(BytesInput(b"1".to_vec()))
                    },
                    HeaderInput {
                        key: "a".into(),
                        value: None
                    }
                ],
                timestamp: Some(1_767_225_600_000),
                ..Input::default()
            }
        );
    }

    #[test]
    fn a_value_alone_is_a_record() {
        let input = read(br#"{"value":"v"}"#).unwrap();
        assert_eq!(input.value, Some(BytesInput(b"v".to_vec())));
        assert_eq!(input.timestamp, None);
    }

    #[test]
    fn mistakes_are_named() {
        for (line, part_of_the_message) in [
            (&br#"{"vaule":"v"}"#[..], "unknown field `vaule`"),
            (br#"{"value":{"x":"v"}}"#, "unknown field `x`"),
            (br#"{"value":{}}"#, "missing field `base64`"),
            (br#"{"value":{"base64":"*"}}"#, "bad base64"),
            (br#"{"value":7}"#, "expected a string, null or"),
            (br#"{"value":"v"} x"#, "trailing characters"),
            (b"v", "expected value"),
        ] {
            let message = read(line).unwrap_err().to_string();
            assert!(message.contains(part_of_the_message), "{message}");
        }
    }
}
