//! A broker as a process of its own, to be killed, stopped and started again.
//!
//! Each broker has a temporary folder with its data directory, its configuration and everything it wrote about itself.
//! The folder goes when the test succeeds; when it fails, it is kept and the end of the broker's log is printed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rand::Rng as _;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// A broker that is not there by then is not coming.
pub const START_TIMEOUT: Duration = Duration::from_secs(30);
/// A broker that was asked to stop and is still there by then hangs.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// What the broker prints on stdout before the address when it serves.
const READY: &str = "ready ";
/// Lines of the log that are printed when a test fails.
const LOG_TAIL_LINES: usize = 60;
/// Ports that the operating system does not give to outgoing connections, so that a broker finds its own again.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// How to run a broker.
#[derive(Clone, Debug)]
pub struct Setup {
    binary: PathBuf,
    settings: BTreeMap<String, String>,
    data_dir: Option<PathBuf>,
}

impl Setup {
    /// A broker run from `binary`, with its defaults but for limits that make a test machine bearable.
    #[must_use]
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        let setup = Self {
            binary: binary.into(),
            settings: BTreeMap::new(),
            data_dir: None,
        };
        setup
            .set("storage.min_free_bytes", 64 << 20)
            .set("storage.reserve_bytes", 1 << 20)
            .set("server.shutdown_grace_ms", 5_000)
            .set("server.peer.address", "\"127.0.0.1:0\"")
            .set("log.level", "\"info\"")
    }

    /// Sets a configuration key to a TOML value.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.settings.insert(key.to_owned(), value.to_string());
        self
    }

    /// So little room everywhere that segments and journal files roll, checkpoints are written and files are recycled
    /// all the time.
    #[must_use]
    pub fn tiny(self) -> Self {
        self.set("storage.journal_file_bytes", 64 << 10)
            .set("storage.checkpoint_interval_bytes", 256 << 10)
            .set("storage.pool_bytes", 256 << 10)
            .set("upkeep.retention_check_ms", 50)
    }

    /// Puts the data directory at `path` instead of into the temporary folder.
    #[must_use]
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(path.into());
        self
    }
}

/// A broker and its folder. Dropping it kills the process.
#[derive(Debug)]
pub struct Broker {
    setup: Setup,
    folder: Option<tempfile::TempDir>,
    data_dir: PathBuf,
    address: SocketAddr,
    http_address: SocketAddr,
    starts: u32,
    running: Option<Running>,
}

/// The process of a broker.
#[derive(Debug)]
struct Running {
    child: Child,
    pid: Pid,
    /// What it prints on stdout; closed when it exits.
    lines: Receiver<String>,
    printer: JoinHandle<()>,
    ready: bool,
}

