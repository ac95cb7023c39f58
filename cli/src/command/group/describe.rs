//! `highwater group describe`

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use futures::future::join_all;
use highwater_client::protocol::{
    CommittedOffset, DescribedGroup, GroupMember, MemberState, TopicPartitions,
};
use highwater_client::{Admin, Error, Start};
use serde::Serialize;

use super::selection::Selection;
use super::state_text;
use crate::context::Context;
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

/// A partition that has a committed offset or a member, as JSON.
#[derive(Debug, Serialize)]
struct Partition {
    topic: String,
    partition: u32,
    committed: Option<u64>,
    end: Option<u64>,
    lag: Option<u64>,
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
    Ok(Described {
        group: found.group_id.clone(),
        state: state_text(found.state()),
        epoch: found.epoch,
        assignor: found.assignor.clone(),
        coordinator: found.coordinator_broker_id,
        lag: partitions
            .iter()
            .filter_map(|partition| partition.lag)
            .sum(),
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
            Partition {
                lag: end
                    .zip(committed)
                    .map(|(end, committed)| end.saturating_sub(committed)),
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
            .line("LAG", self.lag);
        let mut text = format!("{}{summary}", section("SUMMARY"));
        if !self.members.is_empty() {
            text.push_str(&format!("\n{}{}", section("MEMBERS"), self.members_table()));
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

    fn partitions_table(&self) -> Table {
        let number =
            |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
        let mut table = Table::new(["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER"]);
        for partition in &self.partitions {
            table.row([
                &partition.topic,
                &partition.partition,
                &number(partition.committed),
                &number(partition.end),
                &number(partition.lag),
                &partition.member.as_deref().unwrap_or("-"),
            ]);
        }
        table
    }
}
