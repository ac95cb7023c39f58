//! The shell around a coordinator's rules that a shard runs: the clocks that a leader has, and waking who waits for a group.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use highwater_storage::RaftIndex;
use tokio::sync::Notify;

use super::command::{Command, ExpiredMember, Heartbeat, Presence, Response};
use super::error::Error;
use super::machine::{CoordinatorMachine, Limits};
use super::member::Seat;
use super::observed::{Observed, RemovedMember};
use super::sessions::Sessions;
use super::snapshot::BadSnapshot;
use crate::raft::machine::{
    CommittedEntry, Decision, Machine, NewEntry, Role, Timestamp, Unlawful,
};

/// Removed members that a description of their group holds.
const MAX_REMOVED_SHOWN: usize = 20;

/// Who waits for which group, each under a number of its own.
type Watchers = HashMap<Arc<str>, Vec<(u64, Arc<Notify>)>>;

/// What others see of a coordinator's replica without asking its shard.
#[derive(Debug, Default)]
pub struct CoordinatorView {
    groups: AtomicUsize,
    members: AtomicUsize,
    next_watch: AtomicU64,
    watchers: Mutex<Watchers>,
}

impl CoordinatorView {
    /// Number of groups.
    pub fn groups(&self) -> usize {
        self.groups.load(Ordering::Relaxed)
    }

    /// Number of members of all groups.
    pub fn members(&self) -> usize {
        self.members.load(Ordering::Relaxed)
    }

    /// Wakes who waits on the answer after each change of the group or of who coordinates it. What changed before the call
    /// does not wake.
    pub fn watch(self: &Arc<Self>, group: &Arc<str>) -> GroupWatch {
        let id = self.next_watch.fetch_add(1, Ordering::Relaxed);
        let changed = Arc::new(Notify::new());
        let mut watchers = self.watchers();
        let of_group = watchers.entry(Arc::clone(group)).or_default();
        of_group.push((id, Arc::clone(&changed)));
        drop(watchers);
        GroupWatch {
            id,
            group: Arc::clone(group),
            changed,
            view: Arc::clone(self),
        }
    }

    fn wake(&self, groups: &[Arc<str>]) {
        let watchers = self.watchers();
        for group in groups {
            for (_, watcher) in watchers.get(group).into_iter().flatten() {
                watcher.notify_one();
            }
        }
    }

    fn wake_all(&self) {
        for (_, watcher) in self.watchers().values().flatten() {
            watcher.notify_one();
        }
    }

    fn watchers(&self) -> MutexGuard<'_, Watchers> {
        // Nobody leaves the map half changed.
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who waits for a change of a group.
#[derive(Debug)]
pub struct GroupWatch {
    id: u64,
    group: Arc<str>,
    changed: Arc<Notify>,
    view: Arc<CoordinatorView>,
}

impl GroupWatch {
    /// Waits until something changed since the last time, or since the watch began.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Drop for GroupWatch {
    fn drop(&mut self) {
        let mut watchers = self.view.watchers();
        if let Some(of_group) = watchers.get_mut(&self.group) {
            of_group.retain(|(id, _)| *id != self.id);
            if of_group.is_empty() {
                watchers.remove(&self.group);
            }
        }
    }
}

/// A coordinator's machine, the clocks of its leader, and the view that it publishes.
#[derive(Debug)]
pub struct CoordinatorReplica {
    machine: CoordinatorMachine,
    /// Soft state of a leader: whatever happens to it, no more than a member's time is at stake.
    sessions: RefCell<Sessions>,
    /// Likewise; nothing at all is at stake here.
    observed: RefCell<Observed>,
    /// The clocks begin again with the next command that brings a time.
    must_restart: Cell<bool>,
    changed: Vec<Arc<str>>,
    view: Arc<CoordinatorView>,
}

impl CoordinatorReplica {
    /// The replica whose applied state is `snapshot`.
    ///
    /// # Errors
    /// [`BadSnapshot`] when no known version wrote the snapshot.
    pub fn new(
        snapshot: &[u8],
        limits: Limits,
        view: Arc<CoordinatorView>,
    ) -> Result<Self, BadSnapshot> {
        let replica = Self {
            machine: CoordinatorMachine::new(snapshot, limits)?,
            sessions: RefCell::default(),
            observed: RefCell::default(),
            must_restart: Cell::new(true),
            changed: Vec::new(),
            view,
        };
        replica.show_counts();
        Ok(replica)
    }

    fn show_counts(&self) {
        let (groups, members) = self.machine.counts();
        self.view.groups.store(groups, Ordering::Relaxed);
        self.view.members.store(members, Ordering::Relaxed);
    }

    /// Gives every member its whole session from now on, if that is due.
    fn restart_clocks(&self, at: Duration) {
        if !self.must_restart.replace(false) {
            return;
        }
        let mut sessions = Sessions::default();
        for (group, member, session_timeout_ms) in self.machine.sessions() {
            let session = Duration::from_millis(u64::from(session_timeout_ms));
            sessions.heard(&group, &member, at, session, None);
        }
        self.sessions.replace(sessions);
        self.observed.borrow_mut().forget_paused();
    }