impl Broker {
    /// Prepares a folder and a port. Nothing runs yet.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new(setup: Setup) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("highwater-").tempdir()?;
        let data_dir = setup
            .data_dir
            .clone()
            .unwrap_or_else(|| folder.path().join("data"));
        Ok(Self {
            setup,
            data_dir,
            folder: Some(folder),
            address: free_address()?,
            http_address: free_address()?,
            starts: 0,
            running: None,
        })
    }

    /// A broker that serves.
    ///
    /// # Errors
    /// As [`Broker::new`] and [`Broker::start`].
    pub fn started(setup: Setup) -> Result<Self> {
        let mut broker = Self::new(setup)?;
        broker.start()?;
        Ok(broker)
    }

    /// Where clients find it, whether or not it runs.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it serves probes and metrics while it runs.
    #[must_use]
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// Number of the process, while there is one.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.child.id())
    }

    /// Changes a configuration key from the next start on.
    pub fn set(&mut self, key: &str, value: impl ToString) {
        self.setup = self.setup.clone().set(key, value);
    }

    /// Where it keeps everything.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Starts the process and waits until it serves.
    ///
    /// # Errors
    /// When it exits or takes longer than [`START_TIMEOUT`]; with the end of its log.
    pub fn start(&mut self) -> Result<()> {
        self.spawn()?;
        self.wait_ready()
    }

    /// Starts the process and returns at once.
    ///
    /// # Errors
    /// When there is no such program.
    pub fn spawn(&mut self) -> Result<()> {
        assert!(self.running.is_none(), "the broker runs already");
        self.starts += 1;
        let config = self.write_config()?;
        let mut log = self.open_log()?;
        writeln!(log, "--- start {} ---", self.starts)?;
        let mut child = Command::new(&self.setup.binary)
            // The broker takes variables of this prefix for keys, and refuses those of the tests.
            .env_remove("HIGHWATER_TEST_ROUNDS")
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot run {}", self.setup.binary.display()))?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let (sender, lines) = channel();
        let printer = std::thread::spawn(move || forward_lines(stdout, &sender));
        self.running = Some(Running {
            pid: Pid::from_child(&child),
            child,
            lines,
            printer,
            ready: false,
        });
        Ok(())
    }

    /// Waits until a spawned process serves.
    ///
    /// # Errors
    /// As [`Broker::start`].
    pub fn wait_ready(&mut self) -> Result<()> {
        anyhow::ensure!(
            self.is_ready_within(START_TIMEOUT)?,
            "the broker is not ready in time\n{}",
            self.log_tail()
        );
        Ok(())
    }

    /// Waits until a spawned process serves, but no longer than `timeout`. Whether it does.
    ///
    /// # Errors
    /// When it exits.
    pub fn is_ready_within(&mut self, timeout: Duration) -> Result<bool> {
        let deadline = Instant::now() + timeout;
        let running = self.running.as_mut().expect("the broker was spawned");
        while !running.ready {
            let left = deadline.saturating_duration_since(Instant::now());
            match running.lines.recv_timeout(left) {
                Ok(line) => running.ready = line.starts_with(READY),
                Err(RecvTimeoutError::Timeout) => return Ok(false),
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.wait_exit(STOP_TIMEOUT)?;
                    bail!("the broker did not start: {status}\n{}", self.log_tail());
                }
            }
        }
        Ok(true)
    }

    /// Ends the process as a crash does (`kill -9`).
    ///
    /// # Errors
    /// When it does not go away.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        let status = self.wait_exit(STOP_TIMEOUT)?;
        anyhow::ensure!(
            status.signal() == Some(Signal::KILL.as_raw()),
            "the broker had ended by itself: {status}\n{}",
            self.log_tail()
        );
        Ok(())
    }

    /// Asks the process to stop (SIGTERM) and waits until it has.
    ///
    /// # Errors
    /// When it does not, or says that something went wrong.
    pub fn terminate(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let status = self.wait_exit(STOP_TIMEOUT)?;
        anyhow::ensure!(
            status.success(),
            "the broker stopped with {status}\n{}",
            self.log_tail()
        );
        Ok(())
    }

    /// Sends a signal to the process: [`Signal::STOP`] and [`Signal::CONT`] to freeze and thaw it.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let running = self.running.as_ref().context("the broker does not run")?;
        Ok(kill_process(running.pid, signal)?)
    }

    /// Waits until the process has ended.
    ///
    /// # Errors
    /// When it does not within `timeout`.
    pub fn wait_exit(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        let mut running = self.running.take().context("the broker does not run")?;
        // The channel closes when the process has closed its stdout.
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match running.lines.recv_timeout(left) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    self.running = Some(running);
                    bail!(
                        "the broker has not ended within {timeout:?}\n{}",
                        self.log_tail()
                    );
                }
            }
        }
        let status = running.child.wait()?;
        running
            .printer
            .join()
            .expect("forwarding lines never panics");
        Ok(status)
    }

    /// Whether the process is there and has not ended.
    #[must_use]
    pub fn is_running(&self) -> bool {
        // The process stays a zombie until `wait_exit`, so that its number cannot pass to another one.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.running
            .as_ref()
            .is_some_and(|running| matches!(waitid(WaitId::Pid(running.pid), look), Ok(None)))
    }

    /// Everything the broker wrote about itself, over all starts.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(self.log_path())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Runs the broker's program once with other arguments and waits for it: `inspect`, `repair`, or a second broker.
    ///
    /// # Errors
    /// When there is no such program.
    pub fn run(&self, arguments: &[&str]) -> Result<Finished> {
        let output = Command::new(&self.setup.binary)
            .args(arguments)
            .stdin(Stdio::null())
            .output()?;
        Ok(Finished {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        let from = lines.len().saturating_sub(LOG_TAIL_LINES);
        format!(
            "--- the last lines of {} ---\n{}",
            self.log_path().display(),
            lines[from..].join("\n")
        )
    }

    fn folder(&self) -> &Path {
        self.folder.as_ref().expect("taken in drop only").path()
    }

    fn log_path(&self) -> PathBuf {
        self.folder().join("broker.log")
    }

    fn open_log(&self) -> Result<File> {
        Ok(OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())?)
    }

    fn write_config(&self) -> Result<PathBuf> {
        let mut text = String::new();
        writeln!(text, "data_dir = {:?}", self.data_dir)?;
        writeln!(text, "server.client.address = \"{}\"", self.address)?;
        writeln!(text, "server.http.address = \"{}\"", self.http_address)?;
        for (key, value) in &self.setup.settings {
            writeln!(text, "{key} = {value}")?;
        }
        let path = self.folder().join("broker.toml");
        std::fs::write(&path, text)?;
        Ok(path)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.running.is_some() {
            // A frozen process is killed as well. Nothing more can be done about a failure here.
            let _ = self.signal(Signal::KILL);
            let _ = self.wait_exit(STOP_TIMEOUT);
        }
        if std::thread::panicking() {
            eprintln!("{}", self.log_tail());
            let kept = self.folder.take().expect("dropped once").keep();
            eprintln!("--- kept {} ---", kept.display());
        }
    }
}

