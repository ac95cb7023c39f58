//! Asks the cluster how it is.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use highwater_client::protocol::{
    Broker as BrokerMetadata, CommittedOffset, DescribeTopicResponse, ListedGroup,
    PartitionDescription,
};
use highwater_client::{Admin, Error, Reason};

use super::sample::{Broker, Group, Log, Partition, Sample, Topic};
use crate::command::group::state_text;

/// Topics and groups that are asked for at a time.
const ASKED_AT_ONCE: usize = 16;

/// What was said, and why nothing was said of groups where nobody did.
pub(super) async fn sample(admin: &Admin) -> Result<(Sample, Option<Error>), Error> {
    let metadata = admin.metadata(&[]).await?;
    let names = metadata.topics.into_iter().map(|topic| topic.name);
    let (topics, groups) = futures::join!(topics(admin, names.collect()), groups(admin));
    let (groups, problem) = match groups {
        Ok(groups) => (groups, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    let mut sample = Sample {
        brokers: metadata.brokers.into_iter().map(Broker::from).collect(),
        topics: topics?,
        groups,
    };
    sample.topics.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((sample, problem))
}

async fn topics(admin: &Admin, names: Vec<String>) -> Result<Vec<Topic>, Error> {
    let asked = names.into_iter().map(|name| async move {
        match admin.describe_topic(&name).await {
            Ok(topic) => Ok(Some(Topic::from(topic))),
            // It was deleted meanwhile.
            Err(error) if error.reason() == Reason::UnknownTopicOrPartition => Ok(None),
            Err(error) => Err(error),
        }
    });
    let asked = stream::iter(asked).buffered(ASKED_AT_ONCE);
    asked
        .try_filter_map(async |topic| Ok(topic))
        .try_collect()
        .await
}

async fn groups(admin: &Admin) -> Result<Vec<Group>, Error> {
    let groups = admin.list_groups().await?;
    let asked = groups.into_iter().map(|group| async move {
        let offsets = admin.group_offsets(&group.group_id).await?;
        Ok(joined(group, offsets))
    });
    let asked = stream::iter(asked).buffered(ASKED_AT_ONCE);
    asked.try_collect().await
}

fn joined(group: ListedGroup, offsets: Vec<CommittedOffset>) -> Group {
    let committed = offsets.into_iter().filter_map(|offset| {
        let named = offset.partition.filter(|named| !named.topic.is_empty())?;
        Some(((named.topic, named.partition), offset.offset?))
    });
    Group {
        state: state_text(group.state()),
        id: group.group_id,
        members: group.members,
        committed: committed.collect::<BTreeMap<_, _>>(),
    }
}

impl From<BrokerMetadata> for Broker {
    fn from(broker: BrokerMetadata) -> Self {
        Self {
            id: broker.broker_id,
            is_up: broker.alive,
        }
    }
}

impl From<DescribeTopicResponse> for Topic {
    fn from(topic: DescribeTopicResponse) -> Self {
        Self {
            name: topic.name,
            id: topic.topic_id.to_vec(),
            partitions: topic.partitions.into_iter().map(Partition::from).collect(),
        }
    }
}

impl From<PartitionDescription> for Partition {
    fn from(partition: PartitionDescription) -> Self {
        let is_told = partition.leader_broker_id.is_some() && partition.error.is_none();
        Self {
            number: partition.partition,
            leader: partition.leader_broker_id,
            replicas: partition.replica_broker_ids,
            log: is_told.then_some(Log {
                start: partition.log_start_offset,
                high_watermark: partition.high_watermark,
                bytes: partition.log_bytes,
            }),
        }
    }
}
