//! One record inside a batch.
//!
//! ```text
//! length            varint    bytes that follow it
//! attributes        1 byte    0
//! timestamp delta   varlong   to the batch's base timestamp
//! offset delta      varint    to the batch's base offset: 0, 1, 2, ...
//! key length        varint    -1: no key
//! key
//! value length      varint    -1: no value
//! value
//! header count      varint
//!   key length      varint    then the key, UTF-8
//!   value length    varint    -1: no value; then the value
//! ```

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use super::varint;

/// The fewest bytes a record takes: no key, no value, no header, small deltas.
pub const MIN_RECORD_BYTES: usize = 7;

/// A header of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Name; several headers of a record may share it.
    pub key: String,
    /// Content; `None` and empty are different.
    pub value: Option<Bytes>,
}

/// A record to append to a batch, borrowed from the caller.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewRecord<'a> {
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// `None` and empty are different.
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// In the order given.
    pub headers: &'a [Header],
}

/// What is wrong with the bytes of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A field reaches over the end of the record, or the record over the end of the batch.
    #[error("it is cut short")]
    Cut,
    /// An integer takes more than 5 or 10 bytes, or is cut.
    #[error("an integer in it is malformed")]
    Varint,
    /// A length below zero, or below -1 where -1 means none.
    #[error("a length or count in it is negative")]
    NegativeLength,
    /// The fields end before the declared length does.
    #[error("it declares more bytes than its fields take")]
    TrailingBytes,
    /// Record attributes have no meaning yet and must be 0.
    #[error("it sets unknown attribute bits")]
    Attributes,
    /// Offset deltas count 0, 1, 2, ...
    #[error("its offset delta is {found}")]
    OffsetDelta {
        /// The delta in the record.
        found: i32,
    },
    /// Base timestamp and delta overflow.
    #[error("its timestamp overflows")]
    Timestamp,
    /// A header key that is not UTF-8.
    #[error("a header key is not UTF-8")]
    HeaderKey,
}

/// Where the parts of a checked record lie in the bytes it was parsed from.
///
/// Invariant: every range is inside those bytes, and `headers` holds exactly `header_count` well-formed headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) timestamp_delta_ms: i64,
    pub(super) key: Option<Range<usize>>,
    pub(super) value: Option<Range<usize>>,
    pub(super) header_count: u32,
    pub(super) headers: Range<usize>,
    /// First byte after the record.
    pub(super) end: usize,
}

/// Checks the record that begins at `start`; its offset delta must be `offset_delta`.
pub(super) fn parse(bytes: &[u8], start: usize, offset_delta: u32) -> Result<Layout, Problem> {
    let mut cursor = Cursor { bytes, at: start };
    let length = usize::try_from(cursor.varint()?).map_err(|_| Problem::NegativeLength)?;
    let end = cursor.at.checked_add(length).ok_or(Problem::Cut)?;
    cursor.bytes = bytes.get(..end).ok_or(Problem::Cut)?;
    if cursor.byte()? != 0 {
        return Err(Problem::Attributes);
    }
    let timestamp_delta_ms = cursor.varlong()?;
    let found = cursor.varint()?;
    if i64::from(found) != i64::from(offset_delta) {
        return Err(Problem::OffsetDelta { found });
    }
    let key = cursor.nullable_range()?;
    let value = cursor.nullable_range()?;
    let header_count = u32::try_from(cursor.varint()?).map_err(|_| Problem::NegativeLength)?;
    let headers_start = cursor.at;
    for _ in 0..header_count {
        let key = cursor.range()?;
        if std::str::from_utf8(&bytes[key]).is_err() {
            return Err(Problem::HeaderKey);
        }
        cursor.nullable_range()?;
    }
    if cursor.at != end {
        return Err(Problem::TrailingBytes);
    }
    Ok(Layout {
        timestamp_delta_ms,
        key,
        value,
        header_count,
        headers: headers_start..end,
        end,
    })
}

/// Decodes one header at the start of checked header bytes: the header, and how many bytes it took.
pub(super) fn parse_header(bytes: &Bytes) -> Result<(Header, usize), Problem> {
    let mut cursor = Cursor { bytes, at: 0 };
    let key = cursor.range()?;
    let key = std::str::from_utf8(&bytes[key]).map_err(|_| Problem::HeaderKey)?;
    let value = cursor.nullable_range()?.map(|range| bytes.slice(range));
    let header = Header {
        key: key.to_owned(),
        value,
    };
    Ok((header, cursor.at))
}

/// Bytes of the record after its length field.
pub(super) fn body_len(
    record: &NewRecord<'_>,
    timestamp_delta_ms: i64,
    offset_delta: u32,
) -> usize {
    let headers: usize = record
        .headers
        .iter()
        .map(|header| {
            nullable_len(Some(header.key.as_bytes())) + nullable_len(header.value.as_deref())
        })
        .sum();
    1 + varint::encoded_len(timestamp_delta_ms)
        + varint::encoded_len(i64::from(offset_delta))
        + nullable_len(record.key)
        + nullable_len(record.value)
        + varint::encoded_len(length(record.headers.len()))
        + headers
}

