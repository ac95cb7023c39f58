//! Failed requests: what stands in a gRPC status and how a client reads it back.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{Reason, v1};

/// The domain of every `google.rpc.ErrorInfo` of ours.
pub const ERROR_DOMAIN: &str = "highwater.v1";

/// A failed request.
///
/// It travels as a gRPC status with `google.rpc.ErrorInfo` (reason, domain, metadata) and, when waiting helps,
/// `google.rpc.RetryInfo`. Both directions are here: [`ApiError::into_status`] on the broker,
/// [`ApiError::from_status`] on the client. Where one item of a request fails, it travels as a [`v1::Error`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// Why. [`Reason::UnknownServerError`] when the broker gave a reason that this version does not know.
    pub reason: Reason,
    /// What failed, for a person.
    pub message: String,
    /// Facts for a program, such as the leader's address or the name of a limit.
    pub metadata: BTreeMap<String, String>,
    /// How long to wait before trying again, where the broker knows.
    pub retry_after: Option<Duration>,
    /// Reason and code of a newer broker.
    foreign: Option<Foreign>,
}

/// A reason this version does not know, with what the broker or the code says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Foreign {
    reason: String,
    code: Code,
    retriable: bool,
    definite: bool,
}

impl Foreign {
    /// All that a status tells is its code.
    fn of_status(reason: &str, code: Code) -> Self {
        Self {
            reason: reason.to_owned(),
            code,
            retriable: matches!(code, Code::Unavailable | Code::DeadlineExceeded),
            definite: false,
        }
    }
}

impl ApiError {
    /// An error without metadata.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            metadata: BTreeMap::new(),
            retry_after: None,
            foreign: None,
        }
    }

    /// Adds a fact for programs. Keys are of the form `[a-z_]`.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.metadata.insert(key.to_owned(), value.to_string());
        self
    }

    /// Says how long to wait before trying again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The name of the reason, also of one that this version does not know.
    #[must_use]
    pub fn reason_name(&self) -> &str {
        match &self.foreign {
            Some(foreign) => &foreign.reason,
            None => self.reason.name(),
        }
    }

    /// The gRPC code.
    #[must_use]
    pub fn code(&self) -> Code {
        match &self.foreign {
            Some(foreign) => foreign.code,
            None => self.reason.code(),
        }
    }

    /// Whether the same request can succeed when tried again. See [`Reason::is_retriable`].
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match &self.foreign {
            Some(foreign) => foreign.retriable,
            None => self.reason.is_retriable(),
        }
    }

    /// Whether the request surely had no effect. See [`Reason::is_definite`].
    #[must_use]
    pub fn is_definite(&self) -> bool {
        match &self.foreign {
            Some(foreign) => foreign.definite,
            None => self.reason.is_definite(),
        }
    }

    /// The status that carries this error to a client.
    #[must_use]
    pub fn into_status(self) -> Status {
        let (code, reason) = (self.code(), self.reason_name().to_owned());
        let mut details = ErrorDetails::new();
        let metadata: HashMap<_, _> = self.metadata.into_iter().collect();
        details.set_error_info(reason, ERROR_DOMAIN, metadata);
        if let Some(wait) = self.retry_after {
            details.set_retry_info(Some(wait));
        }
        Status::with_error_details(code, self.message, details)
    }

    /// Reads an error back from a status: one of ours, or one that the transport or a proxy made.
    #[must_use]
    pub fn from_status(status: &Status) -> Self {
        let details = status.check_error_details().unwrap_or_default();
        let retry_after = details.retry_info().and_then(|info| info.retry_delay);
        let mut error = match details.error_info() {
            Some(info) if info.domain == ERROR_DOMAIN => {
                let (reason, foreign) = match info.reason.parse() {
                    Ok(reason) => (reason, None),
                    Err(_) => (
                        Reason::UnknownServerError,
                        Some(Foreign::of_status(&info.reason, status.code())),
                    ),
                };
                let mut error = Self::new(reason, status.message());
                error.metadata = info.metadata.clone().into_iter().collect();
                error.foreign = foreign;
                error
            }
            _ if never_left(status) => Self::new(Reason::BrokerNotAvailable, plain_message(status)),
            _ => Self::new(reason_of_plain(status), plain_message(status)),
        };
        error.retry_after = retry_after;
        error
    }
}

/// Whether a call failed before anything of it was sent: there was no connection and none could be made, or the one there was
/// ended first.
pub fn never_left(status: &Status) -> bool {
    is_unsent(status)
        || source_chain(status).any(<dyn std::error::Error>::is::<tonic::ConnectError>)
}

