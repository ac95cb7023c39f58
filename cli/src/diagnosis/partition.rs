//! Why a partition does or does not take records.

use super::age::{since, span};
use super::cause::{Cause, Verdict};
use super::facts::{Finding, Leaderless, PartitionFacts, Replica, Standing};

/// What is said of a partition at `now_ms`.
pub(crate) fn explain(facts: &PartitionFacts, now_ms: i64) -> Verdict {
    unreadable(facts, now_ms)
        .or_else(|| failed(facts, now_ms))
        .or_else(|| refusing(facts, now_ms))
        .or_else(|| moving(facts))
        .unwrap_or_else(|| serving(facts, now_ms))
}

impl PartitionFacts {
    fn leading(&self) -> Option<&Replica> {
        let leader = self.leader?;
        self.replicas.iter().find(|one| one.broker == leader)
    }

    /// Replicas that do not vote.
    fn missing(&self) -> Vec<&Replica> {
        let is_missing = |replica: &&Replica| {
            matches!(
                replica.standing,
                Standing::Failed(_) | Standing::Down | Standing::Silent(_)
            )
        };
        self.replicas.iter().filter(is_missing).collect()
    }

    fn majority(&self) -> usize {
        self.replicas.len() / 2 + 1
    }

    /// What is said where those that are there, or about to be, are enough to elect a leader.
    fn electing(&self) -> String {
        let votes = |standing: &Standing| {
            matches!(
                standing,
                Standing::Leads | Standing::Votes | Standing::Refusing(_)
            )
        };
        let voting = self.brokers_where(votes);
        let starting = self.brokers_where(|standing| matches!(standing, Standing::Starting));
        let what = if voting.len() < self.majority() {
            format!(
                "it has no leader before the replicas on {} have started, which takes a second or two",
                brokers_text(&starting)
            )
        } else {
            format!(
                "it has no leader at the moment: its replicas on {} elect one, which takes a second or two",
                brokers_text(&voting)
            )
        };
        let since = self.since_when();
        format!("{what}; {since}if it stays so, see: highwater cluster health")
    }

    /// Whether its leader has no memory for those who ask: nothing else is known of it then.
    pub(super) fn is_refused(&self) -> bool {
        let leading = self.leading();
        leading.is_some_and(|leading| matches!(leading.standing, Standing::Refusing(_)))
    }

    fn brokers_where(&self, is_meant: impl Fn(&Standing) -> bool) -> Vec<String> {
        let replicas = self.replicas.iter();
        let meant = replicas.filter(|one| is_meant(&one.standing));
        meant.map(|one| one.broker.to_string()).collect()
    }

    /// For how long nobody has led it, as far as anybody says, with what separates it from what follows. Nobody sees the whole
    /// cluster, so it is said who says so.
    fn since_when(&self) -> String {
        self.leaderless.map_or(String::new(), |leaderless| {
            let Leaderless { broker, for_ms } = leaderless;
            format!("broker {broker} has known no leader for {}; ", span(for_ms))
        })
    }
}

/// Nobody can be read from, or asked.
fn unreadable(facts: &PartitionFacts, now_ms: i64) -> Option<Verdict> {
    let count = facts.replicas.len();
    match facts.leading().map(|leader| &leader.standing) {
        Some(Standing::Leads | Standing::Failed(_)) => return None,
        // A sole replica elects itself when it is first needed.
        Some(Standing::Votes) if count == 1 => return None,
        Some(Standing::Silent(problem)) => {
            let leader = facts.leader.unwrap_or_default();
            return Some(Verdict::new(
                Cause::LeaderUnreachable,
                format!(
                    "broker {leader} leads it and does not answer here ({problem}); check the network between here and that \
                     broker"
                ),
            ));
        }
        Some(Standing::Refusing(problem)) => {
            let leader = facts.leader.unwrap_or_default();
            return Some(Verdict::new(
                Cause::Throttled,
                format!(
                    "broker {leader}, which leads it, has no memory left for requests and refused to be asked, too ({problem}); send \
                     less at once, or raise requests.memory_bytes"
                ),
            ));
        }
        Some(Standing::Votes | Standing::Down | Standing::Starting) | None => {}
    }
    let missing = facts.missing();
    if missing.len() == count
        && let [
            Replica {
                standing: Standing::Failed(_),
                ..
            },
        ] = &facts.replicas[..]
    {
        return None;
    }
    if count - missing.len() < facts.majority() {
        let brokers: Vec<String> = missing.iter().map(|one| one.broker.to_string()).collect();
        return Some(Verdict::new(
            Cause::NoQuorum,
            format!(
                "no leader can be elected, because {} missing: {}; {}bring {} back, or see `highwater cluster \
                 recover` where what they hold is gone for good",
                match (count, missing.len()) {
                    (1, _) => "its only replica is".to_owned(),
                    (_, 1) => format!("1 of its {count} replicas is"),
                    (_, gone) => format!("{gone} of its {count} replicas are"),
                },
                list(missing.iter().map(|replica| told(replica, now_ms))),
                facts.since_when(),
                brokers_text(&brokers),
            ),
        ));
    }
    Some(Verdict::new(Cause::Electing, facts.electing()))
}

