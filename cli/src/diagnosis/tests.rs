//! Facts, and what follows from them.

use std::collections::{BTreeMap, BTreeSet};

use super::cause::{Cause, Verdict};
use super::facts::{
    CommittedFacts, FencedFacts, Finding, GroupFacts, Leaderless, MemberFacts, Moving,
    PartitionFacts, Place, Replica, RequestMemory, Standing,
};
use super::{explain_partition, partition};

const NOW_MS: i64 = 1_000_000;

fn place() -> Place {
    ("t".to_owned(), 0)
}

/// A partition on brokers 1 to 3 that 1 leads, with the offsets 10 to 20.
fn replicated() -> PartitionFacts {
    let replica = |broker| Replica {
        broker,
        standing: if broker == 1 {
            Standing::Leads
        } else {
            Standing::Votes
        },
    };
    PartitionFacts {
        topic: "t".to_owned(),
        leader: Some(1),
        epoch: 4,
        replicas: (1..=3).map(replica).collect(),
        in_sync: vec![1, 2, 3],
        min_in_sync: 2,
        start: 10,
        end: 20,
        newest_ms: Some(NOW_MS - 5_000),
        ..PartitionFacts::default()
    }
}

/// The same on broker 1 only.
fn sole(standing: Standing) -> PartitionFacts {
    PartitionFacts {
        replicas: vec![Replica {
            broker: 1,
            standing,
        }],
        in_sync: vec![1],
        min_in_sync: 1,
        ..replicated()
    }
}

fn finding(reason: &str, message: &str) -> Finding {
    Finding {
        reason: reason.to_owned(),
        message: message.to_owned(),
        since_ms: None,
    }
}

/// The same, found five minutes ago.
fn old_finding(reason: &str, message: &str) -> Finding {
    Finding {
        since_ms: Some(NOW_MS - 300_000),
        ..finding(reason, message)
    }
}

fn member(id: &str) -> MemberFacts {
    MemberFacts {
        id: id.to_owned(),
        client: "program".to_owned(),
        topics: BTreeSet::from(["t".to_owned()]),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 60_000,
        heard_ms_ago: Some(1_000),
        session_ends_in_ms: Some(29_000),
        ..MemberFacts::default()
    }
}

/// One that has the partition and is to keep it.
fn owner() -> MemberFacts {
    MemberFacts {
        assigned: BTreeSet::from([place()]),
        target: BTreeSet::from([place()]),
        ..member("m")
    }
}

/// A group with this member that committed `offset` so long ago, when its next record was waiting for as long.
fn group(member: MemberFacts, offset: u64, ago_ms: i64) -> GroupFacts {
    let committed = CommittedFacts {
        offset,
        at_ms: NOW_MS - ago_ms,
        next_record_ms: Some(NOW_MS - ago_ms),
    };
    GroupFacts {
        group: "g".to_owned(),
        now_ms: NOW_MS,
        commits_within_ms: 30_000,
        members: vec![member],
        committed: BTreeMap::from([(place(), committed)]),
        ..GroupFacts::default()
    }
}

fn of_topic(facts: &PartitionFacts) -> Verdict {
    partition::explain(facts, NOW_MS)
}

#[track_caller]
fn assert_said(verdict: &Verdict, cause: Cause, words: &[&str]) {
    assert_eq!(verdict.cause, cause, "{}", verdict.explanation);
    for words in words {
        let said = &verdict.explanation;
        assert!(said.contains(words), "\"{words}\" is not in \"{said}\"");
    }
}

#[test]
fn a_leader_that_serves_is_named_with_the_age_of_its_newest_record() {
    let verdict = of_topic(&replicated());
    assert_said(
        &verdict,
        Cause::Serving,
        &["broker 1", "newest of its 10 records is 5 s old"],
    );
    let mut lagging = replicated();
    lagging.in_sync = vec![1, 2];
    lagging.replicas[2].standing = Standing::Down;
    let words = ["the one on broker 3 (down) does not"];
    assert_said(&of_topic(&lagging), Cause::UnderReplicated, &words);
}

