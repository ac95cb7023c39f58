//! The benchmarks from end to end, tiny: that they measure, answer in the documented shape and clean up. Not how fast.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use support::{DevBroker, highwater};

/// A run as short as it can be.
const SHORT: [&str; 4] = ["--duration", "300ms", "--warmup", "50ms"];

/// Limits measured as shortly as it can be.
const SHORT_PROBE: [&str; 4] = ["--probe-time", "10ms", "--probe-size", "1MiB"];

/// What comes before the parameters.
const FIGURES: [&str; 10] = [
    "records_per_second",
    "megabytes_per_second",
    "latency_us",
    "broker_cpu_seconds_per_gb",
    "broker_memory_bytes",
    "broker_mapped_bytes",
    "limits",
    "limit_ratio",
    "errors",
    "unsent",
];

const LIMITS: [&str; 6] = [
    "sync_4k_us_p50",
    "overwrite_sync_64k_mb_s",
    "overwrite_sync_1m_mb_s",
    "sequential_write_mb_s",
    "sequential_read_mb_s",
    "loopback_rtt_us_p50",
];

const PERCENTILES: [&str; 6] = ["p50", "p90", "p99", "p999", "p9999", "max"];

fn bench(arguments: &[&str]) -> Command {
    let mut command = highwater();
    command.args(["bench", "--format", "json"]).args(arguments);
    command
}

/// The JSON of a run that succeeds.
fn json(command: &mut Command) -> Value {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn names(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

fn topics(broker: &DevBroker) -> Value {
    let mut list = highwater();
    json(list.args([
        "--brokers",
        broker.address(),
        "--format",
        "json",
        "topic",
        "list",
    ]))
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).unwrap().next().is_none()
}

#[test]
fn disk_answers_with_the_limits_and_leaves_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let answer = json(bench(&["disk", "--data-dir", path]).args(SHORT_PROBE));
    assert_eq!(names(&answer["limits"]), LIMITS);
    assert_eq!(names(&answer["loopback_rtt_us"]), PERCENTILES);
    let sizes = answer["overwrite_sync"].as_array().unwrap();
    let sizes: Vec<_> = sizes
        .iter()
        .map(|size| size["bytes"].as_u64().unwrap())
        .collect();
    assert_eq!(sizes, [4 << 10, 64 << 10, 1 << 20]);
    assert!(is_empty(directory.path()));
}

#[test]
fn an_embedded_broker_is_measured_beside_the_disk_and_goes_away() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = bench(&["produce", "--embedded"]);
    command
        .args(SHORT)
        .args(SHORT_PROBE)
        .env("TMPDIR", directory.path());
    let answer = json(&mut command);
    let names_of_all = names(&answer);
    let (figures, parameters) = names_of_all.split_at(FIGURES.len());
    assert_eq!(figures, FIGURES);
    assert_eq!(
        parameters,
        [
            "workload",
            "topic",
            "partitions",
            "record_size",
            "batch_size",
            "compression",
            "duration_seconds",
            "warmup_seconds",
            "producers",
            "in_flight",
            "no_idempotence",
            "rate",
            "linger_seconds",
            "raw",
            "replicas",
            "write_caching",
            "retention_bytes",
            "segment_bytes",
            "embedded",
            "data_dir"
        ]
    );
    assert_eq!(names(&answer["latency_us"]), PERCENTILES);
    assert_eq!(names(&answer["limits"]), LIMITS);
    assert_eq!(answer["limit_ratio"]["limit"], "overwrite_sync_64k_mb_s");
    assert_eq!(answer["errors"], 0);
    assert!(
        answer["records_per_second"].as_f64() > Some(0.0),
        "{answer}"
    );
    assert!(answer["broker_memory_bytes"].as_u64() > Some(0), "{answer}");
    assert!(is_empty(directory.path()), "its data went away with it");
}

