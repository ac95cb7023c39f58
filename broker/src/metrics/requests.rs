//! Calls to the API.

use std::time::Duration;

use highwater_proto::ApiError;
use prometheus::{Histogram, IntCounterVec, IntGauge};

use super::buckets::SECONDS;
use super::catalog::Catalog;

/// The label of a method that does not exist.
const UNKNOWN: &str = "unknown";

/// Calls by method.
#[derive(Debug)]
pub(crate) struct Requests {
    /// By the method's number.
    methods: Vec<Method>,
    errors: IntCounterVec,
}

#[derive(Debug)]
struct Method {
    name: String,
    duration: Histogram,
    open: IntGauge,
}

impl Requests {
    pub(super) fn new(catalog: &mut Catalog, methods: &[String]) -> Self {
        catalog.section("Requests");
        let durations = catalog.histograms(
            "highwater_request_duration_seconds",
            "Time from a call's headers to its answer, which for a stream is the start of its answer. Its count is the \
             number of calls",
            &["method"],
            SECONDS,
        );
        let open = catalog.gauges(
            "highwater_open_streams",
            "Streams that are open",
            &["method"],
        );
        let errors = catalog.counters(
            "highwater_request_errors_total",
            "Calls that ended with an error, and errors of single partitions within answers, by the reason that the \
             client was told",
            &["method", "reason"],
        );
        let methods = methods.iter().map(|name| Method {
            name: name.clone(),
            duration: durations.with_label_values(&[name]),
            open: open.with_label_values(&[name]),
        });
        Self {
            methods: methods.collect(),
            errors,
        }
    }

    /// A call was answered.
    pub(crate) fn answered(&self, method: Option<usize>, took: Duration) {
        if let Some(method) = self.method(method) {
            method.duration.observe(took.as_secs_f64());
        }
    }

    /// A call, or a partition in its answer, met `error`.
    pub(crate) fn failed(&self, method: Option<usize>, error: &ApiError) {
        let method = self.method(method).map_or(UNKNOWN, |method| &method.name);
        self.failed_with(method, error.reason_name());
    }

    /// The same by names.
    pub(crate) fn failed_with(&self, method: &str, reason: &str) {
        self.errors.with_label_values(&[method, reason]).inc();
    }

    /// A stream is open until the answer is dropped.
    pub(crate) fn open(&self, method: Option<usize>) -> Option<OpenStream> {
        let gauge = self.method(method)?.open.clone();
        gauge.inc();
        Some(OpenStream(gauge))
    }

    fn method(&self, number: Option<usize>) -> Option<&Method> {
        self.methods.get(number?)
    }
}

/// A stream that is counted as open.
#[derive(Debug)]
pub(crate) struct OpenStream(IntGauge);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.dec();
    }
}
