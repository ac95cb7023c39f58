//! Why topics do or do not take records.

use std::path::{Path, PathBuf};

use highwater_broker::Broker;
use serde_json::Value;

use crate::stage::{
    Cluster, Member, Stage, attempt, of_group, of_topic, run, topics, until, until_says,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_takes_records() {
    let stage = Stage::with_topic(1, &["a", "b"]).await;
    let said = of_topic(&stage.address(), 0, "serving").await;
    assert!(
        said.starts_with("broker 1 leads it and takes records; the newest of its 2 records is"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full() {
    let builder = Broker::builder().in_memory();
    let stage =
        Stage::start(builder.configure(|config| config.storage.min_free_bytes = 1 << 50)).await;
    stage.create(1).await;
    let address = stage.address();
    let said = of_topic(&address, 0, "disk_floor").await;
    assert!(
        said.contains("broker 1, which leads it, has refused records for "),
        "{said}"
    );
    assert!(said.contains("storage.min_free_bytes"), "{said}");
    // For who has read everything, that is why nothing comes.
    let _member = Member::join(&stage, "m", topics(&["t"])).await;
    let said = of_group(&address, "g", 0, "disk_floor").await;
    assert!(said.contains("and nothing more comes: broker 1"), "{said}");
}

/// The segments of `t`'s partition below a data directory.
fn segments(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(segments(&path));
        } else if path.extension().is_some_and(|kind| kind == "segment") {
            found.push(path);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let stage = Stage::start(Broker::builder().data_dir(&data)).await;
    stage.create(1).await;
    stage.produce(&["a record that will be damaged"]).await;
    stage.broker.shutdown().await;
    let needle = b"will be damaged";
    for path in segments(&data) {
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(needle.len()).position(|part| part == needle);
        if let Some(at) = at {
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
    }
    let stage = Stage::start(Broker::builder().data_dir(&data)).await;
    let address = stage.address();
    // Damage is met by who reads.
    let output = attempt(&address, &["consume", "t", "-e"]).await;
    assert!(!output.status.success(), "{output:?}");
    let said = of_topic(&address, 0, "quarantined").await;
    assert!(
        said.contains("its replica on broker 1 has taken no records for "),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_are_down_and_back() {
    let mut cluster = Cluster::start().await;
    let addresses = cluster.addresses();
    run(&addresses, &["topic", "create", "t", "-p", "1", "-r", "3"]).await;
    let strict = [
        "topic",
        "create",
        "strict",
        "-p",
        "1",
        "-r",
        "3",
        "-c",
        "min.insync.replicas=3",
    ];
    run(&addresses, &strict).await;
    run(
        &addresses,
        &["topic", "create", "sole", "-p", "3", "-r", "1"],
    )
    .await;
    let explain = |topic| ["topic", "explain", topic];
    let first = |topic| (Some(topic), Some(0));
    of_topic(&addresses, 0, "serving").await;
    until(&addresses, &explain("strict"), first("strict"), "serving").await;

    // A replica is to move to a broker that is down.
    let listed = run(&addresses, &["topic", "describe", "sole"]).await;
    let partitions = listed[0]["partitions"].as_array().unwrap();
    let elsewhere = partitions
        .iter()
        .find(|one| one["replicas"][0] != 3)
        .unwrap();
    let number = elsewhere["partition"].as_u64().unwrap();
    cluster.stop(3).await;
    let addresses = cluster.addresses();
    let place = first("t");
    let down = "the one on broker 3 (down) does not";
    until_says(
        &addresses,
        &explain("t"),
        place,
        "under_replicated",
        &[down],
    )
    .await;
    let said = until(
        &addresses,
        &explain("strict"),
        first("strict"),
        "not_enough_in_sync",
    )
    .await;
    assert!(
        said.contains("2 of the 3 replicas that min.insync.replicas asks for"),
        "{said}"
    );
    let to = ["cluster", "move", "sole", &number.to_string(), "--to", "3"];
    run(&addresses, &to).await;
    let place = (Some("sole"), Some(number));
    let said = until(&addresses, &explain("sole"), place, "moving_replicas").await;
    assert!(said.contains("its replicas move to broker 3"), "{said}");
    let described = run(&addresses, &["topic", "describe", "sole"]).await;
    let moving = &described[0]["moves"][0];
    assert_eq!(moving["partition"], number, "{described:#}");
    assert_eq!(
        (&moving["to"][0], &moving["adding"][0]),
        (&3.into(), &3.into())
    );

    cluster.stop(2).await;
    let addresses = cluster.addresses();
    let missing = [
        "2 of its 3 replicas are missing: ",
        "broker 2 is down",
        "broker 3 is down",
        "broker 1 has known no leader for ",
    ];
    until_says(&addresses, &explain("t"), first("t"), "no_quorum", &missing).await;
    // Who looks around is answered without a controller, too, and told what that is worth.
    for list in [["topic", "list"], ["cluster", "brokers"]] {
        let output = attempt(&addresses, &list).await;
        assert!(output.status.success(), "{output:?}");
        let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(listed.as_array().unwrap().len(), 3, "{listed:#}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains("this may be out of date"), "{told}");
    }
    cluster.restart(2).await;
    of_topic(&cluster.addresses(), 0, "under_replicated").await;
    cluster.stop(1).await;
    cluster.stop(2).await;
}
