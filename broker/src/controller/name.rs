//! Which names topics may have: Kafka's rules.

use super::error::Error;

/// Longest name in bytes: Kafka's, which comes from file names.
const MAX_NAME_BYTES: usize = 249;
/// Names that begin so belong to the broker.
pub(super) const RESERVED_PREFIX: &str = "__";
/// Characters of a refused name that are repeated in the answer.
const SHOWN_CHARS: usize = 64;

/// Checks the name of a new topic.
///
/// # Errors
/// [`Error::InvalidName`] with the rule that it breaks.
pub(super) fn check(name: &str) -> Result<(), Error> {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let problem = if name.is_empty() {
        "it is empty"
    } else if name == "." || name == ".." {
        "`.` and `..` are not allowed"
    } else if name.len() > MAX_NAME_BYTES {
        "it is longer than 249 bytes"
    } else if !name.bytes().all(is_legal) {
        "only a-z, A-Z, 0-9, `.`, `_` and `-` are allowed"
    } else if name.starts_with(RESERVED_PREFIX) {
        "names that begin with `__` are reserved"
    } else {
        return Ok(());
    };
    let name = name.chars().take(SHOWN_CHARS).collect();
    Err(Error::InvalidName { name, problem })
}

/// The name with `.` as `_`. Metric names cannot tell the two apart, so no two topics may share this form.
pub(super) fn folded(name: &str) -> String {
    name.replace('.', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rules() {
        let longest = "x".repeat(249);
        for name in [
            "a",
            "flights",
            "A.b_c-9",
            "...",
            "_a",
            "a__",
            longest.as_str(),
        ] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        let too_long = "x".repeat(250);
        for name in [
            "",
            ".",
            "..",
            "__a",
            "__",
            "a b",
            "a/b",
            "a\0",
            "é",
            "a\n",
            too_long.as_str(),
        ] {
            assert!(
                matches!(check(name), Err(Error::InvalidName { .. })),
                "{name:?}"
            );
        }
    }
}
