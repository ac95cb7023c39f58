//! Backslash escapes in arguments, so that a tab or a line end can be written in any shell: `\t`, `\n`, `\r`, `\0`,
//! `\\` and `\xHH` for any byte.

/// Why a text could not be unescaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Error {
    /// A backslash followed by a character that means nothing.
    Unknown(char),
    /// `\x` without two hexadecimal digits.
    BadHex,
    /// A backslash at the end.
    Unfinished,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown(character) => write!(f, "`\\{character}` is no escape")?,
            Self::BadHex => write!(f, "`\\x` needs two hexadecimal digits")?,
            Self::Unfinished => write!(f, "a single `\\` stands at the end")?,
        }
        write!(f, "; use \\t, \\n, \\r, \\0, \\\\ or \\xHH")
    }
}

impl std::error::Error for Error {}

/// The bytes that `text` stands for.
pub(crate) fn unescape(text: &str) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character == '\\' {
            bytes.push(escaped_byte(&mut rest)?);
        } else {
            bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    Ok(bytes)
}

/// The byte that is meant by what follows a backslash.
pub(crate) fn escaped_byte(rest: &mut std::str::Chars<'_>) -> Result<u8, Error> {
    match rest.next() {
        Some('n') => Ok(b'\n'),
        Some('t') => Ok(b'\t'),
        Some('r') => Ok(b'\r'),
        Some('0') => Ok(0),
        Some('\\') => Ok(b'\\'),
        Some('x') => hex_byte(rest).ok_or(Error::BadHex),
        Some(other) => Err(Error::Unknown(other)),
        None => Err(Error::Unfinished),
    }
}

fn hex_byte(rest: &mut std::str::Chars<'_>) -> Option<u8> {
    let high = rest.next()?.to_digit(16)?;
    let low = rest.next()?.to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays_as_it_is() {
        assert_eq!(unescape("a, ü%").unwrap(), "a, ü%".as_bytes());
    }

    #[test]
    fn every_escape_means_its_byte() {
        assert_eq!(
            unescape(r"\t\n\r\0\\\x1f\xFF").unwrap(),
            b"\t\n\r\0\\\x1f\xff"
        );
    }

    #[test]
    fn what_is_no_escape_is_refused() {
        assert_eq!(unescape(r"a\q"), Err(Error::Unknown('q')));
        assert_eq!(unescape(r"\x1"), Err(Error::BadHex));
        assert_eq!(unescape(r"\xg0"), Err(Error::BadHex));
        assert_eq!(unescape("a\\"), Err(Error::Unfinished));
    }
}
