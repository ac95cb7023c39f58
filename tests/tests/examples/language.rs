//! Whether a language can run here, and its example, made ready in a temporary folder as its README says.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use tempfile::TempDir;

/// A language that there is an example in.
pub(crate) struct Language {
    name: &'static str,
    /// Looks for what is needed, and makes the example ready in a folder that has the protos beside it.
    prepare: fn(&Path) -> Result<Vec<PathBuf>, Skipped>,
    prepared: &'static OnceLock<Option<Program>>,
}

/// Why a language cannot run here.
struct Skipped(String);

/// An example that can be run.
pub(crate) struct Program {
    /// What to run, and the arguments that come first; a verb follows that is `produce`, `consume` or `group`.
    words: Vec<PathBuf>,
    _folder: TempDir,
}

pub(crate) const PYTHON: Language = Language {
    name: "python",
    prepare: prepare_python,
    prepared: &PYTHON_PREPARED,
};
static PYTHON_PREPARED: OnceLock<Option<Program>> = OnceLock::new();

pub(crate) const GO: Language = Language {
    name: "go",
    prepare: prepare_go,
    prepared: &GO_PREPARED,
};
static GO_PREPARED: OnceLock<Option<Program>> = OnceLock::new();

impl Language {
    /// The example, unless something is missing for it, of which the reason is printed.
    pub(crate) fn program(&self) -> Option<&'static Program> {
        self.prepared.get_or_init(|| self.make_ready()).as_ref()
    }

    fn make_ready(&self) -> Option<Program> {
        let folder = tempfile::tempdir().unwrap();
        for part in [&format!("examples/{}", self.name), "proto/proto"] {
            copy(&root().join(part), &folder.path().join(part));
        }
        let example = folder.path().join("examples").join(self.name);
        match (self.prepare)(&example) {
            Ok(words) => Some(Program {
                words,
                _folder: folder,
            }),
            Err(Skipped(why)) => {
                // Past the harness, which keeps what succeeding tests print to itself.
                let said = format!("skipped: examples/{}: {}\n", self.name, why.trim());
                std::io::stderr().write_all(said.as_bytes()).unwrap();
                None
            }
        }
    }
}

impl Program {
    /// The example with a verb, to be given its arguments.
    pub(crate) fn command(&self, verb: &str, brokers: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.words[0]);
        match &self.words[1..] {
            // A script for each verb.
            [folder] => command
                .arg(folder.join(format!("{verb}.py")))
                .args(["--brokers", brokers]),
            _ => command.args(["-brokers", brokers, verb]),
        };
        command.args(arguments);
        command
    }
}

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap().to_path_buf()
}

/// Copies a folder without what is hidden in it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn prepare_python(example: &Path) -> Result<Vec<PathBuf>, Skipped> {
    let installed = root().join("examples/python/.venv/bin/python");
    let python = if installed.exists() {
        installed
    } else {
        PathBuf::from("python3")
    };
    look_for(Command::new(&python).args([
        "-c",
        "import grpc, grpc_tools, google.rpc.error_details_pb2",
    ]))?;
    let protos = std::fs::read_dir(example.join("../../proto/proto/highwater/v1")).unwrap();
    let protos = protos.map(|entry| entry.unwrap().path());
    let generating = Command::new(&python)
        .current_dir(example)
        .args(["-m", "grpc_tools.protoc", "-I", "../../proto/proto"])
        .args(["--python_out=.", "--grpc_python_out=."])
        .args(protos.map(|path| {
            Path::new("../../proto/proto/highwater/v1").join(path.file_name().unwrap())
        }))
        .output();
    assert_success("protoc", &generating.unwrap());
    let mut testing = Command::new(&python);
    let tested = testing
        .current_dir(example)
        .args(["-m", "unittest"])
        .output();
    assert_success("unittest", &tested.unwrap());
    Ok(vec![python, example.to_path_buf()])
}

fn prepare_go(example: &Path) -> Result<Vec<PathBuf>, Skipped> {
    let go = |arguments: &[&str]| {
        let mut command = Command::new("go");
        // What is not there already is not downloaded.
        command
            .current_dir(example)
            .args(arguments)
            .env("GOPROXY", "off")
            .env("GOFLAGS", "-mod=readonly -buildvcs=false");
        command
    };
    let needed = [
        "google.golang.org/grpc",
        "google.golang.org/genproto/googleapis/rpc/errdetails",
        "./generate",
        "tool",
    ];
    look_for(&mut go(&[&["list", "-deps"], &needed[..]].concat()))?;
    assert_success("go generate", &go(&["generate", "./..."]).output().unwrap());
    assert_success("go vet", &go(&["vet", "./..."]).output().unwrap());
    assert_success("go test", &go(&["test", "./..."]).output().unwrap());
    assert_success(
        "go build",
        &go(&["build", "-o", "example", "."]).output().unwrap(),
    );
    Ok(vec![example.join("example")])
}

/// Runs what succeeds only where all is there.
fn look_for(command: &mut Command) -> Result<(), Skipped> {
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.trim().lines().last().unwrap_or("no reason given");
            Err(Skipped(format!(
                "{last}; examples/setup gets what is missing"
            )))
        }
        Err(error) => Err(Skipped(format!(
            "cannot run {}: {error}",
            command.get_program().display()
        ))),
    }
}

fn assert_success(what: &str, output: &Output) {
    assert!(
        output.status.success(),
        "{what}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
