//! `top` while records come and go.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::process::Output;
use std::time::{Duration, Instant};

use highwater_client::{Client, NewTopic, Offset, Record};
use serde_json::Value;
use support::{DevBroker, highwater};
use tokio::task::AbortHandle;

/// What is waited for takes less than this, or never comes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ends with this.
struct Load(AbortHandle);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Produces to `t` without end, and lets the group `g` follow at a distance.
async fn load(client: Client) -> Load {
    let admin = client.admin();
    let topic = NewTopic::new("t").partitions(1);
    admin.create_topic(topic).await.unwrap();
    let producer = client.producer().build().unwrap();
    let produce = async move {
        for offset in 0.. {
            for _ in 0..2 {
                let record = Record::to("t").partition(0).value("0123456789");
                let delivery = producer.send(record).await.unwrap();
                delivery.await.unwrap();
            }
            let committed = [("t".to_owned(), 0, Offset(offset))];
            admin.set_group_offsets("g", &committed).await.unwrap();
        }
    };
    Load(tokio::spawn(produce).abort_handle())
}

async fn top(address: &str, arguments: &[&str]) -> Output {
    let mut command = highwater();
    command.args(["top", "--brokers", address]).args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    assert!(output.status.success(), "{output:?}");
    output
}

/// The pages that are printed as JSON.
async fn pages(address: &str, count: &str) -> Vec<Value> {
    let arguments = ["-n", count, "-i", "500ms", "--format", "json"];
    let output = top(address, &arguments).await;
    let text = String::from_utf8(output.stdout).unwrap();
    let pages = text.lines().map(|line| serde_json::from_str(line).unwrap());
    pages.collect()
}

fn is_positive(number: &Value) -> bool {
    number.as_f64().is_some_and(|number| number > 0.0)
}

/// The one of `kind` with this name.
fn named<'a>(page: &'a Value, kind: &str, key: &str, name: impl Into<Value>) -> Option<&'a Value> {
    let name = name.into();
    let all = page[kind].as_array().unwrap();
    all.iter().find(|one| one[key] == name)
}

#[tokio::test(flavor = "multi_thread")]
async fn rates_lag_and_leaders_are_those_of_what_goes_on() {
    let broker = DevBroker::ephemeral();
    let client = Client::connect(broker.address()).await.unwrap();
    let _load = load(client).await;
    let give_up_at = Instant::now() + PATIENCE;
    // The load takes its time to begin; from then on two looks are enough.
    loop {
        let seen = pages(broker.address(), "1").await;
        if named(&seen[0], "groups", "group", "g").is_some() {
            break;
        }
        assert!(
            Instant::now() < give_up_at,
            "nothing is committed: {seen:?}"
        );
    }
    let pages = pages(broker.address(), "2").await;
    assert_eq!(pages.len(), 2);
    for page in &pages {
        let topic = named(page, "topics", "topic", "t").unwrap();
        for field in ["records_per_second", "bytes_per_second", "records"] {
            assert!(is_positive(&topic[field]), "{field} of {page:#}");
        }
        assert_eq!(
            (&topic["partitions"], &topic["leaderless"]),
            (&1.into(), &0.into())
        );
        let group = named(page, "groups", "group", "g").unwrap();
        for field in ["records_per_second", "lag"] {
            assert!(is_positive(&group[field]), "{field} of {page:#}");
        }
        let broker = named(page, "brokers", "broker", 1).unwrap();
        assert_eq!(broker["alive"], true);
        assert!(is_positive(&broker["leaders"]), "{page:#}");
        assert_eq!(broker["leaders"], broker["replicas"]);
    }
    let records = |page: &Value| {
        let topic = named(page, "topics", "topic", "t").unwrap();
        topic["records"].as_u64().unwrap()
    };
    assert!(records(&pages[0]) < records(&pages[1]), "{pages:?}");

    // People see the same.
    let output = top(broker.address(), &["--once", "-i", "500ms"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    let row = text.lines().find(|line| line.starts_with("t  "));
    let cells: Vec<&str> = row.unwrap().split_whitespace().collect();
    assert_eq!(&cells[..3], ["t", "1", "0"], "{text}");
    assert_ne!(cells[3], "0", "{text}");
}
