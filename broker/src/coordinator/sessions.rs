//! The clocks of a coordinator's leader: when each member was heard last, and by when it is to have let partitions go.
//!
//! They are in no log. A new leader gives every member its whole session again, so that a change of leaders costs nobody its
//! place; whoever is gone is then noticed that much later.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::command::{ExpiredMember, Expiry};
use super::view::MemberClock;

/// Members removed at once, so that the entry that says so stays small; the rest follows with the next tick.
const EXPIRED_AT_ONCE: usize = 512;
/// When a member whose time is over is looked at again, should its removal not have been written.
const RETRY: Duration = Duration::from_secs(1);

type Who = (Arc<str>, Arc<str>);

/// The clocks of all members. Times are of the leader's own clock, which only grows.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    members: HashMap<Who, Times>,
    /// When to look at which member: its earlier deadline or a moment before that. Invariant: each member stands here once,
    /// at its `looked_at`.
    queue: BTreeSet<(Duration, Arc<str>, Arc<str>)>,
}

#[derive(Debug)]
struct Times {
    looked_at: Duration,
    session_ends: Duration,
    revoke_by: Option<Duration>,
    /// Its session was told to be over, and is looked at again then.
    retry_at: Option<Duration>,
}

impl Times {
    fn next(&self) -> Duration {
        let ends = self
            .retry_at
            .map_or(self.session_ends, |at| at.max(self.session_ends));
        self.revoke_by.map_or(ends, |by| by.min(ends))
    }
}

impl Sessions {
    /// A member was heard at `at`. `revoke_within` is how long it may take to let partitions go, where it is to.
    pub(super) fn heard(
        &mut self,
        group: &Arc<str>,
        member: &Arc<str>,
        at: Duration,
        session: Duration,
        revoke_within: Option<Duration>,
    ) {
        let session_ends = at + session;
        let who = (Arc::clone(group), Arc::clone(member));
        let Some(times) = self.members.get_mut(&who) else {
            let times = Times {
                looked_at: session_ends,
                session_ends,
                revoke_by: revoke_within.map(|within| at + within),
                retry_at: None,
            };
            self.insert(who, times);
            return;
        };
        // Heartbeats may overtake each other on their way here.
        times.session_ends = times.session_ends.max(session_ends);
        times.revoke_by = revoke_within.map(|within| times.revoke_by.unwrap_or(at + within));
        times.retry_at = None;
        let next = times.next();
        if next < times.looked_at {
            let (group, member) = who;
            self.queue
                .remove(&(times.looked_at, Arc::clone(&group), Arc::clone(&member)));
            times.looked_at = next;
            self.queue.insert((next, group, member));
        }
    }

    fn insert(&mut self, who: Who, mut times: Times) {
        times.looked_at = times.next();
        let (group, member) = who.clone();
        self.queue.insert((times.looked_at, group, member));
        self.members.insert(who, times);
    }

    /// Where a member stands at `now`.
    pub(super) fn clock(
        &self,
        group: &Arc<str>,
        member: &Arc<str>,
        now: Duration,
    ) -> Option<MemberClock> {
        let times = self.members.get(&(Arc::clone(group), Arc::clone(member)))?;
        Some(MemberClock {
            session_ends_in: times.session_ends.saturating_sub(now),
            revoke_ends_in: times.revoke_by.map(|by| by.saturating_sub(now)),
        })
    }

    /// A member is gone.
    pub(super) fn forget(&mut self, group: &Arc<str>, member: &Arc<str>) {
        let who = (Arc::clone(group), Arc::clone(member));
        if let Some(times) = self.members.remove(&who) {
            self.queue.remove(&(times.looked_at, who.0, who.1));
        }
    }

