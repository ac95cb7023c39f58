//! The events of a coordinator as bytes: the protobuf messages of `coordinator_events.proto`. Lists are sorted, so that
//! equal events give equal bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use highwater_proto::internal::v1 as wire;
use highwater_proto::{PartitionIndex, TopicId};
use prost::Message;
use wire::coordinator_event::Event as WireEvent;

use super::assignor::Assignor;
use super::event::{Change, Event};
use super::member::{Epoch, Held, Member, TopicPartition};
use super::offsets::{CommittedOffset, PartitionOffset};
use super::subscription::Subscription;

/// Form of the events and of the snapshot that this program writes and understands.
pub(super) const VERSION: u32 = 1;

/// The events of one entry as bytes.
pub(super) fn encode(events: &[Event]) -> Bytes {
    let message = wire::CoordinatorEvents {
        version: VERSION,
        events: events.iter().map(encode_event).collect(),
    };
    message.encode_to_vec().into()
}

/// The events of one entry. The error says what is not understood.
pub(super) fn decode(data: &[u8]) -> Result<Vec<Event>, String> {
    let message = wire::CoordinatorEvents::decode(data).map_err(|error| error.to_string())?;
    if message.version != VERSION {
        return Err(format!(
            "events of version {} are not known",
            message.version
        ));
    }
    message.events.into_iter().map(decode_event).collect()
}

fn encode_event(event: &Event) -> wire::CoordinatorEvent {
    let change = match &event.change {
        Change::EpochSet {
            epoch,
            catalog_version,
            topics,
        } => WireEvent::GroupEpochSet(encode_epoch(*epoch, *catalog_version, topics)),
        Change::MemberSet(member) => WireEvent::MemberSet(encode_member(member)),
        Change::MemberRemoved { member, at_ms } => WireEvent::MemberRemoved(wire::MemberRemoved {
            member_id: member.to_string(),
            at_ms: *at_ms,
        }),
        Change::TargetSet { member, target } => {
            WireEvent::MemberTargetSet(encode_target(member, target.iter()))
        }
        Change::HeldSet { member, held } => WireEvent::MemberHeldSet(encode_held(member, held)),
        Change::OffsetsCommitted { at_ms, offsets } => {
            WireEvent::OffsetsCommitted(wire::OffsetsCommitted {
                at_ms: *at_ms,
                offsets: offsets.iter().map(encode_offset).collect(),
            })
        }
        Change::OffsetsRemoved(partitions) => WireEvent::OffsetsRemoved(wire::OffsetsRemoved {
            partitions: encode_indexes(partitions.iter()),
        }),
        Change::OffsetsExpired { committed_until_ms } => {
            WireEvent::OffsetsExpired(wire::OffsetsExpired {
                committed_until_ms: *committed_until_ms,
            })
        }
        Change::Removed => WireEvent::GroupRemoved(wire::GroupRemoved {}),
    };
    wire::CoordinatorEvent {
        group_id: event.group.to_string(),
        event: Some(change),
    }
}

fn decode_event(event: wire::CoordinatorEvent) -> Result<Event, String> {
    let change = match event.event.ok_or("it holds an event of an unknown kind")? {
        WireEvent::GroupEpochSet(set) => {
            let (epoch, catalog_version, topics) = decode_epoch(set)?;
            Change::EpochSet {
                epoch,
                catalog_version,
                topics,
            }
        }
        WireEvent::MemberSet(member) => Change::MemberSet(Arc::new(decode_member(member)?)),
        WireEvent::MemberRemoved(removed) => Change::MemberRemoved {
            member: removed.member_id.into(),
            at_ms: removed.at_ms,
        },
        WireEvent::MemberTargetSet(set) => Change::TargetSet {
            target: Arc::new(decode_indexes(set.partitions)?.into_iter().collect()),
            member: set.member_id.into(),
        },
        WireEvent::MemberHeldSet(set) => Change::HeldSet {
            member: set.member_id.as_str().into(),
            held: Arc::new(decode_held(set)?),
        },
        WireEvent::OffsetsCommitted(committed) => Change::OffsetsCommitted {
            at_ms: committed.at_ms,
            offsets: committed
                .offsets
                .into_iter()
                .map(decode_offset)
                .collect::<Result<_, _>>()?,
        },
        WireEvent::OffsetsRemoved(removed) => {
            Change::OffsetsRemoved(decode_indexes(removed.partitions)?)
        }
        WireEvent::OffsetsExpired(expired) => Change::OffsetsExpired {
            committed_until_ms: expired.committed_until_ms,
        },
        WireEvent::GroupRemoved(_) => Change::Removed,
    };
    Ok(Event {
        group: event.group_id.into(),
        change,
    })
}

