//! A broker to test against: the `highwater` that was built with the tests, run as `highwater dev`.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// The binary under test.
pub(crate) fn highwater() -> Command {
    let mut command = Command::new(binary());
    command.env_remove("HIGHWATER_BROKERS");
    command.env_remove("HIGHWATER_LOG");
    // Nor what the user of this machine keeps.
    command.env("HIGHWATER_PROFILE", "");
    command
}

/// The directory of the binary under test.
pub(crate) fn binary_directory() -> PathBuf {
    let directory = binary().parent().expect("a binary stands in a directory");
    directory.to_path_buf()
}

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_highwater"))
}

/// A running broker; killed when dropped.
pub(crate) struct DevBroker {
    process: Child,
    address: String,
}

impl DevBroker {
    /// Starts a broker that leaves nothing behind, on a free port, and waits until it serves.
    pub(crate) fn ephemeral() -> Self {
        Self::start(&["--ephemeral", "--listen", "127.0.0.1:0"])
    }

    /// Starts a broker with these arguments and waits until it serves.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut log = tempfile::tempfile().unwrap();
        let mut process = highwater()
            .arg("dev")
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(log.try_clone().unwrap())
            .spawn()
            .unwrap();
        let mut first_line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap())
            .read_line(&mut first_line)
            .unwrap();
        let Some(address) = first_line.strip_prefix("ready ") else {
            let mut written = String::new();
            log.seek(SeekFrom::Start(0)).unwrap();
            log.read_to_string(&mut written).unwrap();
            panic!("the first line is `ready HOST:PORT`, not {first_line:?}: {written}");
        };
        let address = address.trim_end().to_owned();
        Self { process, address }
    }

    /// `HOST:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Of its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn stop(mut self) -> ExitStatus {
        let id = i32::try_from(self.process.id()).unwrap();
        let id = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        self.process.wait().unwrap()
    }

    /// Sends SIGKILL and waits for the end.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for DevBroker {
    fn drop(&mut self) {
        // Fails only when the process has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
