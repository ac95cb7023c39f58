//! Finding out where a broker without a cluster belongs: asks the seeds until it is clear.

mod decision;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use highwater_proto::internal::v1::DescribeRequest;
use highwater_proto::internal::v1::peer_service_client::PeerServiceClient;
use highwater_proto::{ApiError, BrokerId};
use tokio::time::Instant;
use tracing::{info, warn};
use uuid::Uuid;

use crate::config::{ClusterConfig, Seed};
use crate::peer::Peers;

use decision::{Answer, Decision, Obstacle, Seen, decide};

pub(super) use decision::Myself;

/// How long a seed may take to say who it is.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Wait before the seeds are asked again.
const PAUSE: Duration = Duration::from_millis(200);
/// What a start waits for is said again after this time.
const REMINDER: Duration = Duration::from_secs(10);

/// Where a broker belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// To a cluster that it founds.
    Found {
        /// What each of the seeds understands.
        feature_level: u32,
    },
    /// To the one of this seed.
    Join {
        /// Whom to ask.
        seed: BrokerId,
        /// Its cluster.
        cluster_id: Uuid,
    },
}

/// Asks the seeds until it is clear where this broker belongs. That can take for as long as brokers are missing.
pub(super) async fn settle(peers: &Peers, me: &Myself) -> Course {
    let mut told = Told::default();
    loop {
        let seeds = me.seeds.iter().map(|seed| see(peers, seed));
        let seen: BTreeMap<_, _> = join_all(seeds).await.into_iter().collect();
        match decide(me, &seen) {
            Decision::Found { feature_level } => return Course::Found { feature_level },
            Decision::Join { seed, cluster_id } => return Course::Join { seed, cluster_id },
            Decision::Wait(obstacles) => told.tell(obstacles),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What was said of the obstacles last.
#[derive(Default)]
struct Told {
    last: Vec<Obstacle>,
    at: Option<Instant>,
}

impl Told {
    /// Says what the start waits for when that is new, and from time to time.
    fn tell(&mut self, obstacles: Vec<Obstacle>) {
        let is_due = self.at.is_none_or(|at| at.elapsed() >= REMINDER);
        if !is_due && obstacles == self.last {
            return;
        }
        for obstacle in &obstacles {
            if obstacle.is_expected() {
                info!("waiting for a cluster: {obstacle}");
            } else {
                warn!("waiting for a cluster: {obstacle}");
            }
        }
        self.last = obstacles;
        self.at = Some(Instant::now());
    }
}

/// Asks who answers at the address of a seed.
async fn see(peers: &Peers, seed: &Seed) -> (BrokerId, Seen) {
    let seen = match tokio::time::timeout(ANSWER_TIMEOUT, describe(peers, seed)).await {
        Ok(Ok(answer)) => Seen::Answered(answer),
        Ok(Err(error)) => Seen::Unreachable {
            cause: error.message,
        },
        Err(_) => Seen::Unreachable {
            cause: format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()),
        },
    };
    (seed.broker, seen)
}

async fn describe(peers: &Peers, seed: &Seed) -> Result<Answer, ApiError> {
    let mut client = PeerServiceClient::new(peers.channel(seed.broker)?);
    let described = client.describe(DescribeRequest::default()).await;
    let described = described
        .map_err(|status| ApiError::from_status(&status))?
        .into_inner();
    let uuid = |bytes: &[u8]| {
        Uuid::from_slice(bytes).map_err(|_| {
            let problem = "it is no broker of a version that is understood";
            ApiError::new(highwater_proto::Reason::InvalidRequest, problem)
        })
    };
    let cluster_id = match &described.cluster_id[..] {
        [] => None,
        bytes => Some(uuid(bytes)?),
    };
    let seeds = ClusterConfig {
        seeds: described.seeds,
        ..ClusterConfig::default()
    };
    Ok(Answer {
        broker: BrokerId(described.broker_id),
        incarnation_id: uuid(&described.incarnation_id)?,
        cluster_id,
        feature_level: described.feature_level,
        seeds: seeds.seeds(),
        is_empty: described.is_empty,
    })
}
