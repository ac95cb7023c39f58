//! Building batches.

use bytes::{Bytes, BytesMut};

use super::header::{self, CRC_AT};
use super::record::{self, NewRecord};
use super::{
    BatchHeader, Compression, Compressor, Error, HEADER_BYTES, NO_LEADER_EPOCH, ProducerStamp,
    TimestampType,
};
use crate::Offset;

/// The greatest batch the length field can describe.
const MAX_BATCH_BYTES: usize = i32::MAX as usize;

/// Gathers records and makes batches of them, one after the other, reusing its buffers.
///
/// Records are encoded as they are appended; `finish` writes the header, compresses if asked to, and computes the
/// checksum. Sizes are exact for uncompressed batches; for compressed ones they are those before compression.
///
/// ```
/// use highwater_proto::batch::{BatchBuilder, Compression, NewRecord};
///
/// let mut builder = BatchBuilder::new();
/// builder.append(&NewRecord { timestamp_ms: 1, value: Some(b"hello"), ..NewRecord::default() })?;
/// let batch = builder.finish(Compression::Lz4, None)?;
/// # Ok::<(), highwater_proto::batch::Error>(())
/// ```
pub struct BatchBuilder {
    /// Room for the header, then the encoded records.
    plain: BytesMut,
    record_count: u32,
    base_timestamp_ms: i64,
    max_timestamp_ms: i64,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for BatchBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchBuilder")
            .field("record_count", &self.record_count)
            .field("batch_bytes", &self.batch_bytes())
            .finish_non_exhaustive()
    }
}