pub(super) fn encode_epoch(
    epoch: Epoch,
    catalog_version: u64,
    topics: &BTreeMap<TopicId, u32>,
) -> wire::GroupEpochSet {
    let seen = |(id, partitions): (&TopicId, &u32)| wire::SeenTopic {
        topic_id: encode_topic(*id),
        partitions: *partitions,
    };
    wire::GroupEpochSet {
        epoch: epoch.0,
        catalog_version,
        topics: topics.iter().map(seen).collect(),
    }
}

pub(super) fn decode_epoch(
    set: wire::GroupEpochSet,
) -> Result<(Epoch, u64, BTreeMap<TopicId, u32>), String> {
    let seen = |topic: wire::SeenTopic| Ok((decode_topic(&topic.topic_id)?, topic.partitions));
    let topics = set
        .topics
        .into_iter()
        .map(seen)
        .collect::<Result<_, String>>()?;
    Ok((Epoch(set.epoch), set.catalog_version, topics))
}

pub(super) fn encode_member(member: &Member) -> wire::CoordinatedMember {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    wire::CoordinatedMember {
        member_id: member.id.to_string(),
        instance_id: member.instance.as_deref().unwrap_or_default().to_owned(),
        rack: text(&member.rack),
        client_id: member.client_id.clone(),
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        session_timeout_ms: member.session_timeout_ms,
        topic_names: member.subscription.names.iter().cloned().collect(),
        topic_regex: text(&member.subscription.regex),
        assignor: member
            .assignor
            .map(|assignor| assignor.name().to_owned())
            .unwrap_or_default(),
        topic_ids: member.topics.iter().map(|id| encode_topic(*id)).collect(),
    }
}

pub(super) fn decode_member(member: wire::CoordinatedMember) -> Result<Member, String> {
    let text = |text: String| (!text.is_empty()).then_some(text);
    let assignor = text(member.assignor).map(|name| {
        let unknown = |()| format!("there is no assignor {name}");
        name.parse::<Assignor>().map_err(unknown)
    });
    Ok(Member {
        id: member.member_id.into(),
        instance: text(member.instance_id).map(Arc::from),
        rack: text(member.rack),
        client_id: member.client_id,
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        session_timeout_ms: member.session_timeout_ms,
        subscription: Subscription {
            names: member.topic_names.into_iter().collect(),
            regex: text(member.topic_regex),
        },
        assignor: assignor.transpose()?,
        topics: member
            .topic_ids
            .iter()
            .map(|id| decode_topic(id))
            .collect::<Result<_, _>>()?,
    })
}

pub(super) fn encode_target<'a>(
    member: &str,
    target: impl Iterator<Item = &'a TopicPartition>,
) -> wire::MemberTargetSet {
    wire::MemberTargetSet {
        member_id: member.to_owned(),
        partitions: encode_indexes(target),
    }
}

pub(super) fn encode_held(member: &str, held: &Held) -> wire::MemberHeldSet {
    let encode = |held: &BTreeMap<TopicPartition, Epoch>| {
        let one = |(partition, since): (&TopicPartition, &Epoch)| wire::HeldPartition {
            topic_id: encode_topic(partition.topic),
            partition: partition.index.0,
            since_epoch: since.0,
        };
        held.iter().map(one).collect()
    };
    wire::MemberHeldSet {
        member_id: member.to_owned(),
        epoch: held.epoch.0,
        known_epoch: held.known_epoch.0,
        is_away: held.is_away,
        assigned: encode(&held.assigned),
        revoking: encode(&held.revoking),
    }
}

