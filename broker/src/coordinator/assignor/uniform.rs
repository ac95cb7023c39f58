//! Each member as many as any other, moving as few as possible.
//!
//! Where all members want the same topics, numbers differ by at most one and no assignment that balanced moves less:
//! those who have most keep the larger shares. Where they want different topics, no single partition could go to
//! another member that wants it and make the numbers more even.
//!
//! Which partitions move is decided by racks: a member gives away first what has no replica in its rack, and free
//! partitions go to members in a rack of theirs as far as those may have more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use highwater_proto::TopicId;

use super::{Question, Targets, Wish};
use crate::coordinator::member::TopicPartition;

pub(super) fn assign(question: &Question<'_>) -> Targets {
    let mut wanted = question.wishes.values().map(|wish| wish.topics);
    let first = wanted.next();
    let is_alike = first.is_none_or(|first| wanted.all(|topics| topics == first));
    let kept = Kept::of(question);
    if is_alike {
        assign_alike(question, kept)
    } else {
        assign_different(question, kept)
    }
}

/// What members can keep of what they had, and what is free.
struct Kept {
    targets: Targets,
    free: BTreeSet<TopicPartition>,
}

impl Kept {
    fn of(question: &Question<'_>) -> Self {
        let wanted: BTreeSet<TopicId> = question
            .wishes
            .values()
            .flat_map(|wish| wish.topics)
            .copied()
            .collect();
        let mut free: BTreeSet<_> = wanted
            .into_iter()
            .flat_map(|topic| question.partitions_of(topic))
            .collect();
        let mut targets = Targets::new();
        for (id, wish) in &question.wishes {
            let kept = wish.target.iter().filter(|partition| {
                wish.topics.contains(&partition.topic) && free.remove(partition)
            });
            targets.insert(Arc::clone(id), kept.copied().collect());
        }
        Self { targets, free }
    }
}

/// All members want the same.
fn assign_alike(question: &Question<'_>, kept: Kept) -> Targets {
    let Kept {
        mut targets,
        mut free,
    } = kept;
    let members = targets.len();
    if members == 0 {
        return targets;
    }
    let partitions = free.len() + targets.values().map(BTreeSet::len).sum::<usize>();
    let (each, more) = (partitions / members, partitions % members);
    let mut by_size: Vec<_> = targets
        .iter()
        .map(|(id, has)| (has.len(), Arc::clone(id)))
        .collect();
    by_size.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let mut shares = BTreeMap::new();
    for (rank, (_, id)) in by_size.into_iter().enumerate() {
        let share = each + usize::from(rank < more);
        if let (Some(has), Some(wish)) = (targets.get_mut(&id), question.wishes.get(&id)) {
            for partition in surplus(question, wish, has, share) {
                has.remove(&partition);
                free.insert(partition);
            }
        }
        shares.insert(id, share);
    }
    give_near(question, &mut targets, &mut free, &shares);
    let mut rest = free.into_iter();
    for (id, has) in &mut targets {
        let share = shares.get(id).copied().unwrap_or(0);
        let room = share.saturating_sub(has.len());
        has.extend(rest.by_ref().take(room));
    }
    targets
}

/// What a member gives away of what it has to have no more than its share: first what is far from it.
fn surplus(
    question: &Question<'_>,
    wish: &Wish<'_>,
    has: &BTreeSet<TopicPartition>,
    share: usize,
) -> Vec<TopicPartition> {
    let count = has.len().saturating_sub(share);
    if count == 0 {
        return Vec::new();
    }
    let mut ranked: Vec<_> = has
        .iter()
        .map(|partition| (question.is_near(wish, *partition), *partition))
        .collect();
    // Of equals the last go, so that who was there first keeps the first.
    ranked.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| b.1.cmp(&a.1)));
    ranked
        .into_iter()
        .take(count)
        .map(|(_, partition)| partition)
        .collect()
}

