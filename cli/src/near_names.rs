//! Which known names are near to a mistyped one.

/// At most this many names are suggested.
const SUGGESTIONS_MAX: usize = 3;

/// The names that `wanted` may have been meant to be, best first.
pub(crate) fn near_names<'a>(
    wanted: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Vec<&'a str> {
    let edits_allowed = (wanted.chars().count() / 3).clamp(1, 4);
    let wanted = wanted.to_lowercase();
    let mut near: Vec<(usize, &str)> = known
        .into_iter()
        .filter_map(|name| {
            let folded = name.to_lowercase();
            let edits = strsim::damerau_levenshtein(&wanted, &folded);
            let is_beginning = wanted.len() >= 3 && folded.starts_with(&wanted);
            (edits <= edits_allowed || is_beginning).then_some((edits, name))
        })
        .collect();
    near.sort_unstable();
    near.truncate(SUGGESTIONS_MAX);
    near.into_iter().map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_finger_are_near() {
        let known = ["flights", "orders", "flight-status"];
        assert_eq!(near_names("fligths", known), ["flights"]);
        assert_eq!(near_names("Flights", known), ["flights"]);
        assert_eq!(near_names("fli", known), ["flights", "flight-status"]);
    }

    #[test]
    fn other_words_are_not() {
        assert!(near_names("payments", ["flights", "orders"]).is_empty());
        assert!(near_names("b", ["alpha", "beta"]).is_empty());
    }

    #[test]
    fn there_are_few_suggestions() {
        let known = ["log-1", "log-2", "log-3", "log-4", "log-5"];
        assert_eq!(near_names("log-9", known), ["log-1", "log-2", "log-3"]);
    }
}
