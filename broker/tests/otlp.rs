//! The broker program exports the spans of calls to a collector.
#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something unexpected happens"
)]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use highwater_proto::v1;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use v1::admin_service_client::AdminServiceClient;
use v1::produce_service_client::ProduceServiceClient;

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
/// The whole test takes a second; a broker that exports nothing must end it, too.
const PATIENCE: Duration = Duration::from_secs(60);

/// A collector that hands on what it gets.
struct Collector(mpsc::Sender<Span>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans;
        let scopes = resources.into_iter().flat_map(|one| one.scope_spans);
        for span in scopes.flat_map(|scope| scope.spans) {
            self.0.send(span).await.unwrap();
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn collect() -> (String, mpsc::Receiver<Span>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (spans, collected) = mpsc::channel(1_000);
    let serving = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(Collector(spans)))
        .serve_with_incoming(TcpIncoming::from(listener));
    tokio::spawn(serving);
    (endpoint, collected)
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A broker that exports to `endpoint`, and where clients connect.
async fn start(endpoint: &str, data_dir: &std::path::Path) -> (Running, Channel) {
    let mut broker = Command::new(env!("CARGO_BIN_EXE_highwater-broker"))
        .arg("--data-dir")
        .arg(data_dir)
        .args(["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
        .args(["--peer-listen", "127.0.0.1:0"])
        .args(["--set", &format!("otlp.endpoint={endpoint}")])
        .args(["--set", "otlp.sample_percent=0"])
        .env("OTEL_BSP_SCHEDULE_DELAY", "20")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(broker.stdout.take().unwrap()).lines();
    let broker = Running(broker);
    let ready = tokio::task::spawn_blocking(move || lines.next()).await;
    let ready = ready.unwrap().unwrap().unwrap();
    let address = ready.strip_prefix("ready ").unwrap();
    let channel = Channel::from_shared(format!("http://{address}"))
        .unwrap()
        .connect_lazy();
    (broker, channel)
}

/// A request in a trace that its caller records.
fn traced<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let parent = format!("00-{TRACE_ID}-00f067aa0ba902b7-01");
    let parent = MetadataValue::try_from(parent).unwrap();
    request.metadata_mut().insert("traceparent", parent);
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_spans_in_the_trace_of_their_caller() {
    let directory = tempfile::tempdir().unwrap();
    let (endpoint, mut collected) = collect().await;
    let (_broker, channel) = start(&endpoint, &directory.path().join("data")).await;

    // No caller's trace, and none of its own is sampled: no span.
    let create = v1::CreateTopicRequest {
        name: "t".to_owned(),
        partitions: 1,
        ..Default::default()
    };
    let mut admin = AdminServiceClient::new(channel.clone());
    admin.create_topic(create).await.unwrap();
    let produce = v1::ProduceRequest {
        items: vec![v1::ProduceItem {
            partition: Some(v1::TopicPartition {
                topic: "t".to_owned(),
                ..Default::default()
            }),
            payload: Some(v1::produce_item::Payload::Records(v1::Records {
                records: vec![v1::Record {
                    value: Some("v".into()),
                    ..Default::default()
                }],
            })),
        }],
        ..Default::default()
    };
    let mut producer = ProduceServiceClient::new(channel.clone());
    producer.produce(traced(produce)).await.unwrap();
    let absent = v1::DescribeTopicRequest {
        name: "absent".to_owned(),
        ..Default::default()
    };
    admin.describe_topic(traced(absent)).await.unwrap_err();

    let mut next = async || {
        let span = tokio::time::timeout(PATIENCE, collected.recv()).await;
        span.unwrap().unwrap()
    };
    let produced = next().await;
    assert_eq!(produced.name, "Produce");
    assert_eq!(hex(&produced.trace_id), TRACE_ID);
    assert_eq!(hex(&produced.parent_span_id), "00f067aa0ba902b7");
    assert!(produced.end_time_unix_nano > produced.start_time_unix_nano);
    let failed = next().await;
    assert_eq!(failed.name, "DescribeTopic");
    assert_eq!(failed.status.unwrap().code, 2);
    assert!(
        failed
            .attributes
            .iter()
            .any(|attribute| attribute.key == "error.type"
                && format!("{attribute:?}").contains("UNKNOWN_TOPIC_OR_PARTITION")),
        "{:?}",
        failed.attributes
    );
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
