//! The network between the brokers of a cluster: it can be cut, slowed down and broken, in one direction or in both.
//!
//! Each broker has a *door*, an address that the others are told instead of its own; behind the door the bytes are
//! passed on to the broker. Who knocks at a door is found out by the process that owns the other end of the connection,
//! so that each pair of brokers can be treated by itself.
//!
//! A *way* leads from one broker to another and carries the bytes of that direction on all connections between the two,
//! whoever made them. On a way that is cut, bytes wait and arrive when it is healed, as packets do that TCP sends again;
//! no connection is told of it.
//!
//! Left out: loss, duplicates and reordering of packets, which TCP hides.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Bytes that are read in one go.
const CHUNK_BYTES: usize = 16 << 10;
/// Chunks that may be on their way on one connection and direction.
const CHUNKS_ON_THEIR_WAY: usize = 1_024;

/// How a way is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Condition {
    is_cut: bool,
    delay: Duration,
    /// How often all connections that use the way were broken.
    breaks: u64,
}

/// A way, by the numbers of its brokers.
type Way = (u32, u32);

struct Shared {
    ways: BTreeMap<Way, watch::Sender<Condition>>,
    /// The ways of whoever is none of the brokers: always open.
    elsewhere: watch::Sender<Condition>,
    /// Processes by broker.
    processes: Mutex<BTreeMap<u32, u32>>,
}

/// See the module. Dropping it closes all doors.
pub struct Network {
    shared: Arc<Shared>,
    doors: BTreeMap<u32, SocketAddr>,
    /// Taken in drop only.
    runtime: Option<Runtime>,
}

impl Network {
    /// Opens a door for each broker, given by its number and the address at which it listens for the others.
    ///
    /// # Errors
    /// When no port is free.
    pub fn new(brokers: &BTreeMap<u32, SocketAddr>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let numbers = || brokers.keys().copied();
        let ways = numbers().flat_map(|from| numbers().map(move |to| (from, to)));
        let shared = Arc::new(Shared {
            ways: ways.map(|way| (way, watch::Sender::default())).collect(),
            elsewhere: watch::Sender::default(),
            processes: Mutex::default(),
        });
        let mut doors = BTreeMap::new();
        for (broker, address) in brokers {
            let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
            let door = listener.local_addr()?;
            runtime.spawn(serve_door(Arc::clone(&shared), listener, *broker, *address));
            doors.insert(*broker, door);
        }
        Ok(Self {
            shared,
            doors,
            runtime: Some(runtime),
        })
    }

    /// The address at which others reach a broker.
    #[must_use]
    pub fn door(&self, broker: u32) -> SocketAddr {
        self.doors[&broker]
    }

    /// From now on this process is the broker, or none is.
    pub fn set_process(&self, broker: u32, process_id: Option<u32>) {
        let mut processes = self.shared.processes.lock().expect("nobody panics with it");
        match process_id {
            Some(process_id) => processes.insert(broker, process_id),
            None => processes.remove(&broker),
        };
    }

    /// Lets no more bytes through from one broker to another; those the other way still pass.
    pub fn cut(&self, from: u32, to: u32) {
        self.change(|way| way == (from, to), |condition| condition.is_cut = true);
    }

    /// Lets no more bytes through between two groups of brokers. Brokers that are in neither reach everybody.
    pub fn part(&self, some: &[u32], others: &[u32]) {
        let between = |(from, to): Way| {
            some.contains(&from) && others.contains(&to)
                || others.contains(&from) && some.contains(&to)
        };
        self.change(between, |condition| condition.is_cut = true);
    }

    /// Cuts a broker off from all others.
    pub fn isolate(&self, broker: u32) {
        let others: Vec<_> = self
            .doors
            .keys()
            .copied()
            .filter(|other| *other != broker)
            .collect();
        self.part(&[broker], &others);
    }

    /// Makes bytes take `delay` on each way.
    pub fn delay(&self, delay: Duration) {
        self.change(|_| true, |condition| condition.delay = delay);
    }

    /// Breaks all connections between two brokers.
    pub fn break_connections(&self, one: u32, other: u32) {
        let between = |way: Way| way == (one, other) || way == (other, one);
        self.change(between, |condition| condition.breaks += 1);
    }