    /// The members whose time is over at `now`, without those that are left for the next time. They come again until they are
    /// heard or forgotten.
    pub(super) fn expired(&mut self, now: Duration) -> Vec<ExpiredMember> {
        let mut expired = Vec::new();
        while expired.len() < EXPIRED_AT_ONCE {
            if self.queue.first().is_none_or(|(due, _, _)| *due > now) {
                break;
            }
            let Some((_, group, member)) = self.queue.pop_first() else {
                break;
            };
            let who = (Arc::clone(&group), Arc::clone(&member));
            let Some(mut times) = self.members.remove(&who) else {
                continue;
            };
            let expiry = if times.session_ends <= now {
                times.retry_at = Some(now + RETRY);
                Some(Expiry::Session)
            } else if times.revoke_by.is_some_and(|revoke_by| revoke_by <= now) {
                times.revoke_by = Some(now + RETRY);
                Some(Expiry::Rebalance)
            } else {
                None
            };
            self.insert(who, times);
            expired.extend(expiry.map(|expiry| ExpiredMember {
                group,
                member,
                expiry,
            }));
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn heard(sessions: &mut Sessions, member: &str, at: u64, revoke_within: Option<u64>) {
        let (group, member) = ("g".into(), member.into());
        sessions.heard(&group, &member, ms(at), ms(100), revoke_within.map(ms));
    }

    fn expired(sessions: &mut Sessions, now: u64) -> Vec<(String, Expiry)> {
        let expired = sessions.expired(ms(now)).into_iter();
        expired
            .map(|expired| (expired.member.to_string(), expired.expiry))
            .collect()
    }

    #[test]
    fn who_is_not_heard_is_over_until_it_is_forgotten() {
        let mut sessions = Sessions::default();
        heard(&mut sessions, "a", 0, None);
        heard(&mut sessions, "b", 0, None);
        heard(&mut sessions, "b", 50, None);
        assert_eq!(expired(&mut sessions, 99), []);
        assert_eq!(
            expired(&mut sessions, 100),
            [("a".to_owned(), Expiry::Session)]
        );
        assert_eq!(expired(&mut sessions, 149), []);
        assert_eq!(
            expired(&mut sessions, 150),
            [("b".to_owned(), Expiry::Session)]
        );
        assert_eq!(expired(&mut sessions, 1_000), []);
        assert_eq!(
            expired(&mut sessions, 1_100),
            [("a".to_owned(), Expiry::Session)]
        );
        sessions.forget(&"g".into(), &"a".into());
        sessions.forget(&"g".into(), &"b".into());
        assert_eq!(expired(&mut sessions, 10_000), []);
    }

    #[test]
    fn who_is_heard_after_its_time_has_a_session_as_any_other() {
        let mut sessions = Sessions::default();
        heard(&mut sessions, "a", 0, None);
        assert_eq!(
            expired(&mut sessions, 100),
            [("a".to_owned(), Expiry::Session)]
        );
        heard(&mut sessions, "a", 110, None);
        assert_eq!(expired(&mut sessions, 209), []);
        assert_eq!(
            expired(&mut sessions, 210),
            [("a".to_owned(), Expiry::Session)]
        );
    }

    #[test]
    fn heartbeats_do_not_extend_the_time_to_let_go() {
        let mut sessions = Sessions::default();
        heard(&mut sessions, "a", 0, None);
        heard(&mut sessions, "a", 10, Some(70));
        heard(&mut sessions, "a", 60, Some(70));
        assert_eq!(expired(&mut sessions, 79), []);
        assert_eq!(
            expired(&mut sessions, 80),
            [("a".to_owned(), Expiry::Rebalance)]
        );
        assert_eq!(expired(&mut sessions, 159), []);
        assert_eq!(
            expired(&mut sessions, 160),
            [("a".to_owned(), Expiry::Session)]
        );
    }

    #[test]
    fn who_let_go_in_time_is_not_over() {
        let mut sessions = Sessions::default();
        heard(&mut sessions, "a", 0, Some(70));
        heard(&mut sessions, "a", 60, None);
        assert_eq!(expired(&mut sessions, 159), []);
        sessions.forget(&"g".into(), &"a".into());
        assert_eq!(expired(&mut sessions, 500), []);
    }

    #[test]
    fn a_clock_tells_what_is_left_and_counts_from_the_first_time_it_was_asked_to_let_go() {
        let mut sessions = Sessions::default();
        let clock = |sessions: &Sessions, now| sessions.clock(&"g".into(), &"a".into(), ms(now));
        assert_eq!(clock(&sessions, 0), None);
        heard(&mut sessions, "a", 0, Some(70));
        heard(&mut sessions, "a", 20, Some(70));
        let expected = MemberClock {
            session_ends_in: ms(90),
            revoke_ends_in: Some(ms(40)),
        };
        assert_eq!(clock(&sessions, 30), Some(expected));
        let over = clock(&sessions, 500).unwrap();
        assert_eq!(over.session_ends_in, ms(0));
        heard(&mut sessions, "a", 40, None);
        assert_eq!(clock(&sessions, 40).unwrap().revoke_ends_in, None);
    }

    #[test]
    fn a_heartbeat_that_was_overtaken_takes_no_time_away() {
        let mut sessions = Sessions::default();
        heard(&mut sessions, "a", 50, None);
        heard(&mut sessions, "a", 20, None);
        assert_eq!(expired(&mut sessions, 149), []);
    }
}