/// Whether the connection ended before the request was sent by it. Why it did is known to nobody then: who ended it, as a
/// broker does that does not take the client's certificate, says so to the next request.
pub fn is_unsent(status: &Status) -> bool {
    source_chain(status)
        .filter_map(|error| error.downcast_ref::<hyper::Error>())
        .any(hyper::Error::is_canceled)
}

/// What a status came from, and what that came from.
fn source_chain(status: &Status) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(status), |error| error.source())
}

/// What a status means that no broker of ours wrote. One with a source was made on this side, by the transport.
fn reason_of_plain(status: &Status) -> Reason {
    let made_here = std::error::Error::source(status).is_some();
    match status.code() {
        Code::Unavailable | Code::Cancelled | Code::Aborted => Reason::NetworkException,
        Code::DeadlineExceeded => Reason::RequestTimedOut,
        Code::Unknown | Code::Internal if made_here => Reason::NetworkException,
        Code::ResourceExhausted => Reason::Throttled,
        Code::OutOfRange => Reason::LimitExceeded,
        Code::InvalidArgument | Code::FailedPrecondition => Reason::InvalidRequest,
        Code::Unimplemented => Reason::Unsupported,
        Code::Unauthenticated => Reason::AuthenticationFailed,
        Code::PermissionDenied => Reason::ClusterAuthorizationFailed,
        Code::DataLoss => Reason::DataLoss,
        Code::Ok | Code::Unknown | Code::Internal | Code::NotFound | Code::AlreadyExists => {
            Reason::UnknownServerError
        }
    }
}

/// The transport says "transport error" and keeps what happened in the sources.
fn plain_message(status: &Status) -> String {
    let mut message = status.message().to_owned();
    for error in source_chain(status) {
        let text = error.to_string();
        if !message.contains(&text) {
            if !message.is_empty() {
                message.push_str(": ");
            }
            message.push_str(&text);
        }
    }
    if message.is_empty() {
        message = status.code().description().to_owned();
    }
    message
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason_name(), self.message)
    }
}

impl std::error::Error for ApiError {}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        error.into_status()
    }
}

impl From<Status> for ApiError {
    fn from(status: Status) -> Self {
        Self::from_status(&status)
    }
}

impl From<ApiError> for v1::Error {
    fn from(error: ApiError) -> Self {
        Self {
            reason: error.reason_name().to_owned(),
            grpc_code: error.code().into(),
            retriable: error.is_retriable(),
            definite: error.is_definite(),
            retry_after_ms: error
                .retry_after
                .map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            metadata: error.metadata.into_iter().collect(),
            message: error.message,
        }
    }
}

impl From<v1::Error> for ApiError {
    fn from(error: v1::Error) -> Self {
        let (reason, foreign) = match error.reason.parse() {
            Ok(reason) => (reason, None),
            Err(_) => (
                Reason::UnknownServerError,
                Some(Foreign {
                    reason: error.reason,
                    code: Code::from(error.grpc_code),
                    retriable: error.retriable,
                    definite: error.definite,
                }),
            ),
        };
        Self {
            reason,
            message: error.message,
            metadata: error.metadata.into_iter().collect(),
            retry_after: error.retry_after_ms.map(Duration::from_millis),
            foreign,
        }
    }
}

