//! Why a group does or does not move on in a partition.

use std::collections::BTreeSet;

use super::age::{since, span};
use super::cause::{Cause, Verdict};
use super::facts::{CommittedFacts, FencedFacts, GroupFacts, MemberFacts, PartitionFacts, Place};
use super::partition;

/// A member is heard three times in a session at least; one that was not for more than half of it is in trouble.
const SILENT_PART_OF_SESSION: u64 = 2;

/// What is said of the group in a partition.
pub(crate) fn explain_partition(group: &GroupFacts, partition: &PartitionFacts) -> Verdict {
    let of_partition = partition::explain(partition, group.now_ms);
    if of_partition.cause.stops_readers() || partition.is_refused() {
        return of_partition;
    }
    let place = (partition.topic.clone(), partition.partition);
    let case = Case {
        group,
        partition,
        committed: group.committed.get(&place),
        place,
    };
    match case.owner_or_why_none() {
        Err(verdict) => verdict,
        Ok(owner) => case.explain_owned(owner, of_partition),
    }
}

/// What is said of a topic that somebody subscribes to, or asks for, and that does not exist.
pub(crate) fn explain_unknown_topic(group: &GroupFacts, topic: &str) -> Verdict {
    let wants = group
        .members
        .iter()
        .filter(|one| one.topics.contains(topic));
    let wants: Vec<_> = wants.map(MemberFacts::name).collect();
    let who = match &wants[..] {
        [] => "there is no such topic".to_owned(),
        [one] => format!("{one} subscribes to it and there is no such topic"),
        many => format!(
            "{} members subscribe to it and there is no such topic",
            many.len()
        ),
    };
    let why = format!("{who}; check the name, or create it: highwater topic create {topic}");
    Verdict::new(Cause::TopicUnknown, why)
}

/// What is said of offsets whose topic is gone.
pub(crate) fn explain_deleted(partitions: usize) -> Verdict {
    let why = format!(
        "offsets are committed of {partitions} {} of topics that were deleted since: nothing of them can be read any more, and \
         a new topic of the same name begins without them; nothing is to be done",
        if partitions == 1 {
            "partition"
        } else {
            "partitions"
        }
    );
    Verdict::new(Cause::TopicDeleted, why)
}

/// What is said of a group that has neither members nor offsets.
pub(crate) fn explain_idle(group: &str) -> Verdict {
    let why = format!(
        "the group has no members and has committed nothing; start one: highwater consume TOPIC -g {group}"
    );
    Verdict::new(Cause::NoMember, why)
}

/// What is said of a member to which no partition belongs, where there is something to say.
pub(crate) fn explain_member(
    group: &GroupFacts,
    member: &MemberFacts,
    existing: &BTreeSet<String>,
) -> Option<Verdict> {
    let has_something =
        !(member.assigned.is_empty() && member.target.is_empty() && member.revoking.is_empty());
    if has_something {
        return None;
    }
    let name = member.name();
    let reads = |topic: &String| member.topics.contains(topic) || member.matches(topic);
    if existing.iter().any(reads) {
        let count = group.members.len();
        let why = format!(
            "{name} has nothing to read, because the group has {count} members and fewer partitions to share out; give the \
             topics more partitions, or run fewer members"
        );
        return Some(Verdict::new(Cause::SpareMember, why));
    }
    let regex = member.regex.as_ref().filter(|_| member.topics.is_empty())?;
    let why = format!(
        "{name} has nothing to read, because no topic matches its expression \"{regex}\" as a whole; topics that are created \
         later count when they match"
    );
    Some(Verdict::new(Cause::RegexMatchesNothing, why))
}

impl MemberFacts {
    /// How it is called in sentences.
    fn name(&self) -> String {
        named(&self.id, self.instance.as_deref(), &self.client)
    }

    /// Whether its expression means a topic.
    fn matches(&self, topic: &str) -> bool {
        let regex = self.regex.as_ref();
        let regex = regex.and_then(|text| regex::Regex::new(&format!("^(?:{text})$")).ok());
        regex.is_some_and(|regex| regex.is_match(topic))
    }

    fn holds(&self, place: &Place) -> bool {
        self.assigned.contains(place) || self.revoking.contains(place)
    }
}

impl FencedFacts {
    fn told(&self, now_ms: i64) -> String {
        let name = named(&self.id, self.instance.as_deref(), &self.client);
        let ago = span(since(self.at_ms, now_ms));
        let why = if self.was_slow {
            "did not let partitions go within its rebalance timeout"
        } else {
            "was not heard for its session timeout"
        };
        format!("{name} was removed {ago} ago because it {why}")
    }
}

fn named(id: &str, instance: Option<&str>, client: &str) -> String {
    match instance {
        Some(instance) => format!("member {instance} ({client}, {id})"),
        None => format!("member {id} ({client})"),
    }
}

