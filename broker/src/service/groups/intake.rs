//! Requests about groups: what they may look like, and what they say.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use highwater_proto::{ApiError, Reason, TopicId, v1};
use prost::Message;

use super::Context;
use super::unknown_partition;
use crate::config::GroupsConfig;
use crate::controller::Topic;
use crate::coordinator::{
    Assignor, Catalog, CommitItem, Epoch, Heartbeat, Presence, Subscription, TopicPartition,
};
use crate::hosted::{parse_topic_id, unknown_topic};

/// Characters of ids of groups, members and instances: Kafka's bound for names of topics, which tools are made for.
const MAX_NAME_BYTES: usize = 249;
/// Bytes of the name of a client and of a rack, which are shown to people.
const MAX_LABEL_BYTES: usize = 256;
/// Bytes of a regular expression. What a person writes is shorter.
const MAX_REGEX_BYTES: usize = 1_024;

/// Memory that a request holds while it waits for the shard.
pub(super) fn bytes_of(request: &impl Message) -> usize {
    request.encoded_len()
}

fn invalid(problem: impl Into<String>) -> ApiError {
    ApiError::new(Reason::InvalidRequest, problem)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_NAME_BYTES && !text.chars().any(char::is_control)
}

/// The id of a group.
pub(super) fn group_id(text: &str) -> Result<Arc<str>, ApiError> {
    if is_name(text) {
        return Ok(text.into());
    }
    Err(ApiError::new(
        Reason::InvalidGroupId,
        format!("a group id has 1 to {MAX_NAME_BYTES} bytes and no control characters"),
    ))
}

fn member_id(text: &str) -> Result<Arc<str>, ApiError> {
    if is_name(text) {
        return Ok(text.into());
    }
    Err(invalid(format!(
        "`member_id` must have 1 to {MAX_NAME_BYTES} bytes and no control characters: draw a random UUID"
    )))
}

/// The member that asks, and the epoch that it knows.
pub(super) fn asker(member: &str, epoch: i64) -> Result<Option<(Arc<str>, Epoch)>, ApiError> {
    if member.is_empty() {
        return Ok(None);
    }
    let epoch = u64::try_from(epoch).map_err(|_| invalid("`member_epoch` is negative"))?;
    Ok(Some((member_id(member)?, Epoch(epoch))))
}

/// Refuses more items than one request may have.
pub(super) fn check_items(count: usize, config: &GroupsConfig) -> Result<(), ApiError> {
    let most = config.max_items;
    if count <= most {
        return Ok(());
    }
    Err(ApiError::new(
        Reason::LimitExceeded,
        format!("{count} items are in the request, groups.max_items allows {most}"),
    )
    .with("limit", "groups.max_items")
    .with("most", most))
}

/// A heartbeat without time and topics.
pub(super) fn heartbeat(
    request: &v1::HeartbeatRequest,
    group: &Arc<str>,
    config: &GroupsConfig,
) -> Result<Heartbeat, ApiError> {
    let presence = match request.member_epoch {
        0 => Presence::Join,
        -1 => Presence::Leave,
        -2 => Presence::LeaveForAWhile,
        epoch => Presence::Stay(Epoch(u64::try_from(epoch).map_err(|_| {
            invalid("`member_epoch` is 0 to join, -1 or -2 to leave, or the epoch that was answered last")
        })?)),
    };
    let instance = match &request.instance_id[..] {
        "" => None,
        text if is_name(text) => Some(text.into()),
        _ => {
            return Err(invalid(format!(
                "`instance_id` must have at most {MAX_NAME_BYTES} bytes"
            )));
        }
    };
    if request.client_id.len() > MAX_LABEL_BYTES || request.rack.len() > MAX_LABEL_BYTES {
        return Err(invalid(format!(
            "`client_id` and `rack` must have at most {MAX_LABEL_BYTES} bytes"
        )));
    }
    let assignor = match &request.assignor[..] {
        "" => None,
        name => Some(name.parse::<Assignor>().map_err(|()| {
            ApiError::new(
                Reason::UnsupportedAssignor,
                "`assignor` is none that this broker has: use uniform or range",
            )
        })?),
    };
    Ok(Heartbeat {
        group: Arc::clone(group),
        member: member_id(&request.member_id)?,
        presence,
        instance,
        rack: (!request.rack.is_empty()).then(|| request.rack.clone()),
        client_id: request.client_id.clone(),
        rebalance_timeout_ms: rebalance_timeout_ms(request.rebalance_timeout_ms, config)?,
        session_timeout_ms: session_timeout_ms(request.session_timeout_ms, config)?,
        subscription: request
            .subscription
            .as_ref()
            .map(|wanted| subscription(wanted, config))
            .transpose()?,
        assignor,
        owned: partitions("owned", &request.owned, config)?,
        paused: partitions("paused", &request.paused, config)?,
        catalog: Arc::<Catalog>::default(),
        at: Duration::ZERO,
    })
}

