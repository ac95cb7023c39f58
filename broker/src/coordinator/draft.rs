//! A group while a command is decided: what the events so far make of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use highwater_proto::TopicId;

use super::assignor::{Assignor, Question, Wish};
use super::catalog::Catalog;
use super::event::{Change, Event};
use super::group::Group;
use super::member::{Member, Seat};
use super::subscription::Resolver;

/// A group and the events that a decision has come to. The group is copied with the first of them.
pub(super) struct Draft {
    id: Arc<str>,
    group: Arc<Group>,
    events: Vec<Event>,
}

impl Draft {
    /// Begins with a group as the next decision must see it; `None`: there is none yet.
    pub(super) fn new(id: &Arc<str>, group: Option<&Arc<Group>>) -> Self {
        Self {
            id: Arc::clone(id),
            group: group.map_or_else(|| Arc::new(Group::new(0)), Arc::clone),
            events: Vec::new(),
        }
    }

    pub(super) fn group(&self) -> &Group {
        &self.group
    }

    pub(super) fn into_events(self) -> Vec<Event> {
        self.events
    }

    pub(super) fn record(&mut self, change: Change) {
        Arc::make_mut(&mut self.group)
            .apply(&change)
            .expect("a decision records lawful changes");
        self.events.push(Event {
            group: Arc::clone(&self.id),
            change,
        });
    }

    /// Sets what a member says of itself, if that is anything new.
    pub(super) fn set_member(&mut self, member: Member) {
        let known = self.group.seat(&member.id).map(|seat| &seat.member);
        if known.is_none_or(|known| **known != member) {
            self.record(Change::MemberSet(Arc::new(member)));
        }
    }

    /// Finds all members' topics again if `catalog` is newer than what the group saw. Whether any of them, or their
    /// partitions, are others.
    pub(super) fn look_up(&mut self, catalog: &Catalog) -> bool {
        if catalog.version() <= self.group.catalog_version {
            return false;
        }
        let mut resolver = Resolver::new(catalog);
        let mut has_changed = false;
        let group = Arc::clone(&self.group);
        for seat in group.seats.values() {
            let topics = resolver.topics(&seat.member.subscription);
            if topics != seat.member.topics {
                has_changed = true;
                let member = Member {
                    topics,
                    ..seat.member.as_ref().clone()
                };
                self.record(Change::MemberSet(Arc::new(member)));
            }
        }
        let is_other = |(id, count): (&TopicId, &u32)| {
            catalog
                .topic(*id)
                .is_none_or(|topic| topic.partition_count() != *count)
        };
        has_changed || self.group.topics.iter().any(is_other)
    }

    /// Gives the group a new epoch and a new target. Without a `catalog`, or with an old one, the topics are those that it saw last.
    pub(super) fn retarget(&mut self, catalog: Option<&Catalog>) {
        if let Some(catalog) = catalog {
            self.look_up(catalog);
        }
        let newest = catalog.filter(|catalog| catalog.version() >= self.group.catalog_version);
        let wanted: BTreeSet<TopicId> = self
            .group
            .seats
            .values()
            .flat_map(|seat| &seat.member.topics)
            .copied()
            .collect();
        let count = |id: &TopicId| match newest {
            Some(catalog) => catalog.topic(*id).map(|topic| topic.partition_count()),
            None => self.group.topics.get(id).copied(),
        };
        let topics = wanted
            .iter()
            .filter_map(|id| Some((*id, count(id)?)))
            .collect();
        self.record(Change::EpochSet {
            epoch: self.group.epoch.next(),
            catalog_version: newest.map_or(self.group.catalog_version, Catalog::version),
            topics,
        });
        let group = Arc::clone(&self.group);
        let question = Question {
            wishes: group
                .seats
                .iter()
                .map(|(id, seat)| (Arc::clone(id), wish(seat)))
                .collect(),
            topics: &group.topics,
            catalog,
        };
        for (member, target) in assignor_of(&group).assign(&question) {
            if group
                .seat(&member)
                .is_none_or(|seat| *seat.target != target)
            {
                let target = Arc::new(target);
                self.record(Change::TargetSet { member, target });
            }
        }
    }
}

fn wish(seat: &Seat) -> Wish<'_> {
    Wish {
        topics: &seat.member.topics,
        target: &seat.target,
        instance: seat.member.instance.as_deref(),
        rack: seat.member.rack.as_deref(),
    }
}

/// The assignor that most members want; of two that as many want, the first.
pub(super) fn assignor_of(group: &Group) -> Assignor {
    let mut votes = BTreeMap::<_, usize>::new();
    for assignor in group.seats.values().filter_map(|seat| seat.member.assignor) {
        *votes.entry(assignor).or_default() += 1;
    }
    let most = votes
        .into_iter()
        .max_by_key(|(assignor, count)| (*count, std::cmp::Reverse(*assignor)));
    most.map_or_else(Assignor::default, |(assignor, _)| assignor)
}
