//! The rules of a coordinator.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use highwater_storage::RaftIndex;

use super::catalog::Catalog;
use super::command::{Command, Commit, ExpiredMember, Expiry, Heartbeat, Presence, Response};
use super::draft::Draft;
use super::error::Error;
use super::event::{Change, Event};
use super::group::Group;
use super::member::Seat;
use super::offsets::Offsets;
use super::snapshot::{self, BadSnapshot};
use super::state::State;
use super::{commit, heartbeat, view, wire};
use crate::raft;
use crate::raft::machine::{CommittedEntry, Decision, EntryKind, NewEntry, Timestamp, Unlawful};

/// Groups whose change one entry holds at most, where all groups are looked at: entries stay small enough to replicate fast.
const GROUPS_PER_ENTRY: usize = 256;

/// The version that stands in a snapshot beside the groups, with its tag.
const VERSION_BYTES: usize = 8;

/// What a coordinator holds at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `groups.max_groups`: groups of one coordinator.
    pub max_groups: usize,
    /// `groups.max_members`: members of one group.
    pub max_members: usize,
    /// Bytes of the snapshot, beyond which nobody joins and no offset is kept that is not already. Less than what the Raft layer
    /// carries: what members are given, and what follows from changes of topics, cannot be refused and still finds room.
    pub max_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_groups: 100_000,
            max_members: 5_000,
            max_bytes: raft::Config::default().snapshot_bytes / 4 * 3,
        }
    }
}

/// The members of a group with this term's proposals.
#[derive(Debug)]
struct Projected {
    /// `None`: the group is deleted.
    group: Option<Arc<Group>>,
    /// The last proposal that changes it.
    last: RaftIndex,
}

/// What was proposed and is not applied yet.
#[derive(Debug)]
struct Proposal {
    index: RaftIndex,
    events: Vec<Event>,
    /// What it adds to a snapshot at most.
    growth_bytes: usize,
}

/// The groups of one coordinator: applied state, this term's proposals, and the rules.
///
/// Invariant: `projected` has exactly the groups whose members a proposal changes, as all proposals leave them.
#[derive(Debug)]
pub struct CoordinatorMachine {
    applied: State,
    proposals: VecDeque<Proposal>,
    projected: HashMap<Arc<str>, Projected>,
    limits: Limits,
}

type Decided = Result<Decision<Response>, Error>;

impl CoordinatorMachine {
    /// The machine whose applied state is `snapshot`; no bytes mean no groups.
    ///
    /// # Errors
    /// [`BadSnapshot`] when no known version wrote it.
    pub fn new(snapshot: &[u8], limits: Limits) -> Result<Self, BadSnapshot> {
        Ok(Self {
            applied: snapshot::decode(snapshot)?,
            proposals: VecDeque::new(),
            projected: HashMap::new(),
            limits,
        })
    }

    /// See [`Machine::restore`](crate::raft::machine::Machine::restore).
    ///
    /// # Errors
    /// [`BadSnapshot`] when no known version wrote it; the state stays.
    pub fn restore(&mut self, snapshot: &[u8]) -> Result<(), BadSnapshot> {
        *self = Self::new(snapshot, self.limits)?;
        Ok(())
    }

    /// Members and their session timeouts, as the next decision sees them.
    pub(super) fn sessions(&self) -> Vec<(Arc<str>, Arc<str>, u32)> {
        let mut sessions = Vec::new();
        for (id, group) in self.groups() {
            for seat in group.seats.values() {
                let member = &seat.member;
                sessions.push((
                    Arc::clone(id),
                    Arc::clone(&member.id),
                    member.session_timeout_ms,
                ));
            }
        }
        sessions
    }

    /// A member, as the next decision sees it.
    pub(super) fn seat(&self, group: &str, member: &str) -> Option<&Seat> {
        self.view(group)?.seat(member)
    }

