//! The four codecs, framed as Kafka's Java client frames them.
//!
//! - gzip: RFC 1952, members may follow one another.
//! - snappy: the stream format of xerial's snappy-java. A 16-byte head, then blocks of at most 32 KiB, each with its
//!   compressed length in 4 big-endian bytes. A bare snappy block is read too; some clients write it.
//! - lz4: frame format with independent blocks of 64 KiB, no content checksum.
//! - zstd: RFC 8878 frames.

use std::fmt;
use std::io::{self, Read, Write};

use bytes::{BufMut, Bytes, BytesMut};

use super::Error;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip, default level.
    Gzip,
    /// snappy in xerial framing.
    Snappy,
    /// lz4 frames.
    Lz4,
    /// zstd, level 3.
    Zstd,
}

impl Compression {
    /// All codecs, in the order of their bits.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec bits of the batch attributes.
    pub(super) fn bits(self) -> u16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    pub(super) fn from_bits(bits: u16) -> Result<Self, Error> {
        Self::ALL
            .get(usize::from(bits))
            .copied()
            .ok_or(Error::Codec { found: bits })
    }

    /// The name used in topic configs and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A codec name that is none of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown compression {0:?}: use none, gzip, snappy, lz4 or zstd")]
pub struct UnknownCompression(String);

impl std::str::FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|codec| codec.name() == name)
            .ok_or_else(|| UnknownCompression(name.to_owned()))
    }
}

const XERIAL_HEAD: [u8; 16] = *b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01";
const XERIAL_MAGIC_BYTES: usize = 8;
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;
/// A snappy copy element makes at most 64 bytes of 3, so a block that claims more lies.
const SNAPPY_MAX_RATIO: usize = 22;
/// The window every zstd decoder should support (RFC 8878, 3.1.1.1.2), as a power of two.
const ZSTD_MIN_WINDOW_LOG: u32 = 23;
const ZSTD_MAX_WINDOW_LOG: u32 = 27;
const ZSTD_LEVEL: i32 = 3;

/// Compresses batches with one codec, one after the other, and keeps the codec's memory between them: about a MiB for
/// zstd. One serves any number of [`BatchBuilder`](super::BatchBuilder)s.
pub struct Compressor {
    codec: Compression,
    snappy: Option<Box<snap::raw::Encoder>>,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    block: Vec<u8>,
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Compressor({})", self.codec)
    }
}

impl Compressor {
    /// A compressor for a codec. Memory is taken when it is first used.
    #[must_use]
    pub fn new(codec: Compression) -> Self {
        Self {
            codec,
            snappy: None,
            zstd: None,
            block: Vec::new(),
        }
    }

    /// The codec.
    #[must_use]
    pub fn codec(&self) -> Compression {
        self.codec
    }

    /// Appends `records`, compressed, to `out`.
    pub(super) fn compress(&mut self, records: &[u8], out: &mut BytesMut) -> io::Result<()> {
        match self.codec {
            Compression::None => out.extend_from_slice(records),
            Compression::Gzip => {
                let level = flate2::Compression::default();
                let mut encoder = flate2::write::GzEncoder::new(out.writer(), level);
                encoder.write_all(records)?;
                encoder.finish()?;
            }
            Compression::Snappy => self.snappy(records, out)?,
            Compression::Lz4 => {
                let info = lz4_flex::frame::FrameInfo::new()
                    .block_size(lz4_flex::frame::BlockSize::Max64KB)
                    .block_mode(lz4_flex::frame::BlockMode::Independent);
                let mut encoder =
                    lz4_flex::frame::FrameEncoder::with_frame_info(info, out.writer());
                encoder.write_all(records)?;
                encoder.finish().map_err(io::Error::other)?;
            }
            Compression::Zstd => self.zstd(records, out)?,
        }
        Ok(())
    }

    fn snappy(&mut self, records: &[u8], out: &mut BytesMut) -> io::Result<()> {
        let encoder = self
            .snappy
            .get_or_insert_with(|| Box::new(snap::raw::Encoder::new()));
        self.block
            .resize(snap::raw::max_compress_len(XERIAL_BLOCK_BYTES), 0);
        out.extend_from_slice(&XERIAL_HEAD);
        for block in records.chunks(XERIAL_BLOCK_BYTES) {
            let len = encoder.compress(block, &mut self.block)?;
            out.put_u32(u32::try_from(len).map_err(io::Error::other)?);
            out.extend_from_slice(&self.block[..len]);
        }
        Ok(())
    }

