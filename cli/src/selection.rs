//! Which things a command is about: named one by one, or by regular expressions that match whole names.

use std::future::Future;

use highwater_client::Error;
use regex::Regex;

use crate::explain::explain;
use crate::failure::Failure;

/// What is selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Topic,
    Group,
}

impl Kind {
    fn noun(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Group => "group",
        }
    }
}

/// Names, or expressions that match them.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    pub(crate) kind: Kind,
    pub(crate) names: Vec<String>,
    /// Whether the names are expressions.
    pub(crate) regex: bool,
}

impl Selection {
    /// The selected names, each once. Plain names are taken as they are, whether there are such things or not;
    /// expressions are matched with those that are `known`, and matching none is a failure.
    pub(crate) async fn resolve(
        &self,
        known: impl Future<Output = Result<Vec<String>, Error>>,
    ) -> Result<Vec<String>, Failure> {
        if !self.regex {
            return Ok(each_once(&self.names));
        }
        let noun = self.kind.noun();
        let what = format!("cannot select {noun}s by {}", self.names.join(" "));
        let known = known.await.map_err(|error| explain(&what, &error))?;
        let selected = self.select(known.iter().map(String::as_str))?;
        if selected.is_empty() {
            return Err(Failure::new(what, format!("no {noun} matches"))
                .remedy(format!("see the {noun}s there are: highwater {noun} list")));
        }
        Ok(selected.into_iter().map(str::to_owned).collect())
    }

    /// The selected ones of those that exist, in the order of `known`. Names that do not exist select nothing.
    pub(crate) fn select<'a>(
        &self,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Result<Vec<&'a str>, Failure> {
        let known = known.into_iter();
        if !self.regex {
            return Ok(known
                .filter(|name| self.names.iter().any(|wanted| wanted == name))
                .collect());
        }
        let expressions = self.expressions()?;
        let is_match = |name: &&str| {
            let mut expressions = expressions.iter();
            expressions.any(|expression| expression.is_match(name))
        };
        Ok(known.filter(is_match).collect())
    }

    /// The names that are none of those that exist; expressions may match nothing.
    pub(crate) fn unknown<'a>(&'a self, known: &[&str]) -> Vec<&'a str> {
        let names = self.names.iter().map(String::as_str);
        names
            .filter(|name| !self.regex && !known.contains(name))
            .collect()
    }

    fn expressions(&self) -> Result<Vec<Regex>, Failure> {
        let expression = |text: &String| {
            Regex::new(&format!("^(?:{text})$")).map_err(|error| {
                // The last line says what is wrong; those before it draw what was made of the text.
                let error = error.to_string();
                let why = error.lines().last().unwrap_or_default();
                let why = why.trim_start_matches("error: ");
                let noun = self.kind.noun();
                Failure::misuse(format!("cannot select {noun}s by \"{text}\""), why)
                    .remedy("give a regular expression, such as 'flights-.*'")
            })
        };
        self.names.iter().map(expression).collect()
    }
}

fn each_once(names: &[String]) -> Vec<String> {
    let mut once: Vec<String> = Vec::with_capacity(names.len());
    for name in names {
        if !once.contains(name) {
            once.push(name.clone());
        }
    }
    once
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 3] = ["flights", "flights-2013", "orders"];

    fn selection(names: &[&str], regex: bool) -> Selection {
        Selection {
            kind: Kind::Topic,
            names: names.iter().map(|name| (*name).into()).collect(),
            regex,
        }
    }

    fn select(names: &[&str], regex: bool) -> Vec<&'static str> {
        selection(names, regex).select(KNOWN).unwrap()
    }

    #[test]
    fn names_select_themselves() {
        assert_eq!(select(&["orders", "flights"], false), ["flights", "orders"]);
        assert!(select(&["flight"], false).is_empty());
    }

    #[test]
    fn a_name_given_twice_counts_once() {
        let names = ["b", "a", "b"].map(String::from);
        assert_eq!(each_once(&names), ["b", "a"]);
    }

    #[test]
    fn an_expression_matches_whole_names() {
        assert_eq!(select(&["flights.*"], true), ["flights", "flights-2013"]);
        assert_eq!(select(&["flights|orders"], true), ["flights", "orders"]);
        assert!(select(&["light"], true).is_empty());
    }

    #[test]
    fn names_are_unknown_and_expressions_are_not() {
        let names = ["orders", "payments"];
        assert_eq!(selection(&names, false).unknown(&KNOWN), ["payments"]);
        assert!(selection(&names, true).unknown(&KNOWN).is_empty());
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        assert!(selection(&["("], true).select(KNOWN).is_err());
    }
}
