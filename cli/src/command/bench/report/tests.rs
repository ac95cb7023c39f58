//! What the answers say, figure by figure.

use std::time::{Duration, Instant};

use super::*;

const LIMITS: Limits = Limits {
    sync_4k_us_p50: 170.0,
    overwrite_sync_64k_mb_s: 250.0,
    overwrite_sync_1m_mb_s: 1_000.0,
    sequential_write_mb_s: 400.0,
    sequential_read_mb_s: 900.0,
    loopback_rtt_us_p50: 30.0,
};

#[derive(Serialize)]
struct Parameters {
    record_size: u64,
}

/// 4 s with 500,000 records of 1,000 bytes, each 0.5 ms late.
fn report(bound: Bound) -> Report<Parameters> {
    let window = Window::new(Instant::now(), Duration::ZERO, Duration::from_secs(4));
    let mut tally = Tally::new(window);
    tally.done(window.from, 500_000, 500_000_000);
    tally.took(
        window.from,
        window.from + Duration::from_micros(500),
        500_000,
    );
    let observed = Observed {
        cpu_seconds: Some(1.5),
        memory_bytes: Some(80 << 20),
        mapped_bytes: Some(256 << 20),
    };
    let parameters = Parameters { record_size: 1_000 };
    Report::new(window, tally, observed, Some(LIMITS), bound, parameters)
}

#[test]
fn json_has_the_documented_fields_in_order() {
    let json = serde_json::to_string_pretty(&report(Bound::OverwriteSync)).unwrap();
    assert_eq!(
        json,
        r#"{
  "records_per_second": 125000.0,
  "megabytes_per_second": 125.0,
  "latency_us": {
    "p50": 500.2,
    "p90": 500.2,
    "p99": 500.2,
    "p999": 500.2,
    "p9999": 500.2,
    "max": 500.2
  },
  "broker_cpu_seconds_per_gb": 3.0,
  "broker_memory_bytes": 83886080,
  "broker_mapped_bytes": 268435456,
  "limits": {
    "sync_4k_us_p50": 170.0,
    "overwrite_sync_64k_mb_s": 250.0,
    "overwrite_sync_1m_mb_s": 1000.0,
    "sequential_write_mb_s": 400.0,
    "sequential_read_mb_s": 900.0,
    "loopback_rtt_us_p50": 30.0
  },
  "limit_ratio": {
    "limit": "overwrite_sync_64k_mb_s",
    "ratio": 0.5
  },
  "errors": 0,
  "unsent": 0,
  "record_size": 1000
}"#
    );
}

#[test]
fn people_read_what_bounds_the_figure() {
    let text = report(Bound::OverwriteSync).text();
    assert_eq!(
        text,
        "RECORDS/S      125000\n\
         MB/S           125.0\n\
         BROKER CPU     3.00 s/GB\n\
         BROKER MEMORY  80.0 MiB, and 256 MiB of mapped files\n\
         BOUND          0.50 of the disk's 64 KiB overwrite limit (250 MB/s)\n\
         ERRORS         0\n\
         \n\
         LATENCY  P50     P90     P99     P99.9   P99.99  MAX\n\
         \x20        500 us  500 us  500 us  500 us  500 us  500 us\n"
    );
}

#[test]
fn each_workload_is_held_against_its_own_limit() {
    let words = |bound| {
        report(bound)
            .limit_ratio
            .map(|ratio| (ratio.ratio, ratio.words))
    };
    assert_eq!(
        words(Bound::SequentialWrite),
        Some((
            0.313,
            "0.31 of the disk's sequential write limit (400 MB/s)".into()
        ))
    );
    assert_eq!(
        words(Bound::SyncAndRoundTrip),
        Some((
            2.501,
            "p50 is 300 us more than a sync (170 us) and a round trip (30 us)".into()
        ))
    );
    assert_eq!(words(Bound::None), None);
}

#[test]
fn what_is_not_known_is_null() {
    let window = Window::new(Instant::now(), Duration::ZERO, Duration::from_secs(1));
    let observed = Observed {
        cpu_seconds: Some(1.0),
        ..Observed::default()
    };
    let report = Report::new(
        window,
        Tally::new(window),
        observed,
        None,
        Bound::OverwriteSync,
        (),
    );
    assert_eq!(
        report.broker_cpu_seconds_per_gb, None,
        "no records, no cost of them"
    );
    assert_eq!((report.latency_us, report.limit_ratio), (None, None));
}

#[test]
fn records_that_fail_fail_the_benchmark() {
    let mut report = report(Bound::None);
    assert_eq!(report.check(), Ok(()));
    report.errors = 2;
    report.first_error = Some("the disk is full".into());
    assert_eq!(
        report.check().unwrap_err().to_string(),
        "error: 2 records failed, the first of them: the disk is full"
    );
}

#[test]
fn a_rate_that_was_not_sustained_is_called_so() {
    let mut report = report(Bound::None);
    report.unsent = 7;
    assert!(
        report
            .text()
            .contains("NOT SUSTAINED  7 records could not be sent in time\n")
    );
}