    fn zstd(&mut self, records: &[u8], out: &mut BytesMut) -> io::Result<()> {
        if self.zstd.is_none() {
            self.zstd = Some(zstd::bulk::Compressor::new(ZSTD_LEVEL)?);
        }
        let compressor = self.zstd.as_mut().expect("set above");
        self.block
            .resize(zstd::zstd_safe::compress_bound(records.len()), 0);
        let len = compressor.compress_to_buffer(records, &mut self.block)?;
        out.extend_from_slice(&self.block[..len]);
        Ok(())
    }
}

/// Decompresses the records of a batch, giving up once they take more than `max_bytes`.
pub(super) fn decompress(
    codec: Compression,
    compressed: &Bytes,
    max_bytes: usize,
) -> Result<Bytes, Error> {
    let decompressed = match codec {
        Compression::None if compressed.len() <= max_bytes => return Ok(compressed.clone()),
        Compression::None => Ok(None),
        Compression::Gzip => read_bounded(
            flate2::read::MultiGzDecoder::new(&compressed[..]),
            compressed.len(),
            max_bytes,
        ),
        Compression::Snappy => decompress_snappy(compressed, max_bytes),
        Compression::Lz4 => read_bounded(
            lz4_flex::frame::FrameDecoder::new(&compressed[..]),
            compressed.len(),
            max_bytes,
        ),
        Compression::Zstd => decompress_zstd(compressed, max_bytes),
    };
    match decompressed {
        Ok(Some(bytes)) => Ok(Bytes::from(bytes)),
        Ok(None) => Err(Error::DecompressedTooLarge {
            codec,
            most: max_bytes as u64,
        }),
        Err(source) => Err(Error::Decompress { codec, source }),
    }
}

/// Reads to the end; `None` when there is more than `max_bytes`. Memory grows with what was really decompressed.
fn read_bounded(
    decoder: impl Read,
    compressed_bytes: usize,
    max_bytes: usize,
) -> io::Result<Option<Vec<u8>>> {
    let mut out = Vec::with_capacity(max_bytes.min(compressed_bytes.saturating_mul(4)));
    let one_too_many = (max_bytes as u64).saturating_add(1);
    decoder.take(one_too_many).read_to_end(&mut out)?;
    Ok((out.len() <= max_bytes).then_some(out))
}

fn decompress_zstd(compressed: &[u8], max_bytes: usize) -> io::Result<Option<Vec<u8>>> {
    // A frame names the window its decoder must keep. More than the output limit is never needed, except that small
    // batches are often written with the default window of their level.
    let limit_log = max_bytes.max(1).ilog2() + 1;
    let mut decoder = zstd::stream::read::Decoder::with_buffer(compressed)?;
    decoder.window_log_max(limit_log.clamp(ZSTD_MIN_WINDOW_LOG, ZSTD_MAX_WINDOW_LOG))?;
    read_bounded(decoder, compressed.len(), max_bytes)
}

fn decompress_snappy(compressed: &[u8], max_bytes: usize) -> io::Result<Option<Vec<u8>>> {
    let mut out = Vec::new();
    if !compressed.starts_with(&XERIAL_HEAD[..XERIAL_MAGIC_BYTES]) {
        return Ok(append_snappy_block(compressed, max_bytes, &mut out)?.then_some(out));
    }
    let mut rest = compressed.get(XERIAL_HEAD.len()..).ok_or_else(cut_snappy)?;
    while !rest.is_empty() {
        let (length, blocks) = rest.split_first_chunk::<4>().ok_or_else(cut_snappy)?;
        let length = u32::from_be_bytes(*length) as usize;
        let (block, after) = blocks.split_at_checked(length).ok_or_else(cut_snappy)?;
        if !append_snappy_block(block, max_bytes, &mut out)? {
            return Ok(None);
        }
        rest = after;
    }
    Ok(Some(out))
}

