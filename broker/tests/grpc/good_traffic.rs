//! A client that does everything right, beside whatever a test does to the broker.

use highwater_proto::v1;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::test_broker::{TestBroker, batch, named, outcome};

const TOPIC: &str = "good";
/// Batches sent and not answered yet.
const IN_FLIGHT: u64 = 4;
/// Room for them on the way to the transport.
const ROOM: usize = 4;

/// Traffic under way. See that nothing harmed it with [`GoodTraffic::end`].
pub(crate) struct GoodTraffic {
    stop: CancellationToken,
    /// Number of batches sent, all of them acknowledged in order.
    sending: JoinHandle<u64>,
}

impl GoodTraffic {
    /// Begins to append to a topic of its own, over the connection that the test uses, too.
    pub(crate) async fn start(broker: &TestBroker) -> Self {
        broker.create(TOPIC, 1).await;
        let stop = CancellationToken::new();
        let (requests, sent) = mpsc::channel(ROOM);
        let mut producer = broker.producer();
        let until = stop.clone();
        let sending = tokio::spawn(async move {
            for number in 0..IN_FLIGHT {
                requests.send(request(number)).await.unwrap();
            }
            let answers = producer.produce_stream(ReceiverStream::new(sent)).await;
            let mut answers = answers.unwrap().into_inner();
            let (mut requests, mut next, mut acked) = (Some(requests), IN_FLIGHT, 0);
            while let Some(answer) = answers.next().await {
                for one in answer.unwrap().outcomes {
                    assert_eq!(one.correlation_id, acked);
                    let ack = outcome(one.outcome.unwrap()).unwrap();
                    assert_eq!(ack.base_offset, acked);
                    acked += 1;
                    if until.is_cancelled() {
                        requests = None;
                    } else if let Some(requests) = &requests {
                        requests.send(request(next)).await.unwrap();
                        next += 1;
                    }
                }
            }
            assert_eq!(acked, next, "every batch is answered");
            acked
        });
        Self { stop, sending }
    }

    /// Ends it. Everything was acknowledged without an error and in order, and is there once.
    pub(crate) async fn end(self, broker: &TestBroker) {
        self.stop.cancel();
        let sent = self.sending.await.unwrap();
        let mut found = Vec::new();
        while (found.len() as u64) < sent {
            let more = broker.values(TOPIC, 0, found.len() as u64).await;
            assert!(!more.is_empty(), "{} of {sent} are there", found.len());
            found.extend(more);
        }
        let expected: Vec<_> = (0..sent).map(|number| number.to_string()).collect();
        assert_eq!(found, expected);
        assert_eq!(broker.high_watermark(TOPIC, 0).await, sent);
    }
}

fn request(number: u64) -> v1::ProduceStreamRequest {
    v1::ProduceStreamRequest {
        items: vec![v1::ProduceStreamItem {
            correlation_id: number,
            item: Some(v1::ProduceItem {
                partition: Some(named(TOPIC, 0)),
                payload: Some(v1::produce_item::Payload::RecordBatch(batch(&[
                    &number.to_string()
                ]))),
            }),
        }],
        ..Default::default()
    }
}
