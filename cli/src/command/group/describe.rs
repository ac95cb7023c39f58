//! `highwater group describe`

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::Args;
use futures::future::join_all;
use highwater_client::protocol::{
    CommittedOffset, DescribedGroup, GroupMember, MemberState, TopicPartitions,
};
use highwater_client::{Admin, Error, Offset, Start};
use serde::Serialize;

use super::selection::Selection;
use super::state_text;
use crate::context::Context;
use crate::diagnosis::age::{since, span};
use crate::diagnosis::gather::now_ms;
use crate::explain::explain;
use crate::failure::Failure;
use crate::table::{Summary, Table, section};

/// Options of `highwater group describe`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    selection: Selection,
}

/// A group, as JSON.
#[derive(Debug, Serialize)]
struct Described {
    group: String,
    state: &'static str,
    epoch: i64,
    assignor: String,
    coordinator: u32,
    /// Records that are not committed yet, of the partitions whose end is known.
    lag: u64,
    /// The longest that a record waits in any partition.
    lag_seconds: Option<f64>,
    topics: Vec<Topic>,
    members: Vec<Member>,
    partitions: Vec<Partition>,
}

/// A member, as JSON.
#[derive(Debug, Serialize)]
struct Member {
    member: String,
    instance: Option<String>,
    client: String,
    state: &'static str,
    epoch: i64,
    partitions: usize,
}

/// The partitions of a topic together, as JSON.
#[derive(Debug, Serialize)]
struct Topic {
    topic: String,
    lag: u64,
    lag_seconds: Option<f64>,
}

/// A partition that has a committed offset or a member, as JSON.
#[derive(Debug, Serialize)]
struct Partition {
    topic: String,
    partition: u32,
    committed: Option<u64>,
    end: Option<u64>,
    lag: Option<u64>,
    /// How old the oldest record is that is not committed yet; 0 where there is none.
    lag_seconds: Option<f64>,
    member: Option<String>,
}

/// Describes each group.
pub(crate) async fn run(options: Options, context: &Context) -> Result<(), Failure> {
    let admin = context.connect("cannot describe groups").await?.admin();
    let mut described = Vec::new();
    for group in options.selection.names(&admin).await? {
        match describe(&admin, &group).await {
            Ok(found) => described.push(found),
            Err(error) => {
                context.report(&explain(
                    format!("cannot describe group \"{group}\""),
                    &error,
                ));
            }
        }
    }
    context.answer(|| text(&described), || &described)
}

async fn describe(admin: &Admin, group: &str) -> Result<Described, Error> {
    let found = admin.describe_group(group).await?;
    let offsets = admin.group_offsets(group).await?;
    let partitions = partitions(admin, &found, offsets).await;
    let (lag, lag_seconds) = together(&partitions);
    Ok(Described {
        group: found.group_id.clone(),
        state: state_text(found.state()),
        epoch: found.epoch,
        assignor: found.assignor.clone(),
        coordinator: found.coordinator_broker_id,
        lag,
        lag_seconds,
        topics: topics(&partitions),
        members: found.members.into_iter().map(Member::from).collect(),
        partitions,
    })
}

/// What is committed or assigned, with the ends of the partitions as far as they can be had.
async fn partitions(
    admin: &Admin,
    group: &DescribedGroup,
    offsets: Vec<CommittedOffset>,
) -> Vec<Partition> {
    let mut members = BTreeMap::new();
    for member in &group.members {
        for place in each(&member.assigned).chain(each(&member.revoking)) {
            members.insert(place, member.member_id.clone());
        }
    }
    let mut committed = BTreeMap::new();
    for offset in offsets {
        if let (Some(named), Some(offset)) = (offset.partition, offset.offset)
            // Of a topic that was deleted, nothing can be read any more.
            && !named.topic.is_empty()
        {
            committed.insert((named.topic, named.partition), offset);
        }
    }
    let places: BTreeSet<_> = members.keys().chain(committed.keys()).cloned().collect();
    let described = places.into_iter().map(|(topic, partition)| {
        let place = (topic.clone(), partition);
        let (committed, member) = (committed.get(&place).copied(), members.get(&place).cloned());
        async move {
            let end = admin.find_offset(&topic, partition, Start::Latest).await;
            let end = end.ok().map(|found| found.offset.0);
            let lag = end
                .zip(committed)
                .map(|(end, committed)| end.saturating_sub(committed));
            let lag_seconds = match (committed, lag) {
                (Some(_), Some(0)) => Some(0.0),
                (Some(committed), Some(_)) => waiting(admin, &topic, partition, committed).await,
                _ => None,
            };
            Partition {
                lag,
                lag_seconds,
                topic,
                partition,
                committed,
                end,
                member,
            }
        }
    });
    join_all(described).await
}

/// How old the first record at or after an offset is, in seconds. `None` where it has no time, or nobody tells.
async fn waiting(admin: &Admin, topic: &str, partition: u32, offset: u64) -> Option<f64> {
    let found = admin.record_at(topic, partition, Offset(offset)).await;
    let then_ms = found.ok().flatten()?.timestamp_ms?;
    Some(seconds(since(then_ms, now_ms())))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "nobody minds a millisecond in 285,000 years"
)]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

