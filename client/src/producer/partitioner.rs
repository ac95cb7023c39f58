//! Which partition a record goes to.

/// The hash Kafka's Java client partitions by: murmur2, 32 bits, seed `0x9747b28c`.
pub(crate) fn murmur2(bytes: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    // The algorithm takes the length modulo 2^32.
    #[allow(clippy::cast_possible_truncation)]
    let mut hash = SEED ^ bytes.len() as u32;
    let (words, tail) = bytes.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (place, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// The partition of a key: where Kafka's default partitioner puts it.
///
/// # Panics
/// When `partitions` is 0.
pub(crate) fn partition_of_key(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions
}

/// Where records without a key go: all to one partition until its batch is full or sent, then to another. Batches are
/// fuller that way than if each record went elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Sticky {
    current: Option<u32>,
}

impl Sticky {
    /// The partition for the next record without a key. `random` is any number.
    pub(crate) fn partition(&mut self, partitions: u32, random: impl FnOnce() -> u64) -> u32 {
        match self.current {
            Some(current) if current < partitions => current,
            _ => {
                let chosen = pick(random(), partitions);
                self.current = Some(chosen);
                chosen
            }
        }
    }

    /// The batch of `partition` is complete: the next record goes to another one, where there is another.
    pub(crate) fn batch_completed(&mut self, partition: u32, partitions: u32, random: u64) {
        if self.current != Some(partition) {
            return;
        }
        self.current = match partitions {
            0 | 1 => self.current,
            _ => {
                let step = 1 + pick(random, partitions - 1);
                Some((partition + step) % partitions)
            }
        };
    }
}

fn pick(random: u64, among: u32) -> u32 {
    u32::try_from(random % u64::from(among)).expect("less than a u32")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// The values of Kafka's `UtilsTest.testMurmur2`.
    #[test]
    fn murmur2_has_kafkas_values() {
        let golden: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ];
        for (key, hash) in golden {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
    }

    #[test]
    fn a_key_always_lands_on_kafkas_partition() {
        assert_eq!(partition_of_key(b"foobar", 8), 6);
        assert_eq!(partition_of_key(b"21", 8), 4);
        assert_eq!(partition_of_key(b"abc", 8), 3);
        assert_eq!(partition_of_key(b"anything", 1), 0);
    }

    #[test]
    fn records_without_keys_stay_until_their_batch_is_complete() {
        let mut sticky = Sticky::default();
        let first = sticky.partition(8, || 3);
        assert_eq!(first, 3);
        assert_eq!(sticky.partition(8, || 7), 3);
        sticky.batch_completed(5, 8, 1);
        assert_eq!(sticky.partition(8, || 7), 3);
        sticky.batch_completed(3, 8, 1);
        assert_eq!(sticky.partition(8, || 7), 5);
    }

    #[test]
    fn the_next_partition_is_another_one_and_any_other_one() {
        let mut seen = HashSet::new();
        for random in 0..100 {
            let mut sticky = Sticky { current: Some(2) };
            sticky.batch_completed(2, 5, random);
            seen.insert(sticky.partition(5, || 0));
        }
        assert_eq!(seen, HashSet::from([0, 1, 3, 4]));
    }

    #[test]
    fn a_single_partition_is_kept() {
        let mut sticky = Sticky::default();
        assert_eq!(sticky.partition(1, || 9), 0);
        sticky.batch_completed(0, 1, 9);
        assert_eq!(sticky.partition(1, || 9), 0);
    }
}
