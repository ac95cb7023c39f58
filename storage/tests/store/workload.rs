//! A shard that does everything a shard may do, by chance.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use highwater_storage::fs::SimFs;
use highwater_storage::{
    AppliedState, Frame, FrameKind, HardState, Log, LogId, LogSpec, NewFrame, Offset, Pressure,
    RaftIndex, Result, StagedFrom, Store, Term, Ticket, Turn,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::model::{
    Base, Capture, Change, Contents, LogModel, Model, Stamp, expected, new_batch, new_frame,
};
use crate::recovery;

const MAX_LOGS: usize = 4;
/// How many frames slow readers hold.
const MAX_HELD: usize = 12;

/// A store at work.
pub(crate) struct Workload {
    pub(crate) fs: SimFs,
    pub(crate) store: Arc<Store>,
    pub(crate) model: Model,
    random: StdRng,
    logs: BTreeMap<LogId, Live>,
    next_id: u64,
    last_ticket: Ticket,
    may_cache: bool,
    /// What readers have not let go of yet, and what they saw.
    held: VecDeque<(Bytes, Vec<u8>)>,
}

/// A log as its shard knows it.
struct Live {
    log: Log,
    contents: Contents,
    applied: RaftIndex,
    /// The last index whose ticket is done.
    durable: RaftIndex,
    may_cache: bool,
    /// Changes since their turn began: they have no ticket yet.
    unsubmitted: Vec<Change>,
    appended: Vec<(Ticket, RaftIndex)>,
    /// What was let go since the turn began.
    leaving: Vec<(Offset, RaftIndex)>,
}

impl Workload {
    /// An empty store.
    pub(crate) fn new(seed: u64) -> Self {
        Self::with(seed, true)
    }

    /// An empty store whose logs are all journaled.
    pub(crate) fn without_caching(seed: u64) -> Self {
        Self::with(seed, false)
    }

    fn with(seed: u64, may_cache: bool) -> Self {
        let fs = SimFs::new(seed);
        let opened = recovery::open(&fs, seed).expect("an empty disk");
        assert!(opened.logs.is_empty());
        Self {
            fs,
            store: opened.store,
            model: Model::default(),
            random: StdRng::seed_from_u64(seed),
            logs: BTreeMap::new(),
            next_id: 1,
            last_ticket: Ticket(0),
            may_cache,
            held: VecDeque::new(),
        }
    }

    /// What each log holds.
    pub(crate) fn contents(&self) -> Vec<(LogId, Contents)> {
        self.logs
            .iter()
            .map(|(id, live)| (*id, live.contents.clone()))
            .collect()
    }

    /// Does `turns` turns, with what goes on between them; up to the first error of the disk.
    pub(crate) fn run(&mut self, turns: usize) -> Result<()> {
        for _ in 0..turns {
            self.turn()?;
            match self.random.random_range(0..12) {
                0..8 => self.sync()?,
                8 => self.heartbeat()?,
                9 => self.checkpoint()?,
                _ => {}
            }
            if self.store.checkpoint_pressure() == Pressure::TurnsMustWait {
                self.checkpoint()?;
            }
        }
        self.sync()
    }

    fn turn(&mut self) -> Result<()> {
        let step = self.fs.steps();
        let mut turn = self.store.turn();
        let mut created = None;
        let mut deleted = None;
        if self.logs.is_empty() || (self.logs.len() < MAX_LOGS && self.random.random_ratio(1, 6)) {
            created = Some(self.create(&mut turn)?);
        } else if self.logs.len() > 1 && self.random.random_ratio(1, 25) {
            deleted = Some(self.delete(&mut turn));
        }
        let changed = self.change_logs(&mut turn);
        self.read_slowly();
        // Nothing of a turn that failed was promised; what of it the log wrote may show.
        let ticket = if changed.is_ok() {
            self.store.submit(turn)
        } else {
            Ticket(u64::MAX - 1)
        };
        self.stamp(step, ticket, changed.is_ok(), created, deleted);
        changed
    }

    /// A reader takes a frame and keeps it for a while, whatever becomes of its segment.
    fn read_slowly(&mut self) {
        let at = self.random.random_range(0..self.logs.len().max(1));
        let Some(log) = self.logs.values().nth(at).map(|live| &live.log) else {
            return;
        };
        if log.first_index() <= log.last_index() {
            let index = self
                .random
                .random_range(log.first_index().0..=log.last_index().0);
            let read = log
                .read(RaftIndex(index), RaftIndex(index + 1), 1)
                .expect("it is there");
            self.held.extend(
                read.into_iter()
                    .map(|frame| (frame.payload.clone(), frame.payload.to_vec())),
            );
        }
        if self.held.len() > MAX_HELD {
            let (slice, seen) = self.held.pop_front().expect("longer than the limit");
            assert_eq!(slice, seen, "bytes change below a reader");
        }
    }

    fn change_logs(&mut self, turn: &mut Turn) -> Result<()> {
        for live in self.logs.values_mut() {
            for _ in 0..self.random.random_range(0..3) {
                live.change(turn, &mut self.random)?;
            }
        }
        Ok(())
    }

    /// Writes down what the turn did, with the ticket that promises it.
    fn stamp(
        &mut self,
        step: u64,
        ticket: Ticket,
        is_submitted: bool,
        created: Option<LogId>,
        deleted: Option<LogId>,
    ) {
        let is_new = ticket > self.last_ticket;
        let answered = self.fs.steps();
        self.last_ticket = ticket;
        for (id, live) in &mut self.logs {
            let model = self.model.logs.get_mut(id).expect("both have all");
            let own = if is_submitted {
                live.log.ticket(ticket)
            } else {
                ticket
            };
            for change in live.unsubmitted.drain(..) {
                // What needs no sync goes with the next that does.
                let promise = match change {
                    Change::Append(_) => own,
                    _ if is_new => ticket,
                    _ => Ticket(ticket.0 + 1),
                };
                if let Change::Append(frames) = &change {
                    live.appended
                        .push((promise, frames.last().expect("not empty").index));
                }
                model.changes.push((
                    Stamp {
                        step,
                        answered,
                        ticket: promise,
                    },
                    change,
                ));
            }
            model.may_leave.extend(
                live.leaving
                    .drain(..)
                    .map(|(offset, index)| (step, offset, index)),
            );
            live.note_durable(self.store.synced());
        }
        if let Some(id) = created {
            self.model
                .logs
                .get_mut(&id)
                .expect("created")
                .created
                .ticket = ticket;
        }
        if let Some(id) = deleted {
            self.model.logs.get_mut(&id).expect("deleted").deleted = Some(Stamp {
                step,
                answered,
                ticket,
            });
        }
    }

    pub(crate) fn sync(&mut self) -> Result<()> {
        let ticket = self.store.sync()?;
        self.note_synced(ticket);
        Ok(())
    }

    pub(crate) fn heartbeat(&mut self) -> Result<()> {
        self.store.heartbeat_journal()?;
        let ticket = self.store.synced();
        self.note_synced(ticket);
        Ok(())
    }

    fn note_synced(&mut self, ticket: Ticket) {
        self.model.note_done(self.fs.steps(), ticket);
        self.logs
            .values_mut()
            .for_each(|live| live.note_durable(ticket));
    }

    fn create(&mut self, turn: &mut Turn) -> Result<LogId> {
        let id = LogId(self.next_id);
        self.next_id += 1;
        let caching = self.may_cache && self.random.random_ratio(1, 4);
        let spec = LogSpec {
            directory: format!("topics/t/{id}"),
            max_segment_bytes: [8192, 16384, 32768][self.random.random_range(0..3)],
            write_caching: caching,
        };
        let initial = applied_state(id, RaftIndex(0), Term(0));
        let log = self
            .store
            .create_log(turn, id, spec, initial.clone())
            .expect("a new id and directory");
        let step = self.fs.steps();
        let model = LogModel {
            created_caching: caching,
            created: Stamp {
                step,
                answered: step,
                ticket: Ticket(u64::MAX),
            },
            deleted: None,
            initial,
            changes: Vec::new(),
            captures: Vec::new(),
            may_leave: Vec::new(),
        };
        self.model.logs.insert(id, model);
        self.logs.insert(id, Live::new(log, self.may_cache));
        Ok(id)
    }

    fn delete(&mut self, turn: &mut Turn) -> LogId {
        let at = self.random.random_range(0..self.logs.len());
        let id = *self.logs.keys().nth(at).expect("in range");
        let live = self.logs.remove(&id).expect("listed");
        self.store.delete_log(turn, live.log);
        id
    }

    pub(crate) fn checkpoint(&mut self) -> Result<()> {
        let begun = self.fs.steps();
        let mut checkpoint = self.store.begin_checkpoint()?;
        if self.random.random_ratio(1, 2) {
            self.turn()?;
        }
        checkpoint.sync_segments()?;
        if self.random.random_ratio(1, 3) {
            self.turn()?;
            self.sync()?;
        }
        let (mut captured, mut ids) = (Vec::new(), Vec::new());
        let changed = checkpoint.changed().to_vec();
        let only_changed = self.random.random_ratio(1, 2);
        for (id, live) in &mut self.logs {
            if only_changed && !changed.contains(id) {
                continue;
            }
            let applied = live.applied_state(*id);
            let model = self.model.logs.get_mut(id).expect("both have all");
            model.captures.push(Capture {
                begun,
                finished: None,
                applied: applied.clone(),
            });
            captured.push(live.log.capture(applied));
            ids.push(*id);
        }
        if self.random.random_ratio(1, 3) {
            self.turn()?;
        }
        checkpoint.finish(captured)?;
        for id in ids {
            let captures = &mut self.model.logs.get_mut(&id).expect("models stay").captures;
            captures.last_mut().expect("pushed above").finished = Some(self.fs.steps());
        }
        Ok(())
    }
}

impl Live {
    fn new(log: Log, may_cache: bool) -> Self {
        Self {
            log,
            contents: Contents::default(),
            applied: RaftIndex(0),
            durable: RaftIndex(0),
            may_cache,
            unsubmitted: Vec::new(),
            appended: Vec::new(),
            leaving: Vec::new(),
        }
    }

    fn note_durable(&mut self, done: Ticket) {
        let durable = self
            .appended
            .iter()
            .filter(|(ticket, _)| *ticket <= done)
            .map(|(_, index)| *index)
            .max();
        self.durable = self
            .durable
            .max(durable.unwrap_or_default())
            .min(self.contents.last_index());
        self.appended.retain(|(ticket, _)| *ticket > done);
    }

    fn change(&mut self, turn: &mut Turn, random: &mut StdRng) -> Result<()> {
        match random.random_range(0..20) {
            0..10 => self.append(turn, random)?,
            10..13 => self.elect(turn, random),
            13..16 => self.commit(turn, random),
            16 => self.truncate(turn, random)?,
            17 => self.reconfigure(turn, random)?,
            18 => self.install(turn, random)?,
            _ => self.trim(random),
        }
        Ok(())
    }

    fn reconfigure(&mut self, turn: &mut Turn, random: &mut StdRng) -> Result<()> {
        match random.random_range(0..4) {
            0 if self.may_cache => {
                let caching = !self.log.write_caching();
                let set = self.log.set_write_caching(turn, caching);
                self.record(Change::Caching(caching));
                set?;
            }
            1 => self
                .log
                .set_max_segment_bytes(random.random_range(2..10) * 4096),
            _ => self.log.roll(),
        }
        Ok(())
    }

    fn append(&mut self, turn: &mut Turn, random: &mut StdRng) -> Result<()> {
        let mut new = Vec::new();
        let mut added = Vec::new();
        let mut next_offset = self.contents.next_offset();
        for _ in 0..random.random_range(1..4) {
            let index = RaftIndex(self.contents.last_index().0 + 1 + added.len() as u64);
            let frame = self.new_frame(index, random);
            added.push(expected(&frame, next_offset));
            next_offset = next_offset.plus(frame.record_count);
            new.push(frame);
        }
        let appended = self.log.append(turn, &new);
        self.record(Change::Append(added));
        appended
    }

    fn new_frame(&self, index: RaftIndex, random: &mut StdRng) -> NewFrame {
        let term = self.contents.hard_state.term.max(self.contents.last_term());
        match random.random_range(0..8) {
            0 => new_frame(index, term, FrameKind::NoOp, 0, Vec::new()),
            1 => new_frame(
                index,
                term,
                FrameKind::Events,
                0,
                vec![7; random.random_range(0..300)],
            ),
            2 => new_frame(
                index,
                term,
                FrameKind::ConfChange,
                0,
                vec![9; random.random_range(1..50)],
            ),
            _ => new_batch(
                index,
                term,
                random.random_range(1..5),
                random.random_range(61..3000),
                random.random(),
            ),
        }
    }

    /// A new term, sometimes with a vote.
    fn elect(&mut self, turn: &mut Turn, random: &mut StdRng) {
        let term = Term(self.contents.hard_state.term.0 + random.random_range(0..3));
        let vote = if term > self.contents.hard_state.term || self.contents.hard_state.vote == 0 {
            random.random_range(0..4)
        } else {
            self.contents.hard_state.vote
        };
        self.set_hard_state(
            turn,
            HardState {
                term,
                vote,
                ..self.contents.hard_state
            },
        );
    }

    fn commit(&mut self, turn: &mut Turn, random: &mut StdRng) {
        let present = self.contents.hard_state.commit.0;
        // A follower may learn that something is committed before its own sync ends.
        let highest = if random.random_ratio(1, 3) {
            self.contents.last_index()
        } else {
            self.durable
        };
        if highest.0 > present {
            let commit = RaftIndex(random.random_range(present + 1..=highest.0));
            self.set_hard_state(
                turn,
                HardState {
                    commit,
                    ..self.contents.hard_state
                },
            );
        }
        let applicable = self.contents.hard_state.commit.min(self.durable);
        if applicable > self.applied {
            self.applied = RaftIndex(random.random_range(self.applied.0..=applicable.0));
        }
    }

    fn set_hard_state(&mut self, turn: &mut Turn, hard_state: HardState) {
        self.log.set_hard_state(turn, hard_state);
        let floor = if self.log.write_caching() {
            RaftIndex(0)
        } else {
            hard_state.commit.min(self.durable)
        };
        self.record(Change::HardState(hard_state, floor));
    }

    fn truncate(&mut self, turn: &mut Turn, random: &mut StdRng) -> Result<()> {
        let lowest = self.contents.hard_state.commit.0 + 1;
        let last = self.contents.last_index().0;
        if lowest > last {
            return Ok(());
        }
        let first_removed = RaftIndex(random.random_range(lowest..=last));
        self.log.truncate_suffix(turn, first_removed)?;
        self.record(Change::Truncate(first_removed));
        self.durable = self.durable.min(first_removed.previous());
        self.appended.retain_mut(|(_, index)| {
            *index = (*index).min(first_removed.previous());
            true
        });
        Ok(())
    }

    /// Sometimes the log begins anew after a snapshot, somewhere above what is committed.
    fn install(&mut self, turn: &mut Turn, random: &mut StdRng) -> Result<()> {
        if random.random_ratio(2, 3) {
            return Ok(());
        }
        let lowest = self.contents.hard_state.commit.0 + 1;
        let index = RaftIndex(random.random_range(lowest..lowest + 12));
        let start = self.log.log_start();
        let term = self.contents.hard_state.term;
        let applied = applied_state(self.log.id(), index, term);
        if random.random_ratio(1, 2) {
            let offset = start.0.max(self.contents.base.offset.0) + random.random_range(0..20);
            let offset = Offset(offset);
            self.log
                .install_snapshot(turn, applied.clone(), offset, start)?;
            let base = Base {
                index,
                term,
                offset,
            };
            self.record(Change::Install(applied, base, vec![]));
        } else {
            let base = Base {
                index: RaftIndex(random.random_range(0..index.0)),
                term,
                offset: start,
            };
            let frames = self.seed(turn, base, &applied, random)?;
            self.record(Change::Install(applied, base, frames));
        }
        (self.applied, self.durable) = (index, index);
        self.appended.clear();
        Ok(())
    }

    /// Takes over the frames from `base` to `applied`, now and then after trying in vain.
    fn seed(
        &mut self,
        turn: &mut Turn,
        base: Base,
        applied: &AppliedState,
        random: &mut StdRng,
    ) -> Result<Vec<Frame>> {
        let from = StagedFrom {
            index: RaftIndex(base.index.0 + 1),
            offset: base.offset,
            term_before: base.term,
        };
        if random.random_ratio(1, 3) {
            let new = self.new_frame(from.index, random);
            self.log.stage(from)?.append(&[new])?;
        }
        let mut staging = self.log.stage(from)?;
        let mut frames = Vec::new();
        for index in from.index.0..=applied.index.0 {
            let new = NewFrame {
                term: base.term,
                ..self.new_frame(RaftIndex(index), random)
            };
            frames.push(expected(&new, staging.next_offset()));
            staging.append(&[new])?;
        }
        let (staged, start) = (staging.finish()?, base.offset);
        self.log
            .install_staged(turn, staged, applied.clone(), start)?;
        Ok(frames)
    }

    /// Lets applied frames go, by offset as retention does or by index as an event log does.
    fn trim(&mut self, random: &mut StdRng) {
        let applied = self
            .contents
            .frames
            .iter()
            .find(|frame| frame.index == self.applied);
        let Some(next_offset) = applied.map(Frame::next_offset) else {
            return;
        };
        if random.random_ratio(1, 2) {
            let lowest = self.log.log_start().0;
            let offset = Offset(random.random_range(lowest..=next_offset.0.max(lowest)));
            self.log.set_log_start(offset);
            self.leaving.push((offset, RaftIndex(0)));
        } else {
            // Also above what is applied: those stay until a checkpoint holds a state that does not need them.
            let below = RaftIndex(random.random_range(0..=self.contents.last_index().0));
            self.log.compact(below);
            self.leaving.push((Offset(0), below));
        }
    }

    fn record(&mut self, change: Change) {
        self.contents.apply(&change);
        self.unsubmitted.push(change);
    }

    fn applied_state(&self, id: LogId) -> AppliedState {
        let base = self.contents.base;
        let frame = self
            .contents
            .frames
            .iter()
            .find(|frame| frame.index == self.applied);
        applied_state(
            id,
            self.applied,
            frame.map_or(base.term, |frame| frame.term),
        )
    }
}

/// The state of a machine that has applied up to `index`: as long as it is far, so that some need a file of their own.
fn applied_state(id: LogId, index: RaftIndex, term: Term) -> AppliedState {
    let snapshot = vec![index.0.to_le_bytes()[0]; usize::try_from(index.0 * 2).expect("small")];
    AppliedState {
        index,
        term,
        conf_state: format!("voters of {id} at {index}").into(),
        snapshot: snapshot.into(),
    }
}
