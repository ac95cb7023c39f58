//! Rules of the workspace that no compiler checks: crate edges, layers, purity, names, lengths, licences, links.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Which crate of ours may use which.
const CRATE_EDGES: &[(&str, &[&str])] = &[
    ("highwater-proto", &[]),
    ("highwater-storage", &[]),
    (
        "highwater-broker",
        &["highwater-proto", "highwater-storage"],
    ),
    ("highwater-client", &["highwater-proto"]),
    (
        "highwater-cli",
        &["highwater-broker", "highwater-client", "highwater-proto"],
    ),
    (
        "highwater-tests",
        &[
            "highwater-broker",
            "highwater-client",
            "highwater-proto",
            "highwater-storage",
        ],
    ),
];

/// Inside the broker: a folder, and the modules above it that it must not name.
const BROKER_LAYERS: &[(&str, &[&str])] = &[
    (
        "broker/src/raft/",
        &[
            "crate::partition",
            "crate::controller",
            "crate::service",
            "crate::server",
        ],
    ),
    (
        "broker/src/partition/",
        &["crate::controller", "crate::service", "crate::server"],
    ),
    (
        "broker/src/controller/",
        &["crate::partition", "crate::service", "crate::server"],
    ),
    (
        "broker/src/coordinator/",
        &[
            "crate::partition",
            "crate::controller",
            "crate::service",
            "crate::server",
        ],
    ),
];

/// Files and folders that hold rules only.
const PURE: &[&str] = &[
    "proto/src",
    "storage/src/frame.rs",
    "storage/src/ids.rs",
    "broker/src/raft/catching_up.rs",
    "broker/src/raft/group.rs",
    "broker/src/raft/group/seeding.rs",
    "broker/src/raft/machine.rs",
    "broker/src/partition/machine.rs",
    "broker/src/partition/state.rs",
    "broker/src/partition/pending.rs",
    "broker/src/partition/producers.rs",
    "broker/src/partition/retention.rs",
    "broker/src/controller/machine.rs",
    "broker/src/controller/coordinators.rs",
    "broker/src/coordinator/assignor",
    "broker/src/coordinator/catalog.rs",
    "broker/src/coordinator/command.rs",
    "broker/src/coordinator/commit.rs",
    "broker/src/coordinator/draft.rs",
    "broker/src/coordinator/event.rs",
    "broker/src/coordinator/group.rs",
    "broker/src/coordinator/heartbeat.rs",
    "broker/src/coordinator/machine.rs",
    "broker/src/coordinator/member.rs",
    "broker/src/coordinator/observed.rs",
    "broker/src/coordinator/offsets.rs",
    "broker/src/coordinator/sessions.rs",
    "broker/src/coordinator/size.rs",
    "broker/src/coordinator/snapshot.rs",
    "broker/src/coordinator/state.rs",
    "broker/src/coordinator/subscription.rs",
    "broker/src/coordinator/view.rs",
    "broker/src/coordinator/wire.rs",
    "broker/src/controller/machine/",
    "broker/src/controller/encoding",
    "broker/src/controller/event.rs",
    "broker/src/controller/image.rs",
    "broker/src/controller/image/",
    "broker/src/controller/partition.rs",
    "broker/src/controller/delta.rs",
    "broker/src/controller/placement.rs",
    "broker/src/controller/reconcile.rs",
    "broker/src/controller/registrations.rs",
    "broker/src/controller/snapshot.rs",
    "broker/src/health/first_found.rs",
    "broker/src/health/log_finding.rs",
    "broker/src/node/founding/decision.rs",
    "broker/src/node/mending/treatment.rs",
    "broker/src/peer/liveness.rs",
    "broker/src/peer/wire.rs",
    "broker/src/topic/",
    "client/src/producer/partitioner.rs",
    "client/src/producer/accumulator.rs",
    "client/src/producer/core.rs",
    "client/src/producer/core/",
    "client/src/producer/pipeline.rs",
    "client/src/producer/plan.rs",
    "client/src/consumer/by_key/lanes.rs",
    "client/src/consumer/core.rs",
    "client/src/consumer/core/sharing.rs",
    "client/src/consumer/feed.rs",
    "client/src/group/membership.rs",
    "client/src/consumer/plan.rs",
    "client/src/consumer/prefetched.rs",
    "client/src/consumer/share.rs",
    "client/src/doubt.rs",
    "client/src/recovery.rs",
    "client/src/retry.rs",
    "cli/src/command/bench/amount.rs",
    "cli/src/command/bench/latencies.rs",
    "cli/src/command/bench/payload.rs",
    "cli/src/command/bench/report.rs",
    "cli/src/command/bench/schedule.rs",
    "cli/src/command/bench/tally.rs",
    "cli/src/command/bench/window.rs",
    "cli/src/command/declared/file.rs",
    "cli/src/command/declared/plan.rs",
    "cli/src/command/declared/report.rs",
    "cli/src/command/group/offsets_file.rs",
    "cli/src/command/top/page.rs",
    "cli/src/command/top/sample.rs",
    "cli/src/command/top/view.rs",
    "cli/src/diagnosis/age.rs",
    "cli/src/diagnosis/cause.rs",
    "cli/src/diagnosis/facts.rs",
    "cli/src/diagnosis/group.rs",
    "cli/src/diagnosis/partition.rs",
    "cli/src/escape.rs",
    "cli/src/explain.rs",
    "cli/src/failure.rs",
    "cli/src/format_string.rs",
    "cli/src/json_record.rs",
    "cli/src/line_record.rs",
    "cli/src/near_names.rs",
    "cli/src/offset_spec.rs",
    "cli/src/pair.rs",
    "cli/src/profile/field.rs",
    "cli/src/profile/mod.rs",
    "cli/src/quantity.rs",
    "cli/src/record.rs",
    "cli/src/separator.rs",
    "cli/src/table.rs",
    "cli/src/wanted.rs",
];

