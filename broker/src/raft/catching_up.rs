//! Whose turn it is to be sent what it lacks.
//!
//! A broker that comes back is behind in all of its groups. Sending them everything at once takes processors, disks and the network of
//! both brokers from requests, which then wait until all is done. So followers catch up a few groups at a time: the next
//! begins when one has what was read for it. Where everybody has much to do that takes longer, and so catching up slows down
//! by itself.
//!
//! Groups that commit nothing without such a follower do not wait for a turn. Pure.

use std::collections::VecDeque;

use highwater_storage::RaftIndex;

use super::GroupId;

/// Ticks for which a group keeps its turn though its followers do not get on: others may be faster.
const PATIENCE_TICKS: u32 = 2;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct CatchingUp<R> {
    /// Groups whose turn it is, at most.
    at_once: usize,
    at_work: Vec<AtWork>,
    /// Reads of the others, in the order in which they came, with the last index of each.
    waiting: VecDeque<(GroupId, RaftIndex, R)>,
}

/// What is in the place of one that is lent out: it admits nobody.
impl<R> Default for CatchingUp<R> {
    fn default() -> Self {
        Self::new(0)
    }
}

/// A group whose turn it is.
#[derive(Debug)]
struct AtWork {
    group: GroupId,
    /// What its followers are to have.
    upto: RaftIndex,
    ticks_left: u32,
}

impl<R> CatchingUp<R> {
    pub(super) fn new(at_once: usize) -> Self {
        Self {
            at_once,
            at_work: Vec::new(),
            waiting: VecDeque::new(),
        }
    }

    /// Whether entries up to `upto` are to be read for followers of a group now. Otherwise it has to [wait](Self::wait).
    pub(super) fn admit(&mut self, group: GroupId, upto: RaftIndex) -> bool {
        if self.extend(group, upto) {
            return true;
        }
        let is_admitted = self.has_room() && self.waiting.is_empty();
        if is_admitted {
            self.begin(group, upto);
        }
        is_admitted
    }

    /// Has a read up to `upto` wait for its group's turn.
    pub(super) fn wait(&mut self, group: GroupId, upto: RaftIndex, read: R) {
        self.waiting.push_back((group, upto, read));
    }

    /// What waits for the turn of a group, which needs it now.
    pub(super) fn withdraw(&mut self, group: GroupId) -> Vec<R> {
        let mut withdrawn = Vec::new();
        while let Some(at) = self.waiting.iter().position(|(of, ..)| *of == group) {
            withdrawn.extend(self.waiting.remove(at).map(|(.., read)| read));
        }
        withdrawn
    }

    /// Ends the turns of groups whose followers have what was read for them, as `has` says.
    pub(super) fn end(&mut self, has: impl Fn(GroupId, RaftIndex) -> bool) {
        let is_under_way = |one: &AtWork| one.ticks_left > 0 && !has(one.group, one.upto);
        self.at_work.retain(is_under_way);
    }

    /// The next read whose group's turn has come.
    pub(super) fn next(&mut self) -> Option<(GroupId, R)> {
        if !self.has_room() {
            return None;
        }
        let (group, upto, read) = self.waiting.pop_front()?;
        if !self.extend(group, upto) {
            self.begin(group, upto);
        }
        Some((group, read))
    }

    /// A tick went by.
    pub(super) fn tick(&mut self) {
        for one in &mut self.at_work {
            one.ticks_left = one.ticks_left.saturating_sub(1);
        }
    }

    fn has_room(&self) -> bool {
        self.at_work.len() < self.at_once
    }

    /// Whether it is the group's turn; it goes on to `upto` then.
    fn extend(&mut self, group: GroupId, upto: RaftIndex) -> bool {
        let Some(one) = self.at_work.iter_mut().find(|one| one.group == group) else {
            return false;
        };
        one.upto = one.upto.max(upto);
        one.ticks_left = PATIENCE_TICKS;
        true
    }

