//! What consumer groups take: `cargo run --release -p highwater-client --example group_figures -- WORKLOAD HOST:PORT [PID]`.
//!
//! - `reassign`: 50 members read 500 partitions; one dies. How long until others read what it had, and how late records come to the
//!   others meanwhile.
//! - `join`: the same group, and one member more. How late records of partitions come that stay where they are.
//! - `commits`: how many commits are acknowledged in a second.
//! - `idle`: 1,000 groups of 10 partitions that do nothing. What they cost the broker whose process is PID.
//!
//! `GROUP_FIGURES_MEMBERS` and `GROUP_FIGURES_PARTITIONS` set other numbers for the first two, `GROUP_FIGURES_GROUPS` for the last. Topics and
//! groups are deleted at the end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use highwater_client::{Client, GroupConsumer, NewTopic, Offset, Rebalance, Record};
use tokio::task::{AbortHandle, JoinSet};

const TOPIC: &str = "group-figures";
const GROUP: &str = "group-figures";
const SESSION: Duration = Duration::from_secs(6);
/// Of load that is looked at before and behind what happens.
const CALM: Duration = Duration::from_secs(5);
/// Each partition gets a record so often.
const RECORD_INTERVAL: Duration = Duration::from_millis(100);
/// Commits under way at a time.
const COMMITTERS: usize = 512;
const COMMIT_TIME: Duration = Duration::from_secs(10);
const IDLE_GROUPS: u32 = 1_000;
const IDLE_PARTITIONS: u32 = 10;
const IDLE_TIME: Duration = Duration::from_secs(30);
/// Members or committers that share a connection.
const PER_CLIENT: usize = 64;
/// Of `/proc/PID/stat`, in a second: the same on all systems that have it.
const TICKS: f64 = 100.0;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let workload = arguments
        .next()
        .context("WORKLOAD HOST:PORT [PID] are wanted")?;
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:7410".into());
    let process = arguments.next();
    match &workload[..] {
        "reassign" => rebalance(&address, Event::Death).await,
        "join" => rebalance(&address, Event::Join).await,
        "commits" => commits(&address).await,
        "idle" => idle(&address, process.as_deref().context("PID is wanted")?).await,
        other => anyhow::bail!("there is no workload {other}"),
    }
}

/// What happens to the group.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Event {
    Death,
    Join,
}

/// What is seen of all members.
#[derive(Default)]
struct Seen {
    /// Who reads what, and since when.
    readers: BTreeMap<u32, (usize, Instant)>,
    /// Partitions that members gave away or lost.
    given_up: u64,
    /// The latest record of each partition since this was cleared: milliseconds from its creation until it was received.
    delays: BTreeMap<u32, u64>,
}

type Shared = Arc<Mutex<Seen>>;

fn lock(seen: &Shared) -> MutexGuard<'_, Seen> {
    seen.lock().expect("nobody panics")
}

/// Clients for so many members or committers.
async fn clients(address: &str, users: usize) -> anyhow::Result<Vec<Client>> {
    let mut clients = Vec::new();
    for _ in 0..users.div_ceil(PER_CLIENT) {
        clients.push(Client::connect(address).await?);
    }
    Ok(clients)
}

async fn member(client: &Client, number: usize, seen: &Shared) -> anyhow::Result<GroupConsumer> {
    let told = Arc::clone(seen);
    let consumer = client
        .consumer()
        .group(GROUP)
        .topics([TOPIC])
        .session_timeout(SESSION)
        .on_rebalance(move |rebalance, _| {
            let mut seen = lock(&told);
            match rebalance {
                Rebalance::Assigned(partitions) => {
                    for each in partitions {
                        seen.readers
                            .insert(each.partition, (number, Instant::now()));
                    }
                }
                Rebalance::Revoked(partitions) | Rebalance::Lost(partitions) => {
                    seen.given_up += partitions.len() as u64;
                    for each in partitions {
                        seen.readers.remove(&each.partition);
                    }
                }
            }
        })
        .build()
        .await?;
    Ok(consumer)
}