impl BatchBuilder {
    /// An empty builder. Its buffers grow with what is appended.
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(0)
    }

    /// An empty builder with room for a batch of `batch_bytes`.
    #[must_use]
    pub fn with_capacity(batch_bytes: usize) -> Self {
        let mut plain = BytesMut::with_capacity(batch_bytes.max(HEADER_BYTES));
        plain.resize(HEADER_BYTES, 0);
        Self {
            plain,
            record_count: 0,
            base_timestamp_ms: 0,
            max_timestamp_ms: 0,
        }
    }

    /// Records appended since the last `finish`.
    #[must_use]
    pub fn record_count(&self) -> u32 {
        self.record_count
    }

    /// Whether nothing was appended since the last `finish`.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// Bytes of the batch if it were finished now without compression.
    #[must_use]
    pub fn batch_bytes(&self) -> usize {
        self.plain.len()
    }

    /// Bytes of the batch, without compression, if `record` were appended first.
    #[must_use]
    pub fn batch_bytes_with(&self, record: &NewRecord<'_>) -> usize {
        let timestamp_delta_ms = record.timestamp_ms.wrapping_sub(self.base_of(record));
        let body = record::body_len(record, timestamp_delta_ms, self.record_count);
        self.plain.len().saturating_add(with_length(body))
    }

    /// Appends a record and returns its offset delta: its place in the batch.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when the batch would exceed 2 GiB; [`Error::Record`] when its timestamp lies too far from
    /// that of the first record for a 64-bit difference. Nothing is appended then.
    pub fn append(&mut self, record: &NewRecord<'_>) -> Result<u32, Error> {
        let appended = self.append_within(record, MAX_BATCH_BYTES)?;
        appended.ok_or_else(|| Error::TooLarge {
            found: self.batch_bytes_with(record) as u64,
            most: MAX_BATCH_BYTES as u64,
        })
    }

    /// Appends a record if the batch then has at most `most` bytes without compression, and returns its offset delta;
    /// `None` when it would be larger.
    ///
    /// # Errors
    /// As [`BatchBuilder::append`], but never [`Error::TooLarge`].
    pub fn append_within(
        &mut self,
        record: &NewRecord<'_>,
        most: usize,
    ) -> Result<Option<u32>, Error> {
        let base_timestamp_ms = self.base_of(record);
        let offset_delta = self.record_count;
        let Some(timestamp_delta_ms) = record.timestamp_ms.checked_sub(base_timestamp_ms) else {
            return Err(Error::Record {
                record: offset_delta,
                problem: record::Problem::Timestamp,
            });
        };
        let body = record::body_len(record, timestamp_delta_ms, offset_delta);
        if self.plain.len().saturating_add(with_length(body)) > most.min(MAX_BATCH_BYTES) {
            return Ok(None);
        }
        record::put(
            &mut self.plain,
            record,
            timestamp_delta_ms,
            offset_delta,
            body,
        );
        self.max_timestamp_ms = if self.is_empty() {
            record.timestamp_ms
        } else {
            self.max_timestamp_ms.max(record.timestamp_ms)
        };
        self.base_timestamp_ms = base_timestamp_ms;
        self.record_count += 1;
        Ok(Some(offset_delta))
    }

    /// The batch of everything appended, with base offset 0 and no leader epoch. The builder is empty afterwards, also
    /// after an error.
    ///
    /// Who compresses many batches keeps a [`Compressor`] and calls [`BatchBuilder::finish_with`] instead.
    ///
    /// # Errors
    /// [`Error::Empty`] when nothing was appended, [`Error::Compress`] when the compressor fails,
    /// [`Error::TooLarge`] when compression made the batch larger than 2 GiB.
    pub fn finish(
        &mut self,
        compression: Compression,
        producer: Option<ProducerStamp>,
    ) -> Result<Bytes, Error> {
        self.finish_with(&mut Compressor::new(compression), producer)
    }

    /// The same, compressed with the codec and the memory of `compressor`.
    ///
    /// # Errors
    /// As [`BatchBuilder::finish`].
    pub fn finish_with(
        &mut self,
        compressor: &mut Compressor,
        producer: Option<ProducerStamp>,
    ) -> Result<Bytes, Error> {
        let record_count = std::mem::take(&mut self.record_count);
        if record_count == 0 {
            return Err(Error::Empty { found: 0 });
        }
        let result = self.take_body(compressor);
        self.plain.clear();
        self.plain.resize(HEADER_BYTES, 0);
        let mut batch = result?;
        let batch_bytes = u32::try_from(batch.len())
            .ok()
            .filter(|bytes| *bytes as usize <= MAX_BATCH_BYTES)
            .ok_or(Error::TooLarge {
                found: batch.len() as u64,
                most: MAX_BATCH_BYTES as u64,
            })?;
        let header = BatchHeader {
            base_offset: Offset(0),
            batch_bytes,
            leader_epoch: NO_LEADER_EPOCH,
            crc: 0,
            compression: compressor.codec(),
            timestamp_type: TimestampType::CreateTime,
            transactional: false,
            control: false,
            delete_horizon: false,
            base_timestamp_ms: self.base_timestamp_ms,
            max_timestamp_ms: self.max_timestamp_ms,
            producer,
            record_count,
        };
        batch[..HEADER_BYTES].copy_from_slice(&header.encode());
        let crc = header::checksum(&batch);
        batch[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
        Ok(batch.freeze())
    }

    /// Room for the header and the body behind it, compressed if asked for.
    fn take_body(&mut self, compressor: &mut Compressor) -> Result<BytesMut, Error> {
        let codec = compressor.codec();
        if codec == Compression::None {
            return Ok(self.plain.split());
        }
        // Compressed batches are much smaller as a rule; the buffer grows where one is not.
        let mut compressed = BytesMut::with_capacity(self.plain.len() / 2 + HEADER_BYTES);
        compressed.resize(HEADER_BYTES, 0);
        compressor
            .compress(&self.plain[HEADER_BYTES..], &mut compressed)
            .map_err(|source| Error::Compress { codec, source })?;
        Ok(compressed)
    }

    fn base_of(&self, record: &NewRecord<'_>) -> i64 {
        if self.is_empty() {
            record.timestamp_ms
        } else {
            self.base_timestamp_ms
        }
    }
}

