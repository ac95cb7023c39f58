//! Counts what is inside messages of other brokers before they are decoded.
//!
//! An empty message inside another takes two bytes on the wire and some hundred in memory, so that a limit on bytes alone would let
//! one message fill the memory. What brokers ask each other, and what they answer, comes in through a body that counts on the way, and
//! that ends the call where a message holds more than any broker says.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Frame, SizeHint};
use prometheus::IntCounterVec;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::{Channel, Error};
use tower::{Layer, Service};

use super::wire::MAX_ENTRIES;
use crate::server::meter::{Measure, Meter};
use crate::server::schema::{MessageId, Method, Schema};

/// Messages, strings and byte strings in one message. Each entry is two, and what they stand in has room beside them.
const MAX_ELEMENTS: usize = 2 * MAX_ENTRIES + (64 << 10);

/// Makes bodies that count.
#[derive(Clone, Debug)]
pub(crate) struct Counting {
    schema: Arc<Schema>,
    /// What was not taken, by cause.
    refused: IntCounterVec,
}

impl Counting {
    pub(super) fn new(refused: IntCounterVec) -> Self {
        let schema = Schema::parse(highwater_proto::FILE_DESCRIPTOR_SET)
            .expect("the compiled protos are a descriptor set");
        Self {
            schema: Arc::new(schema),
            refused,
        }
    }

    /// `inner`, whose messages are of this kind. The size of messages is for their decoder to judge.
    fn body(&self, message: Option<MessageId>, inner: Body) -> Body {
        let measure = Measure {
            schema: Arc::clone(&self.schema),
            message,
            limit_name: "what a frame can hold",
            max_bytes: u32::MAX,
            elements_limit_name: "the most that a message between brokers holds",
            max_elements: u32::try_from(MAX_ELEMENTS).unwrap_or(u32::MAX),
            memory_wait: None,
        };
        Body::new(CountedBody {
            inner,
            meter: Meter::new(measure),
            refused: self.refused.clone(),
        })
    }

    fn method(&self, path: &str) -> Option<Method> {
        self.schema.method(path)
    }
}

impl<S> Layer<S> for Counting {
    type Service = CountedRequests<S>;

    fn layer(&self, inner: S) -> CountedRequests<S> {
        CountedRequests {
            inner,
            counting: self.clone(),
        }
    }
}

/// Takes requests of other brokers.
#[derive(Clone, Debug)]
pub(crate) struct CountedRequests<S> {
    inner: S,
    counting: Counting,
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for CountedRequests<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        let method = self.counting.method(request.uri().path());
        let message = method.map(|method| method.request);
        let request = request.map(|body| self.counting.body(message, body));
        self.inner.call(request)
    }
}

/// Takes answers of another broker.
#[derive(Clone, Debug)]
pub(crate) struct CountedChannel {
    channel: Channel,
    counting: Counting,
}

impl CountedChannel {
    pub(super) fn new(channel: Channel, counting: Counting) -> Self {
        Self { channel, counting }
    }
}

impl Service<Request<Body>> for CountedChannel {
    type Response = Response<Body>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.channel.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let method = self.counting.method(request.uri().path());
        let message = method.map(|method| method.response);
        let counting = self.counting.clone();
        let answering = self.channel.call(request);
        Box::pin(async move {
            let answer = answering.await?;
            Ok(answer.map(|body| counting.body(message, body)))
        })
    }
}

/// See the module.
struct CountedBody {
    inner: Body,
    meter: Meter,
    refused: IntCounterVec,
}

impl hyper::body::Body for CountedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(error) = this.meter.push(data)
        {
            this.refused.with_label_values(&["elements"]).inc();
            return Poll::Ready(Some(Err(error.into_status())));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};
    use tonic::Code;

    use super::*;
    use crate::metrics;

    #[tokio::test]
    async fn what_is_in_answers_is_counted_before_it_is_decoded() {
        let metrics = metrics::Peers::default();
        let counting = Counting::new(metrics.refused.clone());
        let seed = counting.method("/highwater.internal.v1.PeerService/Seed");
        let message = seed.map(|method| method.response);
        let answer = |entries: usize| {
            let message = [0x1a, 0].repeat(entries);
            let length = u32::try_from(message.len()).unwrap().to_be_bytes();
            [&[0][..], &length, &message].concat()
        };
        let received = async |bytes: Vec<u8>| {
            let inner = Body::new(Full::new(Bytes::from(bytes)));
            counting.body(message, inner).collect().await
        };
        let most = answer(MAX_ELEMENTS);
        assert_eq!(received(most.clone()).await.unwrap().to_bytes(), most);
        let refused = received(answer(MAX_ELEMENTS + 1)).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        let count = metrics.refused.with_label_values(&["elements"]);
        assert_eq!(count.get(), 1);
    }
}