/// Gives free partitions to members near them that have room.
fn give_near(
    question: &Question<'_>,
    targets: &mut Targets,
    free: &mut BTreeSet<TopicPartition>,
    shares: &BTreeMap<Arc<str>, usize>,
) {
    for (id, wish) in &question.wishes {
        if wish.rack.is_none() {
            continue;
        }
        let (Some(has), Some(share)) = (targets.get_mut(id), shares.get(id)) else {
            continue;
        };
        let room = share.saturating_sub(has.len());
        let near = free
            .iter()
            .filter(|partition| question.is_near(wish, **partition));
        let given: Vec<_> = near.take(room).copied().collect();
        for partition in given {
            free.remove(&partition);
            has.insert(partition);
        }
    }
}

/// Members want different topics.
fn assign_different(question: &Question<'_>, kept: Kept) -> Targets {
    let Kept { mut targets, free } = kept;
    let mut takers: BTreeMap<TopicId, Vec<&Arc<str>>> = BTreeMap::new();
    for (id, wish) in &question.wishes {
        for topic in wish.topics {
            takers.entry(*topic).or_default().push(id);
        }
    }
    // Topics that few want go first: their takers have no choice.
    let mut free: Vec<_> = free.into_iter().collect();
    free.sort_by_key(|partition| (takers.get(&partition.topic).map_or(0, Vec::len), *partition));
    for partition in free {
        let candidates = takers.get(&partition.topic).into_iter().flatten();
        let best = candidates.min_by_key(|id| {
            let is_far = question
                .wishes
                .get(**id)
                .is_none_or(|wish| !question.is_near(wish, partition));
            (
                targets.get(**id).map_or(0, BTreeSet::len),
                is_far,
                Arc::clone(id),
            )
        });
        if let Some(has) = best.and_then(|id| targets.get_mut(*id)) {
            has.insert(partition);
        }
    }
    even_out(question, &mut targets, &takers);
    targets
}

/// Moves single partitions from who has more to who has less by two or more, until none can. Ends, because each move lowers
/// the sum of the squares of the numbers.
fn even_out(
    question: &Question<'_>,
    targets: &mut Targets,
    takers: &BTreeMap<TopicId, Vec<&Arc<str>>>,
) {
    let mut has_moved = true;
    while has_moved {
        has_moved = false;
        for (topic, takers) in takers {
            while let Some((from, to)) = uneven(targets, *topic, takers) {
                let moving = question.wishes.get(&from).and_then(|wish| {
                    let of_topic = targets.get(&from)?.iter().filter(|has| has.topic == *topic);
                    of_topic
                        .max_by_key(|partition| (!question.is_near(wish, **partition), **partition))
                });
                let Some(moving) = moving.copied() else {
                    break;
                };
                if let Some(has) = targets.get_mut(&from) {
                    has.remove(&moving);
                }
                if let Some(has) = targets.get_mut(&to) {
                    has.insert(moving);
                }
                has_moved = true;
            }
        }
    }
}

/// Who has most among those that have a partition of the topic, and who has least among those that want it, if the first has at least
/// two more.
fn uneven(targets: &Targets, topic: TopicId, takers: &[&Arc<str>]) -> Option<(Arc<str>, Arc<str>)> {
    let count = |id: &Arc<str>| targets.get(id).map_or(0, BTreeSet::len);
    let has_of_topic = |id: &Arc<str>| {
        let first = TopicPartition {
            topic,
            index: highwater_proto::PartitionIndex(0),
        };
        let mut from = targets
            .get(id)
            .into_iter()
            .flat_map(|has| has.range(first..));
        from.next()
            .is_some_and(|partition| partition.topic == topic)
    };
    let holders = takers.iter().filter(|id| has_of_topic(id));
    let most = holders.max_by_key(|id| (count(id), std::cmp::Reverse(Arc::clone(id))))?;
    let least = takers.iter().min_by_key(|id| (count(id), Arc::clone(id)))?;
    (count(most) >= count(least) + 2).then(|| (Arc::clone(most), Arc::clone(least)))
}
