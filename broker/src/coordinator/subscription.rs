//! What a member wants to read, and which topics that is.

use std::collections::{BTreeMap, BTreeSet};

use highwater_proto::TopicId;
use regex::{Regex, RegexBuilder};

use super::catalog::Catalog;

/// Bytes that a compiled expression may take. An expression that a person writes takes a few KiB; repetitions inside
/// repetitions grow without end.
const MAX_COMPILED_BYTES: usize = 256 << 10;

/// What a member wants to read: topics by name, and those whose whole name matches an expression.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// Names.
    pub names: BTreeSet<String>,
    /// An expression, which compiles.
    pub regex: Option<String>,
}

impl Subscription {
    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.regex.is_none()
    }

    /// Whether its expression can be used.
    ///
    /// # Errors
    /// What is wrong with it, for a person.
    pub fn check(&self) -> Result<(), String> {
        let Some(pattern) = &self.regex else {
            return Ok(());
        };
        compile(pattern).map(drop).map_err(|error| match error {
            regex::Error::CompiledTooBig(limit) => {
                format!("it takes more than {limit} bytes when it is compiled")
            }
            error => error.to_string(),
        })
    }
}

fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(&format!("^(?:{pattern})$"))
        .size_limit(MAX_COMPILED_BYTES)
        .dfa_size_limit(MAX_COMPILED_BYTES)
        .build()
}

/// Finds the topics of subscriptions in one catalog. What an expression matches is found once.
pub(super) struct Resolver<'a> {
    catalog: &'a Catalog,
    matches: BTreeMap<String, BTreeSet<TopicId>>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(catalog: &'a Catalog) -> Self {
        Self {
            catalog,
            matches: BTreeMap::new(),
        }
    }

    /// The topics of a subscription. An expression that does not compile matches nothing.
    pub(super) fn topics(&mut self, subscription: &Subscription) -> BTreeSet<TopicId> {
        let named = subscription
            .names
            .iter()
            .filter_map(|name| self.catalog.id_of(name));
        let mut topics: BTreeSet<_> = named.collect();
        if let Some(pattern) = &subscription.regex {
            let catalog = self.catalog;
            let matching = self.matches.entry(pattern.clone()).or_insert_with(|| {
                let Ok(regex) = compile(pattern) else {
                    return BTreeSet::new();
                };
                let names = catalog.names().filter(|(name, _)| regex.is_match(name));
                names.map(|(_, id)| id).collect()
            });
            topics.extend(matching.iter().copied());
        }
        topics
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::coordinator::CatalogTopic;

    fn id(number: u128) -> TopicId {
        TopicId(Uuid::from_u128(number))
    }

    fn catalog() -> Catalog {
        let topic = |(number, name): (u128, &str)| {
            let topic = CatalogTopic {
                name: name.to_owned(),
                racks: vec![BTreeSet::new()],
            };
            (id(number), topic)
        };
        let topics = [(1, "orders"), (2, "orders.eu"), (3, "bills")];
        Catalog::new(1, topics.map(topic))
    }

    fn topics(names: &[&str], regex: Option<&str>) -> Vec<TopicId> {
        let subscription = Subscription {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            regex: regex.map(str::to_owned),
        };
        subscription.check().unwrap();
        let catalog = catalog();
        let mut resolver = Resolver::new(&catalog);
        resolver.topics(&subscription).into_iter().collect()
    }

    #[test]
    fn names_and_expressions_add_up() {
        assert_eq!(topics(&["bills", "nothing"], None), [id(3)]);
        assert_eq!(topics(&["bills"], Some(r"orders\..*")), [id(2), id(3)]);
        assert_eq!(
            topics(&[], Some("order|bills")),
            [id(3)],
            "whole names match"
        );
    }

    #[test]
    fn expressions_that_cannot_be_used_are_refused() {
        for pattern in ["(", "(((a{100}){100}){100})", "(?=a)"] {
            let subscription = Subscription {
                names: BTreeSet::new(),
                regex: Some(pattern.to_owned()),
            };
            subscription.check().unwrap_err();
        }
    }
}