/// The replica that counts takes no records.
fn failed(facts: &PartitionFacts, now_ms: i64) -> Option<Verdict> {
    let leading = facts.leading().or(match &facts.replicas[..] {
        [sole] => Some(sole),
        _ => None,
    });
    let leading = leading?;
    let Standing::Failed(finding) = &leading.standing else {
        return None;
    };
    let of_directory = facts.finding("DIRECTORY_FAILED");
    let (cause, finding) = match (of_directory, finding.reason.as_str()) {
        (Some(directory), _) => (Cause::DirectoryFailed, directory),
        (None, "LOG_FAILED") => (Cause::LogFailed, finding),
        (None, _) => (Cause::Quarantined, finding),
    };
    let broker = leading.broker;
    Some(Verdict::new(
        cause,
        format!(
            "its replica on broker {broker} {}: {}",
            finding.since("takes no records", "has taken no records", now_ms),
            finding.text()
        ),
    ))
}

/// The leader takes no records, for reasons of its broker or of the topic.
fn refusing(facts: &PartitionFacts, now_ms: i64) -> Option<Verdict> {
    let leader = facts.leader?;
    if let Some(finding) = facts.finding("DIRECTORY_FAILED") {
        let why = format!(
            "broker {leader}, which leads it, {}: {}",
            finding.since("cannot write", "has not been able to write", now_ms),
            finding.text()
        );
        return Some(Verdict::new(Cause::DirectoryFailed, why));
    }
    if let Some(finding) = facts.finding("DISK_FULL") {
        let why = format!(
            "broker {leader}, which leads it, {}: {}",
            finding.since("refuses records", "has refused records", now_ms),
            finding.text()
        );
        return Some(Verdict::new(Cause::DiskFloor, why));
    }
    let needed = facts.min_in_sync;
    if !facts.in_sync.is_empty() && facts.in_sync.len() < needed {
        let lagging = facts.lagging();
        return Some(Verdict::new(
            Cause::NotEnoughInSync,
            format!(
                "broker {leader} leads it and refuses records with NOT_ENOUGH_REPLICAS, because {} of the {needed} replicas \
                 that min.insync.replicas asks for keep up; {} not: bring them back, or lower min.insync.replicas",
                facts.in_sync.len(),
                lagging,
            ),
        ));
    }
    let memory = facts.leader_memory;
    // Requests wait in order: a large one that does not fit keeps the others waiting.
    if memory.limit > 0 && memory.held >= memory.limit / 10 * 9 {
        let percent = u128::from(memory.held) * 100 / u128::from(memory.limit);
        return Some(Verdict::new(
            Cause::Throttled,
            format!(
                "broker {leader}, which leads it, makes requests wait or refuses them as THROTTLED: {percent} % of its memory \
                 for requests is in use; send less at once, or raise requests.memory_bytes"
            ),
        ));
    }
    None
}

