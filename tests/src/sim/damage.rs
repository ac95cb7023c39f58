//! Damage: what was durable in the files of a broker is there no more, or is something else.
//!
//! A disk shows it when it reads, not when it happens: so a broker goes down, and what it finds when it comes back is damaged. Some
//! is met by that start, the rest when a reader, a follower that is behind, or a new replica needs it.
//!
//! Of each group a minority is damaged at a time. A replica counts from the damage on until another one has taken its place; so
//! does one that is being moved, and one whose disk fails or is full.

use highwater_broker::raft::GroupId;
use highwater_storage::fs::CrashMode;

use super::bug::Bug;
use super::durable::{self, Survey};
use super::harm::{Harm, flip_written, forge, has_frames};
use super::node::Placed;
use super::perils::POWER_LOSSES;
use super::plan::NodeId;
use super::schedule::{MS, SECOND};
use super::world::{Event, World};

/// What is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// A segment file of one replica.
    Segment,
    /// The newest checkpoint of a broker. The one before it takes its place, and nothing is lost.
    Checkpoint,
    /// The journal of a broker, and with it whatever of its replicas was nowhere else.
    Journal,
}

impl Target {
    /// All of them, as often as they are to be.
    const ALL: [Self; 8] = [
        Self::Segment,
        Self::Segment,
        Self::Segment,
        Self::Segment,
        Self::Segment,
        Self::Segment,
        Self::Checkpoint,
        Self::Journal,
    ];
}

impl World {
    /// Lets a broker go down, and damages one of its files until it is back.
    pub(super) fn damage(&mut self) {
        let target = match self.bug {
            Some(Bug::DamageUnnoticed) => Target::Segment,
            _ => *self.rot.pick(&Target::ALL),
        };
        if target == Target::Segment {
            let victims = self.placed.iter().filter(|placed| self.may_damage(placed));
            let victims: Vec<_> = victims.cloned().collect();
            if !victims.is_empty() {
                let victim = self.rot.pick(&victims).clone();
                self.go_down_to_rot(victim.node);
                self.damage_segment(&victim);
            }
            return;
        }
        let all = (0..self.plan.nodes).map(NodeId);
        let victims: Vec<_> = all.filter(|id| self.may_damage_at(*id, target)).collect();
        if !victims.is_empty() {
            let victim = *self.rot.pick(&victims);
            self.go_down_to_rot(victim);
            if target == Target::Checkpoint {
                self.damage_checkpoint(victim);
            } else {
                self.damage_journal(victim);
            }
        }
    }

    fn go_down_to_rot(&mut self, id: NodeId) {
        if self.nodes[id.0].process.is_some() {
            let mode = if self.rot.percent(25) {
                CrashMode::Process
            } else {
                *self.rot.pick(&POWER_LOSSES)
            };
            self.crash(id, mode);
            let pause = self.rot.within(20 * MS..=4 * SECOND);
            self.schedule.after(pause, Event::Restart(id));
        }
    }

    fn damage_segment(&mut self, victim: &Placed) {
        let disk = &self.nodes[victim.node.0].disk;
        let mut segments = disk.files_in(&victim.directory());
        segments.retain(|(_, bytes)| has_frames(bytes));
        if segments.is_empty() {
            return;
        }
        let (path, bytes) = segments.swap_remove(self.rot.place(segments.len()));
        let harm = *self.rot.pick(&Harm::KINDS);
        let harmed = if self.bug == Some(Bug::DamageUnnoticed) {
            forge(bytes, &mut self.rot)
        } else {
            harm.done_to(bytes, &mut self.rot)
        };
        self.put(victim.node, &path, harmed.as_deref());
        // Padding, for one, says nothing, and what the journal still has is written again.
        self.note_lost(victim.node, &self.survey(victim.node));
        self.note(format_args!("{harm:?} in {path} of {}", victim.node));
    }

    fn damage_checkpoint(&mut self, id: NodeId) {
        let mut files = self.nodes[id.0].disk.files_in("checkpoint");
        files.retain(|(path, _)| path.ends_with(".checkpoint"));
        // In order of their numbers, which is that of their names.
        let newest = files.pop().filter(|_| !files.is_empty());
        let harmed =
            newest.and_then(|(path, bytes)| Some((path, flip_written(bytes, &mut self.rot)?)));
        if let Some((path, harmed)) = harmed {
            self.put(id, &path, Some(&harmed));
            self.note(format_args!("a bit flips in {path} of {id}"));
        }
    }