pub(super) fn decode_held(set: wire::MemberHeldSet) -> Result<Held, String> {
    let decode = |held: Vec<wire::HeldPartition>| {
        let one = |held: wire::HeldPartition| {
            let partition = partition(&held.topic_id, held.partition)?;
            Ok((partition, Epoch(held.since_epoch)))
        };
        held.into_iter().map(one).collect::<Result<_, String>>()
    };
    Ok(Held {
        epoch: Epoch(set.epoch),
        known_epoch: Epoch(set.known_epoch),
        is_away: set.is_away,
        assigned: decode(set.assigned)?,
        revoking: decode(set.revoking)?,
    })
}

fn encode_offset(offset: &PartitionOffset) -> wire::KeptOffset {
    wire::KeptOffset {
        topic_id: encode_topic(offset.partition.topic),
        partition: offset.partition.index.0,
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: offset.metadata.clone(),
        committed_at_ms: 0,
    }
}

fn decode_offset(offset: wire::KeptOffset) -> Result<PartitionOffset, String> {
    Ok(PartitionOffset {
        partition: partition(&offset.topic_id, offset.partition)?,
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: offset.metadata,
    })
}

/// An offset as it stands in a snapshot.
pub(super) fn encode_committed(
    (partition, offset): (&TopicPartition, &CommittedOffset),
) -> wire::KeptOffset {
    wire::KeptOffset {
        topic_id: encode_topic(partition.topic),
        partition: partition.index.0,
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: offset.metadata.clone(),
        committed_at_ms: offset.committed_at_ms,
    }
}

/// An offset that stands in a snapshot.
pub(super) fn decode_committed(
    kept: wire::KeptOffset,
) -> Result<(TopicPartition, CommittedOffset), String> {
    let at_ms = kept.committed_at_ms;
    let offset = decode_offset(kept)?;
    Ok((offset.partition, offset.committed(at_ms)))
}

/// Neighbours of one topic stand together.
fn encode_indexes<'a>(
    partitions: impl Iterator<Item = &'a TopicPartition>,
) -> Vec<wire::IndexesOfTopic> {
    let mut topics: Vec<(TopicId, Vec<u32>)> = Vec::new();
    for partition in partitions {
        match topics.last_mut() {
            Some((topic, indexes)) if *topic == partition.topic => indexes.push(partition.index.0),
            _ => topics.push((partition.topic, vec![partition.index.0])),
        }
    }
    let encode = |(topic, partitions)| wire::IndexesOfTopic {
        topic_id: encode_topic(topic),
        partitions,
    };
    topics.into_iter().map(encode).collect()
}

pub(super) fn decode_indexes(
    topics: Vec<wire::IndexesOfTopic>,
) -> Result<Vec<TopicPartition>, String> {
    let mut partitions = Vec::new();
    for topic in topics {
        for index in topic.partitions {
            partitions.push(partition(&topic.topic_id, index)?);
        }
    }
    Ok(partitions)
}

fn partition(topic_id: &[u8], index: u32) -> Result<TopicPartition, String> {
    Ok(TopicPartition {
        topic: decode_topic(topic_id)?,
        index: PartitionIndex(index),
    })
}

fn encode_topic(id: TopicId) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