#[test]
fn a_majority_that_is_missing_is_told_by_replica() {
    let mut facts = replicated();
    facts.leader = None;
    facts.replicas[0].standing = Standing::Down;
    facts.replicas[1].standing = Standing::Failed(old_finding("LOG_DAMAGED", "a hole."));
    facts.leaderless = Some(Leaderless {
        broker: 3,
        for_ms: 5_000,
    });
    let words = [
        "2 of its 3 replicas are missing",
        "broker 1 is down",
        "the replica on broker 2 failed 5 min ago (a hole)",
        "; broker 3 has known no leader for 5 s; bring brokers 1, 2 back",
    ];
    assert_said(&of_topic(&facts), Cause::NoQuorum, &words);
    let words = ["because its only replica is missing: broker 1 is down; bring broker 1 back"];
    assert_said(&of_topic(&sole(Standing::Down)), Cause::NoQuorum, &words);
}

#[test]
fn replicas_that_are_there_elect_a_leader() {
    let mut facts = replicated();
    facts.leader = None;
    facts.replicas[0].standing = Standing::Down;
    facts.leaderless = Some(Leaderless {
        broker: 3,
        for_ms: 700,
    });
    let since = "; broker 3 has known no leader for 700 ms; if it stays so";
    let words = ["brokers 2, 3 elect one", since];
    assert_said(&of_topic(&facts), Cause::Electing, &words);
    facts.replicas[1].standing = Standing::Starting;
    let words = ["before the replicas on broker 2 have started", since];
    assert_said(&of_topic(&facts), Cause::Electing, &words);
    // Who is said to lead says otherwise.
    let mut facts = replicated();
    facts.replicas[0].standing = Standing::Votes;
    assert_said(&of_topic(&facts), Cause::Electing, &["brokers 1, 2, 3"]);
    // A sole replica elects itself when somebody needs it.
    assert_said(&of_topic(&sole(Standing::Votes)), Cause::Serving, &[]);
}

#[test]
fn a_leader_that_does_not_answer_here_is_not_down() {
    let mut facts = replicated();
    facts.replicas[0].standing = Standing::Silent("timed out".to_owned());
    let words = ["broker 1 leads it and does not answer here (timed out)"];
    assert_said(&of_topic(&facts), Cause::LeaderUnreachable, &words);
}

#[test]
fn a_leader_that_refuses_to_be_asked_has_no_memory() {
    let mut facts = replicated();
    facts.replicas[0].standing = Standing::Refusing("THROTTLED".to_owned());
    let words = [
        "broker 1, which leads it, has no memory left for requests and refused to be asked, too (THROTTLED)",
        "requests.memory_bytes",
    ];
    assert_said(&of_topic(&facts), Cause::Throttled, &words);
    // Where it ends is not known then.
    facts.end = 0;
    let verdict = explain_partition(&group(owner(), 15, 60_000), &facts);
    assert_said(&verdict, Cause::Throttled, &words);
    // A follower that refuses votes all the same.
    let mut facts = replicated();
    facts.replicas[1].standing = Standing::Refusing("THROTTLED".to_owned());
    assert_said(&of_topic(&facts), Cause::Serving, &[]);
    facts.leader = None;
    facts.replicas[0].standing = Standing::Down;
    let words = ["its replicas on brokers 2, 3 elect one"];
    assert_said(&of_topic(&facts), Cause::Electing, &words);
}

#[test]
fn the_only_replica_that_failed_says_how() {
    for (reason, cause) in [
        ("LOG_DAMAGED", Cause::Quarantined),
        ("LOG_FAILED", Cause::LogFailed),
    ] {
        let facts = sole(Standing::Failed(finding(reason, "log 7 is bad")));
        let words = ["its replica on broker 1 takes no records: log 7 is bad"];
        assert_said(&of_topic(&facts), cause, &words);
        let leaderless = PartitionFacts {
            leader: None,
            ..facts
        };
        assert_said(&of_topic(&leaderless), cause, &words);
    }
    let facts = sole(Standing::Failed(old_finding("LOG_FAILED", "log 7 is bad")));
    let words = ["its replica on broker 1 has taken no records for 5 min: log 7 is bad"];
    assert_said(&of_topic(&facts), Cause::LogFailed, &words);
    let mut facts = sole(Standing::Failed(finding("LOG_FAILED", "of all")));
    facts.leader_findings = vec![finding("DIRECTORY_FAILED", "the disk is gone.")];
    assert_said(
        &of_topic(&facts),
        Cause::DirectoryFailed,
        &["the disk is gone"],
    );
}