/// What a pure file does not name outside its tests.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::thread",
    "std::process",
    "SystemTime::now",
    "Instant::now",
    "tokio::",
    "rand::",
    "thread_rng",
    "Uuid::new_v4",
];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &[
    "util", "utils", "common", "helper", "helpers", "manager", "misc", "stuff",
];

/// Lines before the tests that no file exceeds; about 500 is a sign to split already.
const MAX_LINES_BEFORE_TESTS: usize = 700;

/// Licences that a dependency may offer.
const LICENCES: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "MIT",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Unicode-3.0",
    "Zlib",
    "0BSD",
    "Unlicense",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests crate stands in the workspace")
        .to_path_buf()
}

/// What cargo knows of all dependencies, those that only other platforms build among them. On a new machine it loads these first.
fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root())
        .output()
        .expect("cargo metadata runs");
    assert!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

/// Every Rust source file of the workspace with its path from the root.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (name, _) in CRATE_EDGES {
        let folder = name.trim_start_matches("highwater-");
        collect(&root().join(folder), &mut found);
    }
    assert!(found.len() > 20, "the search for source files is broken");
    found
}

fn collect(folder: &Path, found: &mut Vec<(String, String)>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder)
        .expect("folder")
        .map(|entry| entry.expect("entry").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path
                .strip_prefix(root())
                .expect("below the root")
                .to_string_lossy()
                .into_owned();
            found.push((name, std::fs::read_to_string(&path).expect("UTF-8")));
        }
    }
}

/// The lines of a file up to its test module.
fn before_tests(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line))
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

#[test]
fn crates_depend_only_downward() {
    let metadata = metadata();
    let allowed: BTreeMap<_, _> = CRATE_EDGES.iter().copied().collect();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for package in metadata["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("name");
        let Some(edges) = allowed.get(name) else {
            continue;
        };
        seen += 1;
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let target = dependency["name"].as_str().expect("name");
            if target.starts_with("highwater") && !edges.contains(&target) {
                wrong.push(format!("{name} -> {target}"));
            }
        }
    }
    assert_eq!(seen, allowed.len(), "a crate of CRATE_EDGES is gone");
    assert!(wrong.is_empty(), "edges that the design forbids: {wrong:?}");
}

