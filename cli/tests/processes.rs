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

/// A process whose stderr the test reads line by line.
fn spawn_told(command: &mut Command) -> (Child, impl Iterator<Item = String> + use<>) {
    let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
    let told = BufReader::new(process.stderr.take().unwrap());
    (process, told.lines().map(Result::unwrap))
}

fn interrupt(process: &Child) {
    let id = i32::try_from(process.id()).unwrap();
    let id = rustix::process::Pid::from_raw(id).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
}

#[test]
fn an_absent_broker_is_told_of_and_so_is_its_return() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let broker = DevBroker::start(&["--data-dir", data, "--listen", "127.0.0.1:0"]);
    let address = broker.address().to_owned();
    run(&address, &["topic", "create", "t", "-p", "1"]);
    let mut command = client(&address, &["produce", "t"]);
    let (mut producer, mut produced) = spawn_told(command.stdin(Stdio::piped()));
    let mut input = producer.stdin.take().unwrap();
    let mut command = client(&address, &["consume", "t"]);
    let (mut consumer, mut consumed) = spawn_told(command.stdout(Stdio::piped()));
    let mut printed = BufReader::new(consumer.stdout.take().unwrap()).lines();
    writeln!(input, "one").unwrap();
    assert_eq!(printed.next().unwrap().unwrap(), "one");

    broker.kill();
    writeln!(input, "two").unwrap();
    let absence = format!("no broker answers at {address} (Connection refused); waiting");
    assert_eq!(consumed.next().unwrap(), absence);
    let line = produced.next().unwrap();
    assert!(line.starts_with(&absence), "{line}");

    let _broker = DevBroker::start(&["--data-dir", data, "--listen", &address]);
    assert_eq!(printed.next().unwrap().unwrap(), "two");
    for told in [&mut produced.next(), &mut consumed.next()] {
        let line = told.take().unwrap();
        assert!(line.starts_with("going on after "), "{line}");
    }
    drop(input);
    assert_eq!(produced.next().unwrap(), "2 records produced");
    assert!(producer.wait().unwrap().success());
    interrupt(&consumer);
    assert_eq!(consumer.wait().unwrap().code(), Some(130));
    assert_eq!(consumed.next(), None, "Ctrl-C is no failure to tell of");
}

#[test]
fn an_interrupted_producer_says_what_is_stored() {
    let broker = DevBroker::ephemeral();
    run(broker.address(), &["topic", "create", "t", "-p", "1"]);
    let (consumer, mut printed) = follower(broker.address(), "t");
    let mut command = client(broker.address(), &["produce", "t"]);
    let (mut producer, mut told) = spawn_told(command.stdin(Stdio::piped()));
    let mut input = producer.stdin.take().unwrap();
    input.write_all(b"one\ntwo\n").unwrap();
    // Once they are printed they are stored, and the producer is waiting for more input.
    assert_eq!(printed.next().unwrap(), "one");
    assert_eq!(printed.next().unwrap(), "two");
    interrupt(&producer);
    assert_eq!(producer.wait().unwrap().code(), Some(130));
    let told: Vec<String> = told
        .by_ref()
        .filter(|line| !line.starts_with("interrupted: waiting for"))
        .collect();
    assert_eq!(
        told,
        [
            "2 records produced",
            "interrupted: lines 1 to 2 are stored, the rest was not sent"
        ]
    );
    drop(input);
    let mut consumer = consumer;
    consumer.kill().unwrap();
    consumer.wait().unwrap();
}

#[test]
fn an_interrupted_producer_without_a_broker_ends_at_the_second_interrupt() {
    let broker = DevBroker::ephemeral();
    run(broker.address(), &["topic", "create", "t", "-p", "1"]);
    let (consumer, mut printed) = follower(broker.address(), "t");
    let mut command = client(broker.address(), &["produce", "t"]);
    let (mut producer, mut told) = spawn_told(command.stdin(Stdio::piped()));
    let mut input = producer.stdin.take().unwrap();
    input.write_all(b"one\n").unwrap();
    assert_eq!(printed.next().unwrap(), "one");
    broker.kill();
    input.write_all(b"two\n").unwrap();
    let line = told.next().unwrap();
    assert!(line.contains("not acknowledged yet"), "{line}");
    interrupt(&producer);
    let line = told.next().unwrap();
    assert!(line.contains("Ctrl-C again does not wait"), "{line}");
    interrupt(&producer);
    assert_eq!(producer.wait().unwrap().code(), Some(130));
    // A consumer may read a record whose acknowledgement never reaches its producer.
    let told: Vec<String> = told.collect();
    let acknowledged = [
        "1 record produced",
        "interrupted: line 1 is stored, 1 line behind may be",
    ];
    let not_acknowledged = [
        "0 records produced",
        "interrupted: no line is known to be stored, 2 lines behind may be",
    ];
    assert!(told == acknowledged || told == not_acknowledged, "{told:?}");
    let mut consumer = consumer;
    consumer.kill().unwrap();
    consumer.wait().unwrap();
}

#[test]
fn replicas_become_what_a_file_says_and_a_second_time_nothing_changes() {
    let broker = DevBroker::start(&["-n", "3", "--ephemeral", "--listen", "127.0.0.1:0"]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("topics.yaml");
    let apply = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        let applied = lines(&run(broker.address(), &["apply", "-f", file]));
        // The status is not 0 where something differs.
        assert!(lines(&run(broker.address(), &["diff", "-f", file])).is_empty());
        applied
    };
    apply("topics: [{name: orders, partitions: 2, replicas: 1}]");
    let wider = "topics: [{name: orders, replicas: 3, configs: {min.insync.replicas: 2}}]";
    assert_eq!(
        apply(wider),
        [
            "~ topic orders",
            "    ~ replicas             1 -> 3",
            "    ~ min.insync.replicas  1 -> 2",
        ]
    );
}

#[test]
fn a_terminal_that_was_watched_on_is_given_back() {
    // The only program that has a terminal at hand everywhere; elsewhere than on Linux it is called otherwise.
    let has_terminal = Command::new("script").arg("--version").output();
    if !has_terminal.is_ok_and(|output| output.status.success()) {
        return;
    }
    let broker = DevBroker::ephemeral();
    let watched = format!(
        "stty -g; {} top -i 10ms; echo status $?; stty -g",
        env!("CARGO_BIN_EXE_highwater")
    );
    let mut terminal = Command::new("script")
        .args(["-q", "-e", "-c", &watched, "/dev/null"])
        .env("HIGHWATER_BROKERS", broker.address())
        .env("HIGHWATER_PROFILE", "")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keys = terminal.stdin.take().unwrap();
    let mut output = BufReader::new(terminal.stdout.take().unwrap()).lines();
    let modes = output.next().unwrap().unwrap();
    let shown = output.by_ref().map(Result::unwrap);
    let page: Vec<String> = shown
        .take_while(|line| !line.starts_with("1       up"))
        .collect();
    assert!(page[0].starts_with("\x1b[?1049h"), "{page:?}");
    keys.write_all(b"q").unwrap();
    let rest: Vec<String> = output.map(Result::unwrap).collect();
    let [.., status, modes_after] = &rest[..] else {
        panic!("{rest:?}");
    };
    let given_back = "\x1b[?25h\x1b[?1049lstatus 0";
    assert!(status.trim_end().ends_with(given_back), "{rest:?}");
    assert_eq!(&modes, modes_after);
    drop(keys);
    assert!(terminal.wait().unwrap().success());
}
