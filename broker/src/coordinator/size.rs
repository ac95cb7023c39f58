//! How large the parts of a coordinator's state are in its snapshot, at most: an upper bound that is cheap to keep while the state
//! changes. `coordinator_snapshot.proto` says what is counted.

use std::collections::BTreeSet;

use super::group::Group;
use super::member::{Held, Member, Seat, TopicPartition};

/// A tag and a length, or a tag and a number of 32 bits.
const SMALL: usize = 7;
/// A tag and a number of 64 bits.
const NUMBER: usize = 11;
/// A topic's id with tag and length.
const TOPIC_ID: usize = 18;

/// A group apart from its members and offsets.
pub(super) fn of_group(id: &str, group: &Group) -> usize {
    let topics = group.topics.len() * (SMALL + TOPIC_ID + SMALL);
    SMALL + text(id) + SMALL + 3 * NUMBER + topics
}

/// A member, with what it has and is to have.
pub(super) fn of_seat(seat: &Seat) -> usize {
    SMALL + of_member(&seat.member) + of_target(&seat.target) + of_held(&seat.held)
}

/// A committed offset with so many bytes of metadata.
pub(super) fn of_offset(metadata_bytes: usize) -> usize {
    SMALL + TOPIC_ID + SMALL + 3 * NUMBER + SMALL + metadata_bytes
}

fn of_member(member: &Member) -> usize {
    let option = |value: Option<&str>| text(value.unwrap_or_default());
    let names = member.subscription.names.iter();
    let names: usize = names.map(|name| text(name)).sum();
    let assignor = option(member.assignor.map(|assignor| assignor.name()));
    SMALL
        + text(&member.id)
        + option(member.instance.as_deref())
        + option(member.rack.as_deref())
        + text(&member.client_id)
        + 2 * SMALL
        + names
        + option(member.subscription.regex.as_deref())
        + assignor
        + member.topics.len() * TOPIC_ID
}

fn of_target(target: &BTreeSet<TopicPartition>) -> usize {
    let mut bytes = SMALL;
    let mut last = None;
    for partition in target {
        if last.replace(partition.topic) != Some(partition.topic) {
            bytes += SMALL + TOPIC_ID + SMALL;
        }
        bytes += SMALL;
    }
    bytes
}

fn of_held(held: &Held) -> usize {
    let partitions = held.assigned.len() + held.revoking.len();
    SMALL + 2 * NUMBER + SMALL + partitions * (SMALL + TOPIC_ID + SMALL + NUMBER)
}

fn text(text: &str) -> usize {
    SMALL + text.len()
}