/// Bytes of a record whose body has `body` of them.
fn with_length(body: usize) -> usize {
    body + super::varint::encoded_len(i64::try_from(body).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Header;
    use crate::{ProducerEpoch, ProducerId, Sequence};

    fn value(bytes: &[u8], timestamp_ms: i64) -> NewRecord<'_> {
        NewRecord {
            timestamp_ms,
            value: Some(bytes),
            ..NewRecord::default()
        }
    }

    #[test]
    fn a_batch_has_kafkas_bytes() {
        let mut builder = BatchBuilder::new();
        let headers = [Header {
            key: "a".into(),
            value: Some(Bytes::from_static(b"b")),
        }];
        let keyed = NewRecord {
            timestamp_ms: 1_600_000_000_000,
            key: Some(b"key"),
            value: Some(b"value"),
            headers: &headers,
        };
        assert_eq!(builder.append(&keyed).unwrap(), 0);
        let tombstone = NewRecord {
            timestamp_ms: 1_599_999_999_999,
            key: Some(b""),
            ..NewRecord::default()
        };
        assert_eq!(builder.append(&tombstone).unwrap(), 1);
        let stamp = ProducerStamp {
            id: ProducerId(4_000),
            epoch: ProducerEpoch(2),
            sequence: Sequence(10),
        };
        let batch = builder.finish(Compression::None, Some(stamp)).unwrap();
        // The checksum is pinned here and confirmed against another implementation in `interoperability`.
        #[rustfmt::skip]
        let golden: &[u8] = &[
            0, 0, 0, 0, 0, 0, 0, 0,  0, 0, 0, 75,  0xff, 0xff, 0xff, 0xff,  2,
            0x6d, 0xef, 0x15, 0xe0,  0, 0,  0, 0, 0, 1,
            0, 0, 0x01, 0x74, 0x87, 0x6e, 0x80, 0,  0, 0, 0x01, 0x74, 0x87, 0x6e, 0x80, 0,
            0, 0, 0, 0, 0, 0, 0x0f, 0xa0,  0, 2,  0, 0, 0, 10,  0, 0, 0, 2,
            36, 0, 0, 0,  6, b'k', b'e', b'y',  10, b'v', b'a', b'l', b'u', b'e',  2,  2, b'a', 2, b'b',
            12, 0, 1, 2,  0,  1,  0,
        ];
        assert_eq!(&batch[..], golden);
    }

    #[test]
    fn sizes_are_exact_before_and_after_an_append() {
        let mut builder = BatchBuilder::new();
        let payload = vec![b'x'; 10_000];
        for (i, length) in [0, 1, 55, 56, 63, 64, 8_000, 10_000]
            .into_iter()
            .enumerate()
        {
            let record = value(&payload[..length], 1_000 * i as i64);
            let expected = builder.batch_bytes_with(&record);
            builder.append(&record).unwrap();
            assert_eq!(builder.batch_bytes(), expected, "{length}");
        }
        let expected = builder.batch_bytes();
        assert_eq!(
            builder.finish(Compression::None, None).unwrap().len(),
            expected
        );
    }

    #[test]
    fn a_builder_starts_afresh_after_each_batch() {
        let mut builder = BatchBuilder::new();
        for codec in Compression::ALL {
            builder.append(&value(b"one", 5)).unwrap();
            builder.append(&value(b"two", 3)).unwrap();
            let batch = builder.finish(codec, None).unwrap();
            let header = BatchHeader::parse(&batch).unwrap();
            assert_eq!(header.record_count, 2);
            assert_eq!((header.base_timestamp_ms, header.max_timestamp_ms), (5, 5));
            assert_eq!(header.batch_bytes as usize, batch.len());
            assert_eq!(header.crc, header::checksum(&batch));
            assert!(builder.is_empty());
            assert_eq!(builder.batch_bytes(), HEADER_BYTES);
        }
        assert!(matches!(
            builder.finish(Compression::None, None),
            Err(Error::Empty { found: 0 })
        ));
    }

    #[test]
    fn a_timestamp_out_of_reach_of_the_first_changes_nothing() {
        let mut builder = BatchBuilder::new();
        builder.append(&value(b"x", i64::MIN)).unwrap();
        let bytes = builder.batch_bytes();
        assert!(builder.append(&value(b"y", i64::MAX)).is_err());
        assert_eq!((builder.record_count(), builder.batch_bytes()), (1, bytes));
    }
}
