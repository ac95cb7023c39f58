//! Which topics a command is about: named one by one, or by a regular expression.

use clap::Args;
use highwater_client::Admin;
use regex::Regex;

use crate::explain::explain;
use crate::failure::Failure;
use crate::topic_names;

/// Names of topics, or expressions that match them; at least one.
#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// Names of topics
    #[arg(value_name = "TOPIC", required = true, add = topic_names::completer())]
    pub(super) names: Vec<String>,

    /// Take TOPIC as regular expressions that match a whole name, such as 'flights-.*'
    #[arg(short, long)]
    pub(super) regex: bool,
}

/// The same for a command whose `-r` are replicas.
#[derive(Debug, Args)]
pub(crate) struct LongSelection {
    /// Names of topics
    #[arg(value_name = "TOPIC", required = true, add = topic_names::completer())]
    names: Vec<String>,

    /// Take TOPIC as regular expressions that match a whole name, such as 'flights-.*'
    #[arg(long)]
    regex: bool,
}

impl From<LongSelection> for Selection {
    fn from(LongSelection { names, regex }: LongSelection) -> Self {
        Self { names, regex }
    }
}

impl Selection {
    /// The selected names, each once. Plain names are taken as they are, whether there are such topics or not;
    /// expressions that match no topic are a failure.
    pub(crate) async fn names(&self, admin: &Admin) -> Result<Vec<String>, Failure> {
        if !self.regex {
            return Ok(each_once(&self.names));
        }
        let what = format!("cannot select topics by {}", self.names.join(" "));
        let topics = admin
            .list_topics()
            .await
            .map_err(|error| explain(&what, &error))?;
        let selected = self.select(topics.iter().map(|topic| topic.name.as_str()))?;
        if selected.is_empty() {
            return Err(Failure::new(what, "no topic matches")
                .remedy("see the topics there are: highwater topic list"));
        }
        Ok(selected.into_iter().map(str::to_owned).collect())
    }

    /// The selected ones of the topics that exist, in the order of `known`. Names that do not exist select nothing.
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
        Ok(known
            .filter(|name| {
                expressions
                    .iter()
                    .any(|expression| expression.is_match(name))
            })
            .collect())
    }

    /// Whether expressions select, so that a command may meet topics its user did not think of.
    pub(crate) fn is_by_expression(&self) -> bool {
        self.regex
    }

    fn expressions(&self) -> Result<Vec<Regex>, Failure> {
        self.names
            .iter()
            .map(|text| {
                Regex::new(&format!("^(?:{text})$")).map_err(|error| {
                    // The last line says what is wrong; those before it draw what was made of the text.
                    let error = error.to_string();
                    let why = error.lines().last().unwrap_or_default();
                    let why = why.trim_start_matches("error: ");
                    Failure::misuse(format!("cannot select topics by \"{text}\""), why)
                        .remedy("give a regular expression, such as 'flights-.*'")
                })
            })
            .collect()
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

    fn select(names: &[&str], regex: bool) -> Vec<&'static str> {
        let names = names.iter().map(|name| (*name).into()).collect();
        Selection { names, regex }.select(KNOWN).unwrap()
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
    fn what_is_no_expression_is_refused() {
        let selection = Selection {
            names: vec!["(".into()],
            regex: true,
        };
        assert!(selection.select(KNOWN).is_err());
    }
}
