//! The body of a request, measured while it arrives: size, content and memory of each message are checked before it is
//! decoded.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use highwater_proto::{ApiError, Reason};
use hyper::body::{Body, Frame, SizeHint};
use tonic::Status;

use super::meter::{Measure, Meter, Need};
use crate::budget::{Budget, Charge};

/// The memory of the messages that have arrived and that nobody has taken over yet, oldest first.
///
/// A handler of a stream takes one for each message it reads and keeps it as long as it keeps the message. The rest is
/// given back when the request ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct MessageCharges(Arc<Mutex<VecDeque<Charge>>>);

impl MessageCharges {
    /// The memory of the next message.
    pub(crate) fn take(&self) -> Option<Charge> {
        self.lock().pop_front()
    }

    fn begin(&self, charge: Charge) {
        self.lock().push_back(charge);
    }

    fn extend(&self, charge: Charge) {
        let mut charges = self.lock();
        match charges.back_mut() {
            Some(last) => last.merge(charge),
            None => charges.push_back(charge),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Charge>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The answer to what does not fit the memory budget now.
pub(crate) fn out_of_memory(budget: &Budget) -> ApiError {
    ApiError::new(
        Reason::Throttled,
        format!(
            "the broker holds as many bytes of requests as it may ({} of requests.memory_bytes): try again shortly",
            budget.total_bytes()
        ),
    )
    .with("limit", "requests.memory_bytes")
    .retry_after(Duration::from_millis(200))
}

type Charging = Pin<Box<dyn Future<Output = Option<Charge>> + Send>>;

/// A request body that lets no byte pass before it is checked and paid for.
pub(super) struct MeteredBody {
    inner: tonic::body::Body,
    meter: Meter,
    budget: Budget,
    charges: MessageCharges,
    held: Option<(Bytes, Vec<Need>, Charging)>,
}

impl MeteredBody {
    pub(super) fn new(
        inner: tonic::body::Body,
        measure: Measure,
        budget: Budget,
        charges: MessageCharges,
    ) -> Self {
        Self {
            inner,
            meter: Meter::new(measure),
            budget,
            charges,
            held: None,
        }
    }

    /// Gives the memory to the messages that need it.
    fn pay(charges: &MessageCharges, needs: Vec<Need>, mut charge: Charge) {
        for need in needs {
            match need {
                Need::Begin(bytes) => charges.begin(charge.split(bytes)),
                Need::More(bytes) => charges.extend(charge.split(bytes)),
            }
        }
    }

    /// Holds `data` until its memory is there.
    fn hold(&mut self, data: Bytes, needs: Vec<Need>) {
        let bytes = needs
            .iter()
            .map(|need| match need {
                Need::Begin(bytes) | Need::More(bytes) => bytes,
            })
            .sum();
        let budget = self.budget.clone();
        let charging: Charging = match (budget.try_charge(bytes), self.meter.measure.memory_wait) {
            (Some(charge), _) => Box::pin(std::future::ready(Some(charge))),
            (None, None) => Box::pin(std::future::ready(None)),
            (None, Some(wait)) => Box::pin(async move {
                tokio::time::timeout(wait, budget.charge(bytes))
                    .await
                    .ok()
                    .flatten()
            }),
        };
        self.held = Some((data, needs, charging));
    }
}

impl Body for MeteredBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        loop {
            if let Some((_, _, charging)) = &mut this.held {
                let charge = ready!(charging.as_mut().poll(cx));
                let (data, needs, _) = this.held.take().expect("it was there a line ago");
                let Some(charge) = charge else {
                    return Poll::Ready(Some(Err(out_of_memory(&this.budget).into_status())));
                };
                Self::pay(&this.charges, needs, charge);
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            let frame = match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                other => return Poll::Ready(other),
            };
            let data = match frame.into_data() {
                Ok(data) => data,
                Err(frame) => return Poll::Ready(Some(Ok(frame))),
            };
            match this.meter.push(&data) {
                Ok(needs) if needs.is_empty() => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(needs) => this.hold(data, needs),
                Err(error) => return Poll::Ready(Some(Err(error.into_status()))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use prost::Message as _;

    use super::*;
    use crate::server::meter::ELEMENT_BYTES;
    use crate::server::schema::Schema;

    fn measure(max_bytes: u32, max_elements: u32) -> Measure {
        let schema = Schema::parse(highwater_proto::FILE_DESCRIPTOR_SET).unwrap();
        let method = schema.method("/highwater.v1.FetchService/Fetch").unwrap();
        Measure {
            schema: Arc::new(schema),
            message: Some(method.request),
            limit_name: "requests.max_control_bytes",
            max_bytes,
            elements_limit_name: "requests.max_elements",
            max_elements,
            memory_wait: None,
        }
    }

    fn framed(partitions: usize) -> Vec<u8> {
        let message = highwater_proto::v1::FetchRequest {
            partitions: vec![highwater_proto::v1::FetchPartition::default(); partitions],
            ..Default::default()
        }
        .encode_to_vec();
        let mut bytes = vec![0];
        bytes.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        bytes.extend(message);
        bytes
    }

    async fn collect(
        bytes: Vec<u8>,
        measure: Measure,
        budget: &Budget,
        charges: &MessageCharges,
    ) -> Result<Bytes, Status> {
        let inner = tonic::body::Body::new(http_body_util::Full::new(Bytes::from(bytes)));
        let body = MeteredBody::new(inner, measure, budget.clone(), charges.clone());
        Ok(body.collect().await?.to_bytes())
    }

    #[test]
    fn messages_are_found_whatever_the_pieces() {
        let bytes = [framed(3), framed(0), framed(5)].concat();
        for piece in [1, 2, 4, 5, 6, bytes.len()] {
            let mut meter = Meter::new(measure(100, 100));
            let (mut begun, mut more) = (Vec::new(), 0);
            for piece in bytes.chunks(piece) {
                for need in meter.push(piece).unwrap() {
                    match need {
                        Need::Begin(bytes) => begun.push(bytes),
                        Need::More(bytes) => more += bytes,
                    }
                }
            }
            assert_eq!((begun, more), (vec![6, 0, 10], 8 * ELEMENT_BYTES));
        }
    }

    #[tokio::test]
    async fn each_message_pays_and_gives_back() {
        let budget = Budget::new(10_000);
        let charges = MessageCharges::default();
        let bytes = [framed(3), framed(5)].concat();
        let passed = collect(bytes.clone(), measure(100, 100), &budget, &charges).await;
        assert_eq!(passed.unwrap(), bytes);
        assert_eq!(budget.free_bytes(), 10_000 - 16 - 8 * ELEMENT_BYTES);
        assert_eq!(charges.take().unwrap().bytes(), 6 + 3 * ELEMENT_BYTES);
        assert_eq!(charges.take().unwrap().bytes(), 10 + 5 * ELEMENT_BYTES);
        assert!(charges.take().is_none());
        assert_eq!(budget.free_bytes(), 10_000);
    }

    #[tokio::test]
    async fn what_is_too_large_is_refused_by_its_prefix() {
        let budget = Budget::new(10_000);
        let charges = MessageCharges::default();
        let prefix = framed(40)[..5].to_vec();
        let status = collect(prefix, measure(79, 100), &budget, &charges)
            .await
            .unwrap_err();
        assert_eq!(ApiError::from(status).reason, Reason::LimitExceeded);
        let status = collect(framed(40), measure(80, 39), &budget, &charges)
            .await
            .unwrap_err();
        assert_eq!(
            ApiError::from(status).metadata["limit"],
            "requests.max_elements"
        );
        let compressed = vec![1, 0, 0, 0, 0];
        let status = collect(compressed, measure(80, 39), &budget, &charges)
            .await
            .unwrap_err();
        assert_eq!(ApiError::from(status).reason, Reason::InvalidRequest);
    }

    #[tokio::test]
    async fn without_memory_a_request_is_refused_and_a_stream_waits() {
        let budget = Budget::new(20_000);
        let held = budget.try_charge(19_000).unwrap();
        let charges = MessageCharges::default();
        let status = collect(framed(10), measure(100, 100), &budget, &charges)
            .await
            .unwrap_err();
        assert_eq!(ApiError::from(status).reason, Reason::Throttled);

        let mut patient = measure(100, 100);
        patient.memory_wait = Some(Duration::from_secs(60));
        let bytes = framed(10);
        let mut waiting = std::pin::pin!(collect(bytes.clone(), patient, &budget, &charges));
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(held);
        assert_eq!(waiting.await.unwrap(), bytes);
    }
}
