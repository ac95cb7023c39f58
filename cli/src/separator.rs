//! The separator between key and value of a line (`produce -K`).

use std::str::FromStr;

use memchr::memmem::Finder;

use crate::escape;

/// One or more bytes; the first place in a line where they stand ends the key.
#[derive(Debug, Clone)]
pub(crate) struct Separator {
    /// Boxed, as it is some hundred bytes large.
    finder: Box<Finder<'static>>,
}

impl Separator {
    /// Lengths of key and separator, or none if the line does not hold the separator.
    pub(crate) fn find(&self, line: &[u8]) -> Option<(usize, usize)> {
        let separator_length = self.finder.needle().len();
        self.finder
            .find(line)
            .map(|key_length| (key_length, separator_length))
    }
}

impl std::fmt::Display for Separator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.finder.needle().escape_ascii())
    }
}

impl FromStr for Separator {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = escape::unescape(text).map_err(|error| error.to_string())?;
        if bytes.is_empty() {
            return Err("a separator has at least one byte, such as '\\t' or ':'".into());
        }
        if bytes.contains(&b'\n') {
            return Err("a separator cannot hold a line end: lines are cut there first".into());
        }
        Ok(Self {
            finder: Box::new(Finder::new(&bytes).into_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_separator_counts() {
        let tab: Separator = r"\t".parse().unwrap();
        assert_eq!(tab.find(b"key\tvalue\tmore"), Some((3, 1)));
        assert_eq!(tab.find(b"\tvalue"), Some((0, 1)));
        assert_eq!(tab.find(b"no separator"), None);
    }

    #[test]
    fn a_separator_may_have_several_bytes() {
        let arrow: Separator = "->".parse().unwrap();
        assert_eq!(arrow.find(b"a-b->c"), Some((3, 2)));
    }

    #[test]
    fn empty_and_line_end_separators_are_refused() {
        assert!("".parse::<Separator>().is_err());
        assert!(r"\n".parse::<Separator>().is_err());
    }

    #[test]
    fn it_is_shown_in_a_readable_form() {
        let tab: Separator = r"\t".parse().unwrap();
        assert_eq!(tab.to_string(), r#""\t""#);
    }
}