fn moving(facts: &PartitionFacts) -> Option<Verdict> {
    let (leader, moving) = (facts.leader?, facts.moving.as_ref()?);
    let copied = moving.copied.map_or(String::new(), |(copied, entries)| {
        format!(", {copied} of {entries} log entries are copied")
    });
    let what = if moving.is_cancelled {
        "a move of its replicas is being undone".to_owned()
    } else {
        let to: Vec<String> = moving.to.iter().map(u32::to_string).collect();
        format!("its replicas move to {}", brokers_text(&to))
    };
    Some(Verdict::new(
        Cause::MovingReplicas,
        format!(
            "broker {leader} leads it and takes records while {what}{copied}; nothing is to be done"
        ),
    ))
}

fn serving(facts: &PartitionFacts, now_ms: i64) -> Verdict {
    let leader = facts.leader.unwrap_or_default();
    let held = facts.end.saturating_sub(facts.start);
    let records = match (held, facts.newest_ms) {
        (0, _) => "it holds no records".to_owned(),
        (_, None) => format!("it holds {held} records"),
        (_, Some(newest_ms)) => {
            let age = span(since(newest_ms, now_ms));
            format!("the newest of its {held} records is {age} old")
        }
    };
    if facts.in_sync.len() < facts.replicas.len() && !facts.in_sync.is_empty() {
        return Verdict::new(
            Cause::UnderReplicated,
            format!(
                "broker {leader} leads it and takes records, but {} not: see `highwater cluster health`; {records}",
                facts.lagging()
            ),
        );
    }
    let takes = format!("broker {leader} leads it and takes records; {records}");
    Verdict::new(Cause::Serving, takes)
}

impl PartitionFacts {
    fn finding(&self, reason: &str) -> Option<&Finding> {
        self.leader_findings.iter().find(|one| one.reason == reason)
    }

    /// Which replicas do not keep up and, where that is known, why; followed by "do" or "does".
    fn lagging(&self) -> String {
        let is_lagging = |replica: &&Replica| !self.in_sync.contains(&replica.broker);
        let lagging: Vec<_> = self.replicas.iter().filter(is_lagging).collect();
        match &lagging[..] {
            [one] => format!("the one on {} does", placed(one)),
            many => format!("those on {} do", list(many.iter().map(|one| placed(one)))),
        }
    }
}

impl Finding {
    /// What follows from it now, or has followed for some time where that is known.
    fn since(&self, now: &str, for_some_time: &str, now_ms: i64) -> String {
        match self.since_ms {
            None => now.to_owned(),
            Some(since_ms) => format!("{for_some_time} for {}", span(since(since_ms, now_ms))),
        }
    }

    /// Its message as a part of a sentence.
    fn text(&self) -> &str {
        match self.message.as_str() {
            "" => "see: highwater cluster health",
            message => message.trim_end_matches('.'),
        }
    }
}

/// What is wrong with a replica.
fn told(replica: &Replica, now_ms: i64) -> String {
    let broker = replica.broker;
    match &replica.standing {
        Standing::Down => format!("broker {broker} is down"),
        Standing::Silent(problem) => format!("broker {broker} does not answer here ({problem})"),
        Standing::Failed(finding) => {
            let ago = finding.since_ms.map_or(String::new(), |since_ms| {
                format!(" {} ago", span(since(since_ms, now_ms)))
            });
            format!(
                "the replica on broker {broker} failed{ago} ({})",
                finding.text()
            )
        }
        Standing::Leads | Standing::Votes | Standing::Refusing(_) => {
            format!("broker {broker} is there")
        }
        Standing::Starting => format!("the replica on broker {broker} is starting"),
    }
}

/// Where a replica is, and in which trouble.
fn placed(replica: &Replica) -> String {
    let trouble = match &replica.standing {
        Standing::Down => " (down)",
        Standing::Silent(_) => " (unreachable)",
        Standing::Refusing(_) => " (without memory for requests)",
        Standing::Failed(_) => " (failed)",
        Standing::Starting => " (starting)",
        Standing::Leads | Standing::Votes => "",
    };
    format!("broker {}{trouble}", replica.broker)
}

fn brokers_text(brokers: &[String]) -> String {
    match brokers {
        [one] => format!("broker {one}"),
        many => format!("brokers {}", many.join(", ")),
    }
}

fn list(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}