#[test]
fn a_leader_that_takes_no_records_says_why() {
    let mut facts = replicated();
    facts.leader_findings = vec![finding("DISK_FULL", "5 bytes are free.")];
    assert_said(
        &of_topic(&facts),
        Cause::DiskFloor,
        &["refuses records: 5 bytes are free"],
    );
    facts.leader_findings = vec![old_finding("DISK_FULL", "full")];
    let words = ["broker 1, which leads it, has refused records for 5 min: full"];
    assert_said(&of_topic(&facts), Cause::DiskFloor, &words);
    let mut facts = replicated();
    facts.leader_findings = vec![finding("DIRECTORY_FAILED", "sync failed")];
    assert_said(
        &of_topic(&facts),
        Cause::DirectoryFailed,
        &["cannot write: sync failed"],
    );
    facts.leader_findings = vec![old_finding("DIRECTORY_FAILED", "sync failed")];
    let words = ["has not been able to write for 5 min: sync failed"];
    assert_said(&of_topic(&facts), Cause::DirectoryFailed, &words);
    let mut facts = replicated();
    facts.min_in_sync = 3;
    facts.in_sync = vec![1];
    let words = ["1 of the 3 replicas", "those on broker 2, broker 3 do not"];
    assert_said(&of_topic(&facts), Cause::NotEnoughInSync, &words);
}

#[test]
fn memory_that_is_used_up_throttles() {
    let mut facts = replicated();
    facts.leader_memory = RequestMemory {
        held: 89,
        limit: 100,
    };
    assert_eq!(of_topic(&facts).cause, Cause::Serving);
    facts.leader_memory.held = 95;
    let words = ["95 % of its memory", "requests.memory_bytes"];
    assert_said(&of_topic(&facts), Cause::Throttled, &words);
}

#[test]
fn replicas_that_move_are_told_with_how_far_they_are() {
    let mut facts = replicated();
    facts.moving = Some(Moving {
        to: vec![1, 2, 4],
        copied: Some((3, 10)),
        is_cancelled: false,
    });
    let words = ["its replicas move to brokers 1, 2, 4, 3 of 10 log entries are copied"];
    assert_said(&of_topic(&facts), Cause::MovingReplicas, &words);
    facts.moving.as_mut().unwrap().is_cancelled = true;
    assert_said(
        &of_topic(&facts),
        Cause::MovingReplicas,
        &["is being undone"],
    );
}

#[test]
fn a_member_that_commits_nothing_is_told_from_one_that_does() {
    let verdict = explain_partition(&group(owner(), 15, 40_000), &replicated());
    let words = [
        "committed nothing for 40 s",
        "5 records are left to read, the oldest of which is 40 s old",
    ];
    assert_said(&verdict, Cause::NotCommitting, &words);
    let verdict = explain_partition(&group(owner(), 15, 20_000), &replicated());
    assert_said(&verdict, Cause::Consuming, &["committed 20 s ago"]);
    // It had nothing to read for long, and now there is something.
    let mut woken = group(owner(), 15, 9_000_000);
    woken.committed.get_mut(&place()).unwrap().next_record_ms = Some(NOW_MS - 100);
    assert_said(
        &explain_partition(&woken, &replicated()),
        Cause::Consuming,
        &[],
    );
}

#[test]
fn offsets_outside_the_partition_are_told() {
    let verdict = explain_partition(&group(owner(), 4, 0), &replicated());
    assert_said(
        &verdict,
        Cause::RecordsLost,
        &["6 records", "highwater group seek g --to start"],
    );
    let verdict = explain_partition(&group(owner(), 21, 0), &replicated());
    let words = ["committed 21 and the partition ends at 20"];
    assert_said(&verdict, Cause::CommittedBeyondEnd, &words);
}

