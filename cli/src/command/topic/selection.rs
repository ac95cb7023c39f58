//! Which topics a command is about: named one by one, or by a regular expression.

use clap::Args;
use highwater_client::Admin;
use regex::Regex;

use crate::explain::explain;
use crate::failure::Failure;

/// Names of topics, or expressions that match them.
#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// Names of topics
    #[arg(value_name = "TOPIC")]
    names: Vec<String>,

    /// Take TOPIC as regular expressions that match a whole name, such as 'flights-.*'
    #[arg(long)]
    regex: bool,
}

impl Selection {
    /// Whether nothing was named.
    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The selected names. Plain names are taken as they are, whether there are such topics or not; an expression that
    /// matches no topic is a failure.
    pub(crate) async fn names(&self, admin: &Admin) -> Result<Vec<String>, Failure> {
        if !self.regex {
            return Ok(self.names.clone());
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

    fn expressions(&self) -> Result<Vec<Regex>, Failure> {
        self.names
            .iter()
            .map(|text| {
                Regex::new(&format!("^(?:{text})$")).map_err(|error| {
                    Failure::new(format!("cannot select topics by \"{text}\""), error)
                        .remedy("give a regular expression, such as 'flights-.*'")
                })
            })
            .collect()
    }
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