    /// Numbers of groups and members that are applied.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.applied.groups.len(), self.applied.members)
    }

    /// See [`Machine::decide`](crate::raft::machine::Machine::decide).
    ///
    /// # Errors
    /// Why the command is refused; nothing was written.
    pub fn decide(&self, command: Command, now: Timestamp) -> Decided {
        match command {
            Command::Heartbeat(heartbeat) => self.heartbeat(&heartbeat, now),
            Command::Commit(command) => {
                let group = Arc::clone(&command.group);
                if self.view(&group).is_none() {
                    self.check_room()?;
                }
                let grows = self.grows_with(&command);
                let (change, refusals) = commit::decide(self.view(&group), command, now.0)?;
                let decision = self.change(&group, change, Response::Items(refusals));
                if grows {
                    self.check_bytes(&decision)?;
                }
                Ok(decision)
            }
            Command::DeleteOffsets(command) => {
                let group = Arc::clone(&command.group);
                let (change, refusals) = commit::delete(self.view(&group), command)?;
                Ok(self.change(&group, change, Response::Items(refusals)))
            }
            Command::FetchOffsets(fetch) => {
                commit::check_asker(self.view(&fetch.group), &fetch)?;
                let entry = self.applied.get(&fetch.group);
                let committed = entry.map(|entry| &entry.offsets);
                let offsets = match fetch.partitions {
                    Some(partitions) => {
                        let get = |partition| committed.and_then(|all| all.get(partition)).cloned();
                        partitions
                            .into_iter()
                            .map(|partition| (partition, get(partition)))
                            .collect()
                    }
                    None => {
                        let all = committed.into_iter().flat_map(Offsets::iter);
                        all.map(|(partition, offset)| (*partition, Some(offset.clone())))
                            .collect()
                    }
                };
                Ok(answer_now(Response::Offsets(offsets)))
            }
            Command::Describe { group, .. } => {
                let entry = self.applied.get(&group).ok_or(Error::UnknownGroup)?;
                let described = view::describe(&group, &entry.group);
                Ok(answer_now(Response::Group(Box::new(described))))
            }
            Command::List => {
                let groups = self.applied.groups.iter();
                let groups = groups
                    .map(|(id, entry)| view::summarize(id, entry))
                    .collect();
                Ok(answer_now(Response::Groups(groups)))
            }
            Command::ListOffsets => {
                let groups = self.applied.groups.iter();
                let offsets = groups.flat_map(|(id, entry)| {
                    let offsets = entry.offsets.iter();
                    offsets.map(|(partition, at)| (Arc::clone(id), *partition, at.offset))
                });
                Ok(answer_now(Response::AllOffsets(offsets.collect())))
            }
            Command::DeleteGroup { group } => self.delete_group(&group),
            Command::Expire(members) => Ok(self.expire(members, now)),
            Command::Refresh { catalog } => Ok(self.refresh(&catalog)),
            Command::ExpireOffsets { retention_ms } => Ok(self.expire_offsets(retention_ms, now)),
            // Only the leader's clocks know what a tick means; without them nobody's time is over.
            Command::Tick { .. } => Ok(answer_now(Response::Done)),
        }
    }

    /// A group as the next decision must see it.
    fn view(&self, group: &str) -> Option<&Group> {
        self.shared(group).map(AsRef::as_ref)
    }

    fn shared(&self, group: &str) -> Option<&Arc<Group>> {
        match self.projected.get(group) {
            Some(projected) => projected.group.as_ref(),
            None => self.applied.get(group).map(|entry| &entry.group),
        }
    }

    /// All groups as the next decision must see them, by id where they are applied.
    fn groups(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Group>)> {
        let applied = self.applied.groups.keys();
        let new = self
            .projected
            .keys()
            .filter(|id| !self.applied.groups.contains_key(*id));
        applied
            .chain(new)
            .filter_map(|id| Some((id, self.shared(id)?)))
    }

    /// Whether there may be one more group.
    fn check_room(&self) -> Result<(), Error> {
        // Groups that are only proposed yet count as well: nobody notices that a few deleted ones do, too.
        if self.applied.groups.len() + self.projected.len() < self.limits.max_groups {
            return Ok(());
        }
        if self.groups().count() < self.limits.max_groups {
            return Ok(());
        }
        Err(Error::TooManyGroups {
            limit: self.limits.max_groups,
        })
    }

    fn heartbeat(&self, heartbeat: &Heartbeat, now: Timestamp) -> Decided {
        let group = self.shared(&heartbeat.group);
        if group.is_none() && heartbeat.presence == Presence::Join {
            self.check_room()?;
        }
        let mut draft = Draft::new(&heartbeat.group, group);
        let response = heartbeat::decide(&mut draft, heartbeat, &self.limits, now.0)?;
        let decision = self.propose(draft.into_events(), response);
        if heartbeat.presence == Presence::Join {
            self.check_bytes(&decision)?;
        }
        Ok(decision)
    }

    /// Whether a commit takes more room than what it replaces.
    fn grows_with(&self, commit: &Commit) -> bool {
        let Some(entry) = self.applied.get(&commit.group) else {
            return true;
        };
        let mut items = commit.items.iter();
        items.any(|item| entry.offsets.grow_with(item.partition, &item.metadata))
    }

    /// Whether there is room in a snapshot for what was decided.
    fn check_bytes(&self, decision: &Decision<Response>) -> Result<(), Error> {
        let Decision::Propose { entries, .. } = decision else {
            return Ok(());
        };
        let growth: usize = entries.iter().map(growth_bytes).sum();
        let pending = self.proposals.iter().map(|proposal| proposal.growth_bytes);
        let bytes = self.applied.bytes + pending.sum::<usize>();
        let limit = self.limits.max_bytes;
        if bytes + growth <= limit {
            return Ok(());
        }
        Err(Error::NoRoom { bytes, limit })
    }

    fn delete_group(&self, group: &Arc<str>) -> Decided {
        let members = self.view(group).ok_or(Error::UnknownGroup)?.seats.len();
        if members > 0 {
            return Err(Error::NotEmpty { members });
        }
        Ok(self.change(group, Some(Change::Removed), Response::Done))
    }

    fn expire(&self, members: Vec<ExpiredMember>, now: Timestamp) -> Decision<Response> {
        let mut by_group: BTreeMap<Arc<str>, Vec<(Arc<str>, Expiry)>> = BTreeMap::new();
        for ExpiredMember {
            group,
            member,
            expiry,
        } in members
        {
            by_group.entry(group).or_default().push((member, expiry));
        }
        let mut events = Vec::new();
        for (id, expired) in by_group {
            if let Some(group) = self.shared(&id) {
                let mut draft = Draft::new(&id, Some(group));
                heartbeat::expire(&mut draft, &expired, now.0);
                events.extend(draft.into_events());
            }
        }
        self.propose(events, Response::Done)
    }

    /// Has groups follow the topics, so many at a time.
    fn refresh(&self, catalog: &Catalog) -> Decision<Response> {
        let mut events = Vec::new();
        let mut changed = 0;
        for (id, group) in self.groups() {
            if group.is_empty() || group.catalog_version >= catalog.version() {
                continue;
            }
            let mut draft = Draft::new(id, Some(group));
            if !draft.look_up(catalog) {
                continue;
            }
            draft.retarget(Some(catalog));
            events.extend(draft.into_events());
            changed += 1;
            if changed == GROUPS_PER_ENTRY {
                return self.propose(events, Response::More);
            }
        }
        self.propose(events, Response::Done)
    }

    fn expire_offsets(&self, retention_ms: u64, now: Timestamp) -> Decision<Response> {
        let retention_ms = i64::try_from(retention_ms).unwrap_or(i64::MAX);
        let committed_until_ms = now.0.saturating_sub(retention_ms);
        let is_over = |(id, entry): &(&Arc<str>, &super::state::Entry)| {
            let empty_since_ms = self.view(id).and_then(|group| group.empty_since_ms);
            empty_since_ms.is_some_and(|since| since <= committed_until_ms)
                && (entry.offsets.is_empty() || entry.offsets.has_any_until(committed_until_ms))
        };
        let expired = self
            .applied
            .groups
            .iter()
            .filter(is_over)
            .take(GROUPS_PER_ENTRY);
        let events: Vec<_> = expired
            .map(|(id, _)| Event {
                group: Arc::clone(id),
                change: Change::OffsetsExpired { committed_until_ms },
            })
            .collect();
        let response = if events.len() == GROUPS_PER_ENTRY {
            Response::More
        } else {
            Response::Done
        };
        self.propose(events, response)
    }

    fn change(
        &self,
        group: &Arc<str>,
        change: Option<Change>,
        response: Response,
    ) -> Decision<Response> {
        let event = |change| Event {
            group: Arc::clone(group),
            change,
        };
        self.propose(change.map(event).into_iter().collect(), response)
    }

    /// Proposes the events; where there are none, the answer holds once everything is applied that it was decided on.
    fn propose(&self, events: Vec<Event>, response: Response) -> Decision<Response> {
        if events.is_empty() {
            let after = self.proposals.back().map(|proposal| proposal.index);
            return Decision::Answer { response, after };
        }
        let entry = NewEntry {
            kind: EntryKind::Events,
            data: wire::encode(&events),
            record_count: 0,
            max_timestamp_ms: -1,
        };
        Decision::Propose {
            entries: vec![entry],
            response,
        }
    }

    /// See [`Machine::proposed`](crate::raft::machine::Machine::proposed).
    pub fn proposed(&mut self, index: RaftIndex, entry: &NewEntry) {
        let events = wire::decode(&entry.data).expect("decide proposes events of this version");
        self.project(index, &events);
        self.proposals.push_back(Proposal {
            index,
            events,
            growth_bytes: growth_bytes(entry),
        });
    }

    fn project(&mut self, index: RaftIndex, events: &[Event]) {
        for event in events {
            let is_new = self.shared(&event.group).is_none();
            if !event.change.is_of_members() && !is_new {
                continue;
            }
            let shared = self.shared(&event.group).cloned();
            let projected = self
                .projected
                .entry(Arc::clone(&event.group))
                .or_insert(Projected {
                    group: shared,
                    last: index,
                });
            projected.last = index;
            match &event.change {
                Change::Removed => projected.group = None,
                Change::OffsetsCommitted { at_ms, .. } => {
                    projected
                        .group
                        .get_or_insert_with(|| Arc::new(Group::new(*at_ms)));
                }
                // Whether the group goes with its offsets is known when it is applied. Until then it is one without members.
                Change::OffsetsExpired { .. } | Change::OffsetsRemoved(_) => {}
                change => {
                    let group = projected
                        .group
                        .get_or_insert_with(|| Arc::new(Group::new(0)));
                    Arc::make_mut(group)
                        .apply(change)
                        .expect("decide proposes lawful events");
                }
            }
        }
    }

    /// See [`Machine::retract`](crate::raft::machine::Machine::retract).
    pub fn retract(&mut self, from: RaftIndex) {
        let before = self.proposals.len();
        while self
            .proposals
            .pop_back_if(|proposal| proposal.index >= from)
            .is_some()
        {}
        if self.proposals.len() == before {
            return;
        }
        self.projected.clear();
        let proposals = std::mem::take(&mut self.proposals);
        for proposal in &proposals {
            self.project(proposal.index, &proposal.events);
        }
        self.proposals = proposals;
    }

    /// See [`Machine::apply`](crate::raft::machine::Machine::apply). The groups that changed.
    ///
    /// # Errors
    /// [`Unlawful`] when no correct coordinator of a known version wrote the entry; the state is then good for nothing.
    pub fn apply(&mut self, entry: &CommittedEntry) -> Result<Vec<Arc<str>>, Unlawful> {
        let unlawful = |reason| Unlawful {
            index: entry.index,
            reason,
        };
        if entry.kind != EntryKind::Events {
            return Err(unlawful("a coordinator's log holds no records".to_owned()));
        }
        let events = wire::decode(&entry.data).map_err(unlawful)?;
        for event in &events {
            self.applied.apply(event).map_err(unlawful)?;
        }
        while self
            .proposals
            .pop_front_if(|proposal| proposal.index <= entry.index)
            .is_some()
        {}
        let mut changed: Vec<_> = events.into_iter().map(|event| event.group).collect();
        changed.dedup();
        for group in &changed {
            let is_through = |projected: &Projected| projected.last <= entry.index;
            if self.projected.get(group).is_some_and(is_through) {
                let projected = self.projected.remove(group);
                debug_assert!(
                    self.is_as_projected(group, projected),
                    "live state is not what the log says"
                );
            }
        }
        Ok(changed)
    }

    /// Whether the members that the log gave a group are those that were decided on. A group without members may have gone
    /// with its offsets.
    fn is_as_projected(&self, group: &str, projected: Option<Projected>) -> bool {
        let decided = projected.and_then(|projected| projected.group);
        let applied = self.applied.get(group).map(|entry| &entry.group);
        match (decided, applied) {
            (Some(decided), Some(applied)) => decided.is_empty() || decided == *applied,
            (decided, applied) => {
                decided.is_none_or(|group| group.is_empty())
                    && applied.is_none_or(|group| group.is_empty())
            }
        }
    }

    /// See [`Machine::snapshot`](crate::raft::machine::Machine::snapshot).
    pub fn snapshot(&self) -> Bytes {
        let bytes = snapshot::encode(&self.applied);
        debug_assert_eq!(
            snapshot::decode(&bytes).as_ref(),
            Ok(&self.applied),
            "the state that a snapshot gives is the live one"
        );
        debug_assert!(
            bytes.len() <= self.applied.bytes + VERSION_BYTES,
            "a snapshot is not larger than was counted"
        );
        bytes
    }
}

/// What an entry adds to a snapshot at most: what members are to have stands there twice in the end, as that and as what they have,
/// and an offset with the time of its commit.
fn growth_bytes(entry: &NewEntry) -> usize {
    entry.data.len() * 4
}

fn answer_now(response: Response) -> Decision<Response> {
    Decision::Answer {
        response,
        after: None,
    }
}
