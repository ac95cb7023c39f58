//! What happens by the clock: retention, the end of active segments, forgetting idempotent producers, and letting go of what idle
//! partitions hold.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use highwater_storage::Store;
use tracing::{debug, info, warn};

use super::tasks::every;
use crate::config::Config;
use crate::health::Health;
use crate::hosted::{Hosted, HostedPartition};
use crate::partition::retention::{SegmentAges, new_log_start, should_roll};
use crate::partition::{Command, Standing, TrimTo};
use crate::raft::machine::Timestamp;
use crate::raft::{GroupId, Operation, Reply, Shards};
use crate::replica::Replica;
use crate::wall_clock::now_ms;

/// How long a partition is idle before its files are closed, at most twice that. What was written by then is checkpointed first, so that
/// a start of many idle partitions has nothing to do for them.
const IDLE_MS: u32 = 60_000;
/// Time between two looks at partitions that are limited in size, while anything is written: records arrive faster than
/// they age.
const SIZE_CHECK_MS: u32 = 1_000;
/// Memory of a command, for the mailbox.
const COMMAND_BYTES: usize = 64;

/// Runs until it is dropped.
pub(super) async fn run(
    config: Arc<Config>,
    hosted: Arc<Hosted>,
    health: Arc<Health>,
    shards: Shards<Replica>,
) {
    let store = health.store();
    let timer = |period_ms: u32| every(Duration::from_millis(u64::from(period_ms)));
    let mut retention = timer(config.upkeep.retention_check_ms);
    let mut size = timer(config.upkeep.retention_check_ms.min(SIZE_CHECK_MS));
    let mut written_bytes = store.written_bytes();
    let mut producers = timer(config.upkeep.producer_check_ms);
    let mut disk = timer(config.upkeep.disk_check_ms);
    let mut idle = timer(IDLE_MS);
    let mut is_full = false;
    let mut ages = HashMap::new();
    loop {
        tokio::select! {
            _ = retention.tick() => retain(&hosted, &mut ages, Timestamp(now_ms())).await,
            _ = size.tick() => {
                let written_before = std::mem::replace(&mut written_bytes, store.written_bytes());
                if written_before != written_bytes {
                    retain_by_size(&hosted, &mut ages, Timestamp(now_ms())).await;
                }
            }
            _ = producers.tick() => expire_producers(&hosted).await,
            _ = idle.tick() => rest(store, &shards),
            _ = disk.tick() => {
                is_full = tell_of_disk(store, is_full);
                health.look_at_store();
            }
        }
    }
}

/// Tells when the disk begins to be full and when it is no longer. Shards look by themselves before each write.
fn tell_of_disk(store: &Store, was_full: bool) -> bool {
    let space = store.space();
    if space.refusing && !was_full {
        warn!(
            free_bytes = space.free_bytes,
            floor_bytes = space.floor_bytes,
            "the disk is full down to its reserve: records are refused until there is room again"
        );
    }
    if !space.refusing && was_full {
        info!(
            free_bytes = space.free_bytes,
            "the disk has room again: records are taken"
        );
    }
    space.refusing
}

/// Closes what was not used for a while, and has everything checkpointed that changed since the last time.
fn rest(store: &Store, shards: &Shards<Replica>) {
    store.close_unused_segments();
    if store.is_behind() {
        shards.request_checkpoint();
    }
}

/// Ends segments that are due and lets those go that are too old or too much.
async fn retain(hosted: &Hosted, ages: &mut HashMap<GroupId, SegmentAges>, now: Timestamp) {
    let partitions = hosted.load();
    let mut kept = HashMap::new();
    for partition in partitions.iter() {
        let mut seen = ages.remove(&partition.group).unwrap_or_default();
        retain_one(partition, &mut seen, now).await;
        kept.insert(partition.group, seen);
    }
    *ages = kept;
}

/// The same for partitions that are limited in size.
async fn retain_by_size(hosted: &Hosted, ages: &mut HashMap<GroupId, SegmentAges>, now: Timestamp) {
    let partitions = hosted.load();
    let limited =
        |partition: &&Arc<HostedPartition>| partition.shared.config().retention_bytes.is_some();
    for partition in partitions.iter().filter(limited) {
        let seen = ages.entry(partition.group).or_default();
        retain_one(partition, seen, now).await;
    }
}

async fn retain_one(partition: &HostedPartition, ages: &mut SegmentAges, now: Timestamp) {
    let shared = &partition.shared;
    let config = shared.config();
    let segments = partition.reader.segments();
    ages.observe(&segments, now);
    if should_roll(&segments, ages, &config, now) {
        let roll = Operation::Roll {
            group: partition.group,
        };
        if let Err(error) = partition.shards.operate(partition.group, roll) {
            debug!(?partition, %error, "a segment could not be ended now");
        }
    }
    let log_start = shared.log_start();
    let offset = new_log_start(
        &segments,
        ages,
        &config,
        now,
        log_start,
        shared.high_watermark(),
    );
    let Some(offset) = offset.filter(|_| may_lead(partition)) else {
        return;
    };
    let (reply, answer) = Reply::once();
    let to = TrimTo::Offset(offset);
    partition.send(Command::Trim { to }, COMMAND_BYTES, reply);
    match answer.await {
        Ok(Ok(_)) => info!(?partition, %log_start, to = %offset, "retention removed records"),
        Ok(Err(error)) => debug!(?partition, ?error, "retention was refused for now"),
        Err(_) => {}
    }
}

async fn expire_producers(hosted: &Hosted) {
    let partitions = hosted.load();
    for partition in partitions.iter() {
        // A cold partition has met no producer since the start: it need not be woken.
        if !partition.shared.standing().is_serving() {
            continue;
        }
        let (reply, answer) = Reply::once();
        partition.send(Command::ExpireProducers, COMMAND_BYTES, reply);
        if let Ok(Err(error)) = answer.await {
            debug!(?partition, ?error, "producers could not be expired now");
        }
    }
}

/// Whether a command makes sense: this broker leads the partition, or will when it is asked.
fn may_lead(partition: &HostedPartition) -> bool {
    matches!(
        partition.shared.standing(),
        Standing::Serving { .. }
            | Standing::Opening { .. }
            | Standing::Following { leader: None, .. }
    )
}