impl From<&crate::batch::Error> for ApiError {
    fn from(error: &crate::batch::Error) -> Self {
        let api_error = Self::new(error.reason(), error.to_string());
        match error {
            crate::batch::Error::TooLarge { most, .. } => api_error
                .with("limit", "max.message.bytes")
                .with("most", most),
            crate::batch::Error::RecordLimit { limit, most, .. } => {
                api_error.with("limit", limit).with("most", most)
            }
            _ => api_error,
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper_util::rt::{TokioExecutor, TokioIo};

    use super::*;

    #[test]
    fn every_reason_survives_the_way_to_a_client() {
        for reason in Reason::ALL {
            let sent = ApiError::new(*reason, "what failed: ünïcode")
                .with("leader", "127.0.0.1:7410")
                .with("limit", 5)
                .retry_after(Duration::from_millis(1_500));
            let status = sent.clone().into_status();
            assert_eq!(status.code(), reason.code());
            let received = ApiError::from(status);
            assert_eq!(received, sent);
            assert_eq!(received.reason_name(), reason.name());
            assert_eq!(received.is_retriable(), reason.is_retriable());
            assert_eq!(received.is_definite(), reason.is_definite());
        }
    }

    #[test]
    fn every_reason_survives_as_the_error_of_an_item() {
        for reason in Reason::ALL {
            let sent = ApiError::new(*reason, "what failed")
                .with("leader_broker_id", 1)
                .retry_after(Duration::from_millis(70));
            let item = v1::Error::from(sent.clone());
            assert_eq!(item.grpc_code, i32::from(reason.code()));
            assert_eq!(ApiError::from(item), sent);
        }
        let foreign = v1::Error {
            reason: "FROM_THE_FUTURE".into(),
            grpc_code: Code::NotFound.into(),
            retriable: true,
            definite: true,
            ..v1::Error::default()
        };
        let error = ApiError::from(foreign.clone());
        assert!(error.is_retriable() && error.is_definite());
        assert_eq!(v1::Error::from(error), foreign);
    }

    #[test]
    fn an_error_without_extras_has_none_after_the_way() {
        let sent = ApiError::new(Reason::DiskFull, "no space");
        let received = ApiError::from(sent.clone().into_status());
        assert_eq!((received.metadata.len(), received.retry_after), (0, None));
        assert_eq!(received.to_string(), "DISK_FULL: no space");
    }

    #[test]
    fn an_unknown_reason_keeps_its_name_and_is_judged_by_its_code() {
        for (code, retriable) in [(Code::Unavailable, true), (Code::NotFound, false)] {
            let details = ErrorDetails::with_error_info(
                "FROM_THE_FUTURE",
                ERROR_DOMAIN,
                HashMap::from([("a".to_owned(), "b".to_owned())]),
            );
            let error = ApiError::from(Status::with_error_details(code, "soon", details));
            assert_eq!(error.reason, Reason::UnknownServerError);
            assert_eq!(error.reason_name(), "FROM_THE_FUTURE");
            assert_eq!(error.metadata["a"], "b");
            assert_eq!(
                (error.is_retriable(), error.is_definite()),
                (retriable, false)
            );
            let again = ApiError::from(error.clone().into_status());
            assert_eq!(again, error);
        }
    }

    #[test]
    fn error_info_of_another_domain_is_not_ours() {
        let details = ErrorDetails::with_error_info(
            "OFFSET_OUT_OF_RANGE",
            "proxy.example",
            HashMap::<String, String>::new(),
        );
        let status = Status::with_error_details(Code::Unavailable, "busy", details);
        assert_eq!(ApiError::from(status).reason, Reason::NetworkException);
    }

    #[test]
    fn plain_transport_failures_are_indefinite_and_retriable() {
        for code in [Code::Unavailable, Code::Cancelled, Code::DeadlineExceeded] {
            let error = ApiError::from(Status::new(code, "gone"));
            assert!(error.is_retriable() && !error.is_definite(), "{code:?}");
        }
        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let error = ApiError::from(Status::from_error(Box::new(reset)));
        assert_eq!(error.reason, Reason::NetworkException);
    }

    #[tokio::test]
    async fn a_request_that_its_connection_did_not_live_to_send_surely_did_nothing() {
        let (near, _far) = tokio::io::duplex(1 << 10);
        let handshake =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(near));
        let (mut requests, connection) = handshake.await.unwrap();
        let request = http::Request::new(tonic::body::Body::empty());
        let answer = requests.send_request(request);
        drop(connection);
        let status = Status::from_error(Box::new(answer.await.unwrap_err()));
        assert!(is_unsent(&status) && never_left(&status));
        let error = ApiError::from(status);
        assert_eq!(error.reason, Reason::BrokerNotAvailable);
        assert!(error.is_retriable() && error.is_definite());
    }

    #[test]
    fn other_plain_statuses_do_not_invite_a_retry() {
        for code in [
            Code::InvalidArgument,
            Code::Unimplemented,
            Code::Unauthenticated,
            Code::PermissionDenied,
            Code::OutOfRange,
            Code::NotFound,
            Code::Internal,
        ] {
            let error = ApiError::from(Status::new(code, ""));
            assert!(!error.is_retriable(), "{code:?}");
            assert!(!error.message.is_empty());
        }
    }

    #[test]
    fn garbage_in_the_details_is_ignored() {
        let garbage = bytes::Bytes::from_static(&[0xff; 40]);
        let status = Status::with_details(Code::NotFound, "x", garbage);
        assert_eq!(ApiError::from(status).reason, Reason::UnknownServerError);
    }

    #[test]
    fn a_refused_batch_names_its_limit() {
        let error = ApiError::from(&crate::batch::Error::TooLarge { found: 9, most: 8 });
        assert_eq!(error.reason, Reason::MessageTooLarge);
        assert_eq!(error.metadata["limit"], "max.message.bytes");
    }
}