/// A program that has ended.
#[derive(Debug)]
pub struct Finished {
    /// How.
    pub status: ExitStatus,
    /// What it printed for programs.
    pub stdout: String,
    /// What it printed for people.
    pub stderr: String,
}

fn forward_lines(stdout: ChildStdout, lines: &Sender<String>) {
    for line in BufReader::new(stdout).lines() {
        let Ok(line) = line else { return };
        if lines.send(line).is_err() {
            return;
        }
    }
}

/// An address that nobody listens at and that no other test of this process gets.
pub(crate) fn free_address() -> Result<SocketAddr> {
    const ATTEMPTS: u32 = 1_000;
    static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut taken = TAKEN.lock().expect("nobody panics with the lock");
    for _ in 0..ATTEMPTS {
        let port = rand::rng().random_range(PORTS);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() && taken.insert(port) {
            return Ok(address);
        }
    }
    bail!("no free port among {PORTS:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shell script in place of a broker.
    fn script(text: &str) -> (tempfile::TempDir, Setup) {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broker.sh");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        (folder, Setup::new(path))
    }

    #[test]
    fn a_process_is_started_frozen_killed_and_started_again_at_its_address() {
        let (_folder, setup) = script("echo noise; echo ready 127.0.0.1:1; exec sleep 1000");
        let mut broker = Broker::started(setup).unwrap();
        let address = broker.address();
        broker.signal(Signal::STOP).unwrap();
        broker.kill().unwrap();
        assert!(!broker.is_running());
        broker.start().unwrap();
        assert!(broker.is_running());
        assert_eq!(broker.address(), address);
        assert!(broker.log().contains("--- start 2 ---"));
    }

    #[test]
    fn a_process_that_exits_early_is_reported_with_its_log() {
        let (_folder, setup) = script("echo out of coffee >&2; exit 3");
        let error = Broker::started(setup).unwrap_err().to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.contains("out of coffee"), "{error}");
    }

    #[test]
    fn termination_reports_how_the_process_ended() {
        let (_folder, setup) =
            script("trap 'exit 0' TERM; echo ready 1; while :; do sleep 0.01; done");
        Broker::started(setup).unwrap().terminate().unwrap();
        let (_folder, setup) =
            script("trap 'exit 9' TERM; echo ready 1; while :; do sleep 0.01; done");
        let error = Broker::started(setup).unwrap().terminate().unwrap_err();
        assert!(error.to_string().contains("exit status: 9"), "{error}");
    }

    #[test]
    fn a_kill_that_comes_too_late_is_noticed() {
        let (_folder, setup) = script("echo ready 1; exit 1");
        let mut broker = Broker::started(setup).unwrap();
        while broker.is_running() {
            std::thread::yield_now();
        }
        let error = broker.kill().unwrap_err().to_string();
        assert!(error.contains("had ended by itself"), "{error}");
    }

    #[test]
    fn a_program_is_run_to_its_end() {
        let (_folder, setup) = script("echo \"$1\"; echo why >&2; exit 4");
        let broker = Broker::new(setup).unwrap();
        let finished = broker.run(&["inspect"]).unwrap();
        assert_eq!(finished.stdout, "inspect\n");
        assert_eq!(finished.stderr, "why\n");
        assert_eq!(finished.status.code(), Some(4));
    }

    #[test]
    fn the_configuration_names_directory_port_and_settings() {
        let broker = Broker::new(Setup::new("/nonexistent").set("shards.threads", 2)).unwrap();
        let text = std::fs::read_to_string(broker.write_config().unwrap()).unwrap();
        assert!(
            text.contains(&format!("\"{}\"", broker.address())),
            "{text}"
        );
        assert!(text.contains("shards.threads = 2\n"), "{text}");
        assert!(
            text.contains(&broker.data_dir().display().to_string()),
            "{text}"
        );
    }
}
