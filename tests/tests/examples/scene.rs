//! Three brokers, and examples that run against them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write as _};
use std::process::{Child, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use highwater_client::{Client, NewTopic, Start};
use highwater_tests::cluster::Cluster;
use highwater_tests::process::Setup;
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Runtime;

use crate::language::Program;

const BROKERS: u32 = 3;
const PARTITIONS: u32 = 4;
/// What is waited for takes less than this, or never comes.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks at something that no message tells of.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// Brokers with a topic.
pub(crate) struct Scene {
    cluster: Cluster,
    runtime: Runtime,
    client: Client,
}

impl Scene {
    pub(crate) fn new(topic: &str) -> Self {
        let setup = Setup::new(env!("CARGO_BIN_EXE_broker-under-test"))
            .set("groups.heartbeat_interval_ms", 200);
        let cluster = Cluster::started(&setup, BROKERS).unwrap();
        let runtime = Runtime::new().unwrap();
        let addresses = cluster.addresses().into_iter();
        let addresses: Vec<_> = addresses.map(|address| address.to_string()).collect();
        let client = runtime.block_on(async {
            let client = Client::connect(&addresses.join(",")).await.unwrap();
            let new = NewTopic::new(topic)
                .partitions(PARTITIONS)
                .replication_factor(BROKERS);
            client.admin().create_topic(new).await.unwrap();
            client
        });
        Self {
            cluster,
            runtime,
            client,
        }
    }

    /// Where examples find the cluster: every broker that runs.
    fn brokers(&self) -> String {
        let running = self
            .cluster
            .numbers()
            .map(|number| self.cluster.broker(number));
        let running = running.filter(|broker| broker.is_running());
        let addresses: Vec<_> = running.map(|broker| broker.address().to_string()).collect();
        addresses.join(",")
    }

    /// Gives the lines to the example, and returns what it says.
    pub(crate) fn produce(&self, program: &Program, topic: &str, lines: &[String]) -> String {
        let mut child = program
            .command("produce", &self.brokers(), &[topic])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(lines.concat().as_bytes()).unwrap();
        drop(input);
        succeeded(&child.wait_with_output().unwrap())
    }

    /// What the example says that the topic holds, by partition and offset.
    pub(crate) fn consume(&self, program: &Program, topic: &str) -> Vec<Line> {
        let mut command = program.command("consume", &self.brokers(), &[topic]);
        let text = succeeded(&command.output().unwrap());
        let mut lines: Vec<_> = text.lines().map(Line::parse).collect();
        lines.sort();
        lines
    }

    /// The same as the client crate reads it.
    pub(crate) fn consume_with_the_client_crate(&self, topic: &str) -> Vec<Line> {
        self.runtime.block_on(async {
            let mut lines = Vec::new();
            let mut consumer = self.client.consumer();
            for partition in 0..PARTITIONS {
                consumer = consumer.assign(topic, partition, Start::Earliest);
            }
            let mut consumer = consumer.build().await.unwrap();
            let described = self.client.admin().describe_topic(topic).await.unwrap();
            let total: u64 = described
                .partitions
                .iter()
                .map(|each| each.high_watermark)
                .sum();
            while (lines.len() as u64) < total {
                let record = consumer.recv().await.unwrap();
                let text = |bytes: Option<bytes::Bytes>| {
                    String::from_utf8(bytes.unwrap().to_vec()).unwrap()
                };
                lines.push(Line {
                    partition: record.partition,
                    offset: record.offset,
                    key: text(record.key),
                    value: text(record.value),
                });
            }
            lines.sort();
            lines
        })
    }

    /// What the example says of a topic that cannot be read.
    pub(crate) fn refusal(&self, program: &Program, topic: &str) -> String {
        let mut command = program.command("consume", &self.brokers(), &[topic]);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Starts the example as a member of a group.
    pub(crate) fn join(&self, program: &Program, topic: &str, group: &str) -> Member {
        let child = program
            .command("group", &self.brokers(), &[topic, group])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Member::new(child)
    }

    /// Ends the broker that leads a partition as a crash does.
    pub(crate) fn kill_leader(&mut self, topic: &str, partition: usize) {
        let admin = self.client.admin();
        let described = self.runtime.block_on(admin.describe_topic(topic)).unwrap();
        let leader = described.partitions[partition].leader_broker_id.unwrap();
        self.cluster.kill(leader).unwrap();
    }

    /// The group left off where the topic ends.
    pub(crate) fn assert_all_committed(&self, topic: &str, group: &str) {
        self.runtime.block_on(async {
            let admin = self.client.admin();
            let ends = admin.describe_topic(topic).await.unwrap().partitions;
            let ends: BTreeMap<_, _> = ends
                .into_iter()
                .map(|each| (each.partition, Some(each.high_watermark)))
                .collect();
            let committed = admin.group_offsets(group).await.unwrap();
            let committed: BTreeMap<_, _> = committed
                .into_iter()
                .map(|each| (each.partition.unwrap().partition, each.offset))
                .collect();
            assert_eq!(committed, ends);
        });
    }
}

/// What examples print of a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Line {
    partition: u32,
    offset: u64,
    key: String,
    value: String,
}

impl Line {
    fn parse(text: &str) -> Self {
        let fields: Vec<_> = text.split('\t').collect();
        let &[partition, offset, key, value] = &fields[..] else {
            panic!("{text:?} is no record");
        };
        Self {
            partition: partition.parse().unwrap(),
            offset: offset.parse().unwrap(),
            key: key.to_owned(),
            value: value.to_owned(),
        }
    }
}

/// Lines for `produce` with some keys over and over.
pub(crate) fn lines(numbers: std::ops::Range<u32>) -> Vec<String> {
    const KEYS: u32 = 37;
    let line = |number| format!("key {}\tvalue {number}\n", number % KEYS);
    numbers.map(line).collect()
}

/// The records are what was produced, each once, those of one key in the order in which they were sent.
pub(crate) fn assert_in_order(produced: &[String], consumed: &[Line]) {
    let mut sent: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in produced {
        let (key, value) = line.trim_end().split_once('\t').unwrap();
        sent.entry(key).or_default().push(value);
    }
    let mut got: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in consumed {
        got.entry(&line.key).or_default().push(&line.value);
    }
    assert_eq!(got, sent);
}

/// Waits until the members have handled so many records between them, and checks that none is missing.
pub(crate) fn wait_for_all(members: &[&Member], count: usize) {
    wait_for(&format!("{count} records"), || {
        let mut places = BTreeSet::new();
        for member in members {
            let said = member.said.lock().unwrap();
            places.extend(
                said.records
                    .iter()
                    .map(|line| (line.partition, line.offset)),
            );
        }
        assert!(places.len() <= count, "more records than were produced");
        (places.len() == count).then_some(())
    });
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(LOOK_AGAIN_AFTER);
    }
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// An example that reads in a group. Dropping it kills its process.
pub(crate) struct Member {
    child: Child,
    said: Arc<Mutex<Said>>,
    listeners: Vec<JoinHandle<()>>,
}

/// What a member printed so far.
#[derive(Default)]
struct Said {
    records: Vec<Line>,
    /// On standard error.
    remarks: Vec<String>,
}

impl Member {
    fn new(mut child: Child) -> Self {
        let said = Arc::new(Mutex::new(Said::default()));
        let records = child.stdout.take().unwrap();
        let remarks = child.stderr.take().unwrap();
        let listeners = vec![
            listen(records, &said, |said, line| {
                said.records.push(Line::parse(&line))
            }),
            listen(remarks, &said, |said, line| said.remarks.push(line)),
        ];
        Self {
            child,
            said,
            listeners,
        }
    }

    fn last_remark(&self) -> String {
        let said = self.said.lock().unwrap();
        said.remarks.last().cloned().unwrap_or_default()
    }

    pub(crate) fn wait_until_it_says(&mut self, remark: &str) {
        self.wait_until(remark, |member| member.last_remark() == remark);
    }

    pub(crate) fn wait_until_it_owns(&mut self, partitions: usize) {
        let owns = |member: &Self| {
            let last = member.last_remark();
            let owned = last
                .strip_prefix("owns [")
                .and_then(|rest| rest.strip_suffix(']'));
            owned.is_some_and(|owned| owned.split_whitespace().count() == partitions)
        };
        self.wait_until(&format!("{partitions} partitions owned"), owns);
    }

    pub(crate) fn wait_for_records(&mut self, count: usize) {
        self.wait_until(&format!("{count} records"), |member| {
            member.said.lock().unwrap().records.len() >= count
        });
    }

    fn wait_until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        wait_for(what, || {
            if is_so(self) {
                return Some(());
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "{what}: it ended: {}", self.last_remark());
            None
        });
    }

    /// Asks it to stop; it leaves the group.
    pub(crate) fn stop(&mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        for listener in self.listeners.drain(..) {
            listener.join().unwrap();
        }
        assert!(status.success(), "{status}: {}", self.last_remark());
        assert_eq!(self.last_remark(), "left");
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It has ended already where the test succeeded.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listen(
    from: impl Read + Send + 'static,
    said: &Arc<Mutex<Said>>,
    note: fn(&mut Said, String),
) -> JoinHandle<()> {
    let said = Arc::clone(said);
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            note(&mut said.lock().unwrap(), line.unwrap());
        }
    })
}
