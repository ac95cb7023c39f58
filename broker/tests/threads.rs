//! What a broker leaves in the process that it ran in: nothing. Alone in its process, because it counts threads.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::{Duration, Instant};

use highwater_broker::Broker;

const BROKERS: usize = 50;
/// Far more than threads need to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// The threads of this process that belong to brokers. Those of tokio's pool for blocking calls stay for a while, and serve
/// all brokers.
fn broker_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| {
            ["shard-", "journal", "checkpoint", "stop"]
                .iter()
                .any(|ours| name.starts_with(ours))
        })
        .count()
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

async fn start(in_memory: bool, directory: &std::path::Path) -> Broker {
    let builder = match in_memory {
        true => Broker::builder().in_memory(),
        false => Broker::builder().data_dir(directory),
    };
    builder.start().await.unwrap()
}

#[tokio::test]
async fn brokers_that_ended_leave_no_threads_and_files() {
    let directory = tempfile::tempdir().unwrap();
    // What the runtime opens for itself is there after the first one.
    start(true, directory.path()).await.shutdown().await;
    let files_before = open_files();
    assert_eq!(broker_threads(), 0);

    let mut running = Vec::new();
    for number in 0..BROKERS {
        let directory = directory.path().join(number.to_string());
        running.push(start(number % 2 == 0, &directory).await);
    }
    assert!(broker_threads() >= 3 * BROKERS);
    for (number, broker) in running.into_iter().enumerate() {
        if number % 3 == 0 {
            broker.shutdown().await;
        } else {
            drop(broker);
        }
    }
    let since = Instant::now();
    while broker_threads() > 0 || open_files() > files_before {
        assert!(
            since.elapsed() < PATIENCE,
            "{} threads and {} files are left",
            broker_threads(),
            open_files().saturating_sub(files_before)
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
