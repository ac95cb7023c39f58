//! The state of a coordinator as bytes: the protobuf message of `coordinator_snapshot.proto`.

use std::sync::Arc;

use bytes::Bytes;
use highwater_proto::internal::v1 as wire;
use prost::Message;

use super::group::Group;
use super::member::{Held, Member, Seat, TopicPartition};
use super::offsets::Offsets;
use super::state::{Entry, State};
use super::wire as codec;

/// A snapshot that no known version wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the coordinator's snapshot cannot be used: {reason}")]
pub struct BadSnapshot {
    /// What is wrong with it.
    pub reason: String,
}

/// The state as bytes; equal states give equal bytes.
pub(super) fn encode(state: &State) -> Bytes {
    let encode_seat = |seat: &Seat| wire::CoordinatedMemberState {
        member: Some(codec::encode_member(&seat.member)),
        target: Some(codec::encode_target("", seat.target.iter())),
        held: Some(codec::encode_held("", &seat.held)),
    };
    let encode_group = |(id, entry): (&Arc<str>, &Entry)| {
        let group = &entry.group;
        wire::CoordinatedGroup {
            group_id: id.to_string(),
            epoch: Some(codec::encode_epoch(
                group.epoch,
                group.catalog_version,
                &group.topics,
            )),
            empty_since_ms: group.empty_since_ms,
            members: group.seats.values().map(encode_seat).collect(),
            offsets: entry.offsets.iter().map(codec::encode_committed).collect(),
        }
    };
    let snapshot = wire::CoordinatorSnapshot {
        version: codec::VERSION,
        groups: state.groups.iter().map(encode_group).collect(),
    };
    snapshot.encode_to_vec().into()
}

/// The state that was encoded; no bytes mean one without groups.
pub(super) fn decode(snapshot: &[u8]) -> Result<State, BadSnapshot> {
    if snapshot.is_empty() {
        return Ok(State::default());
    }
    state_of(snapshot).map_err(|reason| BadSnapshot { reason })
}

fn state_of(snapshot: &[u8]) -> Result<State, String> {
    let snapshot =
        wire::CoordinatorSnapshot::decode(snapshot).map_err(|error| error.to_string())?;
    if snapshot.version != codec::VERSION {
        return Err(format!("version {} is not known", snapshot.version));
    }
    let mut state = State::default();
    for group in snapshot.groups {
        let id: Arc<str> = group.group_id.as_str().into();
        let entry = decode_group(group).map_err(|reason| format!("group {id}: {reason}"))?;
        state.members += entry.group.seats.len();
        state.bytes += entry.bytes(&id);
        if state.groups.insert(Arc::clone(&id), entry).is_some() {
            return Err(format!("group {id} stands twice"));
        }
    }
    Ok(state)
}

fn decode_group(wire: wire::CoordinatedGroup) -> Result<Entry, String> {
    let (epoch, catalog_version, topics) =
        codec::decode_epoch(wire.epoch.ok_or("it has no epoch")?)?;
    let mut group = Group {
        epoch,
        catalog_version,
        topics: Arc::new(topics),
        empty_since_ms: wire.empty_since_ms,
        ..Group::new(0)
    };
    for member in wire.members {
        add_member(&mut group, member)?;
    }
    if group.is_empty() != group.empty_since_ms.is_some() {
        return Err("it says to have members and has none, or the other way".to_owned());
    }
    let offsets = wire.offsets.into_iter().map(codec::decode_committed);
    Ok(Entry {
        group: Arc::new(group),
        offsets: offsets.collect::<Result<Offsets, _>>()?,
    })
}

fn add_member(group: &mut Group, wire: wire::CoordinatedMemberState) -> Result<(), String> {
    let member: Member =
        codec::decode_member(wire.member.ok_or("a member says nothing of itself")?)?;
    let held: Held = codec::decode_held(wire.held.unwrap_or_default())?;
    let target = codec::decode_indexes(wire.target.unwrap_or_default().partitions)?;
    let id = Arc::clone(&member.id);
    let mut own = |partition: TopicPartition| {
        let before = group.owners.insert(partition, Arc::clone(&id));
        before.map_or(Ok(()), |other| {
            Err(format!("{partition:?} belongs to {other} and {id}"))
        })
    };
    held.partitions().try_for_each(&mut own)?;
    if let Some(instance) = &member.instance {
        group
            .instances
            .insert(Arc::clone(instance), Arc::clone(&id));
    }
    let seat = Seat {
        member: Arc::new(member),
        held: Arc::new(held),
        target: Arc::new(target.into_iter().collect()),
    };
    if group.seats.insert(Arc::clone(&id), seat).is_some() {
        return Err(format!("member {id} stands twice"));
    }
    Ok(())
}