fn decode_topic(bytes: &[u8]) -> Result<TopicId, String> {
    TopicId::from_slice(bytes).ok_or_else(|| format!("a topic id has {} bytes", bytes.len()))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use uuid::Uuid;

    use super::*;
    use crate::coordinator::snapshot;
    use crate::coordinator::state::State;

    fn partition(topic: u128, index: u32) -> TopicPartition {
        TopicPartition {
            topic: TopicId(Uuid::from_u128(topic)),
            index: PartitionIndex(index),
        }
    }

    /// One event of each kind, in an order that makes sense.
    fn events() -> Vec<Event> {
        let (one, two) = (partition(1, 0), partition(2, 300));
        let member: Arc<str> = "m".into();
        let said = Member {
            id: Arc::clone(&member),
            instance: Some("i".into()),
            rack: Some("r".to_owned()),
            client_id: "c".to_owned(),
            rebalance_timeout_ms: 60_000,
            session_timeout_ms: 30_000,
            subscription: Subscription {
                names: ["t".to_owned()].into(),
                regex: Some("t.*".to_owned()),
            },
            assignor: Some(Assignor::Range),
            topics: [one.topic, two.topic].into(),
        };
        let held = Held {
            epoch: Epoch(3),
            known_epoch: Epoch(2),
            is_away: true,
            assigned: [(one, Epoch(3))].into(),
            revoking: [(two, Epoch(1))].into(),
        };
        let offset = PartitionOffset {
            partition: one,
            offset: 7,
            leader_epoch: Some(0),
            metadata: "x".to_owned(),
        };
        let changes = [
            Change::EpochSet {
                epoch: Epoch(2),
                catalog_version: 9,
                topics: [(one.topic, 1), (two.topic, 301)].into(),
            },
            Change::MemberSet(Arc::new(said)),
            Change::TargetSet {
                member: Arc::clone(&member),
                target: Arc::new([one, two].into()),
            },
            Change::HeldSet {
                member: Arc::clone(&member),
                held: Arc::new(held),
            },
            Change::OffsetsCommitted {
                at_ms: 5,
                offsets: vec![offset],
            },
            Change::OffsetsRemoved(vec![two]),
            Change::MemberRemoved { member, at_ms: 6 },
            Change::OffsetsExpired {
                committed_until_ms: 4,
            },
            Change::Removed,
        ];
        let of_group = |change| Event {
            group: "g".into(),
            change,
        };
        changes.map(of_group).into()
    }

    fn hex(bytes: &[u8]) -> String {
        let mut text = String::new();
        for byte in bytes {
            write!(text, "{byte:02x}").unwrap();
        }
        text
    }

    #[test]
    fn events_are_read_as_they_were_written() {
        assert_eq!(decode(&encode(&events())), Ok(events()));
    }

    #[test]
    fn a_commit_has_these_bytes() {
        let commit: Vec<_> = events().into_iter().skip(4).take(1).collect();
        assert_eq!(
            hex(&encode(&commit)),
            "080112220a01673a1d080512190a1000000000000000000000000000000001180720002a0178"
        );
    }

    #[test]
    fn other_versions_are_refused() {
        let message = wire::CoordinatorEvents {
            version: VERSION + 1,
            events: Vec::new(),
        };
        decode(&message.encode_to_vec()).unwrap_err();
        let message = wire::CoordinatorSnapshot {
            version: VERSION + 1,
            groups: Vec::new(),
        };
        snapshot::decode(&message.encode_to_vec()).unwrap_err();
        decode(&[0xff]).unwrap_err();
    }

    #[test]
    fn a_snapshot_gives_the_state_that_made_it_after_each_event() {
        let mut state = State::default();
        for event in events() {
            state.apply(&event).unwrap();
            let bytes = snapshot::encode(&state);
            assert_eq!(snapshot::decode(&bytes).unwrap(), state, "{event:?}");
        }
        assert_eq!(state, State::default());
    }

    #[test]
    fn a_snapshot_that_contradicts_itself_is_refused() {
        let mut state = State::default();
        for event in events().into_iter().take(4) {
            state.apply(&event).unwrap();
        }
        let bytes = snapshot::encode(&state);
        let mut twice = wire::CoordinatorSnapshot::decode(&bytes[..]).unwrap();
        twice.groups.push(twice.groups[0].clone());
        snapshot::decode(&twice.encode_to_vec()).unwrap_err();
        let mut empty = wire::CoordinatorSnapshot::decode(&bytes[..]).unwrap();
        empty.groups[0].empty_since_ms = Some(1);
        snapshot::decode(&empty.encode_to_vec()).unwrap_err();
        let mut shared = wire::CoordinatorSnapshot::decode(&bytes[..]).unwrap();
        let mut other = shared.groups[0].members[0].clone();
        other.member.as_mut().unwrap().member_id = "n".to_owned();
        shared.groups[0].members.push(other);
        snapshot::decode(&shared.encode_to_vec()).unwrap_err();
    }
}