/// The sum of the lags of partitions, and the longest in time.
fn together<'a>(partitions: impl IntoIterator<Item = &'a Partition>) -> (u64, Option<f64>) {
    let longest = |one: Option<f64>, other: Option<f64>| match (one, other) {
        (Some(one), Some(other)) => Some(one.max(other)),
        (one, other) => one.or(other),
    };
    let add = |(lag, seconds), partition: &Partition| {
        (
            lag + partition.lag.unwrap_or(0),
            longest(seconds, partition.lag_seconds),
        )
    };
    partitions.into_iter().fold((0, None), add)
}

/// Partitions by topic; they come sorted.
fn topics(partitions: &[Partition]) -> Vec<Topic> {
    let of_topics = partitions.chunk_by(|a, b| a.topic == b.topic);
    let topics = of_topics.map(|of_topic| {
        let (lag, lag_seconds) = together(of_topic);
        let topic = of_topic[0].topic.clone();
        Topic {
            topic,
            lag,
            lag_seconds,
        }
    });
    topics.collect()
}

fn each(topics: &[TopicPartitions]) -> impl Iterator<Item = (String, u32)> {
    let of_topic = |topic: &TopicPartitions| {
        let name = topic.topic.clone();
        topic
            .partitions
            .clone()
            .into_iter()
            .map(move |partition| (name.clone(), partition))
    };
    topics.iter().flat_map(of_topic)
}

impl From<GroupMember> for Member {
    fn from(member: GroupMember) -> Self {
        Self {
            state: match member.state() {
                MemberState::Stable => "stable",
                MemberState::Revoking => "revoking",
                MemberState::Waiting => "waiting",
                MemberState::Away => "away",
                MemberState::Unspecified => "unknown",
            },
            partitions: member
                .assigned
                .iter()
                .map(|topic| topic.partitions.len())
                .sum(),
            member: member.member_id,
            instance: (!member.instance_id.is_empty()).then_some(member.instance_id),
            client: member.client_id,
            epoch: member.member_epoch,
        }
    }
}

fn text(described: &[Described]) -> String {
    let texts: Vec<String> = described.iter().map(Described::text).collect();
    texts.join("\n")
}

/// A lag in time.
fn age(seconds: Option<f64>) -> String {
    let Some(seconds) = seconds else {
        return "-".to_owned();
    };
    let time = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    match u64::try_from(time.as_millis()) {
        Ok(0) => "0 s".to_owned(),
        ms => span(ms.unwrap_or(u64::MAX)),
    }
}

impl Described {
    fn text(&self) -> String {
        let mut summary = Summary::default();
        summary
            .line("GROUP", &self.group)
            .line("STATE", self.state)
            .line("EPOCH", self.epoch)
            .line("ASSIGNOR", &self.assignor)
            .line("COORDINATOR", self.coordinator)
            .line("MEMBERS", self.members.len())
            .line("LAG", self.lag)
            .line("LAG TIME", age(self.lag_seconds));
        let mut text = format!("{}{summary}", section("SUMMARY"));
        if !self.members.is_empty() {
            text.push_str(&format!("\n{}{}", section("MEMBERS"), self.members_table()));
        }
        if self.topics.len() > 1 {
            text.push_str(&format!("\n{}{}", section("TOPICS"), self.topics_table()));
        }
        if !self.partitions.is_empty() {
            text.push_str(&format!(
                "\n{}{}",
                section("PARTITIONS"),
                self.partitions_table()
            ));
        }
        text
    }

    fn members_table(&self) -> Table {
        let mut table = Table::new([
            "MEMBER",
            "INSTANCE",
            "CLIENT",
            "STATE",
            "EPOCH",
            "PARTITIONS",
        ]);
        for member in &self.members {
            table.row([
                &member.member,
                &member.instance.as_deref().unwrap_or("-"),
                &member.client,
                &member.state,
                &member.epoch,
                &member.partitions,
            ]);
        }
        table
    }

    fn topics_table(&self) -> Table {
        let mut table = Table::new(["TOPIC", "LAG", "LAG TIME"]);
        for topic in &self.topics {
            table.row([&topic.topic, &topic.lag, &age(topic.lag_seconds)]);
        }
        table
    }

    fn partitions_table(&self) -> Table {
        let number =
            |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
        let mut table = Table::new([
            "TOPIC",
            "PARTITION",
            "COMMITTED",
            "END",
            "LAG",
            "LAG TIME",
            "MEMBER",
        ]);
        for partition in &self.partitions {
            table.row([
                &partition.topic,
                &partition.partition,
                &number(partition.committed),
                &number(partition.end),
                &number(partition.lag),
                &age(partition.lag_seconds),
                &partition.member.as_deref().unwrap_or("-"),
            ]);
        }
        table
    }
}
