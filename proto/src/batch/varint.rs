//! Zig-zag variable-length integers, as Kafka and Protocol Buffers write them: seven bits per byte, lowest first.

/// Most bytes an [`i32`] takes.
pub(super) const MAX_I32_BYTES: usize = 5;
/// Most bytes an [`i64`] takes.
pub(super) const MAX_I64_BYTES: usize = 10;

/// Bytes that `value` takes, 1 to 10; an [`i32`] takes the same as its [`i64`].
pub(super) fn encoded_len(value: i64) -> usize {
    let significant_bits = 64 - (zig_zag(value) | 1).leading_zeros() as usize;
    significant_bits.div_ceil(7)
}

/// Writes `value` at the start of `out` and returns how many bytes it took. `out` must hold [`MAX_I64_BYTES`],
/// or [`MAX_I32_BYTES`] when the value fits in an [`i32`].
pub(super) fn write(value: i64, out: &mut [u8]) -> usize {
    let mut rest = zig_zag(value);
    let mut len = 0;
    while rest >= 0x80 {
        out[len] = low_byte(rest) | 0x80;
        rest >>= 7;
        len += 1;
    }
    out[len] = low_byte(rest);
    len + 1
}

/// Reads an [`i32`] from the start of `bytes`: the value and the bytes it took. `None` when the bytes end inside it
/// or it does not fit.
pub(super) fn read_i32(bytes: &[u8]) -> Option<(i32, usize)> {
    let (raw, len) = read_raw(bytes, MAX_I32_BYTES)?;
    let raw = u32::try_from(raw).ok()?;
    Some(((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed(), len))
}

/// Reads an [`i64`] from the start of `bytes`: the value and the bytes it took. `None` when the bytes end inside it
/// or it does not fit.
pub(super) fn read_i64(bytes: &[u8]) -> Option<(i64, usize)> {
    let (raw, len) = read_raw(bytes, MAX_I64_BYTES)?;
    Some(((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed(), len))
}

fn read_raw(bytes: &[u8], max_bytes: usize) -> Option<(u64, usize)> {
    let mut raw = 0_u64;
    for (place, byte) in bytes.iter().take(max_bytes).enumerate() {
        let bits = u64::from(byte & 0x7f);
        let shifted = bits << (7 * place);
        if shifted >> (7 * place) != bits {
            return None;
        }
        raw |= shifted;
        if byte & 0x80 == 0 {
            return Some((raw, place + 1));
        }
    }
    None
}

fn zig_zag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn low_byte(value: u64) -> u8 {
    value.to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(value: i64) -> Vec<u8> {
        let mut out = [0; MAX_I64_BYTES];
        let len = write(value, &mut out);
        out[..len].to_vec()
    }

    #[test]
    fn known_values_have_kafkas_bytes() {
        let golden: &[(i64, &[u8])] = &[
            (0, &[0x00]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (8191, &[0xfe, 0x7f]),
            (-8193, &[0x81, 0x80, 0x01]),
            (i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i64::from(i32::MIN), &[0xff, 0xff, 0xff, 0xff, 0x0f]),
            (
                i64::MAX,
                &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            ),
            (
                i64::MIN,
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            ),
        ];
        for (value, bytes) in golden {
            assert_eq!(encode(*value), *bytes, "{value}");
            assert_eq!(encoded_len(*value), bytes.len(), "{value}");
            assert_eq!(read_i64(bytes), Some((*value, bytes.len())));
        }
    }

    #[test]
    fn too_long_too_large_and_cut_integers_are_refused() {
        assert_eq!(read_i32(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00]), None);
        assert_eq!(read_i32(&[0xff, 0xff, 0xff, 0xff, 0x10]), None);
        assert_eq!(read_i64(&[0x80; 11]), None);
        assert_eq!(
            read_i64(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]),
            None
        );
        assert_eq!(read_i32(&[0x80]), None);
        assert_eq!(read_i32(&[]), None);
    }

    proptest! {
        #[test]
        fn every_i64_round_trips(value: i64) {
            let bytes = encode(value);
            prop_assert_eq!(bytes.len(), encoded_len(value));
            prop_assert_eq!(read_i64(&bytes), Some((value, bytes.len())));
        }

        #[test]
        fn every_i32_round_trips(value: i32) {
            let bytes = encode(i64::from(value));
            prop_assert!(bytes.len() <= MAX_I32_BYTES);
            prop_assert_eq!(read_i32(&bytes), Some((value, bytes.len())));
        }

        #[test]
        fn reading_arbitrary_bytes_never_panics(bytes: Vec<u8>) {
            let _ = read_i32(&bytes);
            let _ = read_i64(&bytes);
        }
    }
}
