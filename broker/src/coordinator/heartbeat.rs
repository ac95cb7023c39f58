//! Joining, staying and leaving: what a heartbeat, or the end of a member's time, does to a group.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::command::{Expiry, Heartbeat, Presence, Response};
use super::draft::Draft;
use super::error::Error;
use super::event::Change;
use super::group::Group;
use super::machine::Limits;
use super::member::{Epoch, Held, Member, Seat, TopicPartition};
use super::subscription::Resolver;

/// Decides about a heartbeat. `draft` holds the events afterwards; on an error they do not count.
///
/// # Errors
/// Why the member is refused.
pub(super) fn decide(
    draft: &mut Draft,
    heartbeat: &Heartbeat,
    limits: &Limits,
    now_ms: i64,
) -> Result<Response, Error> {
    match heartbeat.presence {
        Presence::Join => join(draft, heartbeat, limits, now_ms)?,
        Presence::Stay(epoch) => stay(draft, heartbeat, epoch)?,
        Presence::Leave => {
            find(draft.group(), heartbeat)?;
            remove(draft, &heartbeat.member, now_ms);
            draft.retarget(Some(&heartbeat.catalog));
            return Ok(Response::Done);
        }
        Presence::LeaveForAWhile => {
            let seat = find(draft.group(), heartbeat)?;
            if seat.member.instance.is_none() {
                let problem = "only a member with an instance id can leave for a while";
                return Err(Error::Invalid { problem });
            }
            let held = Held {
                is_away: true,
                ..seat.held.as_ref().clone()
            };
            set_held(draft, &heartbeat.member, held);
            return Ok(Response::Done);
        }
    }
    let known = match heartbeat.presence {
        Presence::Stay(epoch) => epoch,
        _ => Epoch(0),
    };
    reconcile(draft, &heartbeat.member, known, &heartbeat.owned);
    Ok(answer(draft.group(), heartbeat, known))
}

/// Removes members whose time is over, unless that is no longer so. The target follows once.
pub(super) fn expire(draft: &mut Draft, expired: &[(Arc<str>, Expiry)], now_ms: i64) {
    let mut has_removed = false;
    for (member, expiry) in expired {
        let is_over = draft.group().seat(member).is_some_and(|seat| match expiry {
            Expiry::Session => true,
            Expiry::Rebalance => !seat.held.revoking.is_empty(),
        });
        if is_over {
            remove(draft, member, now_ms);
            has_removed = true;
        }
    }
    if has_removed {
        draft.retarget(None);
    }
}

/// The member that a heartbeat is from.
fn find<'a>(group: &'a Group, heartbeat: &Heartbeat) -> Result<&'a Seat, Error> {
    let seat = group.seat(&heartbeat.member).ok_or(Error::UnknownMember)?;
    if seat.member.instance != heartbeat.instance {
        return Err(Error::FencedInstance);
    }
    Ok(seat)
}

fn remove(draft: &mut Draft, member: &Arc<str>, at_ms: i64) {
    draft.record(Change::MemberRemoved {
        member: Arc::clone(member),
        at_ms,
    });
}

fn set_held(draft: &mut Draft, member: &Arc<str>, held: Held) {
    if draft
        .group()
        .seat(member)
        .is_some_and(|seat| *seat.held != held)
    {
        draft.record(Change::HeldSet {
            member: Arc::clone(member),
            held: Arc::new(held),
        });
    }
}

fn join(
    draft: &mut Draft,
    heartbeat: &Heartbeat,
    limits: &Limits,
    now_ms: i64,
) -> Result<(), Error> {
    let Some(subscription) = heartbeat
        .subscription
        .as_ref()
        .filter(|wanted| !wanted.is_empty())
    else {
        let problem = "`subscription` is missing: a member that joins says what it wants to read";
        return Err(Error::Invalid { problem });
    };
    if !heartbeat.owned.is_empty() {
        let problem = "`owned` is not empty: a member that joins owns nothing";
        return Err(Error::Invalid { problem });
    }
    if heartbeat.catalog.version() < draft.group().catalog_version {
        return Err(Error::MetadataBehind);
    }
    let known = draft.group().seat(&heartbeat.member);
    if known.is_some_and(|known| known.member.instance != heartbeat.instance) {
        return Err(Error::FencedInstance);
    }
    let is_known = known.is_some();
    let replaced = replaced(draft.group(), heartbeat)?;
    if !is_known && replaced.is_none() && draft.group().seats.len() >= limits.max_members {
        return Err(Error::GroupFull {
            limit: limits.max_members,
        });
    }
    let member = Member {
        id: Arc::clone(&heartbeat.member),
        instance: heartbeat.instance.clone(),
        rack: heartbeat.rack.clone(),
        client_id: heartbeat.client_id.clone(),
        rebalance_timeout_ms: heartbeat.rebalance_timeout_ms,
        session_timeout_ms: heartbeat.session_timeout_ms,
        topics: Resolver::new(&heartbeat.catalog).topics(subscription),
        subscription: subscription.clone(),
        assignor: heartbeat.assignor,
    };
    let mut must_retarget = draft.look_up(&heartbeat.catalog);
    match (replaced, draft.group().seat(&member.id)) {
        (Some(old), _) => {
            must_retarget |= wants_otherwise(&old.member, &member);
            take_over(draft, &old, member, now_ms);
        }
        (None, Some(known)) => {
            must_retarget |= wants_otherwise(&known.member, &member);
            let held = Held {
                is_away: false,
                ..known.held.as_ref().clone()
            };
            set_held(draft, &heartbeat.member, held);
            draft.set_member(member);
        }
        (None, None) => {
            must_retarget = true;
            draft.set_member(member);
        }
    }
    if must_retarget {
        draft.retarget(Some(&heartbeat.catalog));
    }
    Ok(())
}