async fn read(mut consumer: GroupConsumer, seen: Shared) -> anyhow::Result<()> {
    loop {
        let record = consumer.recv().await?;
        let delay = u64::try_from(now_ms() - record.timestamp_ms).unwrap_or(0);
        let mut seen = lock(&seen);
        let latest = seen.delays.entry(record.partition).or_default();
        *latest = delay.max(*latest);
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Puts a record into each partition again and again.
async fn load(client: Client, partitions: u32) -> anyhow::Result<()> {
    let producer = client.producer().build()?;
    let mut ticks = tokio::time::interval(RECORD_INTERVAL);
    loop {
        ticks.tick().await;
        for partition in 0..partitions {
            let record = Record::to(TOPIC).partition(partition).value("x");
            drop(producer.send(record).await?);
        }
    }
}

fn number(variable: &str, default: u32) -> anyhow::Result<u32> {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .with_context(|| format!("{variable} is no number")),
        Err(_) => Ok(default),
    }
}

/// The longest delays of these partitions since the last time.
fn longest_delay(seen: &Shared, is_counted: impl Fn(u32) -> bool) -> u64 {
    let delays = std::mem::take(&mut lock(seen).delays);
    let counted = delays
        .into_iter()
        .filter(|(partition, _)| is_counted(*partition));
    counted.map(|(_, delay)| delay).max().unwrap_or(0)
}

async fn rebalance(address: &str, event: Event) -> anyhow::Result<()> {
    let members = number("GROUP_FIGURES_MEMBERS", 50)? as usize;
    let partitions = number("GROUP_FIGURES_PARTITIONS", 500)?;
    let client = Client::connect(address).await?;
    let admin = client.admin();
    admin
        .create_topic(NewTopic::new(TOPIC).partitions(partitions))
        .await?;
    let seen = Shared::default();
    let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();
    let mut readers: Vec<AbortHandle> = Vec::new();
    let shared = clients(address, members).await?;
    for number in 0..members {
        let consumer = member(&shared[number / PER_CLIENT], number, &seen).await?;
        readers.push(tasks.spawn(read(consumer, Arc::clone(&seen))));
    }
    tasks.spawn(load(client.clone(), partitions));
    let share = partitions as usize / members;
    until_settled(&seen, partitions, members, share).await;
    tokio::time::sleep(CALM).await;
    longest_delay(&seen, |_| true);
    tokio::time::sleep(CALM).await;
    let before = longest_delay(&seen, |_| true);

    let at = Instant::now();
    let owners: BTreeMap<u32, usize> = {
        let mut seen = lock(&seen);
        seen.given_up = 0;
        seen.readers
            .iter()
            .map(|(partition, (reader, _))| (*partition, *reader))
            .collect()
    };
    match event {
        Event::Death => {
            readers[0].abort();
            lock(&seen).readers.retain(|_, (reader, _)| *reader != 0);
            until_settled(&seen, partitions, members - 1, share).await;
        }
        Event::Join => {
            let consumer = member(&client, members, &seen).await?;
            tasks.spawn(read(consumer, Arc::clone(&seen)));
            until_settled(
                &seen,
                partitions,
                members + 1,
                partitions as usize / (members + 1),
            )
            .await;
        }
    }
    let settled = lock(&seen).readers.values().map(|(_, since)| *since).max();
    let took = settled.map_or(Duration::ZERO, |last| last.saturating_duration_since(at));
    tokio::time::sleep(CALM).await;
    let stayed: BTreeMap<u32, bool> = {
        let seen = lock(&seen);
        let readers = seen.readers.iter();
        readers
            .map(|(partition, (reader, _))| (*partition, owners[partition] == *reader))
            .collect()
    };
    let moved = stayed.values().filter(|stayed| !**stayed).count();
    let after = longest_delay(&seen, |partition| stayed[&partition]);
    let given_up = lock(&seen).given_up;
    let what = match event {
        Event::Death => "a member died",
        Event::Join => "a member joined",
    };
    println!(
        "{members} members, {partitions} partitions, session {} ms; {what}:",
        SESSION.as_millis()
    );
    println!(
        "  settled after {} ms, {moved} partitions moved",
        took.as_millis()
    );
    println!("  partitions that members gave up: {given_up}");
    println!("  latest record of partitions that stayed: {after} ms meanwhile, {before} ms before");
    tasks.shutdown().await;
    drop(shared);
    tokio::time::sleep(SESSION).await;
    clean_up(&client, 1).await
}

/// Waits until every partition has a reader and every member its share.
async fn until_settled(seen: &Shared, partitions: u32, members: usize, share: usize) {
    loop {
        let is_settled = {
            let seen = lock(seen);
            let mut shares: BTreeMap<usize, usize> = BTreeMap::new();
            for (reader, _) in seen.readers.values() {
                *shares.entry(*reader).or_default() += 1;
            }
            let all = seen.readers.len() == partitions as usize && shares.len() == members;
            all && shares
                .values()
                .all(|count| *count >= share && *count <= share + 1)
        };
        if is_settled {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn clean_up(client: &Client, groups: usize) -> anyhow::Result<()> {
    let admin = client.admin();
    for number in 0..groups {
        let id = if groups == 1 {
            GROUP.to_owned()
        } else {
            group_id(number)
        };
        while let Err(error) = admin.delete_group(&id).await {
            anyhow::ensure!(
                error.reason() == highwater_client::Reason::NonEmptyGroup,
                "{error}"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    admin.delete_topic(TOPIC, None).await?;
    Ok(())
}

fn group_id(number: usize) -> String {
    format!("{GROUP}-{number}")
}

async fn commits(address: &str) -> anyhow::Result<()> {
    let client = Client::connect(address).await?;
    client
        .admin()
        .create_topic(NewTopic::new(TOPIC).partitions(1))
        .await?;
    let done = Arc::new(AtomicU64::new(0));
    let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();
    let shared = clients(address, COMMITTERS).await?;
    for number in 0..COMMITTERS {
        let (admin, done) = (shared[number / PER_CLIENT].admin(), Arc::clone(&done));
        tasks.spawn(async move {
            let (group, offsets) = (group_id(number), [(TOPIC.to_owned(), 0, Offset(0))]);
            loop {
                admin.set_group_offsets(&group, &offsets).await?;
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    tokio::time::sleep(COMMIT_TIME / 5).await;
    let (before, began) = (done.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(COMMIT_TIME).await;
    let count = done.load(Ordering::Relaxed) - before;
    let rate = count as f64 / began.elapsed().as_secs_f64();
    if let Some(ended) = tasks.try_join_next() {
        ended??;
    }
    println!("{rate:.0} commits/s acknowledged, {COMMITTERS} at a time, one offset each");
    tasks.shutdown().await;
    clean_up(&client, COMMITTERS).await
}

/// Processor seconds and anonymous memory in bytes of a process.
fn usage(process: &str) -> anyhow::Result<(f64, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, behind_name) = stat.rsplit_once(')').context("no such stat")?;
    let mut fields = behind_name.split_ascii_whitespace().skip(11);
    let mut next = || anyhow::Ok(fields.next().context("no times")?.parse::<u64>()?);
    let ticks = next()? + next()?;
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|line| line.split_ascii_whitespace().next());
    let kilobytes: u64 = kilobytes.context("no RssAnon")?.parse()?;
    Ok((ticks as f64 / TICKS, kilobytes << 10))
}

/// What a process takes for a while.
async fn watch(process: &str, what: &str, base: u64) -> anyhow::Result<u64> {
    tokio::time::sleep(CALM).await;
    let (before, _) = usage(process)?;
    tokio::time::sleep(IDLE_TIME).await;
    let (after, bytes) = usage(process)?;
    let percent = (after - before) / IDLE_TIME.as_secs_f64() * 100.0;
    let grown = bytes.saturating_sub(base) as f64 / f64::from(1 << 20);
    println!("{what}: {percent:.2} % of a core, {grown:.1} MiB more");
    Ok(bytes)
}

async fn idle(address: &str, process: &str) -> anyhow::Result<()> {
    let groups = number("GROUP_FIGURES_GROUPS", IDLE_GROUPS)? as usize;
    let client = Client::connect(address).await?;
    let topic = NewTopic::new(TOPIC).partitions(IDLE_PARTITIONS);
    client.admin().create_topic(topic).await?;
    let base = watch(process, "no groups", u64::MAX).await?;
    let offsets: Vec<_> = (0..IDLE_PARTITIONS)
        .map(|p| (TOPIC.to_owned(), p, Offset(0)))
        .collect();
    for number in 0..groups {
        client
            .admin()
            .set_group_offsets(&group_id(number), &offsets)
            .await?;
    }
    let what = format!("{groups} groups with {IDLE_PARTITIONS} committed offsets each");
    watch(process, &what, base).await?;

    let mut members = JoinSet::new();
    let shared = clients(address, groups).await?;
    for number in 0..groups {
        let consumer = shared[number / PER_CLIENT].consumer();
        let group = consumer.group(&group_id(number)).topics([TOPIC]);
        let mut consumer = group.build().await?;
        members.spawn(async move { consumer.recv().await.map(drop) });
    }
    watch(
        process,
        "the same with a member each that reads all partitions",
        base,
    )
    .await?;
    members.shutdown().await;
    drop(shared);
    println!("members are gone when their sessions end; groups are deleted then");
    clean_up(&client, groups).await
}
