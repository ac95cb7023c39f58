//! The memory of answers is held until clients have taken them.

use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use tonic::transport::{Channel, Endpoint};
use v1::subscribe_request::Request as Asked;

use highwater_proto::v1;

use crate::raw_call::{framed, send};
use crate::test_broker::{TestBroker, fetch_from};

const VALUE_BYTES: usize = 900_000;

/// Bytes of requests and answers that the broker holds.
async fn held(broker: &TestBroker) -> u64 {
    let request = v1::DescribeClusterRequest {};
    let described = broker.cluster().describe_cluster(request).await.unwrap();
    described.into_inner().request_memory_bytes
}

/// A connection on which the transport takes only a little of an answer ahead of its reader.
fn narrow(broker: &TestBroker) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", broker.broker.address())).unwrap();
    endpoint.initial_stream_window_size(64 << 10).connect_lazy()
}

/// The messages of a call, framed.
fn of(messages: &[impl prost::Message]) -> Vec<u8> {
    let framed = messages
        .iter()
        .map(|message| framed(&message.encode_to_vec()));
    framed.collect::<Vec<_>>().concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_has_not_taken_yet_is_paid_for() {
    let broker = TestBroker::start().await;
    broker.create("t", 1).await;
    let value = "x".repeat(VALUE_BYTES);
    broker.append_values("t", 0, &[&value]).await;
    let fetch = v1::FetchRequest {
        partitions: vec![fetch_from("t", 0, 0)],
        max_bytes: 1 << 20,
        ..Default::default()
    };
    let assign = v1::SubscribeAssign {
        partitions: vec![fetch_from("t", 0, 0)],
        ..Default::default()
    };
    let credit = v1::SubscribeCredit { bytes: 1 << 20 };
    let subscribe = [Asked::Assign(assign), Asked::Credit(credit)];
    let subscribe = subscribe.map(|asked| v1::SubscribeRequest {
        request: Some(asked),
    });
    for (method, body) in [("Fetch", of(&[fetch])), ("Subscribe", of(&subscribe))] {
        let path = format!("/highwater.v1.FetchService/{method}");
        let mut answer = send(&narrow(&broker), &path, &[], body).await;
        // With its first bytes here, all of it was handed to the transport over there.
        let first = answer.body_mut().frame().await.unwrap().unwrap();
        assert!(first.into_data().unwrap().len() < VALUE_BYTES / 2);
        assert!(held(&broker).await > VALUE_BYTES as u64, "{method}");

        drop(answer);
        let give_up_at = Instant::now() + Duration::from_secs(60);
        while held(&broker).await >= VALUE_BYTES as u64 {
            assert!(Instant::now() < give_up_at, "{method}: it is held for ever");
        }
    }
}