#[test]
fn who_has_read_everything_is_told_why_nothing_more_comes() {
    let at_end = group(owner(), 20, 0);
    assert_eq!(
        explain_partition(&at_end, &replicated()).cause,
        Cause::CaughtUp
    );
    let mut full = replicated();
    full.leader_findings = vec![finding("DISK_FULL", "full")];
    let words = ["up to offset 20, and nothing more comes: broker 1"];
    assert_said(&explain_partition(&at_end, &full), Cause::DiskFloor, &words);
    // As long as there is something to read, that does not matter.
    assert_eq!(
        explain_partition(&group(owner(), 15, 0), &full).cause,
        Cause::Consuming
    );
}

#[test]
fn what_cannot_be_read_comes_first() {
    let mut facts = replicated();
    facts.leader = None;
    for replica in &mut facts.replicas {
        replica.standing = Standing::Down;
    }
    assert_eq!(
        explain_partition(&group(owner(), 15, 0), &facts).cause,
        Cause::NoQuorum
    );
}

#[test]
fn who_must_let_go_is_named_with_the_time_it_has() {
    let holder = MemberFacts {
        revoking: BTreeSet::from([place()]),
        revoke_ends_in_ms: Some(20_000),
        ..member("old")
    };
    let mut facts = group(holder, 15, 0);
    facts.members.push(MemberFacts {
        target: BTreeSet::from([place()]),
        ..member("new")
    });
    let words = [
        "member new (program) is to read it and waits until member old (program)",
        "for 40 s and is removed in 20 s",
    ];
    let verdict = explain_partition(&facts, &replicated());
    assert_said(&verdict, Cause::WaitingForRevocation, &words);
}

#[test]
fn what_is_paused_is_told_with_how_long_the_coordinator_has_known() {
    for (known_ms, words) in [
        (
            Some(300_000),
            "has paused it, as the coordinator has known for 5 min; 5 records",
        ),
        (None, "has paused it; 5 records are left to read"),
    ] {
        let paused = MemberFacts {
            paused: BTreeMap::from([(place(), known_ms)]),
            ..owner()
        };
        let verdict = explain_partition(&group(paused, 15, 0), &replicated());
        assert_said(&verdict, Cause::Paused, &[words]);
    }
}

#[test]
fn members_that_are_not_there_are_told() {
    let silent = MemberFacts {
        heard_ms_ago: Some(16_000),
        session_ends_in_ms: Some(14_000),
        ..owner()
    };
    let words = ["was not heard for 16 s: it is removed in 14 s"];
    let verdict = explain_partition(&group(silent, 15, 0), &replicated());
    assert_said(&verdict, Cause::MemberSilent, &words);

    let mut facts = group(owner(), 15, 0);
    facts.members.clear();
    facts.empty_since_ms = Some(NOW_MS - 7_000);
    let verdict = explain_partition(&facts, &replicated());
    assert_said(&verdict, Cause::NoMember, &["since 7 s ago"]);
    facts.fenced = vec![FencedFacts {
        id: "m".to_owned(),
        client: "program".to_owned(),
        was_slow: true,
        at_ms: NOW_MS - 7_000,
        had: BTreeSet::from([place()]),
        ..FencedFacts::default()
    }];
    let words = ["was removed 7 s ago because it did not let partitions go"];
    assert_said(
        &explain_partition(&facts, &replicated()),
        Cause::MemberFenced,
        &words,
    );
    // Others took over what it had, and left by themselves.
    facts.empty_since_ms = Some(NOW_MS - 2_000);
    let verdict = explain_partition(&facts, &replicated());
    assert_said(&verdict, Cause::NoMember, &["since 2 s ago"]);
}

#[test]
fn every_cause_has_a_name_of_its_own_that_is_documented() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    let page = std::fs::read_to_string(page).unwrap();
    let names: BTreeSet<_> = Cause::ALL.iter().map(|cause| cause.name()).collect();
    assert_eq!(names.len(), Cause::ALL.len());
    for cause in Cause::ALL {
        let row = format!("| `{}` | {} |", cause.name(), cause.progress().name());
        assert!(page.contains(&row), "{row} is not in docs/operations.md");
    }
}
