//! Consumer groups on several brokers.

use std::collections::BTreeMap;

use highwater_proto::{ApiError, Reason, v1};

use crate::cluster::{Client, Cluster, named, within};

/// Asks the broker that coordinates the group, wherever that is.
async fn ask<T, F>(cluster: &Cluster, mut question: impl FnMut(Client) -> F) -> T
where
    F: Future<Output = Result<T, ApiError>>,
{
    within(async {
        loop {
            for client in cluster.clients() {
                match question(client).await {
                    Ok(answer) => return answer,
                    Err(error) => assert!(error.is_retriable(), "{error}"),
                }
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

async fn commit(cluster: &Cluster, group: &str, offset: u64) {
    ask(cluster, |client| async move {
        let request = v1::CommitOffsetsRequest {
            group_id: group.to_owned(),
            offsets: vec![v1::OffsetToCommit {
                partition: Some(named("t", 0)),
                offset,
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = client.groups().commit_offsets(request).await?.into_inner();
        let error = answer.results.into_iter().find_map(|result| result.error);
        error.map_or(Ok(()), |error| Err(error.into()))
    })
    .await;
}

async fn committed(cluster: &Cluster, group: &str) -> Option<u64> {
    ask(cluster, |client| async move {
        let request = v1::FetchOffsetsRequest {
            group_id: group.to_owned(),
            partitions: vec![named("t", 0)],
            ..Default::default()
        };
        let mut answer = client.groups().fetch_offsets(request).await?.into_inner();
        Ok(answer.offsets.remove(0).offset)
    })
    .await
}

async fn heartbeat(cluster: &Cluster, request: &v1::HeartbeatRequest) -> v1::HeartbeatResponse {
    ask(cluster, |client| async move {
        Ok(client
            .groups()
            .heartbeat(request.clone())
            .await?
            .into_inner())
    })
    .await
}

/// The groups that there are, from all brokers together, with their numbers of members.
async fn listed(cluster: &Cluster) -> BTreeMap<String, u32> {
    within(async {
        loop {
            let mut groups = BTreeMap::new();
            let mut answers = Vec::new();
            for client in cluster.clients() {
                let answer = client
                    .groups()
                    .list_groups(v1::ListGroupsRequest {})
                    .await
                    .unwrap();
                answers.push(answer.into_inner());
            }
            // Each share must be where the others say it is.
            let is_known = |share: &v1::ElsewhereCoordinated| share.broker_id.is_some();
            let missing: usize = answers.iter().map(|answer| answer.elsewhere.len()).sum();
            let is_complete = missing == 4 * (answers.len() - 1);
            if is_complete
                && answers
                    .iter()
                    .flat_map(|answer| &answer.elsewhere)
                    .all(is_known)
            {
                for group in answers.into_iter().flat_map(|answer| answer.groups) {
                    groups.insert(group.group_id, group.members);
                }
                return groups;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn members_and_commits_outlive_any_one_broker() {
    let mut cluster = Cluster::running(3).await;
    cluster.client(1).create("t", 2, 3).await.unwrap();
    let mut offset = cluster.produce("t", 0, "a").await + 1;
    let join = v1::HeartbeatRequest {
        group_id: "g0".to_owned(),
        member_id: "m".to_owned(),
        subscription: Some(v1::Subscription {
            topics: vec!["t".to_owned()],
            topic_regex: String::new(),
        }),
        session_timeout_ms: 600_000,
        ..Default::default()
    };
    let joined = heartbeat(&cluster, &join).await;
    let owned = joined.assignment.unwrap().partitions;
    assert_eq!(owned[0].partitions, [0, 1]);
    let names: Vec<_> = (1..9).map(|number| format!("g{number}")).collect();
    for lost in 1..=3 {
        for name in &names {
            commit(&cluster, name, offset).await;
        }
        cluster.stop(&[lost]).await;
        for name in &names {
            assert_eq!(
                committed(&cluster, name).await,
                Some(offset),
                "{name} after {lost}"
            );
        }
        let stay = v1::HeartbeatRequest {
            member_epoch: joined.member_epoch,
            owned: owned.clone(),
            subscription: None,
            ..join.clone()
        };
        let answer = heartbeat(&cluster, &stay).await;
        assert_eq!(
            (answer.member_epoch, answer.assignment),
            (joined.member_epoch, None)
        );
        cluster.until_down(lost).await;
        offset = cluster.produce("t", 0, "b").await + 1;
        cluster.start(&[lost]).await;
    }
    let groups = listed(&cluster).await;
    assert_eq!(groups.len(), 9);
    assert_eq!(groups["g0"], 1);
    cluster.stop(&[1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_beyond_the_end_are_refused_by_whoever_leads_the_partition() {
    let mut cluster = Cluster::running(3).await;
    // Each partition is on one broker, so most coordinators know nothing of it.
    cluster.client(1).create("t", 1, 1).await.unwrap();
    let end = cluster.produce("t", 0, "a").await + 1;
    for number in 0..6 {
        let group = format!("g{number}");
        commit(&cluster, &group, end).await;
        let beyond = ask(&cluster, |client| {
            let group_id = group.clone();
            async move {
                let request = v1::CommitOffsetsRequest {
                    group_id,
                    offsets: vec![v1::OffsetToCommit {
                        partition: Some(named("t", 0)),
                        offset: end + 1,
                        ..Default::default()
                    }],
                    ..Default::default()
                };
                let answer = client.groups().commit_offsets(request).await?.into_inner();
                let error = ApiError::from(answer.results[0].error.clone().unwrap());
                if error.is_retriable() {
                    Err(error)
                } else {
                    Ok(error)
                }
            }
        })
        .await;
        assert_eq!(beyond.reason, Reason::OffsetOutOfRange);
        assert_eq!(committed(&cluster, &group).await, Some(end));
    }
    cluster.stop(&[1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_of_a_broker_that_was_alone_outlive_it_once_there_are_three() {
    let mut cluster = Cluster::of(3, 1);
    cluster.start(&[1]).await;
    let first = cluster.client(1);
    first.create("t", 1, 1).await.unwrap();
    let offset = cluster.produce("t", 0, "a").await + 1;
    let names: Vec<_> = (0..9).map(|number| format!("g{number}")).collect();
    for name in &names {
        commit(&cluster, name, offset).await;
    }
    let seen = within(async {
        while first.moves().await.unwrap_or_default().is_empty() {
            tokio::task::yield_now().await;
        }
    });
    tokio::join!(cluster.start(&[2, 3]), seen);
    first.until_moved().await;
    cluster.stop(&[1]).await;
    for name in &names {
        assert_eq!(committed(&cluster, name).await, Some(offset), "{name}");
    }
}

/// What the metrics say of the lag of group `g` in `t`'s partition, in records and seconds; `None` while they say nothing.
async fn lag(cluster: &Cluster) -> Option<(f64, f64)> {
    let pages = cluster.pages("/metrics/groups").await;
    let value = |unit: &str| {
        let labels = "{group=\"g\",partition=\"0\",topic=\"t\"}";
        let name = format!("highwater_group_partition_lag_{unit}{labels} ");
        let told: Vec<f64> = pages
            .lines()
            .filter_map(|line| line.strip_prefix(&name)?.parse().ok())
            .collect();
        assert!(told.len() <= 1, "several brokers say it: {pages}");
        told.first().copied()
    };
    value("records").zip(value("seconds"))
}

async fn until_told(cluster: &Cluster) -> (f64, f64) {
    within(async {
        loop {
            if let Some(told) = lag(cluster).await {
                return told;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_is_right_as_soon_as_it_is_told_after_a_change_of_leaders() {
    let mut cluster = Cluster::running(3).await;
    let began = std::time::Instant::now();
    cluster.client(1).create("t", 1, 3).await.unwrap();
    for value in ["a", "b", "c"] {
        cluster.produce("t", 0, value).await;
    }
    commit(&cluster, "g", 1).await;
    let (records, before) = until_told(&cluster).await;
    assert_eq!(records, 2.0);

    for _ in 0..2 {
        let running = cluster.clients();
        let leader = running[0].leader("t", 0).await;
        cluster.stop(&[leader]).await;
        // The leader of the partition changed, and with it maybe the coordinator: what is told is right, or nothing is.
        let (records, seconds) = until_told(&cluster).await;
        assert_eq!(records, 2.0, "after broker {leader} has stopped");
        assert!(before <= seconds, "{before} to {seconds}");
        assert!(seconds <= began.elapsed().as_secs_f64() + 1.0, "{seconds}");
        cluster.start(&[leader]).await;
    }
    commit(&cluster, "g", 3).await;
    assert_eq!(until_told(&cluster).await, (0.0, 0.0));
    cluster.stop(&[1, 2, 3]).await;
}