/// The member whose place a joining one with the same instance id takes.
fn replaced(group: &Group, heartbeat: &Heartbeat) -> Result<Option<Seat>, Error> {
    let Some(instance) = &heartbeat.instance else {
        return Ok(None);
    };
    let Some(holder) = group
        .instances
        .get(instance)
        .filter(|id| **id != heartbeat.member)
    else {
        return Ok(None);
    };
    match group.seat(holder) {
        Some(seat) if seat.held.is_away => Ok(Some(seat.clone())),
        Some(_) => Err(Error::UnreleasedInstance),
        None => Ok(None),
    }
}

/// Puts a static member that is back in the place of the one that left: nobody's target changes.
fn take_over(draft: &mut Draft, old: &Seat, member: Member, now_ms: i64) {
    let id = Arc::clone(&member.id);
    remove(draft, &old.member.id, now_ms);
    draft.set_member(member);
    if !old.target.is_empty() {
        draft.record(Change::TargetSet {
            member: id,
            target: Arc::clone(&old.target),
        });
    }
}

/// Whether partitions are to be shared out anew because a member says another thing of itself.
fn wants_otherwise(before: &Member, now: &Member) -> bool {
    before.topics != now.topics || before.assignor != now.assignor || before.rack != now.rack
}

fn stay(draft: &mut Draft, heartbeat: &Heartbeat, epoch: Epoch) -> Result<(), Error> {
    let seat = find(draft.group(), heartbeat)?;
    let held = &seat.held;
    if held.is_away {
        return Err(Error::Away);
    }
    if epoch != held.epoch && epoch != held.known_epoch {
        return Err(Error::FencedEpoch {
            asked: epoch,
            current: held.epoch,
        });
    }
    if heartbeat
        .owned
        .iter()
        .any(|partition| held.since(*partition).is_none())
    {
        return Err(Error::NotItsPartition);
    }
    let Some(subscription) = &heartbeat.subscription else {
        return Ok(());
    };
    if subscription.is_empty() {
        let problem = "`subscription` is empty: leave the group instead";
        return Err(Error::Invalid { problem });
    }
    let before = Arc::clone(&seat.member);
    let is_same = *subscription == before.subscription && heartbeat.assignor == before.assignor;
    if is_same {
        return Ok(());
    }
    if heartbeat.catalog.version() < draft.group().catalog_version {
        return Err(Error::MetadataBehind);
    }
    let member = Member {
        topics: Resolver::new(&heartbeat.catalog).topics(subscription),
        subscription: subscription.clone(),
        assignor: heartbeat.assignor,
        ..before.as_ref().clone()
    };
    let must_retarget = wants_otherwise(&before, &member);
    draft.set_member(member);
    if draft.look_up(&heartbeat.catalog) || must_retarget {
        draft.retarget(Some(&heartbeat.catalog));
    }
    Ok(())
}

/// Brings a member a step nearer to its target. It knows the epoch `known` and owns exactly `owned`.
///
/// What it does not own counts as let go only if it knows of an epoch that is not older than the grant: it may otherwise not
/// have heard of that yet, and take the partition up when it does.
fn reconcile(draft: &mut Draft, member: &Arc<str>, known: Epoch, owned: &BTreeSet<TopicPartition>) {
    let group = draft.group();
    let Some(seat) = group.seat(member) else {
        return;
    };
    let mut held = seat.held.as_ref().clone();
    let has_let_go =
        |partition: &TopicPartition, since: &Epoch| !owned.contains(partition) && known >= *since;
    if held.revoking.is_empty() {
        let leaving = held
            .assigned
            .extract_if(.., |partition, _| !seat.target.contains(partition));
        held.revoking = leaving.collect();
    }
    held.revoking
        .retain(|partition, since| !has_let_go(partition, since));
    held.known_epoch = held.known_epoch.max(known);
    if held.revoking.is_empty() {
        let is_free = |partition: &&TopicPartition| {
            let owner = group.owners.get(*partition);
            !held.assigned.contains_key(*partition) && owner.is_none_or(|owner| owner == member)
        };
        let given: Vec<_> = seat.target.iter().filter(is_free).copied().collect();
        if !given.is_empty() {
            held.epoch = group.epoch.next();
            held.assigned
                .extend(given.into_iter().map(|partition| (partition, held.epoch)));
        } else if held.epoch == Epoch(0) {
            held.epoch = group.epoch;
        }
    }
    set_held(draft, member, held);
}

fn answer(group: &Group, heartbeat: &Heartbeat, known: Epoch) -> Response {
    let seat = group
        .seat(&heartbeat.member)
        .expect("whoever joins or stays has a seat");
    let held = &seat.held;
    let is_as_it_knows = known == held.epoch && held.assigned.keys().eq(heartbeat.owned.iter());
    Response::Member {
        epoch: held.epoch,
        assignment: (!is_as_it_knows).then(|| held.assigned.keys().copied().collect()),
        session_timeout_ms: seat.member.session_timeout_ms,
        revoke_within_ms: (!held.revoking.is_empty()).then_some(seat.member.rebalance_timeout_ms),
    }
}
