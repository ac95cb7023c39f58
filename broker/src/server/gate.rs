//! What every call passes before its handler: metadata size, deadline, message size, memory.
//!
//! The gate also gives the statuses that the gRPC layer makes by itself (undecodable message, unknown method) the form
//! of ours, so that a client finds a reason in every error.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use highwater_proto::{ApiError, Reason};
use http::{HeaderMap, Request, Response};
use hyper::body::{Frame, SizeHint};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::call_span::CallSpan;
use super::listener::Origin;
use super::meter::Measure;
use super::metered_body::{MessageCharges, MeteredBody};
use super::paid_body::{AnswerCharges, paid};
use super::schema::{Method, Schema};
use super::stall::Stalls;
use crate::budget::Budget;
use crate::config::{Http2Config, RequestsConfig};
use crate::metrics::{Metrics, OpenStream};

/// Bytes that HTTP/2 counts for each header beside its name and value (RFC 9113, 6.5.2).
const HEADER_OVERHEAD_BYTES: usize = 32;

/// Makes a [`Gate`] of each service.
#[derive(Clone, Debug)]
pub(super) struct GateLayer {
    rules: Arc<Rules>,
}

#[derive(Debug)]
struct Rules {
    schema: Arc<Schema>,
    budget: Budget,
    stalls: Stalls,
    requests: RequestsConfig,
    max_metadata_bytes: u32,
    metrics: Arc<Metrics>,
}

impl GateLayer {
    pub(super) fn new(
        schema: Schema,
        budget: Budget,
        stalls: Stalls,
        requests: &RequestsConfig,
        http2: &Http2Config,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            rules: Arc::new(Rules {
                schema: Arc::new(schema),
                budget,
                stalls,
                requests: requests.clone(),
                max_metadata_bytes: http2.max_metadata_bytes,
                metrics,
            }),
        }
    }
}

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate {
            inner,
            rules: Arc::clone(&self.rules),
        }
    }
}

/// Checks each call before its handler sees it.
#[derive(Clone, Debug)]
pub(super) struct Gate<S> {
    inner: S,
    rules: Arc<Rules>,
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl<S> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        let began = Instant::now();
        let method = self.rules.schema.method(request.uri().path());
        let number = method.map(|method| method.number);
        let admitted = match self.rules.admit(request, method) {
            Ok(admitted) => admitted,
            Err(error) => {
                self.rules.metrics.requests.failed(number, &error);
                return Box::pin(std::future::ready(Ok(refuse(error))));
            }
        };
        let Admitted {
            request,
            charges,
            deadline,
        } = admitted;
        let connection = request
            .extensions()
            .get()
            .map(|origin: &Origin| origin.cut.clone());
        let name = number.and_then(|number| self.rules.schema.method_names().get(number));
        let span = CallSpan::begin(name.map(String::as_str), request.headers());
        let rules = Arc::clone(&self.rules);
        let answer = span.enclose(self.inner.call(request));
        Box::pin(async move {
            let response = match deadline {
                None => answer.await?,
                Some(deadline) => match tokio::time::timeout(deadline, answer).await {
                    Ok(response) => response?,
                    Err(_) => refuse(too_late(deadline)),
                },
            };
            drop(charges);
            let response = rules.count(method, began.elapsed(), &span, finish(response));
            Ok(match connection {
                Some(connection) => response.map(|body| rules.stalls.watch(body, connection)),
                None => response,
            })
        })
    }
}

struct Admitted {
    request: Request<Body>,
    /// Kept until the answer is there: it holds the memory of the request.
    charges: MessageCharges,
    deadline: Option<Duration>,
}

impl Rules {
    fn admit(&self, request: Request<Body>, method: Option<Method>) -> Result<Admitted, ApiError> {
        self.check_metadata(request.headers())?;
        let path = request.uri().path();
        let is_stream = method.is_some_and(|method| method.is_stream);
        let asked = client_deadline(request.headers());
        if asked == Some(Duration::ZERO) {
            return Err(too_late(Duration::ZERO));
        }
        let longest = Duration::from_millis(u64::from(self.requests.timeout_ms));
        let deadline = (!is_stream).then(|| asked.map_or(longest, |asked| asked.min(longest)));

        let is_produce = path.starts_with("/highwater.v1.ProduceService/Produce");
        let measure = Measure {
            schema: Arc::clone(&self.schema),
            message: method.map(|method| method.request),
            limit_name: if is_produce {
                "requests.max_produce_bytes"
            } else {
                "requests.max_control_bytes"
            },
            max_bytes: if is_produce {
                self.requests.max_produce_bytes
            } else {
                self.requests.max_control_bytes
            },
            elements_limit_name: "requests.max_elements",
            max_elements: self.requests.max_elements,
            memory_wait: is_stream
                .then(|| Duration::from_millis(u64::from(self.requests.memory_wait_ms))),
        };
        let charges = MessageCharges::default();
        let (mut parts, body) = request.into_parts();
        if let Some(deadline) = deadline {
            let deadline = CallDeadline(Instant::now() + deadline);
            parts.extensions.insert(deadline);
        }
        parts.extensions.insert(charges.clone());
        let body = MeteredBody::new(body, measure, self.budget.clone(), charges.clone());
        Ok(Admitted {
            request: Request::from_parts(parts, Body::new(body)),
            charges,
            deadline,
        })
    }

