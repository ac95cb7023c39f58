//! What happens to consumer groups by the clock, where their coordinators are led: sessions end, groups follow the topics,
//! offsets of groups without members are forgotten.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use highwater_storage::Term;
use tokio::time::Instant;
use tracing::debug;

use super::tasks::every;
use crate::config::GroupsConfig;
use crate::coordination::Coordination;
use crate::coordinator::{Command, Response};
use crate::hosted::{Hosted, HostedCoordinator};
use crate::partition::Standing;
use crate::raft::{GroupId, Reply};
use crate::replica;

/// Time between two looks. A session ends that much later at most.
const INTERVAL: Duration = Duration::from_millis(200);
/// Memory of a command, for the mailbox.
const COMMAND_BYTES: usize = 64;

/// What a coordinator was told last while it was led here.
struct Told {
    term: Term,
    catalog_version: Option<u64>,
    offsets_at: Instant,
}

/// Runs until it is dropped.
pub(super) async fn run(
    config: GroupsConfig,
    hosted: Arc<Hosted>,
    coordination: Arc<Coordination>,
) {
    let mut looks = every(INTERVAL);
    let mut told: HashMap<GroupId, Told> = HashMap::new();
    loop {
        looks.tick().await;
        let mut led = Vec::new();
        for coordinator in hosted.load().coordinators() {
            let group = coordinator.partition.group;
            let before = told.remove(&group);
            let Standing::Serving { term } = coordinator.partition.shared.standing() else {
                continue;
            };
            let before = before.filter(|told| told.term == term);
            let before = before.unwrap_or_else(|| Told {
                term,
                catalog_version: None,
                offsets_at: Instant::now(),
            });
            led.push((coordinator.clone(), before));
        }
        // None waits for another one that cannot write.
        let looked = led.into_iter().map(|(coordinator, mut told)| {
            let (config, coordination) = (&config, &coordination);
            async move {
                look(&coordinator, &mut told, config, coordination).await;
                (coordinator.partition.group, told)
            }
        });
        let looked = futures::future::join_all(looked).await;
        told = looked.into_iter().collect();
    }
}

/// Looks after one coordinator.
async fn look(
    coordinator: &HostedCoordinator,
    told: &mut Told,
    config: &GroupsConfig,
    coordination: &Coordination,
) {
    let at = coordination.now();
    tell(coordinator, Command::Tick { at }).await;
    let catalog = coordination.catalog();
    if told.catalog_version != Some(catalog.version()) {
        let version = catalog.version();
        match tell(coordinator, Command::Refresh { catalog }).await {
            Some(Response::Done) => told.catalog_version = Some(version),
            // The rest, or another try, comes with the next look.
            _ => return,
        }
    }
    if told.offsets_at.elapsed() >= Duration::from_millis(u64::from(config.offsets_check_ms)) {
        let retention_ms = config.offsets_retention_ms;
        if let Some(Response::Done) =
            tell(coordinator, Command::ExpireOffsets { retention_ms }).await
        {
            told.offsets_at = Instant::now();
        }
    }
}

/// Has a coordinator carry out a command. `None` where it did not.
async fn tell(coordinator: &HostedCoordinator, command: Command) -> Option<Response> {
    let (reply, answer) = Reply::once();
    coordinator.send(command, COMMAND_BYTES, reply);
    match answer.await {
        Ok(Ok(replica::Response::Coordinator(response))) => Some(response),
        Ok(Err(error)) => {
            debug!(
                group = coordinator.partition.group.0,
                ?error,
                "a coordinator cannot look after its groups now"
            );
            None
        }
        Ok(Ok(_)) | Err(_) => None,
    }
}
