//! Files that are read as a whole: what they may be is bounded.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::failure::Failure;

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TextFile {
    /// What messages call it.
    pub(crate) name: String,
    pub(crate) text: String,
}

/// Reads the file, or stdin where it is called `-`; one of more than `bytes_max` bytes is refused.
pub(crate) fn read(path: &Path, bytes_max: u64) -> Result<TextFile, Failure> {
    let is_stdin = path == Path::new("-");
    let name = if is_stdin {
        "stdin".to_owned()
    } else {
        path.display().to_string()
    };
    let read = if is_stdin {
        read_bounded(io::stdin().lock(), bytes_max)
    } else {
        File::open(path).and_then(|file| read_bounded(file, bytes_max))
    };
    match read {
        Ok(text) => Ok(TextFile { name, text }),
        Err(error) => Err(Failure::new(format!("cannot read {name}"), error)),
    }
}

fn read_bounded(input: impl Read, bytes_max: u64) -> io::Result<String> {
    let mut text = String::new();
    let bytes = input.take(bytes_max + 1).read_to_string(&mut text)?;
    if bytes as u64 > bytes_max {
        let why = format!("it is longer than {bytes_max} bytes: is this the file that was meant?");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_not_read_to_its_end() {
        let error = read_bounded(io::repeat(b'x'), 100).unwrap_err();
        assert!(error.to_string().contains("100 bytes"), "{error}");
        assert_eq!(read_bounded(&b"abc"[..], 3).unwrap(), "abc");
    }
}