/// One partition of a group.
struct Case<'a> {
    group: &'a GroupFacts,
    partition: &'a PartitionFacts,
    committed: Option<&'a CommittedFacts>,
    place: Place,
}

impl<'a> Case<'a> {
    /// The member that may read the partition; otherwise why nobody may.
    fn owner_or_why_none(&self) -> Result<&'a MemberFacts, Verdict> {
        let members = &self.group.members;
        if members.is_empty() {
            return Err(self.explain_empty());
        }
        let target = members.iter().find(|one| one.target.contains(&self.place));
        let holder = members.iter().find(|one| one.holds(&self.place));
        match (holder, target) {
            (Some(holder), Some(target)) if holder.id != target.id => {
                Err(self.explain_revocation(holder, target))
            }
            (Some(holder), _) => Ok(holder),
            (None, Some(target)) => Err(self.explain_not_taken(target)),
            (None, None) => {
                let why = format!(
                    "the group has {} {} and none reads this topic; subscribe one to it, or forget what was committed: \
                     highwater group offset-delete {} {}",
                    members.len(),
                    if members.len() == 1 {
                        "member"
                    } else {
                        "members"
                    },
                    self.group.group,
                    self.place.0,
                );
                Err(Verdict::new(Cause::NoSubscriber, why))
            }
        }
    }

    fn explain_empty(&self) -> Verdict {
        let group = self.group;
        let lag = self.lag_text();
        let since_when = group.empty_since_ms.map_or(String::new(), |then_ms| {
            format!(" since {} ago", span(since(then_ms, group.now_ms)))
        });
        // What a member had that was removed earlier, others took over, and left by themselves since.
        let emptied = |fenced: &&FencedFacts| {
            group
                .empty_since_ms
                .is_none_or(|then_ms| fenced.at_ms >= then_ms)
        };
        let had = |fenced: &&FencedFacts| fenced.had.contains(&self.place);
        let mut last = group.fenced.iter().filter(emptied);
        match last.clone().find(had).or(last.next()) {
            Some(fenced) => {
                let why = format!(
                    "the group has no members{since_when}: {}; {lag}; look why that process stopped or stood still, and start it again",
                    fenced.told(group.now_ms)
                );
                Verdict::new(Cause::MemberFenced, why)
            }
            None => {
                let why = format!(
                    "the group has no members{since_when}; {lag}; start one: highwater consume {} -g {}",
                    self.place.0, group.group
                );
                Verdict::new(Cause::NoMember, why)
            }
        }
    }

    fn explain_revocation(&self, holder: &MemberFacts, target: &MemberFacts) -> Verdict {
        let timeout = holder.rebalance_timeout_ms;
        let times = match holder.revoke_ends_in_ms {
            Some(left) => format!(
                "has been asked to for {} and is removed in {} unless it does",
                span(timeout.saturating_sub(left)),
                span(left)
            ),
            None => "is asked to with its next heartbeat".to_owned(),
        };
        let why = format!(
            "{} is to read it and waits until {} has let it go, which {times}; if it takes long, look at what keeps that \
             process from receiving",
            target.name(),
            holder.name(),
        );
        Verdict::new(Cause::WaitingForRevocation, why)
    }

    fn explain_not_taken(&self, target: &MemberFacts) -> Verdict {
        if target.is_away {
            return self.explain_away(target);
        }
        let heard = target.heard_ms_ago.map_or(String::new(), |ago| {
            format!(", the last of which came {} ago", span(ago))
        });
        let fenced = self.group.fenced.iter();
        let before = fenced
            .filter(|fenced| fenced.had.contains(&self.place))
            .map(|fenced| format!("; before, {}", fenced.told(self.group.now_ms)))
            .next();
        let why = format!(
            "{} is given it with its next heartbeat{heard}{}; nothing is to be done",
            target.name(),
            before.unwrap_or_default(),
        );
        Verdict::new(Cause::WaitingForMember, why)
    }

    fn explain_away(&self, owner: &MemberFacts) -> Verdict {
        let left = owner.session_ends_in_ms.map_or_else(
            || "until its session ends".to_owned(),
            |left| format!("for another {}", span(left)),
        );
        let why = format!(
            "{} left for a while: the partition is kept for that instance {left}, then others get it; {}; start it again with \
             the same instance id",
            owner.name(),
            self.lag_text()
        );
        Verdict::new(Cause::StaticMemberAway, why)
    }

    /// What is said where `owner` may read it.
    fn explain_owned(&self, owner: &MemberFacts, of_partition: Verdict) -> Verdict {
        if owner.is_away {
            return self.explain_away(owner);
        }
        let silent_ms = owner.heard_ms_ago.unwrap_or(0);
        if silent_ms > owner.session_timeout_ms / SILENT_PART_OF_SESSION {
            let left = owner.session_ends_in_ms.unwrap_or(0);
            let why = format!(
                "{} has it and was not heard for {}: it is removed in {} unless it is heard, and others get the partition; {}",
                owner.name(),
                span(silent_ms),
                span(left),
                self.lag_text()
            );
            return Verdict::new(Cause::MemberSilent, why);
        }
        if let Some(told_ms_ago) = owner.paused.get(&self.place) {
            let known_for = told_ms_ago.map_or(String::new(), |ago| {
                format!(", as the coordinator has known for {}", span(ago))
            });
            let why = format!(
                "{} has it and has paused it{known_for}; {}; the program goes on when it resumes the partition",
                owner.name(),
                self.lag_text()
            );
            return Verdict::new(Cause::Paused, why);
        }
        let Some(committed) = self.committed else {
            return self.explain_uncommitted(owner, of_partition);
        };
        self.out_of_range(committed)
            .unwrap_or_else(|| self.explain_lag(owner, committed, of_partition))
    }

    fn explain_uncommitted(&self, owner: &MemberFacts, of_partition: Verdict) -> Verdict {
        let (start, end) = (self.partition.start, self.partition.end);
        if start == end {
            return self.explain_end(owner, of_partition);
        }
        let why = format!(
            "{} has it and nothing was ever committed: it reads from where the program says to begin the first time \
             (`offset_reset`), and {} records are there from offset {start} on; if this stays so, it does not receive or does \
             not commit",
            owner.name(),
            end - start,
        );
        Verdict::new(Cause::NeverCommitted, why)
    }

    /// Where the group is to go on is not a place in the partition.
    fn out_of_range(&self, committed: &CommittedFacts) -> Option<Verdict> {
        let (start, end) = (self.partition.start, self.partition.end);
        let offset = committed.offset;
        let (topic, group) = (&self.place.0, &self.group.group);
        if offset < start {
            let why = format!(
                "retention or a trim deleted {} records that the group had not read: it committed {offset} and the first record \
                 left is {start}, so its member goes on where the program says (`offset_reset`: there, at the end, or not at \
                 all); to set it yourself stop the members and run: highwater group seek {group} --to start --topics {topic}",
                start - offset
            );
            return Some(Verdict::new(Cause::RecordsLost, why));
        }
        (offset > end).then(|| {
            let why = format!(
                "the group committed {offset} and the partition ends at {end}: records that it had read were lost, in a recovery or \
                 with the power where `write.caching` is on; \
                 stop the members and say where to go on: highwater group seek {group} --to end --topics {topic}"
            );
            Verdict::new(Cause::CommittedBeyondEnd, why)
        })
    }

    fn explain_lag(
        &self,
        owner: &MemberFacts,
        committed: &CommittedFacts,
        of_partition: Verdict,
    ) -> Verdict {
        let now_ms = self.group.now_ms;
        if committed.offset == self.partition.end {
            return self.explain_end(owner, of_partition);
        }
        let committed_ago = since(committed.at_ms, now_ms);
        // Without its time, a record is as old as the newest: it is not younger.
        let waiting_since_ms = committed.next_record_ms.or(self.partition.newest_ms);
        let waits = waiting_since_ms.map_or(committed_ago, |then_ms| since(then_ms, now_ms));
        let (name, lag) = (owner.name(), self.lag_text());
        if waits.min(committed_ago) > self.group.commits_within_ms {
            let why = format!(
                "{name} has it and has committed nothing for {}; {lag}; its heartbeats come, so look at what the program does \
                 with the records it received, and whether it commits",
                span(committed_ago)
            );
            return Verdict::new(Cause::NotCommitting, why);
        }
        let why = format!(
            "{name} reads it and committed {} ago; {lag}",
            span(committed_ago)
        );
        Verdict::new(Cause::Consuming, why)
    }

    /// Everything is read: what matters is whether more can come.
    fn explain_end(&self, owner: &MemberFacts, of_partition: Verdict) -> Verdict {
        let end = self.partition.end;
        let read = format!("{} has read everything up to offset {end}", owner.name());
        if of_partition.cause.stops_writers_only() {
            let why = format!(
                "{read}, and nothing more comes: {}",
                of_partition.explanation
            );
            return Verdict::new(of_partition.cause, why);
        }
        Verdict::new(Cause::CaughtUp, read)
    }

    /// How much there is to read.
    fn lag_text(&self) -> String {
        let (start, end) = (self.partition.start, self.partition.end);
        let Some(committed) = self.committed else {
            return format!(
                "nothing is committed, and {} records are there",
                end - start.min(end)
            );
        };
        match end.saturating_sub(committed.offset) {
            0 => "nothing is left to read".to_owned(),
            lag => {
                let age = committed.next_record_ms.map_or(String::new(), |then_ms| {
                    let age = span(since(then_ms, self.group.now_ms));
                    format!(", the oldest of which is {age} old")
                });
                let (records, verb) = if lag == 1 {
                    ("record", "is")
                } else {
                    ("records", "are")
                };
                format!("{lag} {records} {verb} left to read{age}")
            }
        }
    }
}