    /// Opens every way, without delay.
    pub fn heal(&self) {
        self.change(
            |_| true,
            |condition| {
                condition.is_cut = false;
                condition.delay = Duration::ZERO;
            },
        );
    }

    fn change(&self, wanted: impl Fn(Way) -> bool, change: impl Fn(&mut Condition)) {
        for (way, condition) in &self.shared.ways {
            if wanted(*way) {
                condition.send_modify(&change);
            }
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network")
            .field("doors", &self.doors)
            .finish_non_exhaustive()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A network may be dropped where nobody may block.
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn way(&self, from: Option<u32>, to: Option<u32>) -> watch::Receiver<Condition> {
        let known = from.zip(to).and_then(|way| self.ways.get(&way));
        known.unwrap_or(&self.elsewhere).subscribe()
    }

    /// The broker whose process has the other end of the connection to a door.
    fn who_knocks(&self, stranger: SocketAddr, door: SocketAddr) -> Option<u32> {
        let socket = socket_between(stranger, door)?;
        let processes = self
            .processes
            .lock()
            .expect("nobody panics with it")
            .clone();
        let knocking = processes
            .into_iter()
            .find(|(_, process)| owns(*process, &socket));
        knocking.map(|(broker, _)| broker)
    }
}

/// The kernel's name for the socket at `local` that is connected to `remote`, as it stands among the open files of its
/// process.
fn socket_between(local: SocketAddr, remote: SocketAddr) -> Option<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let (local, remote) = (kernel_form(local)?, kernel_form(remote)?);
    table.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let is_it = fields.next()? == local && fields.next()? == remote;
        let inode = fields.nth(6)?;
        is_it.then(|| format!("socket:[{inode}]"))
    })
}

/// `0100007F:1F90` for 127.0.0.1:8080.
fn kernel_form(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else {
        return None;
    };
    let ip = u32::from_ne_bytes(address.ip().octets());
    Some(format!("{ip:08X}:{:04X}", address.port()))
}

fn owns(process: u32, socket: &str) -> bool {
    let Ok(files) = std::fs::read_dir(format!("/proc/{process}/fd")) else {
        return false;
    };
    files
        .flatten()
        .filter_map(|file| std::fs::read_link(file.path()).ok())
        .any(|target: PathBuf| target.as_os_str() == socket)
}

/// Passes on what comes to the door of a broker.
async fn serve_door(shared: Arc<Shared>, listener: TcpListener, broker: u32, address: SocketAddr) {
    while let Ok((stream, stranger)) = listener.accept().await {
        let door = listener.local_addr().expect("it listens");
        let who = shared.who_knocks(stranger, door);
        let there = shared.way(who, Some(broker));
        let back = shared.way(Some(broker), who);
        tokio::spawn(async move {
            // Failures of a connection are for those who use it: both ends are closed.
            let _ = carry(stream, address, there, back).await;
        });
    }
}

/// Carries bytes in both directions until one end closes or the connection is broken.
async fn carry(
    near: TcpStream,
    address: SocketAddr,
    mut there: watch::Receiver<Condition>,
    mut back: watch::Receiver<Condition>,
) -> Result<()> {
    let breaks = there.borrow().breaks;
    // To connect takes packets in both directions.
    opened(&mut there).await?;
    opened(&mut back).await?;
    let far = TcpStream::connect(address)
        .await
        .context("nobody listens")?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (near_reader, near_writer) = near.into_split();
    let (far_reader, far_writer) = far.into_split();
    let mut broken = there.clone();
    tokio::select! {
        done = pass(near_reader, far_writer, there) => done,
        done = pass(far_reader, near_writer, back) => done,
        _ = broken.wait_for(|condition| condition.breaks > breaks) => Ok(()),
    }
}

/// Waits until the way is not cut; returns how long bytes take.
async fn opened(way: &mut watch::Receiver<Condition>) -> Result<Duration> {
    Ok(way.wait_for(|condition| !condition.is_cut).await?.delay)
}

