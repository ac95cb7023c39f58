//! Where traces go.

use super::check::Check;
use super::setting::settings;

settings! {
    /// Traces of calls, for an OpenTelemetry collector. Only in a broker that was built with the feature `otlp`.
    pub struct OtlpConfig {
        /// URL of the collector's gRPC endpoint, such as `http://127.0.0.1:4317`; empty: calls are not traced.
        pub endpoint: String = String::new(),
        /// Calls of a hundred that are traced, of those that belong to no trace of their caller. Tracing each call costs
        /// some microseconds.
        pub sample_percent: u32 = 1,
    }
}

impl OtlpConfig {
    pub(super) fn check(&self, check: &mut Check) {
        let is_url = ["http://", "https://"]
            .iter()
            .any(|scheme| self.endpoint.starts_with(scheme));
        check.that(
            "otlp.endpoint",
            format_args!("{:?}", self.endpoint),
            self.endpoint.is_empty() || (cfg!(feature = "otlp") && is_url),
            "empty, or a URL such as http://127.0.0.1:4317 where the broker was built with the feature `otlp`",
        );
        check.within("otlp.sample_percent", self.sample_percent, 0, 100);
    }
}
