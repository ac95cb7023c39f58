//! A call of the API as a span, where the feature `otlp` is compiled in; nothing otherwise.

use std::future::Future;

use highwater_proto::ApiError;
use http::HeaderMap;

/// The target of these spans. Their level is the lowest, so that logs do not show them and without an exporter they
/// are not made.
#[cfg(feature = "otlp")]
pub(crate) const CALL_TARGET: &str = "highwater_call";

/// The span of one call.
#[derive(Debug)]
pub(super) struct CallSpan {
    #[cfg(feature = "otlp")]
    span: tracing::Span,
}

#[cfg(not(feature = "otlp"))]
impl CallSpan {
    pub(super) fn begin(_method: Option<&str>, _headers: &HeaderMap) -> Self {
        Self {}
    }

    pub(super) fn enclose<F: Future>(&self, call: F) -> F {
        call
    }

    pub(super) fn failed(&self, _error: &ApiError) {}
}

#[cfg(feature = "otlp")]
impl CallSpan {
    /// Begins the span of a call of `method`, in the trace that `headers` name.
    pub(super) fn begin(method: Option<&str>, headers: &HeaderMap) -> Self {
        use opentelemetry::propagation::TextMapPropagator as _;
        use opentelemetry_sdk::propagation::TraceContextPropagator;
        use tracing_opentelemetry::OpenTelemetrySpanExt as _;

        let span = tracing::trace_span!(
            target: CALL_TARGET,
            "call",
            otel.name = method.unwrap_or("unknown"),
            otel.kind = "server",
            rpc.system = "grpc",
            otel.status_code = tracing::field::Empty,
            error.type = tracing::field::Empty,
        );
        if !span.is_disabled() {
            let caller = TraceContextPropagator::new().extract(&Carrier(headers));
            // Fails only where no exporter listens any more.
            let _set = span.set_parent(caller);
        }
        Self { span }
    }

    /// The future during which the span is open.
    pub(super) fn enclose<F: Future>(&self, call: F) -> impl Future<Output = F::Output> + use<F> {
        use tracing::Instrument as _;
        call.instrument(self.span.clone())
    }

    /// The call ends with `error`.
    pub(super) fn failed(&self, error: &ApiError) {
        self.span.record("otel.status_code", "ERROR");
        self.span.record("error.type", error.reason_name());
    }
}

/// The headers of a call, for the propagator.
#[cfg(feature = "otlp")]
struct Carrier<'a>(&'a HeaderMap);

#[cfg(feature = "otlp")]
impl opentelemetry::propagation::Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
