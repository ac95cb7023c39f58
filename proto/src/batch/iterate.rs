//! Taking batches apart.

use bytes::{Buf, Bytes};

use super::compression::decompress;
use super::record::{self, Header};
use super::{BatchHeader, Error, HEADER_BYTES, MIN_RECORD_BYTES, TimestampType};
use crate::Offset;

/// A batch whose contents contradict its header or its checksum.
#[derive(Debug, thiserror::Error)]
#[error("the batch at offset {offset} cannot be read from offset {record_offset} on")]
pub struct BadBatch {
    /// Base offset of the batch.
    pub offset: Offset,
    /// The first record that could not be read.
    pub record_offset: Offset,
    /// What is wrong.
    pub source: Error,
}

/// One record, its parts sharing the memory of the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the partition.
    pub offset: Offset,
    /// Milliseconds since 1970: of its creation, or of its append where the topic is configured so.
    pub timestamp_ms: i64,
    /// `None` and empty are different.
    pub key: Option<Bytes>,
    /// `None` is a tombstone in a compacted topic.
    pub value: Option<Bytes>,
    /// Decoded when asked for.
    pub headers: Headers,
}

/// The headers of a record, decoded one by one as they are iterated.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Headers {
    /// Exactly `count` well-formed headers.
    bytes: Bytes,
    count: u32,
}

impl Headers {
    /// How many are left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether none is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The headers, leaving these untouched.
    #[must_use]
    pub fn iter(&self) -> Self {
        self.clone()
    }
}

impl Iterator for Headers {
    type Item = Header;

    fn next(&mut self) -> Option<Header> {
        self.count = self.count.checked_sub(1)?;
        let (header, len) =
            record::parse_header(&self.bytes).expect("checked when the record was parsed");
        self.bytes.advance(len);
        Some(header)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}

impl ExactSizeIterator for Headers {}

/// The records of one batch, in order.
///
/// Uncompressed records share the memory of the batch; compressed ones that of one decompressed copy. After an error
/// the iterator ends.
#[derive(Debug)]
pub struct Records {
    header: BatchHeader,
    /// The records, decompressed.
    body: Bytes,
    at: usize,
    /// Records given out so far.
    given: u32,
    ended: bool,
}

impl Records {
    /// Opens a batch: parses the header, verifies the checksum, decompresses. `max_decompressed_bytes` bounds what the
    /// records may take, compressed or not.
    ///
    /// # Errors
    /// The first thing that is wrong with the batch as a whole.
    pub fn open(batch: Bytes, max_decompressed_bytes: usize) -> Result<Self, BadBatch> {
        let at = |offset, source| BadBatch {
            offset,
            record_offset: offset,
            source,
        };
        let header = BatchHeader::parse(&batch).map_err(|source| at(Offset(0), source))?;
        Self::open_body(header, &batch, max_decompressed_bytes)
            .map_err(|source| at(header.base_offset, source))
    }

    fn open_body(header: BatchHeader, batch: &Bytes, max_bytes: usize) -> Result<Self, Error> {
        super::validate::check_length(&header, batch)?;
        super::validate::check_checksum(&header, batch)?;
        let body = decompress(header.compression, &batch.slice(HEADER_BYTES..), max_bytes)?;
        let most = body.len() / MIN_RECORD_BYTES;
        if header.record_count as usize > most {
            return Err(Error::RecordCount {
                found: header.record_count,
                most: most as u64,
            });
        }
        Ok(Self {
            header,
            body,
            at: 0,
            given: 0,
            ended: false,
        })
    }

    /// The header of the batch.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Bytes of memory that the records share: the decompressed size.
    #[must_use]
    pub fn body_bytes(&self) -> usize {
        self.body.len()
    }

    fn next_record(&mut self) -> Result<Option<Record>, Error> {
        if self.given == self.header.record_count {
            let left = self.body.len() - self.at;
            if left > 0 {
                return Err(Error::BytesAfterRecords { bytes: left as u64 });
            }
            return Ok(None);
        }
        let malformed = |problem| Error::Record {
            record: self.given,
            problem,
        };
        let layout = record::parse(&self.body, self.at, self.given).map_err(malformed)?;
        let timestamp_ms = match self.header.timestamp_type {
            TimestampType::LogAppendTime => self.header.max_timestamp_ms,
            TimestampType::CreateTime => self
                .header
                .base_timestamp_ms
                .checked_add(layout.timestamp_delta_ms)
                .ok_or_else(|| malformed(record::Problem::Timestamp))?,
        };
        let record = Record {
            offset: self.next_offset(),
            timestamp_ms,
            key: layout.key.map(|range| self.body.slice(range)),
            value: layout.value.map(|range| self.body.slice(range)),
            headers: Headers {
                bytes: if layout.header_count == 0 {
                    Bytes::new()
                } else {
                    self.body.slice(layout.headers)
                },
                count: layout.header_count,
            },
        };
        self.at = layout.end;
        self.given += 1;
        Ok(Some(record))
    }

