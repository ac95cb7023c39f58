//! What the members of a consumer group and those who do things to them write down, one line each in the order in which it
//! happened, and what that must show. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// Something that happened to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// It reads the partition from now on.
    Took(u32),
    /// It is about to give the partition away.
    Revoked(u32),
    /// It heard that the partition may be somebody else's.
    Lost(u32),
    /// It processed the record of the partition at this offset.
    Did(u32, u64),
    /// It leaves.
    Left,
    /// Its process is gone.
    Killed,
    /// Its process is about to be stopped for longer than its session.
    Frozen,
    /// It was frozen, goes on, and is a member again.
    Back,
}

/// A line of the diary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Number of the member.
    pub member: u32,
    /// What happened to it.
    pub what: Happening,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let member = self.member;
        match self.what {
            Happening::Took(partition) => write!(f, "{member} took {partition}"),
            Happening::Revoked(partition) => write!(f, "{member} revoked {partition}"),
            Happening::Lost(partition) => write!(f, "{member} lost {partition}"),
            Happening::Did(partition, offset) => write!(f, "{member} did {partition} {offset}"),
            Happening::Left => write!(f, "{member} left"),
            Happening::Killed => write!(f, "{member} killed"),
            Happening::Frozen => write!(f, "{member} frozen"),
            Happening::Back => write!(f, "{member} back"),
        }
    }
}

impl FromStr for Line {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let words: Vec<_> = text.split(' ').collect();
        let what = match words[1..] {
            ["took", partition] => Happening::Took(partition.parse()?),
            ["revoked", partition] => Happening::Revoked(partition.parse()?),
            ["lost", partition] => Happening::Lost(partition.parse()?),
            ["did", partition, offset] => Happening::Did(partition.parse()?, offset.parse()?),
            ["left"] => Happening::Left,
            ["killed"] => Happening::Killed,
            ["frozen"] => Happening::Frozen,
            ["back"] => Happening::Back,
            _ => anyhow::bail!("no line of a diary: {text}"),
        };
        let member = words[0].parse()?;
        Ok(Self { member, what })
    }
}

/// Who reads what, as far as the diary was read.
///
/// A partition has one owner at a time. A member that was frozen does not know that it lost what it had: until it hears of it,
/// it may go on with records that others have by then, and what it commits is refused.
#[derive(Clone, Debug, Default)]
pub struct Ownership {
    owners: BTreeMap<u32, u32>,
    /// Partitions whose last owner said that it gives them away: it may finish what it has at hand until somebody takes them.
    finishing: BTreeMap<u32, u32>,
    frozen: BTreeSet<u32>,
    /// What members that were frozen had then, or take before they hear that they are members no more.
    unaware: BTreeSet<(u32, u32)>,
    /// Records that were processed.
    pub done: BTreeSet<(u32, u64)>,
    /// What must not have happened.
    pub violations: Vec<String>,
    /// What happened but for records, for the reader of a violation.
    pub story: Vec<Line>,
}

impl Ownership {
    /// Reads on.
    pub fn follow(&mut self, line: Line) {
        let member = line.member;
        if !matches!(line.what, Happening::Did(..)) {
            self.story.push(line);
        }
        match line.what {
            Happening::Took(partition) => {
                if self.frozen.contains(&member) {
                    self.unaware.insert((member, partition));
                    self.owners.entry(partition).or_insert(member);
                    return;
                }
                self.finishing.remove(&partition);
                if let Some(owner) = self.owners.insert(partition, member)
                    && !self.unaware.contains(&(owner, partition))
                {
                    self.violations.push(format!("{line}, which is {owner}'s"));
                }
            }
            Happening::Revoked(partition) => {
                if self.gives_up(member, partition) {
                    self.finishing.insert(partition, member);
                }
            }
            Happening::Lost(partition) => {
                self.gives_up(member, partition);
            }
            Happening::Did(partition, offset) => {
                let is_lawful = self.owners.get(&partition) == Some(&member)
                    || self.finishing.get(&partition) == Some(&member)
                    || self.unaware.contains(&(member, partition));
                if !is_lawful {
                    let owner = self.owners.get(&partition);
                    self.violations
                        .push(format!("{line}, which is {owner:?}'s"));
                }
                self.done.insert((partition, offset));
            }
            Happening::Left | Happening::Killed => {
                self.owners.retain(|_, owner| *owner != member);
                self.finishing.retain(|_, owner| *owner != member);
                self.unaware.retain(|(owner, _)| *owner != member);
                self.frozen.remove(&member);
            }
            Happening::Back => {
                self.frozen.remove(&member);
            }
            Happening::Frozen => {
                self.frozen.insert(member);
                let owned = self.owners.iter().filter(|(_, owner)| **owner == member);
                let owned = owned.map(|(partition, _)| (member, *partition));
                self.unaware.extend(owned);
            }
        }
    }

    /// Whether the partition was the member's.
    fn gives_up(&mut self, member: u32, partition: u32) -> bool {
        self.unaware.remove(&(member, partition));
        let is_owner = self.owners.get(&partition) == Some(&member);
        if is_owner {
            self.owners.remove(&partition);
        }
        is_owner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(lines: &[&str]) -> usize {
        let mut ownership = Ownership::default();
        for text in lines {
            let line: Line = text.parse().unwrap();
            assert_eq!(line.to_string(), *text);
            ownership.follow(line);
        }
        ownership.violations.len()
    }

    #[test]
    fn a_partition_changes_hands_after_it_was_given_away() {
        let lines = [
            "1 took 0",
            "1 did 0 5",
            "1 revoked 0",
            "1 did 0 6",
            "2 took 0",
            "2 did 0 7",
        ];
        assert_eq!(violations(&lines), 0);
        assert_eq!(violations(&["1 took 0", "2 took 0"]), 1);
        assert_eq!(
            violations(&["1 took 0", "1 revoked 0", "2 took 0", "1 did 0 6"]),
            1
        );
        assert_eq!(violations(&["1 took 0", "1 lost 0", "1 did 0 6"]), 1);
    }

    #[test]
    fn the_dead_own_nothing() {
        assert_eq!(
            violations(&["1 took 0", "1 killed", "2 took 0", "2 left", "3 took 0"]),
            0
        );
    }

    #[test]
    fn who_was_frozen_goes_on_until_it_hears_what_it_lost() {
        let outdated = [
            "1 frozen",
            "2 took 0",
            "1 took 0",
            "1 did 0 3",
            "1 lost 0",
            "1 back",
        ];
        assert_eq!(violations(&outdated), 0);
        assert_eq!(violations(&[&outdated[..], &["1 took 0"]].concat()), 1);
        let before = [
            "1 took 0",
            "1 frozen",
            "2 took 0",
            "1 did 0 4",
            "2 did 0 4",
            "1 lost 0",
        ];
        assert_eq!(violations(&before), 0);
        assert_eq!(violations(&[&before[..], &["1 did 0 5"]].concat()), 1);
        assert_eq!(
            violations(&[&before[..], &["3 took 0"]].concat()),
            1,
            "it is the second's"
        );
    }
}
