//! A view as lines of text, in the room that there is.

use std::cmp::Reverse;
use std::fmt::Display;

use super::view::View;
use crate::quantity::human_bytes;
use crate::table::Table;

/// Room on a screen, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) lines: usize,
    pub(super) columns: usize,
}

/// Lines that are no rows: the summary, and an empty line and the headings above each of the three tables.
const LINES_WITHOUT_ROWS: usize = 1 + 3 * 2;

/// The view as text, the busiest first; all of it where there is no bound to the room.
pub(super) fn text(view: &View, room: Option<Room>) -> String {
    let counts = [view.brokers.len(), view.topics.len(), view.groups.len()];
    let rows = match room {
        Some(room) => shares(room.lines.saturating_sub(LINES_WITHOUT_ROWS), counts),
        None => counts,
    };
    let text = format!(
        "{}\n\n{}\n{}\n{}",
        summary(view),
        brokers(view, rows[0]),
        topics(view, rows[1]),
        groups(view, rows[2])
    );
    match room {
        Some(room) => cut(&text, room),
        None => text,
    }
}

fn summary(view: &View) -> String {
    let up = view.brokers.iter().filter(|broker| broker.alive).count();
    let partitions: u64 = view.topics.iter().map(|topic| topic.partitions).sum();
    let leaderless: u64 = view.topics.iter().map(|topic| topic.leaderless).sum();
    let records: u64 = view
        .topics
        .iter()
        .map(|topic| topic.records_per_second)
        .sum();
    let bytes: u64 = view.topics.iter().map(|topic| topic.bytes_per_second).sum();
    let lag: u64 = view.groups.iter().filter_map(|group| group.lag).sum();
    format!(
        "{up} of {} brokers up, {partitions} partitions, {leaderless} without a leader, {records} records/s, {}/s, lag {lag}",
        view.brokers.len(),
        human_bytes(bytes),
    )
}

fn brokers(view: &View, rows: usize) -> Table {
    let mut table = Table::new(["BROKER", "STATE", "LEADERS", "REPLICAS"]);
    // Those that are down come first.
    let mut brokers: Vec<_> = view.brokers.iter().collect();
    brokers.sort_by_key(|broker| broker.alive);
    for broker in brokers.into_iter().take(rows) {
        let state = if broker.alive { "up" } else { "down" };
        table.row([&broker.broker, &state, &broker.leaders, &broker.replicas]);
    }
    table
}

fn topics(view: &View, rows: usize) -> Table {
    let mut table = Table::new([
        "TOPIC",
        "PARTITIONS",
        "LEADERLESS",
        "RECORDS/S",
        "BYTES/S",
        "RECORDS",
    ]);
    let mut topics: Vec<_> = view.topics.iter().collect();
    topics.sort_by_key(|topic| Reverse(topic.records_per_second));
    for topic in topics.into_iter().take(rows) {
        table.row([
            &topic.topic,
            &topic.partitions,
            &topic.leaderless,
            &topic.records_per_second,
            &human_bytes(topic.bytes_per_second),
            &topic.records,
        ]);
    }
    table
}

fn groups(view: &View, rows: usize) -> Table {
    let mut table = Table::new(["GROUP", "STATE", "MEMBERS", "LAG", "RECORDS/S"]);
    let mut groups: Vec<_> = view.groups.iter().collect();
    groups.sort_by_key(|group| Reverse(group.lag));
    for group in groups.into_iter().take(rows) {
        let lag: &dyn Display = match &group.lag {
            Some(lag) => lag,
            None => &"-",
        };
        table.row([
            &group.group,
            &group.state,
            &group.members,
            lag,
            &group.records_per_second,
        ]);
    }
    table
}

/// Shares `lines` out to tables that want so many: evenly, and what one does not want to the others.
fn shares(mut lines: usize, wanted: [usize; 3]) -> [usize; 3] {
    let mut given = [0; 3];
    while lines > 0 && given != wanted {
        for (given, wanted) in given.iter_mut().zip(wanted) {
            if *given < wanted && lines > 0 {
                *given += 1;
                lines -= 1;
            }
        }
    }
    given
}

fn cut(text: &str, room: Room) -> String {
    let lines = text.lines().take(room.lines);
    let lines: Vec<String> = lines
        .map(|line| line.chars().take(room.columns).collect())
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::view::{BrokerView, GroupView, TopicView};
    use super::*;

    fn view() -> View {
        let topic = |name: &str, records_per_second, leaderless| TopicView {
            topic: name.into(),
            partitions: 3,
            leaderless,
            records_per_second,
            bytes_per_second: records_per_second * 100,
            records: 1_000,
        };
        let broker = |broker, alive| BrokerView {
            broker,
            alive,
            leaders: 3,
            replicas: 6,
        };
        let group = |name: &str, lag| GroupView {
            group: name.into(),
            state: "stable",
            members: 2,
            lag,
            records_per_second: 40,
        };
        View {
            interval_ms: 1_000,
            brokers: vec![broker(1, true), broker(2, false)],
            topics: vec![topic("calm", 0, 0), topic("busy", 50, 1)],
            groups: vec![
                group("done", Some(0)),
                group("late", Some(7)),
                group("lost", None),
            ],
        }
    }

    #[test]
    fn what_needs_a_look_comes_first() {
        let expected = "\
1 of 2 brokers up, 6 partitions, 1 without a leader, 50 records/s, 4.88 KiB/s, lag 7

BROKER  STATE  LEADERS  REPLICAS
2       down   3        6
1       up     3        6

TOPIC  PARTITIONS  LEADERLESS  RECORDS/S  BYTES/S   RECORDS
busy   3           1           50         4.88 KiB  1000
calm   3           0           0          0 B       1000

GROUP  STATE   MEMBERS  LAG  RECORDS/S
late   stable  2        7    40
done   stable  2        0    40
lost   stable  2        -    40
";
        assert_eq!(text(&view(), None), expected);
    }

    #[test]
    fn a_small_screen_shows_a_part_of_each_table() {
        let room = Room {
            lines: 11,
            columns: 30,
        };
        let text = text(&view(), Some(room));
        assert_eq!(text.lines().count(), 11);
        assert!(
            text.lines().all(|line| line.chars().count() <= 30),
            "{text}"
        );
        for shown in ["2       down", "1       up", "busy", "late"] {
            assert!(text.contains(shown), "{text}");
        }
        assert!(!text.contains("calm"), "{text}");
    }

    #[test]
    fn what_one_table_does_not_want_goes_to_the_others() {
        assert_eq!(shares(7, [1, 100, 100]), [1, 3, 3]);
        assert_eq!(shares(7, [1, 2, 1]), [1, 2, 1]);
        assert_eq!(shares(0, [1, 2, 1]), [0, 0, 0]);
        assert_eq!(shares(2, [5, 5, 5]), [1, 1, 0]);
    }
}
