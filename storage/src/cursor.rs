//! Reading numbers and byte strings out of bytes that may be anything. All numbers are little-endian.
//!
//! Every read is checked against what is left, and no length is believed before it was compared with that.

use bytes::{Buf, Bytes};

/// Reads from the front of some bytes. `None` means that they end too early.
#[derive(Debug)]
pub(crate) struct Cursor {
    rest: Bytes,
}

impl Cursor {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.rest.try_get_u8().ok()
    }

    /// A byte that is 0 or 1.
    pub(crate) fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.rest.try_get_u32_le().ok()
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.rest.try_get_u64_le().ok()
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.rest.try_get_i64_le().ok()
    }

    /// The next `len` bytes, without a copy.
    pub(crate) fn bytes(&mut self, len: usize) -> Option<Bytes> {
        (len <= self.rest.len()).then(|| self.rest.split_to(len))
    }

    /// A byte string written by [`put_string`].
    pub(crate) fn string(&mut self) -> Option<Bytes> {
        let len = self.u32()?;
        self.bytes(usize::try_from(len).ok()?)
    }

    /// A byte string that is UTF-8.
    pub(crate) fn text(&mut self) -> Option<String> {
        String::from_utf8(self.string()?.into()).ok()
    }

    /// A count of things that take at least `least_bytes` each: one that cannot be true is refused before anything is allocated for it.
    pub(crate) fn count(&mut self, least_bytes: usize) -> Option<usize> {
        let count = usize::try_from(self.u32()?).ok()?;
        (count.checked_mul(least_bytes)? <= self.rest.len()).then_some(count)
    }
}

/// Writes a byte string: its length as u32, then its bytes.
///
/// # Panics
/// When it is 4 GiB or longer, which no limit of ours allows.
pub(crate) fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Writes a count as u32.
///
/// # Panics
/// As [`put_string`].
pub(crate) fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).expect("counts and lengths are limited far below 4 Gi");
    out.extend_from_slice(&count.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_beyond_the_end_are_refused() {
        let mut bytes = vec![];
        put_string(&mut bytes, b"abc");
        assert_eq!(Cursor::new(bytes.clone().into()).string().unwrap(), "abc");
        bytes[0] = 4;
        assert!(Cursor::new(bytes.clone().into()).string().is_none());
        assert!(Cursor::new(bytes.into()).count(1).is_none());
    }
}
