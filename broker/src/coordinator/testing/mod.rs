//! Golden scripts of a coordinator, and runs of chance.

mod chance;
mod room;
mod stage;

use std::path::Path;

use self::stage::Coordinator;
use crate::raft::testing::script;

/// Runs every script of `testscripts/`. With `HIGHWATER_UPDATE_SCRIPTS=1` it writes down what happened instead of
/// comparing.
#[test]
fn every_script_ends_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/coordinator/testscripts");
    let mut scripts: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty());
    let failures: Vec<_> = scripts
        .iter()
        .filter_map(|path| script::run(path, &mut Coordinator::default()).err())
        .map(|failure| failure.to_string())
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
