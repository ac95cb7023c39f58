//! What the HTTP listener shows.

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use highwater_proto::v1::HealthState;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;

use crate::health::Readiness;
use crate::metrics::{Metrics, Sources, groups, topics};
use crate::service::GroupLags;

/// Content type of pages for people.
pub(super) const TEXT: &str = "text/plain; charset=utf-8";
/// Content type of Prometheus' text format.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The pages of one broker, from the start of its process on.
pub(crate) struct Pages {
    readiness: Readiness,
    metrics: Arc<Metrics>,
    /// Absent while the broker starts.
    sources: OnceLock<Sources>,
    /// Likewise.
    lags: OnceLock<GroupLags>,
}

impl Pages {
    /// The pages of a broker that starts.
    pub(crate) fn new(readiness: Readiness, metrics: Arc<Metrics>) -> Self {
        Self {
            readiness,
            metrics,
            sources: OnceLock::new(),
            lags: OnceLock::new(),
        }
    }

    /// The broker has started: there is more to show.
    pub(crate) fn complete(&self, sources: Sources, lags: GroupLags) {
        // Only the first call counts, and a broker makes one.
        let _first = self.sources.set(sources);
        let _first = self.lags.set(lags);
    }

    /// Whether clients are served, and what somebody should know.
    pub(super) fn ready(&self) -> Response<Full<Bytes>> {
        let Some(sources) = self.sources.get() else {
            return not_ready("it starts: it reads its data directory");
        };
        if !self.readiness.is_ready() {
            return not_ready("it stops, or does not listen yet");
        }
        let findings = sources.health.findings();
        let mut text = String::new();
        for finding in &findings {
            let state = match finding.state() {
                HealthState::Critical => "critical",
                HealthState::Warning => "warning",
                HealthState::Ok | HealthState::Unspecified => "note",
            };
            // Writing to a string does not fail.
            let _written = writeln!(text, "{state} {}: {}", finding.reason, finding.message);
        }
        if sources.health.store().health().poisoned.is_some() {
            return page(
                StatusCode::SERVICE_UNAVAILABLE,
                TEXT,
                format!("not ready: nothing can be written\n{text}"),
            );
        }
        page(StatusCode::OK, TEXT, format!("ready\n{text}"))
    }

    /// The main page for Prometheus.
    pub(super) fn metrics(&self) -> Response<Full<Bytes>> {
        let text = self.metrics.scrape(self.sources.get());
        page(StatusCode::OK, PROMETHEUS, text)
    }

    /// The page with what can be told per topic.
    pub(super) fn topics(&self) -> Response<Full<Bytes>> {
        let text = self
            .sources
            .get()
            .map(|sources| topics::render(&sources.hosted.load()));
        page(StatusCode::OK, PROMETHEUS, text.unwrap_or_default())
    }

    /// The page with the lag of consumer groups.
    pub(super) async fn groups(&self) -> Response<Full<Bytes>> {
        let lags = match self.lags.get() {
            Some(lags) => lags.measure().await,
            None => Vec::new(),
        };
        page(StatusCode::OK, PROMETHEUS, groups::render(&lags))
    }
}

fn not_ready(why: &str) -> Response<Full<Bytes>> {
    let text = format!("not ready: {why}\n");
    page(StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
}

pub(super) fn page(
    status: StatusCode,
    content_type: &'static str,
    text: String,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