    fn heartbeat(
        &self,
        heartbeat: Box<Heartbeat>,
        now: Timestamp,
    ) -> Result<Decision<Response>, Error> {
        self.restart_clocks(heartbeat.at);
        let (group, member) = (Arc::clone(&heartbeat.group), Arc::clone(&heartbeat.member));
        let (presence, at) = (heartbeat.presence, heartbeat.at);
        let paused = heartbeat.paused.clone();
        let decision = self.machine.decide(Command::Heartbeat(heartbeat), now)?;
        let response = match &decision {
            Decision::Propose { response, .. } | Decision::Answer { response, .. } => response,
        };
        let mut sessions = self.sessions.borrow_mut();
        if let Response::Member {
            session_timeout_ms,
            revoke_within_ms,
            ..
        } = response
        {
            let millis = |ms: u32| Duration::from_millis(u64::from(ms));
            let session = millis(*session_timeout_ms);
            sessions.heard(&group, &member, at, session, revoke_within_ms.map(millis));
            let mut observed = self.observed.borrow_mut();
            observed.heard(&group, &member, at, &paused);
        } else if presence == Presence::Leave {
            sessions.forget(&group, &member);
            self.observed.borrow_mut().forget(&group, &member);
        }
        Ok(decision)
    }

    fn tick(&self, at: Duration, now: Timestamp) -> Result<Decision<Response>, Error> {
        self.restart_clocks(at);
        let mut sessions = self.sessions.borrow_mut();
        let mut expired = sessions.expired(at);
        expired.retain(|expired| {
            let seat = self.machine.seat(&expired.group, &expired.member);
            match seat {
                Some(seat) => self.remember(expired, seat, now),
                None => sessions.forget(&expired.group, &expired.member),
            }
            seat.is_some()
        });
        self.machine.decide(Command::Expire(expired), now)
    }

    /// Remembers a member that is about to be removed.
    fn remember(&self, expired: &ExpiredMember, seat: &Seat, now: Timestamp) {
        let removed = RemovedMember {
            id: Arc::clone(&seat.member.id),
            instance: seat.member.instance.clone(),
            client_id: seat.member.client_id.clone(),
            expiry: expired.expiry,
            at_ms: now.0,
            had: seat.held.partitions().collect(),
        };
        let mut observed = self.observed.borrow_mut();
        observed.remove(&expired.group, removed);
    }

    /// A group with what only its coordinator's leader knows.
    fn describe(
        &self,
        group: Arc<str>,
        at: Duration,
        now: Timestamp,
    ) -> Result<Decision<Response>, Error> {
        self.restart_clocks(at);
        let mut decision = self.machine.decide(Command::Describe { group, at }, now)?;
        let (Decision::Answer { response, .. } | Decision::Propose { response, .. }) =
            &mut decision;
        if let Response::Group(group) = response {
            let (sessions, observed) = (self.sessions.borrow(), self.observed.borrow());
            for member in &mut group.members {
                member.clock = sessions.clock(&group.id, &member.id, at);
                member.paused = observed.paused(&group.id, &member.id, at, &member.assigned);
            }
            let is_member = |id: &Arc<str>| group.members.iter().any(|member| member.id == *id);
            let removed = observed.removed(&group.id);
            let gone = removed.filter(|removed| !is_member(&removed.id));
            group.removed = gone.take(MAX_REMOVED_SHOWN).cloned().collect();
        }
        Ok(decision)
    }
}

impl Machine for CoordinatorReplica {
    type Command = Command;
    type Response = Response;
    type Error = Error;

    fn decide(
        &self,
        command: Command,
        _next_index: RaftIndex,
        now: Timestamp,
    ) -> Result<Decision<Response>, Error> {
        match command {
            Command::Heartbeat(heartbeat) => self.heartbeat(heartbeat, now),
            Command::Tick { at } => self.tick(at, now),
            Command::Describe { group, at } => self.describe(group, at, now),
            command => self.machine.decide(command, now),
        }
    }

    fn proposed(&mut self, index: RaftIndex, entry: &NewEntry) {
        self.machine.proposed(index, entry);
    }

    fn retract(&mut self, from: RaftIndex) {
        self.machine.retract(from);
    }

    fn apply(&mut self, entry: &CommittedEntry) -> Result<(), Unlawful> {
        let changed = self.machine.apply(entry)?;
        self.changed.extend(changed);
        Ok(())
    }

    fn snapshot(&self) -> Bytes {
        self.machine.snapshot()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String> {
        self.machine
            .restore(snapshot)
            .map_err(|error| error.to_string())?;
        self.show_counts();
        Ok(())
    }

    fn snapshot_replaces_log(&self) -> bool {
        true
    }

    fn role_changed(&mut self, role: Role) {
        let serves = matches!(role, Role::Leader { serving: true, .. });
        self.must_restart.set(true);
        if !serves {
            self.sessions.replace(Sessions::default());
            self.observed.replace(Observed::default());
        }
        self.view.wake_all();
    }

    fn publish(&mut self) {
        if self.changed.is_empty() {
            return;
        }
        self.show_counts();
        let changed = std::mem::take(&mut self.changed);
        self.view.wake(&changed);
    }
}
