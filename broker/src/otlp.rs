//! Spans of calls on their way to an OpenTelemetry collector, over OTLP with gRPC.
//!
//! Each call of the API is one span, which continues the trace that its caller names in a `traceparent` header (W3C Trace
//! Context). Left out: spans within a call and per batch of a stream; what those take is in the metrics.

use anyhow::Context as _;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::{Subscriber, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::registry::LookupSpan;

use crate::config::Config;
use crate::server::CALL_TARGET;

/// Exports in the background until stopped. What the collector does not take is lost after a few tries.
pub(crate) struct Exporter {
    provider: SdkTracerProvider,
}

impl Exporter {
    /// Needs to be called within a Tokio runtime. A collector that does not answer is no error: it may come.
    ///
    /// # Errors
    /// An endpoint that is no URL.
    pub(crate) fn start(config: &Config) -> anyhow::Result<Self> {
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_endpoint(&config.otlp.endpoint)
            .build()
            .context("spans cannot be exported to otlp.endpoint")?;
        let resource = Resource::builder()
            .with_service_name("highwater-broker")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new(
                "service.instance.id",
                config.broker_id.to_string(),
            ))
            .build();
        let share = f64::from(config.otlp.sample_percent) / 100.0;
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(share)));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            .with_sampler(sampler)
            .build();
        Ok(Self { provider })
    }

    /// What takes the spans of calls, and nothing else, out of `tracing`.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let calls = Targets::new().with_target(CALL_TARGET, LevelFilter::TRACE);
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("highwater"))
            .with_filter(calls)
    }

    /// Exports what is left. Blocks for a few seconds at most; not to be called on a thread of the runtime.
    pub(crate) fn stop(self) {
        if let Err(error) = self.provider.shutdown() {
            warn!(%error, "some spans were not exported");
        }
    }
}
