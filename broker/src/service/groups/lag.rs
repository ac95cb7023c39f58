//! How far the groups are behind whose coordinators are led here, for metrics.
//!
//! Measured when somebody asks: nothing is remembered that another leader would not know, so that numbers are as right after a
//! change of leaders as before. The leaders of the partitions say where they end and how old the first record is that is not
//! committed; of a partition whose leader does not answer nothing is told, rather than something that was true once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use highwater_proto::BrokerId;
use highwater_proto::internal::v1 as wire;
use tokio::sync::Mutex;
use wire::watermark_service_client::WatermarkServiceClient;

use super::Context;
use super::place::Place;
use crate::coordinator::{self, Command, TopicPartition};
use crate::metrics::PartitionLag;
use crate::node::{MAX_QUESTIONS, measure_lags};

/// How long a partition's leader may take to answer.
const LEADER_LIMIT: Duration = Duration::from_secs(5);

/// Measures on demand, one time after the other.
pub(crate) struct GroupLags {
    context: Arc<Context>,
    turn: Mutex<()>,
}

/// An offset that a group has committed.
struct Committed {
    group: Arc<str>,
    partition: TopicPartition,
    offset: u64,
}

impl GroupLags {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            turn: Mutex::new(()),
        }
    }

    /// The lags now.
    pub(crate) async fn measure(&self) -> Vec<PartitionLag> {
        let _turn = self.turn.lock().await;
        self.context.measure_group_lags().await
    }
}

impl Context {
    async fn measure_group_lags(&self) -> Vec<PartitionLag> {
        let mut by_leader: BTreeMap<BrokerId, Vec<Committed>> = BTreeMap::new();
        for committed in self.committed_here().await {
            if let Some(leader) = self.leader_of_partition(committed.partition) {
                by_leader.entry(leader).or_default().push(committed);
            }
        }
        let asked = by_leader.into_iter().map(|(leader, committed)| async move {
            let mut lags = Vec::new();
            for part in committed.chunks(MAX_QUESTIONS) {
                let answers = self.ask_lags(leader, part).await;
                let told = part.iter().zip(answers);
                lags.extend(
                    told.filter_map(|(committed, answer)| self.lag(committed, answer.lag?)),
                );
            }
            lags
        });
        let lags = futures::future::join_all(asked).await;
        lags.into_iter().flatten().collect()
    }

    /// What the groups have committed whose coordinators are led here beyond doubt.
    async fn committed_here(&self) -> Vec<Committed> {
        let mut all = Vec::new();
        let hosted = self.hosted.load();
        for coordinator in hosted.coordinators() {
            if !coordinator.partition.shared.standing().is_serving() {
                continue;
            }
            let place = Place {
                index: coordinator.partition.index,
                coordinator: coordinator.clone(),
            };
            if self.confirm_leadership(&place).await.is_err() {
                continue;
            }
            let answer = self.ask(&place, Command::ListOffsets, 0).await;
            if let Ok(coordinator::Response::AllOffsets(offsets)) = answer {
                let offsets = offsets.into_iter();
                all.extend(offsets.map(|(group, partition, offset)| Committed {
                    group,
                    partition,
                    offset,
                }));
            }
        }
        all
    }

    /// The answers of a leader, in order; none where it gives none.
    async fn ask_lags(&self, leader: BrokerId, committed: &[Committed]) -> Vec<wire::LagAnswer> {
        let question = |committed: &Committed| wire::LagQuestion {
            topic_id: bytes::Bytes::copy_from_slice(committed.partition.topic.as_bytes()),
            partition: committed.partition.index.0,
            offset: committed.offset,
        };
        let questions: Vec<_> = committed.iter().map(question).collect();
        if leader == self.broker {
            return measure_lags(self.hosted.load(), questions).await;
        }
        let cluster_id = self.peers.cluster_id().unwrap_or_default();
        let request = wire::MeasureLagRequest {
            cluster_id: bytes::Bytes::copy_from_slice(cluster_id.as_bytes()),
            partitions: questions,
        };
        let calling = async {
            let channel = self.peers.channel(leader).ok()?;
            let answered = WatermarkServiceClient::new(channel)
                .measure_lag(request)
                .await;
            Some(answered.ok()?.into_inner().partitions)
        };
        let answered = tokio::time::timeout(LEADER_LIMIT, calling).await;
        answered.ok().flatten().unwrap_or_default()
    }

    /// What follows from an answer; `None` for a topic that is gone.
    fn lag(&self, committed: &Committed, measured: wire::MeasuredLag) -> Option<PartitionLag> {
        let image = self.cluster.image();
        let topic = image.topic(committed.partition.topic)?;
        let records = measured.high_watermark.saturating_sub(committed.offset);
        let seconds = match (records, measured.next_timestamp_ms) {
            (0, _) => Some(0.0),
            (_, then_ms) => then_ms.map(seconds_since),
        };
        Some(PartitionLag {
            group: committed.group.to_string(),
            topic: topic.name.clone(),
            partition: committed.partition.index.0,
            records,
            seconds,
        })
    }
}

/// Seconds since a time in milliseconds since the Unix epoch; 0 for one that is still to come.
fn seconds_since(then_ms: i64) -> f64 {
    let then = Duration::from_millis(u64::try_from(then_ms).unwrap_or(0));
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().saturating_sub(then).as_secs_f64()
}
