//! What only shows in processes that run side by side: starts and stops, kills, pipes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Output, Stdio};

use support::{DevBroker, highwater};

/// `highwater`, asking this broker.
fn client(address: &str, arguments: &[&str]) -> Command {
    let mut command = highwater();
    command.args(["--brokers", address]).args(arguments);
    command
}

fn run(address: &str, arguments: &[&str]) -> Output {
    let output = client(address, arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    output
}

fn lines(output: &Output) -> Vec<String> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// A producer whose input is written by the test.
fn producer(address: &str, topic: &str) -> (Child, ChildStdin) {
    let mut process = client(address, &["produce", topic, "-K", ":"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let input = process.stdin.take().unwrap();
    (process, input)
}

/// A consumer that follows a topic from its start, and the lines it prints.
fn follower(address: &str, topic: &str) -> (Child, impl Iterator<Item = String> + use<>) {
    let mut process = client(address, &["consume", topic])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(process.stdout.take().unwrap());
    (process, output.lines().map(Result::unwrap))
}

#[test]
fn dev_keeps_its_data_over_a_clean_stop() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let arguments = [
        "--data-dir",
        data.to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
    ];
    let broker = DevBroker::start(&arguments);
    run(broker.address(), &["topic", "create", "t", "-p", "1"]);
    let (mut process, mut input) = producer(broker.address(), "t");
    input.write_all(b"k:one\nk:two\n").unwrap();
    drop(input);
    assert!(process.wait().unwrap().success());
    assert!(broker.stop().success());

    let broker = DevBroker::start(&arguments);
    let output = run(broker.address(), &["consume", "t", "-e"]);
    assert_eq!(lines(&output), ["one", "two"]);
}

#[test]
fn a_data_directory_serves_one_broker_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let _broker = DevBroker::start(&["--data-dir", data, "--listen", "127.0.0.1:0"]);
    let output = highwater()
        .args(["dev", "--data-dir", data, "--listen", "127.0.0.1:0"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty(), "{output:?}");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.starts_with("error: cannot start a broker"), "{error}");
    assert!(error.contains("--data-dir DIR"), "{error}");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let broker = DevBroker::ephemeral();
    let output = highwater()
        .args(["dev", "--ephemeral", "--listen", broker.address()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains(broker.address()), "{error}");
    assert!(error.contains("--listen 127.0.0.1:0"), "{error}");
}

#[test]
fn a_producer_goes_on_when_its_broker_was_killed_and_is_back() {
    const KEYS: usize = 7;
    const ROUNDS: usize = 4;
    const RECORDS_PER_ROUND: usize = 5_000;
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let mut broker = DevBroker::start(&["--data-dir", data, "--listen", "127.0.0.1:0"]);
    let address = broker.address().to_owned();
    run(&address, &["topic", "create", "t", "-p", "3"]);
    let (mut process, mut input) = producer(&address, "t");
    for round in 0..ROUNDS {
        for record in 0..RECORDS_PER_ROUND {
            let number = round * RECORDS_PER_ROUND + record;
            writeln!(input, "k{}:{number}", number % KEYS).unwrap();
        }
        // Some of it is acknowledged, some is on its way, some is not sent.
        broker.kill();
        broker = DevBroker::start(&["--data-dir", data, "--listen", &address]);
    }
    drop(input);
    assert!(process.wait().unwrap().success());

    let output = run(&address, &["consume", "t", "-e", "-f", r"%k %v\n"]);
    let mut numbers: [Vec<usize>; KEYS] = Default::default();
    for line in lines(&output) {
        let (key, value) = line.split_once(' ').unwrap();
        let key: usize = key.strip_prefix('k').unwrap().parse().unwrap();
        numbers[key].push(value.parse().unwrap());
    }
    for (key, numbers) in numbers.iter().enumerate() {
        let expected: Vec<usize> = (key..ROUNDS * RECORDS_PER_ROUND).step_by(KEYS).collect();
        assert_eq!(*numbers, expected, "key {key}");
    }
}

#[test]
fn records_are_printed_as_they_come() {
    let broker = DevBroker::ephemeral();
    run(broker.address(), &["topic", "create", "t", "-p", "1"]);
    let (mut consumer, mut printed) = follower(broker.address(), "t");
    let (mut producer, mut input) = producer(broker.address(), "t");
    for word in ["one", "two", "three"] {
        // The producer's input and the consumer's output both stay open: nothing may wait for more.
        writeln!(input, "k:{word}").unwrap();
        assert_eq!(printed.next().unwrap(), word);
    }
    drop(input);
    assert!(producer.wait().unwrap().success());
    consumer.kill().unwrap();
    consumer.wait().unwrap();
}

#[test]
fn a_consumer_ends_when_nobody_reads_it() {
    let broker = DevBroker::ephemeral();
    run(broker.address(), &["topic", "create", "t", "-p", "1"]);
    let (mut consumer, mut printed) = follower(broker.address(), "t");
    let (mut process, mut input) = producer(broker.address(), "t");
    input.write_all(b"k:one\n").unwrap();
    drop(input);
    assert!(process.wait().unwrap().success());
    assert_eq!(printed.next().unwrap(), "one");
    // Nothing more will come for it to notice by.
    drop(printed);
    assert!(consumer.wait().unwrap().success());
}