    /// Counts a call that is answered, and what becomes of it if it is a stream.
    fn count(
        &self,
        method: Option<Method>,
        took: Duration,
        span: &CallSpan,
        response: Response<Body>,
    ) -> Response<Body> {
        let number = method.map(|method| method.number);
        self.metrics.requests.answered(number, took);
        if let Some(error) = failure(response.headers()) {
            span.failed(&error);
            self.metrics.requests.failed(number, &error);
            return response;
        }
        let is_stream = method.is_some_and(|method| method.is_stream);
        let open = is_stream.then(|| self.metrics.requests.open(number));
        match open.flatten() {
            None => response,
            Some(open) => {
                let metrics = Arc::clone(&self.metrics);
                response.map(|body| Body::new(CountedBody::new(body, metrics, number, open)))
            }
        }
    }

    fn check_metadata(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let bytes: usize = headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + HEADER_OVERHEAD_BYTES)
            .sum();
        let most = self.max_metadata_bytes;
        if bytes as u64 > u64::from(most) {
            return Err(ApiError::new(
                Reason::LimitExceeded,
                format!(
                    "the request's metadata has {bytes} bytes, server.http2.max_metadata_bytes allows {most}"
                ),
            )
            .with("limit", "server.http2.max_metadata_bytes")
            .with("most", most));
        }
        Ok(())
    }
}

/// The time the client gives the call. A value that is none is ignored, as the gRPC specification has it.
fn client_deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

fn too_late(deadline: Duration) -> ApiError {
    ApiError::new(
        Reason::RequestTimedOut,
        format!(
            "no answer within {} ms, the deadline of the call; it may still be carried out",
            deadline.as_millis()
        ),
    )
}

/// The error in headers or trailers.
fn failure(headers: &HeaderMap) -> Option<ApiError> {
    let status = Status::from_header_map(headers)?;
    (status.code() != Code::Ok).then(|| ApiError::from_status(&status))
}

fn refuse(error: ApiError) -> Response<Body> {
    error.into_status().into_http()
}

/// Gives the response its last form: statuses of the gRPC layer get a reason, memory of the answer stays held until it
/// is sent.
fn finish(response: Response<Body>) -> Response<Body> {
    if let Some(status) = Status::from_header_map(response.headers())
        && status.code() != Code::Ok
        && status.details().is_empty()
    {
        return refuse(explain(&status));
    }
    let (mut parts, body) = response.into_parts();
    let body = match parts.extensions.remove::<AnswerCharges>() {
        Some(charges) => paid(body, charges),
        None => body,
    };
    Response::from_parts(parts, body)
}

/// The meaning of a status that the gRPC layer made by itself. It reports a message that cannot be decoded as INTERNAL
/// (every error of ours has details and does not come here).
pub(crate) fn explain(status: &Status) -> ApiError {
    if !status.details().is_empty() {
        return ApiError::from_status(status);
    }
    match status.code() {
        Code::Internal => ApiError::new(
            Reason::InvalidRequest,
            format!("the request cannot be decoded: {}", status.message()),
        ),
        Code::Unimplemented if status.message().is_empty() => ApiError::new(
            Reason::Unsupported,
            "this broker has no such service or method",
        ),
        _ => ApiError::from_status(status),
    }
}

/// When a unary call is answered with REQUEST_TIMED_OUT at the latest; in its request's extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallDeadline(pub(crate) Instant);

/// The body of a stream: counted as open until it is dropped, and as failed when it ends with an error.
struct CountedBody {
    body: Body,
    metrics: Arc<Metrics>,
    method: Option<usize>,
    /// Held for its drop.
    _open: OpenStream,
}

impl CountedBody {
    fn new(body: Body, metrics: Arc<Metrics>, method: Option<usize>, open: OpenStream) -> Self {
        Self {
            body,
            metrics,
            method,
            _open: open,
        }
    }
}

impl hyper::body::Body for CountedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(error) = frame.trailers_ref().and_then(failure)
        {
            self.metrics.requests.failed(self.method, &error);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(timeout: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", timeout.parse().unwrap());
        headers
    }

    #[test]
    fn deadlines_are_read_in_every_unit_and_nonsense_is_ignored() {
        let cases = [
            ("2H", Some(Duration::from_secs(7200))),
            ("3M", Some(Duration::from_secs(180))),
            ("4S", Some(Duration::from_secs(4))),
            ("5m", Some(Duration::from_millis(5))),
            ("6u", Some(Duration::from_micros(6))),
            ("0n", Some(Duration::ZERO)),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("100000000H", None),
            ("S", None),
            ("-1S", None),
            ("1x", None),
        ];
        for (text, expected) in cases {
            assert_eq!(client_deadline(&headers(text)), expected, "{text}");
        }
        assert_eq!(client_deadline(&HeaderMap::new()), None);
    }

    #[test]
    fn statuses_of_the_grpc_layer_get_reasons() {
        let undecodable = explain(&Status::internal("failed to decode"));
        assert_eq!(undecodable.reason, Reason::InvalidRequest);
        let unknown = explain(&Status::unimplemented(""));
        assert_eq!(unknown.reason, Reason::Unsupported);
        let ours = ApiError::new(Reason::UnknownServerError, "x");
        assert_eq!(explain(&ours.clone().into_status()), ours);
    }
}