/// Decompresses one block to the end of `out`; false when that would take more than `max_bytes` in all.
fn append_snappy_block(block: &[u8], max_bytes: usize, out: &mut Vec<u8>) -> io::Result<bool> {
    let length = snap::raw::decompress_len(block)?;
    if length > block.len().saturating_mul(SNAPPY_MAX_RATIO) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a snappy block claims more bytes than its own can hold",
        ));
    }
    let start = out.len();
    if length > max_bytes.saturating_sub(start) {
        return Ok(false);
    }
    out.resize(start + length, 0);
    snap::raw::Decoder::new().decompress(block, &mut out[start..])?;
    Ok(true)
}

fn cut_snappy() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "snappy stream is cut short")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn compress(codec: Compression, data: &[u8]) -> Bytes {
        let mut out = BytesMut::new();
        Compressor::new(codec).compress(data, &mut out).unwrap();
        out.freeze()
    }

    #[test]
    fn names_round_trip() {
        for codec in Compression::ALL {
            assert_eq!(codec.to_string().parse(), Ok(codec));
            assert_eq!(Compression::from_bits(codec.bits()).unwrap(), codec);
        }
        let unknown = "brotli".parse::<Compression>().unwrap_err();
        assert!(unknown.to_string().contains("use none, gzip"));
    }

    #[test]
    fn one_compressor_serves_many_batches_of_every_codec() {
        let mut compressors = Compression::ALL.map(Compressor::new);
        for length in [
            0,
            1,
            100,
            XERIAL_BLOCK_BYTES,
            XERIAL_BLOCK_BYTES + 1,
            300_000,
        ] {
            let data: Vec<u8> = (0..=250).cycle().take(length).collect();
            for compressor in &mut compressors {
                let codec = compressor.codec();
                let mut out = BytesMut::from(&b"before"[..]);
                compressor.compress(&data, &mut out).unwrap();
                let compressed = out.freeze().slice(6..);
                let back = decompress(codec, &compressed, data.len()).unwrap();
                assert_eq!(back, data, "{codec} {length}");
            }
        }
    }

    #[test]
    fn decompression_stops_at_the_limit() {
        let data = vec![7; 100_000];
        for codec in Compression::ALL {
            let compressed = compress(codec, &data);
            assert!(decompress(codec, &compressed, data.len()).is_ok());
            let error = decompress(codec, &compressed, data.len() - 1).unwrap_err();
            assert!(
                matches!(error, Error::DecompressedTooLarge { most: 99_999, .. }),
                "{codec}: {error}"
            );
        }
    }

    #[test]
    fn a_cut_stream_is_an_error() {
        let data: Vec<u8> = (0..100_000_u32)
            .map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0])
            .collect();
        for codec in &Compression::ALL[1..] {
            let compressed = compress(*codec, &data);
            let cut = compressed.slice(..compressed.len() - 9);
            let error = decompress(*codec, &cut, data.len()).unwrap_err();
            assert!(
                matches!(error, Error::Decompress { .. }),
                "{codec}: {error}"
            );
        }
    }

    #[test]
    fn a_bare_snappy_block_is_read() {
        let block = snap::raw::Encoder::new()
            .compress_vec(b"bare bare bare")
            .unwrap();
        let back = decompress(Compression::Snappy, &Bytes::from(block), 100).unwrap();
        assert_eq!(back, &b"bare bare bare"[..]);
    }

    #[test]
    fn a_snappy_block_that_claims_the_impossible_is_refused_before_it_is_believed() {
        let claims_four_gigabytes = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0]);
        let error = decompress(Compression::Snappy, &claims_four_gigabytes, usize::MAX);
        assert!(matches!(error, Err(Error::Decompress { .. })));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_nor_exceed_the_limit(bytes: Vec<u8>, codec in 1_usize..5) {
            let bytes = Bytes::from(bytes);
            if let Ok(out) = decompress(Compression::ALL[codec], &bytes, 1_000) {
                prop_assert!(out.len() <= 1_000);
            }
        }

        #[test]
        fn mutated_streams_never_panic_nor_exceed_the_limit(
            data in proptest::collection::vec(0_u8..4, 0..5_000),
            codec in 1_usize..5,
            at: prop::sample::Index,
            byte: u8,
        ) {
            let codec = Compression::ALL[codec];
            let mut compressed = compress(codec, &data).to_vec();
            let at = at.index(compressed.len());
            compressed[at] = byte;
            if let Ok(out) = decompress(codec, &Bytes::from(compressed), 6_000) {
                prop_assert!(out.len() <= 6_000);
            }
        }
    }
}
