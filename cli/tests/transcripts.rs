//! Sessions with the command line, as a user sees them, run against a real broker.
//!
//! A transcript is a text file in `tests/transcripts`:
//! ```text
//! # A comment.
//! $ highwater topic describe nothing
//! ! error: cannot describe topic "nothing": there is no such topic
//! = 1
//! ```
//! A line after `$ ` is run by the shell. Below it stands what was printed: stdout as it is, stderr after `! `, and an
//! exit status other than 0 after `= `. `[..]` matches any part of a line; `BROKER` stands for the broker's address.
//! With `UPDATE_TRANSCRIPTS=1` in the environment the files are rewritten with what was printed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::HashSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::DevBroker;

#[test]
fn topics_are_created_changed_and_deleted() {
    run("topics");
}

#[test]
fn topics_become_what_files_say() {
    run("declared");
}

#[test]
fn records_go_in_and_come_out() {
    run("records");
}

#[test]
fn reading_begins_where_it_is_told_to() {
    run("offsets");
}

#[test]
fn json_is_for_programs() {
    run("json");
}

#[test]
fn groups_share_topics_and_remember_where_they_are() {
    run("groups");
}

#[test]
fn the_cluster_is_shown() {
    run("cluster");
}

#[test]
fn replicas_and_brokers_are_moved_where_there_is_somewhere_to_go() {
    run("placement");
}

#[test]
fn profiles_name_ways_to_reach_brokers() {
    run("profiles");
}

#[test]
fn the_cluster_is_watched() {
    run("top");
}

#[test]
fn shells_and_man_are_served() {
    run("shell");
}

#[test]
fn errors_say_what_why_and_what_to_do() {
    run("errors");
}

/// A command and what it printed.
#[derive(Debug)]
struct Step {
    /// Comments and empty lines above the command.
    preamble: String,
    command: String,
    output: Vec<String>,
}

fn run(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/transcripts")
        .join(format!("{name}.txt"));
    let text = std::fs::read_to_string(&path).unwrap();
    let steps = parse(&text);
    let broker = DevBroker::ephemeral();
    let directory = tempfile::tempdir().unwrap();

    let mut actual = String::new();
    let mut differences = String::new();
    for step in &steps {
        let mut printed = execute(&step.command, broker.address(), directory.path());
        if is_match(&step.output, &printed) {
            printed.clone_from(&step.output);
        } else {
            writeln!(
                differences,
                "\n$ {}\nexpected:\n{}\nprinted:\n{}",
                step.command,
                step.output.join("\n"),
                printed.join("\n")
            )
            .unwrap();
        }
        writeln!(actual, "{}$ {}", step.preamble, step.command).unwrap();
        for line in printed {
            writeln!(actual, "{line}").unwrap();
        }
    }
    if std::env::var_os("UPDATE_TRANSCRIPTS").is_some() {
        std::fs::write(&path, actual).unwrap();
        return;
    }
    assert!(differences.is_empty(), "{}:{differences}", path.display());
}

fn parse(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut preamble = String::new();
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step {
                preamble: std::mem::take(&mut preamble),
                command: command.into(),
                output: Vec::new(),
            });
        } else if line.is_empty() || line.starts_with("# ") {
            writeln!(preamble, "{line}").unwrap();
        } else {
            // An empty line within an output: it was taken for the preamble of a further command.
            let step = steps.last_mut().expect("output follows a command");
            step.output
                .extend(std::mem::take(&mut preamble).lines().map(str::to_owned));
            step.output.push(line.into());
        }
    }
    steps
}

fn execute(command: &str, broker_address: &str, directory: &Path) -> Vec<String> {
    let mut search_path = vec![support::binary_directory()];
    search_path.extend(std::env::split_paths(
        &std::env::var_os("PATH").unwrap_or_default(),
    ));
    let output = Command::new("sh")
        .args(["-c", command])
        .current_dir(directory)
        .env("PATH", join_paths(&search_path))
        .env("HIGHWATER_BROKERS", broker_address)
        .env("COLUMNS", "100")
        .env("XDG_CONFIG_HOME", directory)
        .env_remove("HIGHWATER_PROFILE")
        .env_remove("HIGHWATER_LOG")
        .output()
        .unwrap();
    let normal = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(broker_address, "BROKER");
    let mut lines: Vec<String> = normal(&output.stdout).lines().map(str::to_owned).collect();
    lines.extend(
        normal(&output.stderr)
            .lines()
            .map(|line| format!("! {line}").trim_end().to_owned()),
    );
    match output.status.code() {
        Some(0) => {}
        Some(code) => lines.push(format!("= {code}")),
        None => lines.push(format!("= {}", output.status)),
    }
    lines
}

fn join_paths(paths: &[PathBuf]) -> std::ffi::OsString {
    std::env::join_paths(paths).unwrap()
}

fn is_match(expected: &[String], printed: &[String]) -> bool {
    expected.len() == printed.len()
        && expected
            .iter()
            .zip(printed)
            .all(|(pattern, line)| is_line_match(pattern, line))
}

/// Whether `line` is `pattern`, where each `[..]` stands for any text.
fn is_line_match(pattern: &str, line: &str) -> bool {
    let Some((beginning, rest)) = pattern.split_once("[..]") else {
        return pattern == line;
    };
    let Some(line) = line.strip_prefix(beginning) else {
        return false;
    };
    (0..=line.len())
        .filter(|&at| line.is_char_boundary(at))
        .any(|at| is_line_match(rest, &line[at..]))
}

#[test]
fn wildcards_match_any_part_of_a_line() {
    assert!(is_line_match("a [..] c", "a b b c"));
    assert!(is_line_match("[..]", ""));
    assert!(!is_line_match("a [..] c", "a b d"));
    assert!(!is_line_match("a", "a b"));
}

#[test]
fn every_json_field_is_documented() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let page = read("../docs/cli.md");
    let documented: HashSet<&str> = page
        .split(|character: char| !character.is_ascii_alphanumeric() && character != '_')
        .collect();
    let mut fields = 0;
    for name in ["json", "cluster", "declared", "profiles"] {
        for line in read(&format!("tests/transcripts/{name}.txt")).lines() {
            // Documents have a field on a line.
            let Some((field, _)) = line
                .trim()
                .strip_prefix('"')
                .and_then(|l| l.split_once("\":"))
            else {
                continue;
            };
            assert!(documented.contains(field), "{field} is not in docs/cli.md");
            fields += 1;
        }
    }
    assert!(fields > 100, "the transcripts show documents");
}
