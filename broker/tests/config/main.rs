//! What people read when their configuration is wrong, and when it is right: the program as a process, held to
//! `messages.txt`.
//!
//! A case in that file is a heading that says what must hold, the files to write (`--- NAME`), the environment
//! (`--- environment`), and the command line (`--- run`); below `--- exit STATUS` stands what was printed. With
//! `UPDATE_TRANSCRIPTS=1` in the environment the file is rewritten with what was printed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::process::Command;

/// One case of the file.
#[derive(Default)]
struct Case {
    /// As it stands in the file, up to what was printed.
    text: String,
    files: Vec<(String, String)>,
    variables: Vec<(String, String)>,
    arguments: Vec<String>,
    printed: String,
}

#[test]
fn messages_are_those_of_the_transcript() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/messages.txt");
    let text = std::fs::read_to_string(&path).unwrap();
    let cases = parse(&text);
    assert!(cases.len() > 10, "the transcript is not read");
    let mut rewritten = String::new();
    let mut wrong = Vec::new();
    for case in &cases {
        let printed = run(case);
        if printed != case.printed {
            wrong.push(format!(
                "{}expected:\n{}found:\n{printed}",
                case.text, case.printed
            ));
        }
        rewritten += &format!("{}{printed}\n", case.text);
    }
    if std::env::var_os("UPDATE_TRANSCRIPTS").is_some() {
        std::fs::write(&path, rewritten.trim_end().to_owned() + "\n").unwrap();
    } else {
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

#[test]
fn values_in_force_are_printed_with_their_sources_and_can_be_fed_back() {
    let mut case = Case {
        files: vec![(
            "broker.toml".to_owned(),
            "[fetch]\nmax_partitions = 7\n".to_owned(),
        )],
        variables: vec![("HIGHWATER_RACK".to_owned(), "a \"b\"".to_owned())],
        ..Case::default()
    };
    let mut print = |arguments: &str| {
        case.arguments = arguments.split(' ').map(str::to_owned).collect();
        let printed = run(&case);
        printed
            .strip_prefix("--- exit 0\n")
            .expect(&printed)
            .to_owned()
    };
    let toml = print("config print --config broker.toml --listen 127.0.0.1:0");
    for line in [
        "max_partitions = 7  # broker.toml:2",
        "rack = 'a \"b\"'  # environment variable HIGHWATER_RACK",
        "address = \"127.0.0.1:0\"  # --listen",
        "broker_id = 1  # default",
    ] {
        assert!(toml.lines().any(|found| found == line), "{line} in {toml}");
    }
    let json = print("config print --config broker.toml --listen 127.0.0.1:0 --format json");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let entries = json.as_array().unwrap();
    let entry = |key: &str| entries.iter().find(|entry| entry["key"] == key).unwrap();
    assert_eq!(
        entry("fetch.max_partitions").to_string(),
        r#"{"key":"fetch.max_partitions","value":7,"default":10000,"source":"file","place":"broker.toml:2"}"#
    );
    assert_eq!(entry("rack")["place"], "HIGHWATER_RACK");
    assert_eq!(entry("broker_id")["place"], serde_json::Value::Null);

    let again = Case {
        files: vec![("printed.toml".to_owned(), toml)],
        arguments: "config print --config printed.toml --format json"
            .split(' ')
            .map(str::to_owned)
            .collect(),
        ..Case::default()
    };
    let again: serde_json::Value =
        serde_json::from_str(run(&again).strip_prefix("--- exit 0\n").unwrap()).unwrap();
    for (first, second) in entries.iter().zip(again.as_array().unwrap()) {
        assert_eq!(first["value"], second["value"], "{first}");
    }
}

/// Splits the file at its headings.
fn parse(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut part = String::new();
    for line in text.lines() {
        if line.starts_with("## ") {
            cases.push(Case::default());
            part = String::new();
        }
        let case = cases.last_mut().expect("a heading stands first");
        if let Some(name) = line.strip_prefix("--- ") {
            part = name.to_owned();
        }
        if part.starts_with("exit") {
            case.printed += &format!("{line}\n");
            continue;
        }
        case.text += &format!("{line}\n");
        if line.starts_with("--- ") || line.starts_with("## ") || line.is_empty() {
            continue;
        }
        match part.as_str() {
            "run" => case.arguments = line.split(' ').skip(1).map(str::to_owned).collect(),
            "environment" => {
                let (name, value) = line.split_once('=').expect("NAME=VALUE");
                case.variables.push((name.to_owned(), value.to_owned()));
            }
            name => match case.files.iter_mut().find(|(known, _)| known == name) {
                Some((_, text)) => *text += &format!("{line}\n"),
                None => case.files.push((name.to_owned(), format!("{line}\n"))),
            },
        }
    }
    for case in &mut cases {
        case.printed = format!("{}\n", case.printed.trim_end());
    }
    cases
}

/// Runs the program as the case says, in a directory of its own.
fn run(case: &Case) -> String {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in &case.files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater-broker"));
    command.current_dir(directory.path()).args(&case.arguments);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HIGHWATER_") {
            command.env_remove(name);
        }
    }
    let output = command
        .envs(case.variables.iter().cloned())
        .output()
        .unwrap();
    let status = output.status.code().expect("it exits by itself");
    format!(
        "--- exit {status}\n{}{}",
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap()
    )
}
