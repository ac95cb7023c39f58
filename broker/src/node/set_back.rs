//! Whether this broker's data directory is an old copy of itself.
//!
//! Each start takes a number that the directory counts, and is told to the cluster. Who comes with a number that is known already comes with
//! a copy from before: what its replicas acknowledged since is not in it, and they must neither vote nor count with it.
//!
//! The controller notices that for sure, but only once the broker's replica of the controller takes part in its group. So the others are
//! asked before: any of the brokers tells what its own log of the controller says, though it does not lead and may itself just start. A
//! majority of the controller's voters without this one has heard of the last start. Where they do not answer in time the start goes on:
//! with fewer of them nothing can be known, and a cluster must be able to start without those that are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use highwater_proto::{ApiError, BrokerId};
use tokio::time::Instant;
use tracing::warn;

use super::describe::describe;
use super::steward;
use crate::controller::Registrations;
use crate::peer::{Address, Peers};
use crate::raft::Members;

/// How long the others are waited for.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long one may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Wait before those who did not answer are asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Inquiry {
    others: BTreeSet<BrokerId>,
    /// So many answers are enough.
    needed: usize,
}

impl Inquiry {
    /// Of the voters as far as a log of the controller tells them; of all brokers where it does not.
    fn new(
        me: BrokerId,
        registrations: &Registrations,
        members: &Members,
        wanted_voters: usize,
    ) -> Self {
        let all: BTreeSet<_> = registrations.brokers().map(|broker| broker.id).collect();
        let votes = |id: &_| members.voters.contains(id) || members.outgoing.contains(id);
        let voters = registrations.brokers();
        let voters = voters.filter(|broker| votes(&broker.controller_replica));
        let mut asked: BTreeSet<_> = voters.map(|broker| broker.id).collect();
        if asked.len() < steward::voters(wanted_voters, all.len()) {
            asked = all;
        }
        let needed = asked.len() / 2 + 1;
        asked.remove(&me);
        Self {
            needed: needed.min(asked.len()),
            others: asked,
        }
    }
}

/// Number of the last start of this broker that others know of; 0: they know of none.
pub(super) async fn last_known_start(
    peers: &Peers,
    registrations: &Registrations,
    members: &Members,
    wanted_voters: usize,
) -> u64 {
    let inquiry = Inquiry::new(peers.me().broker, registrations, members, wanted_voters);
    for broker in registrations.brokers() {
        if let Some(address) = Address::of(broker) {
            peers.routes().set_address(broker.id, address);
        }
    }
    let deadline = Instant::now() + PATIENCE;
    let mut answers = BTreeMap::new();
    loop {
        let silent = inquiry
            .others
            .iter()
            .filter(|id| !answers.contains_key(*id));
        let asked = silent.map(|id| async { (*id, ask(peers, *id).await.ok().flatten()) });
        let answered = join_all(asked).await.into_iter();
        answers.extend(answered.filter_map(|(id, known)| Some((id, known?))));
        if answers.len() >= inquiry.needed {
            break;
        }
        if Instant::now() >= deadline {
            warn!(
                answers = answers.len(),
                needed = inquiry.needed,
                "too few of the other brokers answer to tell whether the data directory is an old copy of itself"
            );
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    answers.into_values().max().unwrap_or_default()
}

/// What a broker of the same cluster knows; `None` of another one.
async fn ask(peers: &Peers, broker: BrokerId) -> Result<Option<u64>, ApiError> {
    let described = describe(peers, broker, ANSWER_TIMEOUT).await?;
    Ok(described.map(|described| described.known_start_number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::ReplicaId;

    /// Brokers 1 to `count`, whose replicas of the controller have ten times their numbers.
    fn inquiry(me: u32, count: u32, voters: &[u64]) -> (Vec<u32>, usize) {
        let all = (1..=count).map(|id| (BrokerId(id), ReplicaId(u64::from(id) * 10)));
        let members = Members::of_voters(voters.iter().copied().map(ReplicaId));
        let inquiry = Inquiry::new(BrokerId(me), &Registrations::of(all), &members, 3);
        (
            inquiry.others.iter().map(|id| id.0).collect(),
            inquiry.needed,
        )
    }

    #[test]
    fn a_majority_of_the_voters_without_this_one_is_asked() {
        assert_eq!(inquiry(1, 3, &[10, 20, 30]), (vec![2, 3], 2));
        assert_eq!(inquiry(4, 5, &[10, 20, 30]), (vec![1, 2, 3], 2));
        assert_eq!(inquiry(2, 5, &[10, 20, 30, 40, 50]), (vec![1, 3, 4, 5], 3));
    }

    #[test]
    fn where_the_voters_are_not_known_all_are_asked() {
        assert_eq!(inquiry(1, 3, &[10]), (vec![2, 3], 2));
        assert_eq!(inquiry(2, 3, &[]), (vec![1, 3], 2));
    }

    #[test]
    fn nobody_is_asked_where_there_is_nobody_else() {
        assert_eq!(inquiry(1, 1, &[10]), (vec![], 0));
        assert_eq!(inquiry(1, 0, &[]), (vec![], 0));
    }
}