    fn next_offset(&self) -> Offset {
        self.header.base_offset.plus(u64::from(self.given))
    }
}

impl Iterator for Records {
    type Item = Result<Record, BadBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.next_record() {
            Ok(Some(record)) => Some(Ok(record)),
            Ok(None) => {
                self.ended = true;
                None
            }
            Err(source) => {
                self.ended = true;
                Some(Err(BadBatch {
                    offset: self.header.base_offset,
                    record_offset: self.next_offset(),
                    source,
                }))
            }
        }
    }
}

impl std::iter::FusedIterator for Records {}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;
    use crate::batch::{
        BatchBuilder, Compression, NewRecord, header, set_log_append_time, set_position,
    };

    const PLENTY: usize = 1 << 20;

    fn three_records(codec: Compression) -> BytesMut {
        let mut builder = BatchBuilder::new();
        for (i, text) in ["a", "b", "c"].into_iter().enumerate() {
            let record = NewRecord {
                timestamp_ms: 10 + i as i64,
                value: Some(text.as_bytes()),
                ..NewRecord::default()
            };
            builder.append(&record).unwrap();
        }
        BytesMut::from(&builder.finish(codec, None).unwrap()[..])
    }

    fn reseal(batch: &mut BytesMut) {
        let crc = header::checksum(batch);
        batch[header::CRC_AT..header::CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
    }

    #[test]
    fn records_carry_offsets_from_the_patched_base() {
        let mut batch = three_records(Compression::Zstd);
        set_position(&mut batch, Offset(1_000), 7).unwrap();
        let records = Records::open(batch.freeze(), PLENTY).unwrap();
        let seen: Vec<_> = records
            .map(|record| record.map(|r| (r.offset.0, r.timestamp_ms, r.value.unwrap())))
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(
            seen,
            [
                (1_000, 10, Bytes::from("a")),
                (1_001, 11, Bytes::from("b")),
                (1_002, 12, Bytes::from("c"))
            ]
        );
    }

    #[test]
    fn append_time_replaces_every_record_timestamp() {
        let mut batch = three_records(Compression::None);
        set_log_append_time(&mut batch, 99).unwrap();
        let records = Records::open(batch.freeze(), PLENTY).unwrap();
        assert!(records.map(Result::unwrap).all(|r| r.timestamp_ms == 99));
    }

    #[test]
    fn a_lie_is_reported_with_the_offset_where_reading_stopped() {
        let mut batch = three_records(Compression::None);
        set_position(&mut batch, Offset(50), 1).unwrap();
        let second_offset_delta = HEADER_BYTES + 8 + 3;
        assert_eq!(batch[second_offset_delta], 2);
        batch[second_offset_delta] = 4;
        reseal(&mut batch);
        let mut records = Records::open(batch.freeze(), PLENTY).unwrap();
        assert_eq!(records.next().unwrap().unwrap().offset, Offset(50));
        let error = records.next().unwrap().unwrap_err();
        assert_eq!(
            (error.offset, error.record_offset),
            (Offset(50), Offset(51))
        );
        assert!(records.next().is_none());
    }

    #[test]
    fn a_flipped_bit_is_reported_before_any_record() {
        let mut batch = three_records(Compression::None);
        set_position(&mut batch, Offset(50), 1).unwrap();
        let last = batch.len() - 1;
        batch[last] ^= 1;
        let error = Records::open(batch.freeze(), PLENTY).unwrap_err();
        assert_eq!(error.offset, Offset(50));
        assert!(matches!(error.source, Error::Checksum { .. }));
    }

    #[test]
    fn bytes_after_the_last_record_are_an_error() {
        let mut batch = three_records(Compression::None);
        batch.extend_from_slice(&[0]);
        let length = u32::try_from(batch.len() - 12).unwrap();
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        reseal(&mut batch);
        let last = Records::open(batch.freeze(), PLENTY).unwrap().last();
        assert!(matches!(
            last,
            Some(Err(BadBatch {
                source: Error::BytesAfterRecords { bytes: 1 },
                ..
            }))
        ));
    }

    #[test]
    fn headers_decode_when_asked_for() {
        let headers = [
            Header {
                key: "trace".into(),
                value: Some(Bytes::from_static(b"1")),
            },
            Header {
                key: "trace".into(),
                value: None,
            },
        ];
        let mut builder = BatchBuilder::new();
        let record = NewRecord {
            headers: &headers,
            ..NewRecord::default()
        };
        builder.append(&record).unwrap();
        let batch = builder.finish(Compression::None, None).unwrap();
        let record = Records::open(batch, PLENTY).unwrap().next().unwrap();
        let decoded = record.unwrap().headers;
        assert_eq!(decoded.len(), 2);
        assert_eq!(decoded.iter().collect::<Vec<_>>(), headers);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            if let Ok(records) = Records::open(Bytes::from(bytes), PLENTY) {
                records.for_each(drop);
            }
        }

        /// The checksum is made to fit, so that the mutation reaches what lies behind it.
        #[test]
        fn mutated_batches_never_panic(
            codec in 0_usize..5,
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let mut batch = three_records(Compression::ALL[codec]);
            for (at, byte) in changes {
                let at = at.index(batch.len());
                batch[at] = byte;
            }
            reseal(&mut batch);
            if let Ok(records) = Records::open(batch.freeze(), PLENTY) {
                for record in records.flatten() {
                    record.headers.for_each(drop);
                }
            }
        }
    }
}