/// Appends the record; `body_len` is what [`body_len`] says of it, and at most [`i32::MAX`].
pub(super) fn put(
    out: &mut BytesMut,
    record: &NewRecord<'_>,
    timestamp_delta_ms: i64,
    offset_delta: u32,
    body_len: usize,
) {
    // The fixed part is gathered on the stack: one bounds check and one copy instead of one per byte.
    let mut prefix = [0; 3 * varint::MAX_I32_BYTES + varint::MAX_I64_BYTES + 1];
    let mut len = varint::write(length(body_len), &mut prefix);
    prefix[len] = 0;
    len += 1;
    len += varint::write(timestamp_delta_ms, &mut prefix[len..]);
    len += varint::write(i64::from(offset_delta), &mut prefix[len..]);
    len += varint::write(nullable_length(record.key), &mut prefix[len..]);
    out.extend_from_slice(&prefix[..len]);
    out.extend_from_slice(record.key.unwrap_or_default());
    put_nullable(out, record.value);
    put_varint(out, length(record.headers.len()));
    for header in record.headers {
        put_nullable(out, Some(header.key.as_bytes()));
        put_nullable(out, header.value.as_deref());
    }
}

fn put_nullable(out: &mut BytesMut, bytes: Option<&[u8]>) {
    put_varint(out, nullable_length(bytes));
    out.extend_from_slice(bytes.unwrap_or_default());
}

fn put_varint(out: &mut BytesMut, value: i64) {
    let mut scratch = [0; varint::MAX_I64_BYTES];
    let len = varint::write(value, &mut scratch);
    out.put_slice(&scratch[..len]);
}

fn nullable_len(bytes: Option<&[u8]>) -> usize {
    varint::encoded_len(nullable_length(bytes)) + bytes.map_or(0, <[u8]>::len)
}

fn nullable_length(bytes: Option<&[u8]>) -> i64 {
    bytes.map_or(-1, |bytes| length(bytes.len()))
}

fn length(len: usize) -> i64 {
    i64::try_from(len).expect("no slice is longer than isize::MAX bytes")
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn byte(&mut self) -> Result<u8, Problem> {
        let byte = *self.rest().first().ok_or(Problem::Cut)?;
        self.at += 1;
        Ok(byte)
    }

    fn varint(&mut self) -> Result<i32, Problem> {
        let (value, len) = varint::read_i32(self.rest()).ok_or(Problem::Varint)?;
        self.at += len;
        Ok(value)
    }

    fn varlong(&mut self) -> Result<i64, Problem> {
        let (value, len) = varint::read_i64(self.rest()).ok_or(Problem::Varint)?;
        self.at += len;
        Ok(value)
    }

    fn range(&mut self) -> Result<Range<usize>, Problem> {
        self.nullable_range()?.ok_or(Problem::NegativeLength)
    }

    fn nullable_range(&mut self) -> Result<Option<Range<usize>>, Problem> {
        let length = self.varint()?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| Problem::NegativeLength)?;
        if length > self.rest().len() {
            return Err(Problem::Cut);
        }
        let start = self.at;
        self.at += length;
        Ok(Some(start..self.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(record: &NewRecord<'_>, timestamp_delta_ms: i64, offset_delta: u32) -> Vec<u8> {
        let mut out = BytesMut::new();
        let len = body_len(record, timestamp_delta_ms, offset_delta);
        put(&mut out, record, timestamp_delta_ms, offset_delta, len);
        out.to_vec()
    }

    fn sample_headers() -> Vec<Header> {
        vec![
            Header {
                key: "h".into(),
                value: Some(Bytes::from_static(b"x")),
            },
            Header {
                key: String::new(),
                value: None,
            },
        ]
    }

    #[test]
    fn a_record_has_kafkas_bytes() {
        let headers = sample_headers();
        let record = NewRecord {
            timestamp_ms: 0,
            key: Some(b"k"),
            value: Some(b"val"),
            headers: &headers,
        };
        let bytes = encode(&record, 100, 1);
        #[rustfmt::skip]
        assert_eq!(bytes, [
            34,                 // length 17
            0,                  // attributes
            0xc8, 0x01,         // timestamp delta 100
            2,                  // offset delta 1
            2, b'k',            // key
            6, b'v', b'a', b'l',// value
            4,                  // two headers
            2, b'h', 2, b'x',   //   h = x
            0, 1,               //   "" = null
        ]);
        let layout = parse(&bytes, 0, 1).unwrap();
        assert_eq!(layout.timestamp_delta_ms, 100);
        assert_eq!(&bytes[layout.key.unwrap()], b"k");
        assert_eq!(&bytes[layout.value.unwrap()], b"val");
        assert_eq!((layout.header_count, layout.end), (2, bytes.len()));
    }

    #[test]
    fn the_smallest_record_is_as_small_as_claimed() {
        assert_eq!(encode(&NewRecord::default(), 0, 0).len(), MIN_RECORD_BYTES);
    }

    #[test]
    fn each_lie_in_a_record_is_named() {
        let headers = sample_headers();
        let record = NewRecord {
            key: Some(b"k"),
            headers: &headers,
            ..NewRecord::default()
        };
        let good = encode(&record, 0, 0);
        assert!(parse(&good, 0, 0).is_ok());
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            parse(&bytes, 0, 0).unwrap_err()
        };
        assert_eq!(parse(&good, 0, 1), Err(Problem::OffsetDelta { found: 0 }));
        assert_eq!(parse(&good[..good.len() - 1], 0, 0), Err(Problem::Cut));
        assert_eq!(parse(&[], 0, 0), Err(Problem::Varint));
        assert_eq!(with(0, 1), Problem::NegativeLength);
        assert_eq!(with(1, 1), Problem::Attributes);
        assert_eq!(with(4, 3), Problem::NegativeLength);
        assert_eq!(with(4, 0x7e), Problem::Cut);
        assert_eq!(with(7, 1), Problem::NegativeLength);
        assert_eq!(with(7, 2), Problem::TrailingBytes);
        assert_eq!(with(7, 8), Problem::Varint);
        assert_eq!(with(9, 0xff), Problem::HeaderKey);
        assert_eq!(with(8, 1), Problem::NegativeLength);
    }
}
