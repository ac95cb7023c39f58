//! Whether this broker was removed from the cluster.
//!
//! A broker that was decommissioned and removed, or whose place another data directory took, is a member of no group any more:
//! nobody sends it anything, and it would wait for ever. Its own image shows the removal where it was up to date until then. One that
//! was down or cut off asks the others, one after the other. A removal is a committed decision that is never taken back, so that any
//! broker of the cluster that knows of it is enough.

use std::time::Duration;

use highwater_proto::{ApiError, BrokerId};
use tracing::debug;

use super::describe::describe;
use crate::controller::ClusterView;
use crate::peer::Peers;

/// Time between two questions, each to another broker.
const INTERVAL: Duration = Duration::from_secs(2);
/// How long one may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Waits until it is known that this broker was removed.
pub(super) async fn removed(peers: &Peers, cluster: &ClusterView) {
    let mut images = cluster.watch();
    let own = peers.me().incarnation_id;
    let shown = async {
        if images
            .wait_for(|image| image.is_retired(own))
            .await
            .is_err()
        {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = shown => {}
        () = told(peers) => {}
    }
}

/// Waits until another broker says so.
async fn told(peers: &Peers) {
    let mut last = None;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let others: Vec<_> = peers.routes().others().into_keys().collect();
        let next = others.iter().find(|id| Some(**id) > last);
        last = next.or(others.first()).copied();
        let Some(broker) = last else {
            continue;
        };
        match ask(peers, broker).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => {
                debug!(%broker, %error, "a broker does not say whether this one was removed")
            }
        }
    }
}

/// Whether a broker of the same cluster knows that this one was removed.
async fn ask(peers: &Peers, broker: BrokerId) -> Result<bool, ApiError> {
    let described = describe(peers, broker, ANSWER_TIMEOUT).await?;
    Ok(described.is_some_and(|described| described.is_asking_retired))
}
