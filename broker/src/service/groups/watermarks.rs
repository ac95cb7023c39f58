//! No offset is committed beyond what a partition holds.
//!
//! What this broker has seen committed is enough for an offset up to there. Above, the partition's leader is asked, because a
//! follower lags; only what the leader denies is refused for good.

use std::collections::BTreeMap;
use std::time::Duration;

use highwater_proto::internal::v1 as wire;
use highwater_proto::{ApiError, BrokerId, Reason};
use highwater_storage::Offset;
use wire::watermark_service_client::WatermarkServiceClient;

use super::Context;
use super::intake::Items;
use crate::coordinator::{CommitItem, TopicPartition};
use crate::node::high_watermark;
use crate::partition::Standing;

/// How long a partition's leader may take to answer.
const LEADER_LIMIT: Duration = Duration::from_secs(10);

/// Offsets whose partition another broker leads.
type Elsewhere = BTreeMap<BrokerId, Vec<(usize, CommitItem)>>;

impl Context {
    /// Refuses the items whose offset is above the partition's high watermark, or of which nobody can say now.
    pub(super) async fn check_watermarks(&self, items: &mut Items) {
        let hosted = self.hosted.load();
        let mut elsewhere = Elsewhere::new();
        let mut verdicts = Vec::new();
        for (at, item) in items.each_lawful() {
            let here = hosted.get(item.partition.topic, item.partition.index);
            let expected = Offset(item.offset);
            if here.is_some_and(|here| here.shared.high_watermark() >= expected) {
                continue;
            }
            let leads = |standing| {
                !matches!(
                    standing,
                    Standing::Following {
                        leader: Some(_),
                        ..
                    }
                )
            };
            if let Some(here) = here.filter(|here| leads(here.shared.standing())) {
                verdicts.push((at, judge(high_watermark(here, expected).await, item)));
                continue;
            }
            let leader = self.leader_of_partition(item.partition);
            match leader.filter(|leader| *leader != self.broker) {
                Some(leader) => elsewhere
                    .entry(leader)
                    .or_default()
                    .push((at, item.clone())),
                None => verdicts.push((at, judge(None, item))),
            }
        }
        let asked = elsewhere
            .into_iter()
            .map(|(leader, items)| self.ask_leader(leader, items));
        verdicts.extend(futures::future::join_all(asked).await.into_iter().flatten());
        for (at, error) in verdicts {
            if let Some(error) = error {
                items.set(at, Err(error));
            }
        }
    }

    /// The broker that leads a partition, as far as is known.
    pub(super) fn leader_of_partition(&self, place: TopicPartition) -> Option<BrokerId> {
        let image = self.cluster.image();
        let partition = image.topic(place.topic)?.partition(place.index)?;
        let hosted = self.hosted.load();
        let here = hosted.get(place.topic, place.index);
        self.leaders.of(partition, here.map(AsRef::as_ref)).0
    }

    async fn ask_leader(
        &self,
        leader: BrokerId,
        items: Vec<(usize, CommitItem)>,
    ) -> Vec<(usize, Option<ApiError>)> {
        let question = |(_, item): &(usize, CommitItem)| wire::WatermarkQuestion {
            topic_id: bytes::Bytes::copy_from_slice(item.partition.topic.as_bytes()),
            partition: item.partition.index.0,
            expected: item.offset,
        };
        let cluster_id = self.peers.cluster_id().unwrap_or_default();
        let request = wire::GetHighWatermarksRequest {
            cluster_id: bytes::Bytes::copy_from_slice(cluster_id.as_bytes()),
            partitions: items.iter().map(question).collect(),
        };
        let calling = async {
            let channel = self.peers.channel(leader).ok()?;
            let answered = WatermarkServiceClient::new(channel)
                .get_high_watermarks(request)
                .await;
            Some(answered.ok()?.into_inner().partitions)
        };
        let answers = tokio::time::timeout(LEADER_LIMIT, calling)
            .await
            .ok()
            .flatten()
            .unwrap_or_default();
        let verdict = |(place, (at, item)): (usize, (usize, CommitItem))| {
            let high_watermark = answers.get(place).and_then(|answer| answer.high_watermark);
            (at, judge(high_watermark.map(Offset), &item))
        };
        items.into_iter().enumerate().map(verdict).collect()
    }
}

/// Why an offset cannot be committed, given the high watermark as far as anybody knows it.
fn judge(high_watermark: Option<Offset>, item: &CommitItem) -> Option<ApiError> {
    match high_watermark {
        Some(high_watermark) if Offset(item.offset) <= high_watermark => None,
        Some(high_watermark) => Some(
            ApiError::new(
                Reason::OffsetOutOfRange,
                format!(
                    "offset {} is beyond the end of the partition, which is {high_watermark}",
                    item.offset
                ),
            )
            .with("high_watermark", high_watermark),
        ),
        None => Some(ApiError::new(
            Reason::LeaderNotAvailable,
            "the partition has no leader at the moment that could confirm the offset: try again",
        )),
    }
}