fn session_timeout_ms(asked: u32, config: &GroupsConfig) -> Result<u32, ApiError> {
    let (least, most) = (config.min_session_timeout_ms, config.max_session_timeout_ms);
    match asked {
        0 => Ok(config.session_timeout_ms),
        asked if (least..=most).contains(&asked) => Ok(asked),
        asked => Err(ApiError::new(
            Reason::InvalidSessionTimeout,
            format!(
                "`session_timeout_ms` is {asked}: between {least} (groups.min_session_timeout_ms) and {most} \
                 (groups.max_session_timeout_ms) is allowed"
            ),
        )
        .with("least", least)
        .with("most", most)),
    }
}

fn rebalance_timeout_ms(asked: u32, config: &GroupsConfig) -> Result<u32, ApiError> {
    let most = config.max_rebalance_timeout_ms;
    match asked {
        0 => Ok(config.rebalance_timeout_ms),
        asked if asked <= most => Ok(asked),
        asked => Err(invalid(format!(
            "`rebalance_timeout_ms` is {asked}: groups.max_rebalance_timeout_ms allows {most}"
        ))),
    }
}

fn subscription(
    wanted: &v1::Subscription,
    config: &GroupsConfig,
) -> Result<Subscription, ApiError> {
    let most = config.max_topics;
    if wanted.topics.len() > most {
        return Err(ApiError::new(
            Reason::LimitExceeded,
            format!(
                "{} topics are named, groups.max_topics allows {most}",
                wanted.topics.len()
            ),
        )
        .with("limit", "groups.max_topics")
        .with("most", most));
    }
    if wanted.topics.iter().any(|name| !is_name(name)) {
        return Err(invalid(
            "a topic of `subscription` has a name that no topic can have",
        ));
    }
    if wanted.topic_regex.len() > MAX_REGEX_BYTES {
        return Err(invalid(format!(
            "`topic_regex` has more than {MAX_REGEX_BYTES} bytes"
        )));
    }
    let subscription = Subscription {
        names: wanted.topics.iter().cloned().collect(),
        regex: (!wanted.topic_regex.is_empty()).then(|| wanted.topic_regex.clone()),
    };
    let unusable = |problem| invalid(format!("`topic_regex` cannot be used: {problem}"));
    subscription.check().map_err(unusable)?;
    Ok(subscription)
}

/// What a member says to own, or to have paused, by topic ids.
fn partitions(
    field: &str,
    named: &[v1::TopicPartitions],
    config: &GroupsConfig,
) -> Result<BTreeSet<TopicPartition>, ApiError> {
    check_items(
        named.iter().map(|of_topic| of_topic.partitions.len()).sum(),
        config,
    )?;
    let mut partitions = BTreeSet::new();
    for of_topic in named {
        let topic = parse_topic_id(&of_topic.topic_id)?;
        for index in &of_topic.partitions {
            let partition = TopicPartition {
                topic,
                index: highwater_proto::PartitionIndex(*index),
            };
            if !partitions.insert(partition) {
                return Err(invalid(format!("`{field}` names a partition twice")));
            }
        }
    }
    Ok(partitions)
}

/// The offsets of a commit: each to be kept, or why it is not.
pub(super) struct Items(Vec<Result<CommitItem, ApiError>>);