/// Passes bytes on in one direction until the end of them.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut way: watch::Receiver<Condition>,
) -> Result<()> {
    let (sender, mut chunks) = mpsc::channel::<(Instant, Bytes)>(CHUNKS_ON_THEIR_WAY);
    let reading = async move {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = from.read(&mut chunk).await.unwrap_or(0);
            let bytes = Bytes::copy_from_slice(&chunk[..read]);
            // The end takes its way as well, as no bytes.
            if sender.send((Instant::now(), bytes)).await.is_err() || read == 0 {
                return std::future::pending::<()>().await;
            }
        }
    };
    let writing = async {
        while let Some((read_at, bytes)) = chunks.recv().await {
            let delay = opened(&mut way).await?;
            tokio::time::sleep_until(read_at + delay).await;
            opened(&mut way).await?;
            if bytes.is_empty() {
                break;
            }
            to.write_all(&bytes).await?;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        () = reading => Ok(()),
        done = writing => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);
    /// Long enough for a byte that passes all the same.
    const NOTHING_COMES: Duration = Duration::from_millis(100);

    /// Two brokers: this process is the first, and a listener here, in no process that is known, the second.
    struct Pair {
        network: Network,
        near: TcpStream,
        far: TcpStream,
    }

    impl Pair {
        async fn new() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
            let brokers = BTreeMap::from([(1, nowhere), (2, listener.local_addr().unwrap())]);
            let network = tokio::task::spawn_blocking(move || Network::new(&brokers));
            let network = network.await.unwrap().unwrap();
            network.set_process(1, Some(std::process::id()));
            let near = TcpStream::connect(network.door(2)).await.unwrap();
            let (far, _) = listener.accept().await.unwrap();
            Self { network, near, far }
        }
    }

    async fn passes(from: &mut TcpStream, to: &mut TcpStream) {
        from.write_all(b"x").await.unwrap();
        arrives(to).await;
    }

    async fn arrives(to: &mut TcpStream) {
        let read = tokio::time::timeout(SOON, to.read_u8()).await;
        assert_eq!(read.expect("in time").unwrap(), b'x');
    }

    async fn is_held(from: &mut TcpStream, to: &mut TcpStream) {
        from.write_all(b"x").await.unwrap();
        assert!(
            tokio::time::timeout(NOTHING_COMES, to.read_u8())
                .await
                .is_err()
        );
    }

    #[tokio::test]
    async fn a_cut_way_holds_bytes_until_it_is_healed_and_the_other_one_does_not() {
        let mut pair = Pair::new().await;
        passes(&mut pair.near, &mut pair.far).await;
        passes(&mut pair.far, &mut pair.near).await;
        pair.network.cut(1, 2);
        is_held(&mut pair.near, &mut pair.far).await;
        passes(&mut pair.far, &mut pair.near).await;
        pair.network.heal();
        arrives(&mut pair.far).await;
        pair.network.isolate(2);
        is_held(&mut pair.near, &mut pair.far).await;
        is_held(&mut pair.far, &mut pair.near).await;
        pair.network.heal();
        arrives(&mut pair.far).await;
        arrives(&mut pair.near).await;
    }

    #[tokio::test]
    async fn bytes_take_the_delay() {
        let mut pair = Pair::new().await;
        pair.network.delay(Duration::from_millis(150));
        let sent_at = Instant::now();
        passes(&mut pair.near, &mut pair.far).await;
        assert!(sent_at.elapsed() >= Duration::from_millis(150));
    }

    #[tokio::test]
    async fn broken_connections_end_on_both_sides() {
        let mut pair = Pair::new().await;
        pair.network.break_connections(2, 1);
        for end in [&mut pair.near, &mut pair.far] {
            let read = tokio::time::timeout(SOON, end.read_u8()).await;
            assert!(read.expect("in time").is_err());
        }
    }

    #[tokio::test]
    async fn the_end_of_a_connection_passes_no_cut() {
        let mut pair = Pair::new().await;
        pair.network.cut(1, 2);
        drop(pair.near);
        assert!(
            tokio::time::timeout(NOTHING_COMES, pair.far.read_u8())
                .await
                .is_err()
        );
        pair.network.heal();
        let read = tokio::time::timeout(SOON, pair.far.read_u8()).await;
        assert!(read.expect("in time").is_err());
    }
}
