//! Where reading or trimming begins in each partition of a topic.

use futures::future::try_join_all;
use highwater_client::{Admin, Error, Start};

use crate::context::{explain_topic, no_such_topic};
use crate::explain::explain;
use crate::failure::Failure;
use crate::offset_spec::{HeldOffsets, OffsetSpec};

/// A place in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// Number of the partition.
    pub(crate) partition: u32,
    /// What it held when it was asked.
    pub(crate) held: HeldOffsets,
    /// The offset meant, which the partition need not hold.
    pub(crate) offset: u64,
}

impl Position {
    /// The offset, or the nearest one that can be read from.
    pub(crate) fn nearest_held(&self) -> u64 {
        self.offset.clamp(self.held.start, self.held.end)
    }
}

/// Finds `spec` in the `wanted` partitions of `topic`, or in all when none is named; in order to do `what`.
pub(crate) async fn find(
    admin: &Admin,
    what: &str,
    topic: &str,
    wanted: &[u32],
    spec: OffsetSpec,
) -> Result<Vec<Position>, Failure> {
    let metadata = admin
        .metadata(&[topic.to_owned()])
        .await
        .map_err(|error| explain(what, &error))?;
    let Some(metadata) = metadata.topics.into_iter().next() else {
        return Err(no_such_topic(admin, what, topic).await);
    };
    let existing: Vec<u32> = metadata
        .partitions
        .iter()
        .map(|partition| partition.partition)
        .collect();
    let partitions = select(&existing, wanted).map_err(|why| {
        Failure::new(what, why).remedy(format!("see: highwater topic describe {topic}"))
    })?;
    let positions = partitions
        .into_iter()
        .map(|partition| find_one(admin, topic, partition, spec));
    match try_join_all(positions).await {
        Ok(positions) => Ok(positions),
        Err(error) => Err(explain_topic(admin, what, topic, &error).await),
    }
}

/// The wanted partitions without repetitions, which must exist; all when none is named.
fn select(existing: &[u32], wanted: &[u32]) -> Result<Vec<u32>, String> {
    if wanted.is_empty() {
        return Ok(existing.to_vec());
    }
    if let Some(missing) = wanted.iter().find(|wanted| !existing.contains(wanted)) {
        return Err(match existing.len() {
            1 => format!("there is no partition {missing}, only partition 0"),
            count => format!("there is no partition {missing}, only 0 to {}", count - 1),
        });
    }
    let mut partitions = wanted.to_vec();
    partitions.sort_unstable();
    partitions.dedup();
    Ok(partitions)
}

async fn find_one(
    admin: &Admin,
    topic: &str,
    partition: u32,
    spec: OffsetSpec,
) -> Result<Position, Error> {
    let find = async |start| {
        let found = admin.find_offset(topic, partition, start).await?;
        Ok::<u64, Error>(found.offset.0)
    };
    let held = HeldOffsets {
        start: find(Start::Earliest).await?,
        end: find(Start::Latest).await?,
    };
    let at_time = match spec {
        OffsetSpec::Time(timestamp_ms) => Some(find(Start::Timestamp(timestamp_ms)).await?),
        _ => None,
    };
    Ok(Position {
        partition,
        held,
        offset: spec.resolve(held, at_time),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_partitions_unless_some_are_named() {
        assert_eq!(select(&[0, 1, 2], &[]), Ok(vec![0, 1, 2]));
        assert_eq!(select(&[0, 1, 2], &[2, 0, 2]), Ok(vec![0, 2]));
    }

    #[test]
    fn a_partition_that_does_not_exist_is_refused() {
        assert_eq!(
            select(&[0, 1, 2], &[1, 7]),
            Err("there is no partition 7, only 0 to 2".into())
        );
        assert_eq!(
            select(&[0], &[1]),
            Err("there is no partition 1, only partition 0".into())
        );
    }
}
