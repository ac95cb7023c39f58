//! What the records consist of: bytes that do not compress, the same in each run, made once.

/// Bytes that are made; larger records make the pool larger.
const POOL_BYTES: usize = 4 << 20;

/// Where the sequence of bytes starts. Any number but 0 would do.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// A pool of random bytes that records are cut from, one after the other.
#[derive(Debug)]
pub(crate) struct Payload {
    pool: Vec<u8>,
    record_bytes: usize,
    places: usize,
}

impl Payload {
    /// Content for records of so many bytes.
    pub(crate) fn new(record_bytes: usize) -> Self {
        let places = (POOL_BYTES / record_bytes.max(1)).max(2);
        Self {
            pool: random_bytes(places * record_bytes),
            record_bytes,
            places,
        }
    }

    /// Bytes of a record.
    pub(crate) fn record_bytes(&self) -> u64 {
        self.record_bytes as u64
    }

    /// The content of the record with this number. Neighbours differ; it repeats after some MiB.
    pub(crate) fn record(&self, number: u64) -> &[u8] {
        let places = u64::try_from(self.places).expect("a pool is far smaller than 2^64");
        let place = usize::try_from(number % places).expect("it is less than a usize");
        &self.pool[place * self.record_bytes..][..self.record_bytes]
    }
}

/// The first `count` bytes of the sequence (xorshift64*).
pub(crate) fn random_bytes(count: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count + 8);
    let mut state = SEED;
    while bytes.len() < count {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_proto::batch::{BatchBuilder, Compression, NewRecord};

    #[test]
    fn two_runs_have_the_same_bytes() {
        assert_eq!(Payload::new(100).pool, Payload::new(100).pool);
        assert_eq!(random_bytes(13), random_bytes(1000)[..13]);
    }

    #[test]
    fn records_have_their_size_and_neighbours_differ() {
        for bytes in [1, 100, 1024, 5 << 20] {
            let payload = Payload::new(bytes);
            assert_eq!(payload.record(0).len(), bytes);
            assert_eq!(payload.record(u64::MAX).len(), bytes);
        }
        let payload = Payload::new(100);
        assert_ne!(payload.record(0), payload.record(1));
    }

    #[test]
    fn a_batch_of_records_does_not_compress() {
        let payload = Payload::new(1024);
        let mut builder = BatchBuilder::new();
        for number in 0..63 {
            builder
                .append(&NewRecord {
                    value: Some(payload.record(number)),
                    ..NewRecord::default()
                })
                .unwrap();
        }
        let batch = builder.finish(Compression::Zstd, None).unwrap();
        assert!(batch.len() > 63 * 1024, "{} bytes", batch.len());
    }
}
