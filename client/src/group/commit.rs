//! Committing offsets as a member.

use std::sync::Arc;

use highwater_proto::{ApiError, Offset, Reason, v1};
use v1::groups_service_client::GroupsServiceClient;

use super::membership::Owned;
use super::task::{Shared, named};
use crate::Error;
use crate::cluster::{Cluster, Repeat};

/// Commits as the member in its newest epoch.
pub(super) async fn commit(
    cluster: &Cluster,
    shared: &Shared,
    offsets: &[(Owned, Offset)],
) -> Result<(), Error> {
    let (group, identity) = {
        let membership = shared.membership();
        (membership.group().to_owned(), membership.identity())
    };
    let Some((member_id, member_epoch)) = identity else {
        return Err(removed());
    };
    let to_commit = |(owned, offset): &(Owned, Offset)| v1::OffsetToCommit {
        partition: Some(named(owned)),
        offset: offset.0,
        leader_epoch: None,
        metadata: String::new(),
    };
    let request = v1::CommitOffsetsRequest {
        group_id: group.clone(),
        member_id,
        member_epoch,
        offsets: offsets.iter().map(to_commit).collect(),
    };
    let time = cluster.settings.request_timeout;
    let asked = cluster.ask_coordinator(&group, Repeat::Safe, time, |channel| {
        let request = cluster.request(request.clone());
        async move {
            let answer = GroupsServiceClient::new(channel)
                .commit_offsets(request)
                .await;
            Ok(answer.map_err(ApiError::from)?.into_inner())
        }
    });
    let results = asked.await?.results.into_iter().zip(offsets);
    for (result, (owned, _)) in results {
        if let Some(error) = result.error {
            return Err(Error::Partition {
                topic: Arc::clone(&owned.topic),
                partition: owned.partition,
                source: error.into(),
            });
        }
    }
    Ok(())
}

/// Why somebody who is no member any more cannot commit.
pub(super) fn removed() -> Error {
    let problem = "the member was removed from its group";
    Error::Api(ApiError::new(Reason::UnknownMemberId, problem))
}