#[test]
fn produce_measures_a_running_broker_in_each_way() {
    let broker = DevBroker::ephemeral();
    let process = broker.id().to_string();
    for way in [
        &["--partitions", "3", "--producers", "2", "-z", "lz4"][..],
        &["--rate", "2000", "--linger", "1ms"],
        &["--raw", "--in-flight", "2"],
        &["--no-idempotence", "--write-caching", "--in-flight", "64"],
    ] {
        let arguments = [
            "produce",
            "--brokers",
            broker.address(),
            "--broker-pid",
            &process,
        ];
        let answer = json(bench(&arguments).args(SHORT).args(way));
        assert!(
            answer["records_per_second"].as_f64() > Some(0.0),
            "{way:?} {answer}"
        );
        assert!(
            answer["broker_memory_bytes"].as_u64() > Some(0),
            "{way:?} {answer}"
        );
        assert_eq!(answer["limits"], Value::Null, "{way:?}");
        assert_eq!(topics(&broker), Value::Array(vec![]), "{way:?}");
    }
}

#[test]
fn consume_reads_a_topic_it_filled_or_one_that_is_there() {
    let broker = DevBroker::ephemeral();
    let arguments = [
        "consume",
        "--brokers",
        broker.address(),
        "--fill-size",
        "100KiB",
    ];
    let kept = [
        "--topic",
        "kept",
        "--keep-topic",
        "--partitions",
        "2",
        "--consumers",
        "2",
    ];
    for topic in [&[][..], &kept, &["--topic", "kept"]] {
        let answer = json(bench(&arguments).args(SHORT).args(topic));
        assert!(
            answer["records_per_second"].as_f64() > Some(0.0),
            "{answer}"
        );
        assert_eq!(answer["latency_us"], Value::Null);
        assert_eq!(answer["errors"], 0);
    }
    assert_eq!(topics(&broker)[0]["topic"], "kept");
    assert_eq!(topics(&broker).as_array().unwrap().len(), 1);
}

#[test]
fn latency_has_one_record_in_flight_and_then_a_rate() {
    let broker = DevBroker::ephemeral();
    let arguments = ["latency", "--brokers", broker.address(), "--rate", "1000"];
    let answer = json(bench(&arguments).args(SHORT).args(["--partitions", "2"]));
    assert_eq!(names(&answer)[..FIGURES.len()], FIGURES);
    assert_eq!(names(&answer["latency_us"]), PERCENTILES);
    let end_to_end = &answer["end_to_end"];
    assert_eq!(names(&end_to_end["latency_us"]), PERCENTILES);
    assert_eq!(end_to_end["errors"], 0);
    assert!(
        end_to_end["records_per_second"].as_f64() > Some(0.0),
        "{answer}"
    );
}

#[test]
fn people_read_figures_and_what_bounds_them() {
    let mut command = highwater();
    command.args(["bench", "latency", "--embedded", "--rate", "1000"]);
    let output = command.args(SHORT).args(SHORT_PROBE).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "One record in flight",
        "BOUND",
        "End to end at 1000 records/s",
        "P99.99",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_topic_without_records_cannot_be_read() {
    let broker = DevBroker::ephemeral();
    let address = ["--brokers", broker.address()];
    let created = highwater()
        .args(address)
        .args(["topic", "create", "empty"])
        .output()
        .unwrap();
    assert!(created.status.success(), "{created:?}");
    let output = bench(&["consume", "--topic", "empty"])
        .args(address)
        .output()
        .unwrap();
    assert_fails(&output, 1, "topic \"empty\" holds no records");
}

#[test]
fn an_interrupted_benchmark_deletes_its_topic() {
    let broker = DevBroker::ephemeral();
    let mut process = bench(&[
        "produce",
        "--duration",
        "10m",
        "--brokers",
        broker.address(),
    ])
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    while topics(&broker) == Value::Array(vec![]) {
        assert_eq!(process.try_wait().unwrap(), None, "it runs for 10 minutes");
    }
    let id = rustix::process::Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    let output = process.wait_with_output().unwrap();
    assert_fails(&output, 130, "the benchmark was interrupted");
    assert_eq!(topics(&broker), Value::Array(vec![]));
}

fn assert_fails(output: &Output, status: i32, why: &str) {
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains(why), "{error}");
}
