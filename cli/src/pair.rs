//! Arguments that are a name and a value: `-c retention.ms=60000`, `-H source:faa`.

/// Reads `NAME=VALUE`; the value may hold further `=` and may be empty.
pub(crate) fn parse_config(text: &str) -> Result<(String, String), String> {
    split(text, '=').ok_or_else(|| "use NAME=VALUE, such as retention.ms=86400000".into())
}

/// Reads `NAME:VALUE`; the value may hold further `:` and may be empty.
pub(crate) fn parse_header(text: &str) -> Result<(String, String), String> {
    split(text, ':').ok_or_else(|| "use NAME:VALUE, such as source:web".into())
}

fn split(text: &str, separator: char) -> Option<(String, String)> {
    let (name, value) = text.split_once(separator)?;
    (!name.is_empty()).then(|| (name.into(), value.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_separator_ends_the_name() {
        assert_eq!(parse_config("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(parse_header("a:b:c"), Ok(("a".into(), "b:c".into())));
        assert_eq!(parse_config("a="), Ok(("a".into(), String::new())));
    }

    #[test]
    fn without_name_or_separator_it_is_refused() {
        assert!(parse_config("retention.ms").is_err());
        assert!(parse_config("=1").is_err());
        assert!(parse_header("source=web").is_err());
    }
}
