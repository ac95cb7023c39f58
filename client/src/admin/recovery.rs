//! Partitions that cannot go on by themselves.

use futures::future::join_all;
use highwater_proto::{ApiError, Reason, v1};
use v1::recovery_service_client::RecoveryServiceClient;

use super::Admin;
use crate::Error;
use crate::cluster::MAX_RESPONSE_BYTES;
use crate::metadata;
use crate::recovery::{LostPartition, plan};

impl Admin {
    /// The partitions of the named topics, or of all, that nobody leads and that have no majority of their replicas any more.
    /// Every broker that is up is asked what it holds.
    ///
    /// # Errors
    /// No broker can be reached, or one that is up does not answer: what it holds is not lost.
    pub async fn lost_partitions(&self, topics: &[String]) -> Result<Vec<LostPartition>, Error> {
        let brokers = self.metadata(&[]).await?.brokers;
        let up = brokers.into_iter().filter(|broker| broker.alive);
        let asked = up.map(|broker| async move {
            let channel = self.cluster.channel(&metadata::address_of(&broker))?;
            let mut client =
                RecoveryServiceClient::new(channel).max_decoding_message_size(MAX_RESPONSE_BYTES);
            let request = v1::DescribeLeaderlessRequest {
                topics: topics.to_vec(),
            };
            let request = self.cluster.request(request);
            let answer = client.describe_leaderless(request).await?;
            Ok::<_, Error>((broker.broker_id, answer.into_inner()))
        });
        let answers = join_all(asked).await;
        let answers = answers.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(plan(&answers))
    }

    /// Lets a partition begin again with the replica that is left. What only the others held is lost for good.
    ///
    /// # Errors
    /// `POLICY_VIOLATION` where it is not what it was when it was looked at, or has a majority again.
    pub async fn recover_partition(&self, lost: &LostPartition) -> Result<(), Error> {
        let survivor = lost.survivor.as_ref().map(|survivor| survivor.broker);
        let brokers = self.metadata(&[]).await?.brokers;
        let holder = brokers.iter().find(|at| Some(at.broker_id) == survivor);
        let holder = holder.ok_or_else(|| {
            let message = "nothing is left of the partition that it could begin again with";
            Error::Api(ApiError::new(Reason::InvalidRequest, message))
        })?;
        let channel = self.cluster.channel(&metadata::address_of(holder))?;
        let request = self.cluster.request(lost.request.clone());
        let mut client = RecoveryServiceClient::new(channel);
        client.recover_partition(request).await?;
        Ok(())
    }
}
