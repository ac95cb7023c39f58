//! Committing, answering and forgetting offsets.

use std::collections::BTreeSet;

use super::command::{Commit, DeleteOffsets, FetchOffsets};
use super::error::Error;
use super::event::Change;
use super::group::Group;
use super::member::{Epoch, TopicPartition};
use super::offsets::PartitionOffset;

/// Which offsets of a commit count, and why the others do not.
///
/// # Errors
/// Why none of them does.
pub(super) fn decide(
    group: Option<&Group>,
    commit: Commit,
    now_ms: i64,
) -> Result<(Option<Change>, Vec<Option<Error>>), Error> {
    let refusals: Vec<_> = match &commit.member {
        None => {
            let members = group.map_or(0, |group| group.seats.len());
            if members > 0 {
                return Err(Error::NotEmpty { members });
            }
            commit.items.iter().map(|_| None).collect()
        }
        Some((member, epoch)) => {
            let seat = group
                .and_then(|group| group.seat(member))
                .ok_or(Error::UnknownMember)?;
            if seat.held.is_away {
                return Err(Error::Away);
            }
            if *epoch > seat.held.epoch {
                return Err(Error::FencedEpoch {
                    asked: *epoch,
                    current: seat.held.epoch,
                });
            }
            let refusal = |since: Option<Epoch>| match since {
                None => Some(Error::NotAssigned),
                Some(since) if since > *epoch => Some(Error::StaleEpoch {
                    asked: *epoch,
                    since,
                }),
                Some(_) => None,
            };
            commit
                .items
                .iter()
                .map(|item| refusal(seat.held.since(item.partition)))
                .collect()
        }
    };
    let lawful = commit
        .items
        .into_iter()
        .zip(&refusals)
        .filter(|(_, refusal)| refusal.is_none());
    let offsets: Vec<_> = lawful
        .map(|(item, _)| PartitionOffset {
            partition: item.partition,
            offset: item.offset,
            leader_epoch: item.leader_epoch,
            metadata: item.metadata,
        })
        .collect();
    let change = (!offsets.is_empty()).then_some(Change::OffsetsCommitted {
        at_ms: now_ms,
        offsets,
    });
    Ok((change, refusals))
}

/// Which offsets can be forgotten.
///
/// # Errors
/// There is no such group.
pub(super) fn delete(
    group: Option<&Group>,
    delete: DeleteOffsets,
) -> Result<(Option<Change>, Vec<Option<Error>>), Error> {
    let group = group.ok_or(Error::UnknownGroup)?;
    let read: BTreeSet<_> = group
        .seats
        .values()
        .flat_map(|seat| &seat.member.topics)
        .collect();
    let is_read = |partition: &TopicPartition| {
        read.contains(&partition.topic) || group.owners.contains_key(partition)
    };
    let refusals: Vec<_> = delete
        .partitions
        .iter()
        .map(|partition| is_read(partition).then_some(Error::Subscribed))
        .collect();
    let lawful = delete.partitions.into_iter().zip(&refusals);
    let removed: Vec<_> = lawful
        .filter(|(_, refusal)| refusal.is_none())
        .map(|(partition, _)| partition)
        .collect();
    let change = (!removed.is_empty()).then_some(Change::OffsetsRemoved(removed));
    Ok((change, refusals))
}

/// Whether a member may ask for offsets in the epoch that it knows.
///
/// # Errors
/// It is none, or none in this epoch.
pub(super) fn check_asker(group: Option<&Group>, fetch: &FetchOffsets) -> Result<(), Error> {
    let Some((member, epoch)) = &fetch.member else {
        return Ok(());
    };
    let seat = group
        .and_then(|group| group.seat(member))
        .ok_or(Error::UnknownMember)?;
    let held = &seat.held;
    if held.is_away {
        return Err(Error::Away);
    }
    if *epoch > held.epoch || *epoch < held.known_epoch {
        return Err(Error::FencedEpoch {
            asked: *epoch,
            current: held.epoch,
        });
    }
    Ok(())
}
