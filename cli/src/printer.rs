//! Prints records to stdout in the form asked for.

use std::io::{self, Write};

use crate::format_string::FormatString;
use crate::json_record;
use crate::record::Record;

/// As many bytes gather before they are written, unless [`Printer::flush`] is called.
const BUFFER_BYTES: usize = 64 * 1024;

/// The form of each record.
#[derive(Debug)]
pub(crate) enum Form {
    /// Text after a format.
    Text(FormatString),
    /// An object on a line of its own.
    Json,
}

/// Whether more records are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Somebody reads what is printed.
    Present,
    /// The reader has closed the pipe: it has what it wanted.
    Gone,
}

/// Writes records to `out`.
#[derive(Debug)]
pub(crate) struct Printer<W> {
    out: W,
    form: Form,
    buffer: Vec<u8>,
}

impl<W: Write> Printer<W> {
    /// A printer with nothing printed.
    pub(crate) fn new(out: W, form: Form) -> Self {
        Self {
            out,
            form,
            buffer: Vec::with_capacity(2 * BUFFER_BYTES),
        }
    }

    /// Prints a record, now or at the next flush.
    pub(crate) fn print(&mut self, record: &Record<'_>) -> io::Result<Reader> {
        match &self.form {
            Form::Text(format) => format.write(record, &mut self.buffer),
            Form::Json => json_record::write(record, &mut self.buffer),
        }
        if self.buffer.len() < BUFFER_BYTES {
            return Ok(Reader::Present);
        }
        self.flush()
    }

    /// Writes what has gathered.
    pub(crate) fn flush(&mut self) -> io::Result<Reader> {
        let written = self
            .out
            .write_all(&self.buffer)
            .and_then(|()| self.out.flush());
        self.buffer.clear();
        match written {
            Ok(()) => Ok(Reader::Present),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: Record<'static> = Record {
        topic: "t",
        partition: 0,
        offset: 7,
        key: None,
        value: Some(b"v"),
        headers: &[],
        timestamp_ms: 1,
    };

    #[test]
    fn records_wait_for_a_flush() {
        let mut out = Vec::new();
        let mut printer = Printer::new(&mut out, Form::Text(FormatString::value_per_line()));
        assert_eq!(printer.print(&RECORD).unwrap(), Reader::Present);
        assert!(printer.out.is_empty());
        assert_eq!(printer.flush().unwrap(), Reader::Present);
        assert_eq!(out, b"v\n");
    }

    #[test]
    fn a_full_buffer_is_written() {
        let value = vec![b'x'; BUFFER_BYTES];
        let mut out = Vec::new();
        let mut printer = Printer::new(&mut out, Form::Json);
        let record = Record {
            value: Some(&value),
            ..RECORD
        };
        printer.print(&record).unwrap();
        assert!(out.len() > BUFFER_BYTES);
        assert!(out.ends_with(b"\n"));
    }

    /// A pipe that nobody reads.
    struct ClosedPipe;

    impl Write for ClosedPipe {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        let mut printer = Printer::new(ClosedPipe, Form::Json);
        printer.print(&RECORD).unwrap();
        assert_eq!(printer.flush().unwrap(), Reader::Gone);
    }
}