impl Items {
    pub(super) fn new(offsets: &[v1::OffsetToCommit]) -> Self {
        let unseen = || Err(invalid("it was not looked at"));
        Self(offsets.iter().map(|_| unseen()).collect())
    }

    pub(super) fn set(&mut self, at: usize, item: Result<CommitItem, ApiError>) {
        self.0[at] = item;
    }

    /// Refuses a request that names a partition twice: which of the offsets counts nobody could say.
    pub(super) fn refuse_repeated(&self) -> Result<(), ApiError> {
        let mut seen = BTreeSet::new();
        let mut lawful = self.0.iter().flatten();
        if lawful.all(|item| seen.insert(item.partition)) {
            return Ok(());
        }
        Err(invalid("`offsets` names a partition twice"))
    }

    /// Those that are to be kept so far, with their places.
    pub(super) fn each_lawful(&self) -> impl Iterator<Item = (usize, &CommitItem)> {
        self.0
            .iter()
            .enumerate()
            .filter_map(|(at, item)| Some((at, item.as_ref().ok()?)))
    }

    /// The same, taken.
    pub(super) fn lawful(&self) -> (Vec<usize>, Vec<CommitItem>) {
        self.each_lawful()
            .map(|(at, item)| (at, item.clone()))
            .unzip()
    }

    /// Why each was not kept.
    pub(super) fn into_errors(self) -> impl Iterator<Item = Option<ApiError>> {
        self.0.into_iter().map(Result::err)
    }
}

impl Context {
    /// The partition that a request names.
    ///
    /// # Errors
    /// `INVALID_REQUEST` where nothing is named, `UNKNOWN_TOPIC_ID`, `UNKNOWN_TOPIC_OR_PARTITION`.
    pub(super) fn topic_partition(
        &self,
        named: Option<&v1::TopicPartition>,
    ) -> Result<TopicPartition, ApiError> {
        let named =
            named.ok_or_else(|| invalid("`partition` is missing: name topic and partition"))?;
        let image = self.cluster.image();
        let topic: &Arc<Topic> = if named.topic_id.is_empty() {
            if named.topic.is_empty() {
                return Err(invalid(
                    "neither topic name nor topic id is given: name the topic",
                ));
            }
            image
                .topic_named(&named.topic)
                .ok_or_else(|| unknown_topic(&named.topic))?
        } else {
            let id = parse_topic_id(&named.topic_id)?;
            let found = image.topic(id).filter(|topic| !topic.is_internal());
            let of_name = |topic: &&Arc<Topic>| named.topic.is_empty() || topic.name == named.topic;
            found.filter(of_name).ok_or_else(|| unknown_id(id))?
        };
        let index = highwater_proto::PartitionIndex(named.partition);
        if topic.partition(index).is_none() {
            return Err(unknown_partition(&topic.name, named.partition));
        }
        Ok(TopicPartition {
            topic: topic.id,
            index,
        })
    }

    pub(super) fn offset_to_commit(
        &self,
        offset: &v1::OffsetToCommit,
    ) -> Result<CommitItem, ApiError> {
        let partition = self.topic_partition(offset.partition.as_ref())?;
        let most = self.config.groups.max_metadata_bytes;
        if offset.metadata.len() > most {
            return Err(ApiError::new(
                Reason::OffsetMetadataTooLarge,
                format!(
                    "the metadata has {} bytes, groups.max_metadata_bytes allows {most}",
                    offset.metadata.len()
                ),
            )
            .with("limit", "groups.max_metadata_bytes")
            .with("most", most));
        }
        if i64::try_from(offset.offset).is_err() {
            return Err(invalid("`offset` is 2^63 or more, which no offset can be"));
        }
        Ok(CommitItem {
            partition,
            offset: offset.offset,
            leader_epoch: offset.leader_epoch,
            metadata: offset.metadata.clone(),
        })
    }
}

fn unknown_id(id: TopicId) -> ApiError {
    ApiError::new(
        Reason::UnknownTopicId,
        format!("no topic of that name has the id {id}: it was deleted, or is not known here yet"),
    )
}
