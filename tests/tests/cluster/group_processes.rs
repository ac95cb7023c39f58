//! Members of a consumer group that are processes: they come, leave, are killed and frozen, and so are their coordinators.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use highwater_client::{Client, Producer, Record};
use highwater_tests::group_diary::{Happening, Line, Ownership};
use rand::rngs::StdRng;
use rand::seq::IteratorRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rustix::process::{Pid, Signal, kill_process};

use crate::scene::{BROKERS, Scene, rounds};

const TOPIC: &str = "orders";
const GROUP: &str = "billing";
const PARTITIONS: u32 = 12;
const MEMBERS: u32 = 10;
const RECORDS: u32 = 600;
/// Longer than brokers take to go on without one of them, so that nobody is removed who is alive.
const SESSION: Duration = Duration::from_secs(8);

/// A member's process. Dropping it ends it, frozen or not.
struct Member(Child);

impl Member {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It may have ended; nothing more can be done about a failure here.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The cluster, the members, and all that is known of them.
struct Play {
    scene: Scene,
    client: Client,
    producer: Producer,
    folder: tempfile::TempDir,
    /// For writing and for reading: an end that is written to is not where the other was read to.
    pen: File,
    diary: File,
    /// The beginning of a line whose end was not written yet.
    unread: String,
    ownership: Ownership,
    members: BTreeMap<u32, Member>,
    next: u32,
    produced: usize,
    committed: BTreeMap<u32, u64>,
}

impl Play {
    fn new() -> Self {
        let scene = Scene::new();
        scene.topic(TOPIC, PARTITIONS);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("diary");
        let mut options = OpenOptions::new();
        let pen = options.create(true).append(true).open(&path).unwrap();
        let addresses = addresses(&scene);
        let connecting = Client::connect(&addresses);
        let client = scene.runtime.block_on(connecting).unwrap();
        let producer = scene.runtime.block_on(async { client.producer().build() });
        Self {
            producer: producer.unwrap(),
            client,
            scene,
            folder,
            pen,
            diary: File::open(&path).unwrap(),
            unread: String::new(),
            ownership: Ownership::default(),
            members: BTreeMap::new(),
            next: 0,
            produced: 0,
            committed: BTreeMap::new(),
        }
    }

    fn diary_path(&self) -> PathBuf {
        self.folder.path().join("diary")
    }

    fn join(&mut self) -> u32 {
        let number = self.next;
        self.next += 1;
        let child = Command::new(env!("CARGO_BIN_EXE_group-member"))
            .args([&number.to_string(), &addresses(&self.scene), GROUP, TOPIC])
            .arg(SESSION.as_millis().to_string())
            .arg(self.diary_path())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        self.members.insert(number, Member(child));
        number
    }

