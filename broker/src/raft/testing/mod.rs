//! Golden scripts for groups of several replicas on simulated disks, and shards with their threads.

mod chaos;
mod cluster;
pub(super) mod machine;
pub(crate) mod script;
mod threads;

use std::path::Path;

use self::cluster::Cluster;
use self::script::Failure;

/// Runs every script of `testscripts/`. With `HIGHWATER_UPDATE_SCRIPTS=1` it writes down what happened instead of
/// comparing.
#[test]
fn every_script_ends_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/raft/testscripts");
    let mut scripts: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty());
    let failures: Vec<_> = scripts
        .iter()
        .filter_map(|path| script::run(path, &mut Cluster::default()).err())
        .map(|failure: Failure| failure.to_string())
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