    fn begin(&mut self, group: GroupId, upto: RaftIndex) {
        self.at_work.push(AtWork {
            group,
            upto,
            ticks_left: PATIENCE_TICKS,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(turns: &mut CatchingUp<&'static str>, group: u64, upto: u64) -> bool {
        turns.admit(GroupId(group), RaftIndex(upto))
    }

    fn wait(turns: &mut CatchingUp<&'static str>, group: u64, read: &'static str) {
        turns.wait(GroupId(group), RaftIndex(9), read);
    }

    fn next(turns: &mut CatchingUp<&'static str>) -> Option<&'static str> {
        turns.next().map(|(_, read)| read)
    }

    /// The followers of `group` have everything up to `index`; those of others have nothing.
    fn caught_up(turns: &mut CatchingUp<&'static str>, group: u64, index: u64) {
        turns.end(|of, upto| of == GroupId(group) && upto.0 <= index);
    }

    #[test]
    fn a_few_groups_go_first_and_the_others_follow_in_order() {
        let mut turns = CatchingUp::new(2);
        assert!(admit(&mut turns, 1, 5) && admit(&mut turns, 2, 5));
        assert!(!admit(&mut turns, 3, 5));
        wait(&mut turns, 3, "third");
        wait(&mut turns, 4, "fourth");
        assert_eq!(next(&mut turns), None);
        caught_up(&mut turns, 2, 4);
        assert_eq!(next(&mut turns), None, "it lacks one still");
        caught_up(&mut turns, 2, 5);
        assert!(!admit(&mut turns, 5, 5), "others came before");
        assert_eq!(next(&mut turns), Some("third"));
        assert_eq!(next(&mut turns), None);
        caught_up(&mut turns, 3, 9);
        assert_eq!(next(&mut turns), Some("fourth"));
    }

    #[test]
    fn a_group_keeps_its_turn_for_what_came_meanwhile() {
        let mut turns = CatchingUp::new(1);
        assert!(admit(&mut turns, 1, 5) && admit(&mut turns, 1, 7));
        wait(&mut turns, 2, "second");
        caught_up(&mut turns, 1, 5);
        assert_eq!(next(&mut turns), None);
        caught_up(&mut turns, 1, 7);
        assert_eq!(next(&mut turns), Some("second"));
    }

    #[test]
    fn followers_that_do_not_get_on_hold_up_nobody() {
        let mut turns = CatchingUp::new(1);
        assert!(admit(&mut turns, 1, 5));
        wait(&mut turns, 2, "second");
        turns.tick();
        assert!(admit(&mut turns, 1, 6), "it gets on");
        for _ in 0..PATIENCE_TICKS {
            caught_up(&mut turns, 7, 0);
            assert_eq!(next(&mut turns), None);
            turns.tick();
        }
        caught_up(&mut turns, 7, 0);
        assert_eq!(next(&mut turns), Some("second"));
    }

    #[test]
    fn what_is_needed_now_waits_no_longer() {
        let mut turns = CatchingUp::new(1);
        assert!(admit(&mut turns, 1, 5));
        wait(&mut turns, 2, "second");
        wait(&mut turns, 3, "third");
        wait(&mut turns, 3, "third, of another follower");
        assert_eq!(
            turns.withdraw(GroupId(3)),
            ["third", "third, of another follower"]
        );
        assert_eq!(turns.withdraw(GroupId(3)), [""; 0]);
        caught_up(&mut turns, 1, 5);
        assert_eq!(next(&mut turns), Some("second"));
        assert_eq!(next(&mut turns), None);
    }

    #[test]
    fn reads_of_one_group_share_its_turn() {
        let mut turns = CatchingUp::new(2);
        wait(&mut turns, 1, "of one follower");
        wait(&mut turns, 1, "of another");
        wait(&mut turns, 2, "of the next group");
        let reads: Vec<_> = std::iter::from_fn(|| next(&mut turns)).collect();
        assert_eq!(
            reads,
            ["of one follower", "of another", "of the next group"]
        );
    }
}