#[test]
fn broker_layers_name_nothing_above_them() {
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        for (layer, above) in BROKER_LAYERS {
            if !name.starts_with(layer) {
                continue;
            }
            for (line, content) in before_tests(&text) {
                if !is_comment(content) && above.iter().any(|module| content.contains(module)) {
                    wrong.push(format!("{name}:{line}: {}", content.trim()));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "a lower layer names a higher one:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn pure_files_touch_no_clock_disk_network_or_randomness() {
    let sources = sources();
    let mut wrong = Vec::new();
    for pure in PURE {
        assert!(
            sources.iter().any(|(name, _)| name.starts_with(pure)),
            "{pure} is gone: PURE must follow"
        );
        for (name, text) in sources.iter().filter(|(name, _)| name.starts_with(pure)) {
            for (line, content) in before_tests(text) {
                if !is_comment(content) && IMPURE.iter().any(|word| content.contains(word)) {
                    wrong.push(format!("{name}:{line}: {}", content.trim()));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "pure files reach outside:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn unsafe_stands_in_one_module() {
    let wrong: Vec<_> = sources()
        .into_iter()
        .filter(|(name, _)| name != "storage/src/fs/mmap.rs" && name != "tests/tests/tidy.rs")
        .filter(|(_, text)| {
            text.lines().any(|line| {
                !is_comment(line)
                    && (line.contains("unsafe {")
                        || line.contains("unsafe fn")
                        || line.contains("unsafe impl"))
            })
        })
        .map(|(name, _)| name)
        .collect();
    assert!(
        wrong.is_empty(),
        "unsafe outside storage/src/fs/mmap.rs: {wrong:?}"
    );
}

#[test]
fn file_names_say_what_is_inside() {
    let wrong: Vec<_> = sources()
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| {
            Path::new(name)
                .iter()
                .filter_map(|part| Path::new(part).file_stem())
                .any(|stem| EMPTY_NAMES.contains(&stem.to_string_lossy().as_ref()))
        })
        .collect();
    assert!(wrong.is_empty(), "names without a noun: {wrong:?}");
}

#[test]
fn files_stay_short() {
    let wrong: Vec<_> = sources()
        .into_iter()
        .filter(|(name, _)| name.contains("/src/") && !name.ends_with("/tests.rs"))
        .map(|(name, text)| (before_tests(&text).count(), name))
        .filter(|(lines, _)| *lines > MAX_LINES_BEFORE_TESTS)
        .collect();
    assert!(
        wrong.is_empty(),
        "too long before their tests, split by concern: {wrong:?}"
    );
}

#[test]
fn dependencies_have_licences_that_we_accept() {
    let mut wrong = Vec::new();
    for package in metadata()["packages"].as_array().expect("packages") {
        let licence = package["license"].as_str().unwrap_or("none");
        if !is_acceptable(licence) {
            wrong.push(format!(
                "{} {}: {licence}",
                package["name"], package["version"]
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "licences outside the policy of deny.toml:\n{}",
        wrong.join("\n")
    );
}

/// An SPDX expression is acceptable when every `AND` part offers at least one licence of the list.
fn is_acceptable(expression: &str) -> bool {
    expression.replace('/', " OR ").split(" AND ").all(|part| {
        part.split(" OR ").any(|licence| {
            LICENCES.contains(&licence.trim().trim_matches(|c| c == '(' || c == ')'))
        })
    })
}

#[test]
fn licence_expressions_are_read_as_spdx() {
    assert!(is_acceptable("MIT OR GPL-3.0"));
    assert!(is_acceptable("(MIT OR Apache-2.0) AND Unicode-3.0"));
    assert!(!is_acceptable("MIT AND GPL-3.0"));
    assert!(!is_acceptable("none"));
}

#[test]
fn the_policy_file_lists_the_same_licences() {
    let policy = std::fs::read_to_string(root().join("deny.toml")).expect("deny.toml");
    let missing: Vec<_> = LICENCES
        .iter()
        .filter(|licence| !policy.contains(&format!("\"{licence}\"")))
        .collect();
    assert!(missing.is_empty(), "not in deny.toml: {missing:?}");
}

/// The pages of the documentation with their paths from the root.
fn pages() -> Vec<(PathBuf, String)> {
    let folders = [
        "",
        "docs",
        "docs/decisions",
        "examples",
        "examples/go",
        "examples/python",
    ];
    let mut found = Vec::new();
    for folder in folders {
        for entry in std::fs::read_dir(root().join(folder)).expect("folder") {
            let path = entry.expect("entry").path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = std::fs::read_to_string(&path).expect("UTF-8");
                found.push((path, text));
            }
        }
    }
    assert!(found.len() > 15, "the search for pages is broken");
    found
}

/// The name that a heading is linked by.
fn anchor(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = words
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn links_of_the_documentation_lead_somewhere() {
    let mut wrong = Vec::new();
    let mut followed = 0;
    for (page, text) in pages() {
        // A link to a website has a colon.
        let links = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split_once(')'));
        for (link, _) in links.filter(|(link, _)| !link.contains(':') && !link.contains(' ')) {
            let (target, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match target {
                "" => page.clone(),
                target => page.parent().expect("in a folder").join(target),
            };
            let leads = heading.is_empty() && target.exists()
                || std::fs::read_to_string(&target).is_ok_and(|text| {
                    let mut headings = text.lines().filter(|line| line.starts_with('#'));
                    headings.any(|line| anchor(line) == heading)
                });
            followed += 1;
            if !leads {
                wrong.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(followed > 50, "the search for links is broken");
    assert!(wrong.is_empty(), "links to nowhere:\n{}", wrong.join("\n"));
}
