//! Cuts an input into lines, block by block, so that a line costs no allocation and no read of its own.

use std::io::{self, Read};
use std::ops::Range;

use bytes::Bytes;

/// Most bytes of input in a block, unless one line alone is longer.
const BLOCK_BYTES_MAX: usize = 256 * 1024;

/// No line may be longer: far above what any topic takes as a record, so what is refused here was no text.
const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Reads blocks of whole lines from `source`.
///
/// A block is given out as soon as a read brought the end of a line: lines typed or piped slowly do not wait for the
/// block to fill.
#[derive(Debug)]
pub(crate) struct BlockReader<R> {
    source: R,
    /// Read target; the first `carried_bytes` of it are the beginning of a line whose end is not read yet.
    buffer: Vec<u8>,
    carried_bytes: usize,
    next_line_number: u64,
    line_bytes_max: usize,
    is_at_end: bool,
}

/// Some whole lines of the input.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    bytes: Bytes,
    first_line_number: u64,
}

/// A line without its end. A `\r` before the line end belongs to the line: input is bytes, not text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Number of the line in the input, from 1.
    pub(crate) number: u64,
    /// Its bytes, a slice of the block.
    pub(crate) bytes: Bytes,
}

/// Why the input could not be read on.
#[derive(Debug)]
pub(crate) enum Error {
    /// Reading failed.
    Read(io::Error),
    /// This line is too long.
    LineTooLong { number: u64, bytes_max: usize },
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Read(error) => error.fmt(f),
            Self::LineTooLong { number, bytes_max } => {
                write!(f, "line {number} is longer than {bytes_max} bytes")
            }
        }
    }
}

impl std::error::Error for Error {}

impl<R: Read> BlockReader<R> {
    /// A reader at the beginning of `source`.
    pub(crate) fn new(source: R) -> Self {
        Self::with_limits(source, BLOCK_BYTES_MAX, LINE_BYTES_MAX)
    }

    fn with_limits(source: R, block_bytes: usize, line_bytes_max: usize) -> Self {
        Self {
            source,
            buffer: vec![0; block_bytes],
            carried_bytes: 0,
            next_line_number: 1,
            line_bytes_max,
            is_at_end: false,
        }
    }

    /// The next lines, or none at the end of the input. Blocks until there are some.
    pub(crate) fn next_block(&mut self) -> Result<Option<Block>, Error> {
        while !self.is_at_end {
            self.make_room()?;
            let read_bytes = match self.source.read(&mut self.buffer[self.carried_bytes..]) {
                Ok(read_bytes) => read_bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::Read(error)),
            };
            let read = self.carried_bytes..self.carried_bytes + read_bytes;
            self.is_at_end = read_bytes == 0;
            self.carried_bytes = read.end;
            if let Some(last_line_end) = memchr::memrchr(b'\n', &self.buffer[read.clone()]) {
                return Ok(Some(self.take_block(read.start + last_line_end + 1)));
            }
        }
        // The last line may lack its end.
        Ok((self.carried_bytes > 0).then(|| self.take_block(self.carried_bytes)))
    }

    /// Grows the buffer when it is full of one line.
    fn make_room(&mut self) -> Result<(), Error> {
        if self.carried_bytes < self.buffer.len() {
            return Ok(());
        }
        if self.buffer.len() > self.line_bytes_max {
            return Err(Error::LineTooLong {
                number: self.next_line_number,
                bytes_max: self.line_bytes_max,
            });
        }
        let doubled = self.buffer.len() * 2;
        self.buffer.resize(doubled.min(self.line_bytes_max + 1), 0);
        Ok(())
    }

    /// Takes the first `length` of the carried bytes as a block.
    fn take_block(&mut self, length: usize) -> Block {
        let block = Block {
            bytes: Bytes::copy_from_slice(&self.buffer[..length]),
            first_line_number: self.next_line_number,
        };
        self.next_line_number += memchr::memchr_iter(b'\n', &block.bytes).count() as u64;
        self.buffer.copy_within(length..self.carried_bytes, 0);
        self.carried_bytes -= length;
        block
    }
}

impl Block {
    /// Length in the input.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The lines, in order.
    pub(crate) fn lines(&self) -> impl Iterator<Item = Line> {
        line_ranges(&self.bytes)
            .zip(self.first_line_number..)
            .map(|(range, number)| Line {
                number,
                bytes: self.bytes.slice(range),
            })
    }
}

/// Where the lines of `bytes` stand, without their ends.
fn line_ranges(bytes: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    let rest = (!bytes.ends_with(b"\n")).then_some(bytes.len());
    memchr::memchr_iter(b'\n', bytes)
        .chain(rest)
        .map(move |end| std::mem::replace(&mut start, end + 1)..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives out the pieces one per read, as a slow pipe does.
    struct Pieces(Vec<&'static [u8]>);

    impl Read for Pieces {
        fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let piece = self.0.remove(0);
            assert!(piece.len() <= target.len(), "pieces fit the test's buffer");
            target[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    fn lines_of(mut reader: BlockReader<impl Read>) -> Vec<(u64, Vec<u8>)> {
        let mut lines = Vec::new();
        while let Some(block) = reader.next_block().unwrap() {
            lines.extend(block.lines().map(|line| (line.number, line.bytes.to_vec())));
        }
        lines
    }

    fn numbered(lines: &[&str]) -> Vec<(u64, Vec<u8>)> {
        (1..)
            .zip(lines.iter().map(|line| line.as_bytes().to_vec()))
            .collect()
    }

    #[test]
    fn lines_are_the_same_for_every_size_of_block() {
        let text = "one\n\nthree and more\r\nfour\nlast";
        for block_bytes in 1..=text.len() + 1 {
            let reader = BlockReader::with_limits(text.as_bytes(), block_bytes, 1024);
            assert_eq!(
                lines_of(reader),
                numbered(&["one", "", "three and more\r", "four", "last"]),
                "blocks of {block_bytes}"
            );
        }
    }

    #[test]
    fn a_line_end_at_the_end_begins_no_line() {
        assert_eq!(
            lines_of(BlockReader::new(&b"one\n"[..])),
            numbered(&["one"])
        );
        assert_eq!(lines_of(BlockReader::new(&b"\n"[..])), numbered(&[""]));
        assert_eq!(lines_of(BlockReader::new(&b""[..])), numbered(&[]));
    }

    #[test]
    fn lines_are_given_out_as_they_come() {
        let mut reader = BlockReader::new(Pieces(vec![b"a\nb", b"c", b"\nd"]));
        let mut blocks = Vec::new();
        while let Some(block) = reader.next_block().unwrap() {
            blocks.push(block.lines().map(|line| line.bytes).collect::<Vec<_>>());
        }
        assert_eq!(blocks, [vec!["a"], vec!["bc"], vec!["d"]]);
    }

    #[test]
    fn a_line_may_be_as_long_as_the_limit_and_no_longer() {
        let text = b"one\n12345678\n";
        assert_eq!(
            lines_of(BlockReader::with_limits(&text[..], 4, 8)),
            numbered(&["one", "12345678"])
        );
        let mut reader = BlockReader::with_limits(&b"one\n123456789\n"[..], 4, 8);
        assert_eq!(reader.next_block().unwrap().unwrap().lines().count(), 1);
        assert!(matches!(
            reader.next_block(),
            Err(Error::LineTooLong {
                number: 2,
                bytes_max: 8
            })
        ));
    }
}