    fn note(&mut self, member: u32, what: Happening) {
        let line = Line { member, what };
        self.pen.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Kills a member's process (`kill -9`).
    fn kill(&mut self, number: u32) {
        drop(self.members.remove(&number));
        self.note(number, Happening::Killed);
    }

    /// Asks a member to leave and waits until it has.
    fn leave(&mut self, number: u32) {
        let mut member = self.members.remove(&number).unwrap();
        member.signal(Signal::TERM);
        let ended = self
            .scene
            .wait_for("a member to leave", || member.0.try_wait().unwrap());
        assert!(ended.success(), "member {number} left with {ended}");
    }

    /// Freezes a member until the group goes on without it, and lets it come back.
    fn freeze(&mut self, number: u32) {
        self.note(number, Happening::Frozen);
        self.members[&number].signal(Signal::STOP);
        self.wait_for_member(number, false);
        self.members[&number].signal(Signal::CONT);
        self.wait_for_member(number, true);
        self.note(number, Happening::Back);
    }

    fn wait_for_member(&self, number: u32, is_there: bool) {
        let name = number.to_string();
        self.scene.wait_for("a change of the members", || {
            let admin = self.client.admin();
            let group = self
                .scene
                .runtime
                .block_on(admin.describe_group(GROUP))
                .ok()?;
            let mut members = group.members.iter();
            (members.any(|member| member.client_id == name) == is_there).then_some(())
        });
    }

    /// The broker that coordinates the group.
    fn coordinator(&self) -> u32 {
        self.scene.wait_for("a coordinator", || {
            let admin = self.client.admin();
            let group = self
                .scene
                .runtime
                .block_on(admin.describe_group(GROUP))
                .ok()?;
            Some(group.coordinator_broker_id)
        })
    }

    fn produce(&mut self, count: u32) {
        let producer = &self.producer;
        self.scene.runtime.block_on(async {
            let mut deliveries = Vec::new();
            for number in 0..count {
                let record = Record::to(TOPIC).partition(number % PARTITIONS);
                let key = (number % 50).to_string();
                deliveries.push(producer.send(record.key(&key).value("x")).await.unwrap());
            }
            for delivery in deliveries {
                delivery.await.unwrap();
            }
        });
        self.produced += count as usize;
    }

    /// Reads the diary on.
    fn read(&mut self) {
        self.diary.read_to_string(&mut self.unread).unwrap();
        let end = self.unread.rfind('\n').map_or(0, |at| at + 1);
        for line in self.unread.drain(..end).collect::<String>().lines() {
            self.ownership.follow(line.parse().unwrap());
        }
    }

    /// Waits until every record was processed, and looks whether anything happened that must not.
    fn settle(&mut self) {
        let deadline = std::time::Instant::now() + highwater_tests::workload::PATIENCE;
        loop {
            self.read();
            let violations = &self.ownership.violations;
            let story = self.ownership.story.iter().map(ToString::to_string);
            assert!(
                violations.is_empty(),
                "{violations:#?}\n{}",
                story.collect::<Vec<_>>().join("\n")
            );
            if self.ownership.done.len() >= self.produced {
                break;
            }
            let done = self.ownership.done.len();
            let waits = std::time::Instant::now() < deadline;
            assert!(waits, "{done} of {} records were processed", self.produced);
            self.look_at_commits();
            std::thread::sleep(Duration::from_millis(50));
        }
        self.look_at_commits();
    }

    /// No committed offset goes back, ever.
    fn look_at_commits(&mut self) {
        let admin = self.client.admin();
        let offsets = self
            .scene
            .runtime
            .block_on(admin.group_offsets(GROUP))
            .unwrap();
        for offset in offsets {
            let partition = offset.partition.unwrap().partition;
            let offset = offset.offset.expect("what is listed was committed");
            let before = self.committed.insert(partition, offset).unwrap_or(0);
            assert!(
                offset >= before,
                "{partition} went back from {before} to {offset}"
            );
        }
    }

    /// Everything that was produced is committed, and not more.
    fn all_is_committed(&mut self) {
        self.look_at_commits();
        let each = self.produced as u64 / u64::from(PARTITIONS);
        let all = (0..PARTITIONS).map(|partition| (partition, each));
        assert_eq!(self.committed, all.collect());
    }
}

fn addresses(scene: &Scene) -> String {
    let addresses = scene.cluster.addresses();
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    addresses.join(",")
}

#[test]
fn ten_processes_share_a_topic_whoever_dies_or_freezes() {
    let mut play = Play::new();
    let mut random = StdRng::seed_from_u64(23);
    for _ in 0..MEMBERS {
        play.join();
    }
    play.produce(RECORDS);
    play.settle();
    for round in 0..rounds() {
        let victim = play.members.keys().copied().choose(&mut random).unwrap();
        // A coordinator dies in every other round, before the member does or after it.
        let coordinator = (round % 2 == 0).then(|| play.coordinator());
        let is_first = random.random();
        if let Some(broker) = coordinator.filter(|_| is_first) {
            play.scene.cluster.kill(broker).unwrap();
        }
        match round % 3 {
            0 => play.kill(victim),
            1 => play.freeze(victim),
            _ => play.leave(victim),
        }
        if let Some(broker) = coordinator.filter(|_| !is_first) {
            play.scene.cluster.kill(broker).unwrap();
        }
        while play.members.len() < MEMBERS as usize {
            play.join();
        }
        play.produce(RECORDS);
        if let Some(broker) = coordinator {
            play.scene.cluster.start(broker).unwrap();
        }
        play.settle();
    }

    let members: Vec<_> = play.members.keys().copied().collect();
    members.into_iter().for_each(|number| play.leave(number));
    play.all_is_committed();
    // Nothing of that is in memory only.
    for broker in 1..=BROKERS {
        play.scene.cluster.kill(broker).unwrap();
    }
    for broker in 1..=BROKERS {
        play.scene.cluster.spawn(broker).unwrap();
    }
    play.scene.cluster.wait_ready().unwrap();
    play.all_is_committed();
    // And whoever comes next begins exactly there.
    play.read();
    let before = play.diary.seek(SeekFrom::End(0)).unwrap();
    let last = play.join();
    play.produce(PARTITIONS);
    play.settle();
    play.leave(last);
    let mut text = String::new();
    play.diary.seek(SeekFrom::Start(before)).unwrap();
    play.diary.read_to_string(&mut text).unwrap();
    let records = text.lines().filter(|line| line.contains(" did ")).count();
    assert_eq!(records, PARTITIONS as usize, "nothing comes again:\n{text}");
    play.all_is_committed();
}
