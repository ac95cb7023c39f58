//! What scripts ask of the nodes: where their replicas stand, what is in their logs.

use highwater_storage::{FrameKind, RaftIndex};

use super::describe::describe_members;
use super::{Cluster, Command, group, numbers};
use crate::raft::GroupId;
use crate::raft::machine::Role;

impl Cluster {
    pub(super) fn status(&mut self, command: &Command<'_>) -> Result<Vec<String>, String> {
        let group = group(command)?;
        let mut said = Vec::new();
        for number in numbers(command, &command.arguments)? {
            let running = self.running(number)?;
            let status = running
                .shard
                .status(GroupId(group))
                .ok_or("no such group")?;
            let role = match status.role {
                Role::Leader { serving: true, .. } => "leads and serves".to_owned(),
                Role::Leader { .. } => "leads".to_owned(),
                Role::Follower { leader: None, .. } => "follows nobody".to_owned(),
                Role::Follower {
                    leader: Some(leader),
                    ..
                } => format!("follows {}", leader.0),
                Role::Quarantined => {
                    format!(
                        "is quarantined ({})",
                        status
                            .failure
                            .map_or_else(String::new, |failure| failure.reason)
                    )
                }
            };
            let first = if status.first > RaftIndex(1) {
                format!(", first {}", status.first)
            } else {
                String::new()
            };
            let seeding = status.seeding.map_or_else(String::new, |seeding| {
                let (done, total) = (seeding.done_bytes, seeding.total_bytes);
                format!(", seeded with {done} of {total} bytes")
            });
            said.push(format!(
                "{number}: {role}, term {}, commit {}, applied {}{first}, last {}, members {}{seeding}",
                status.term,
                status.commit,
                status.applied,
                status.last,
                describe_members(&status.members),
            ));
        }
        Ok(said)
    }

    /// `asleep 1 2 3`: who of them sleeps.
    pub(super) fn asleep(&mut self, command: &Command<'_>) -> Result<Vec<String>, String> {
        let group = GroupId(group(command)?);
        let mut said = Vec::new();
        for number in numbers(command, &command.arguments)? {
            let running = self.running(number)?;
            let status = running.shard.status(group).ok_or("no such group")?;
            let what = if status.is_asleep {
                "sleeps"
            } else {
                "is awake"
            };
            let leads = matches!(status.role, Role::Leader { .. });
            let role = if leads { " and leads" } else { "" };
            said.push(format!("{number}: {what}{role}"));
        }
        Ok(said)
    }

    /// `ticking 1 2 3`: who of them wanted ticks after its last turn.
    pub(super) fn ticking(&mut self, command: &Command<'_>) -> Result<Vec<String>, String> {
        let mut said = Vec::new();
        for number in numbers(command, &command.arguments)? {
            let wants = if self.running(number)?.wants_ticks {
                "wants"
            } else {
                "wants no"
            };
            said.push(format!("{number}: {wants} ticks"));
        }
        Ok(said)
    }

    /// `followers 1`: the other members as the leader on node 1 sees them.
    pub(super) fn followers(&mut self, command: &Command<'_>) -> Result<Vec<String>, String> {
        let group = GroupId(group(command)?);
        let running = self.running(command.number(0)?)?;
        let status = running.shard.status(group).ok_or("no such group")?;
        let followers = status.followers.iter().map(|follower| {
            let kind = if follower.is_learner {
                "learner"
            } else {
                "voter"
            };
            let sync = if follower.is_in_sync { "in" } else { "not in" };
            let (replica, matched) = (follower.replica.0, follower.matched);
            let seeding = follower.seeding.map_or("", |_| ", being seeded");
            format!("{kind} {replica} has {matched} and is {sync} sync{seeding}")
        });
        Ok(followers.collect())
    }

    /// What stands in the log of a node.
    pub(super) fn log(&mut self, command: &Command<'_>) -> Result<Vec<String>, String> {
        let group = GroupId(group(command)?);
        let mut said = Vec::new();
        for number in numbers(command, &command.arguments)? {
            let frames = self
                .running(number)?
                .shard
                .frames(group)
                .ok_or("no such group")?;
            let frames = frames.iter().map(|frame| {
                let what = match frame.kind {
                    FrameKind::NoOp => "noop".to_owned(),
                    FrameKind::ConfChange => "members".to_owned(),
                    FrameKind::Batch => format!("batch at offset {}", frame.base_offset),
                    _ => String::from_utf8_lossy(&frame.payload).into_owned(),
                };
                format!("{}/{} {what}", frame.index, frame.term)
            });
            let frames: Vec<_> = frames.collect();
            said.push(format!("{number}: {}", frames.join(", ")));
        }
        Ok(said)
    }

    pub(super) fn published(&mut self, command: &Command<'_>) -> Result<Vec<String>, String> {
        let group = group(command)?;
        let mut said = Vec::new();
        for number in numbers(command, &command.arguments)? {
            let seen = self.node(number)?.seen.entry(group).or_default();
            said.push(format!("{number}: [{}]", seen.published().join(" ")));
        }
        Ok(said)
    }
}