    /// Flips a bit in the journal, if somebody can tell. What stands in its last group may as well be the torn end of a write that
    /// nobody waited for.
    fn damage_journal(&mut self, id: NodeId) {
        let files = self.nodes[id.0].disk.files_in("journal");
        if files.is_empty() {
            return;
        }
        // Most of the others are not read any more.
        let newest = files.len().saturating_sub(2)..;
        let (path, bytes) = self.rot.pick(&files[newest]).clone();
        let Some(harmed) = flip_written(bytes.clone(), &mut self.rot) else {
            return;
        };
        self.put(id, &path, Some(&harmed));
        let survey = self.survey(id);
        if !survey.is_journal_damaged {
            self.put(id, &path, Some(&bytes));
            return;
        }
        self.nodes[id.0].is_journal_damaged = true;
        self.note_lost(id, &survey);
        self.note(format_args!("a bit flips in {path} of {id}"));
    }

    /// Gives a file of a broker that is down other bytes, or takes it away.
    fn put(&self, id: NodeId, path: &str, bytes: Option<&[u8]>) {
        let disk = &self.nodes[id.0].disk;
        disk.damage(path, bytes)
            .expect("a disk without faults does what it is told");
    }

    fn survey(&self, id: NodeId) -> Survey {
        durable::survey(self.nodes[id.0].disk.image(), &self.plan.storage)
    }

    /// Notes which replicas of a broker lost something that was durable.
    fn note_lost(&mut self, id: NodeId, survey: &Survey) {
        let node = &self.nodes[id.0];
        let placed = self.placed.iter();
        let here = placed.filter(|placed| placed.node == id && !placed.is_removed);
        let lost = here.filter(|placed| {
            let replica = placed.replica;
            node.was_durable(replica)
                && !survey.whole.contains(&replica)
                && !self.damaged.contains(&replica)
        });
        for replica in lost.map(|placed| placed.replica).collect::<Vec<_>>() {
            self.damaged.insert(replica);
            self.note(format_args!("replica {} is damaged", replica.0));
        }
    }

    /// Whether such a file of a broker can be damaged and a minority of each group has trouble all the same.
    fn may_damage_at(&self, id: NodeId, target: Target) -> bool {
        let node = &self.nodes[id.0];
        let mut placed = self.placed.iter().filter(|placed| placed.node == id);
        let may_lose = placed.all(|placed| placed.is_removed || self.may_damage(placed));
        !node.is_excused && !node.is_full && (target == Target::Checkpoint || may_lose)
    }

    /// Whether a replica can be damaged and a minority of its group has trouble all the same.
    fn may_damage(&self, victim: &Placed) -> bool {
        let node = &self.nodes[victim.node.0];
        let is_moving = |placed: &Placed| {
            let of_group = self
                .moves
                .iter()
                .filter(|moving| moving.group == placed.group);
            let mut ids = of_group.flat_map(|moving| [moving.old, moving.new]);
            ids.any(|id| id == placed.replica)
        };
        if victim.is_removed || is_moving(victim) || node.is_excused || node.is_full {
            return false;
        }
        let others = self.placed.iter().filter(|placed| {
            let node = &self.nodes[placed.node.0];
            placed.group == victim.group
                && !placed.is_removed
                && placed.replica != victim.replica
                && (self.damaged.contains(&placed.replica)
                    || is_moving(placed)
                    || node.is_excused
                    || node.is_full)
        });
        others.count() < most_damaged(self.voters_of(victim.group))
    }

    /// Voters of a group. What moves takes the place of another, so that they stay as many.
    pub(super) fn voters_of(&self, group: GroupId) -> usize {
        let mut groups = self.plan.groups.iter();
        let plan = groups.find(|plan| plan.group == group);
        plan.map_or(0, |plan| plan.replicas.len())
    }
}

/// Of so many voters so many may be damaged.
fn most_damaged(voters: usize) -> usize {
    voters.saturating_sub(1) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minority_is_damaged_and_never_the_only_voter() {
        assert_eq!([0, 1, 2, 3, 4, 5].map(most_damaged), [0, 0, 0, 1, 1, 2]);
    }
}
