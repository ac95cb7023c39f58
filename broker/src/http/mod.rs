//! The HTTP listener for probes: `/health/live` while the process runs, `/health/ready` while it serves clients.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::health::Readiness;
use crate::server::listener::Listener;

/// A client that has not sent its request line and headers by then is cut off.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of request line and headers.
const MAX_HEADER_BYTES: usize = 16 << 10;
/// Wait after a failed accept, which means that the process is out of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Serves until `stop`, then finishes the requests in flight.
pub(crate) async fn serve(mut listener: Listener, readiness: Readiness, stop: CancellationToken) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.next() => accepted,
        };
        match accepted {
            Some(Ok(connection)) => {
                let (readiness, stop) = (readiness.clone(), stop.clone());
                connections.spawn(serve_connection(TokioIo::new(connection), readiness, stop));
            }
            Some(Err(error)) => {
                warn!(%error, "cannot accept an HTTP connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
            None => break,
        }
    }
    connections.close();
    connections.wait().await;
}

async fn serve_connection(
    io: TokioIo<crate::server::listener::Connection>,
    readiness: Readiness,
    stop: CancellationToken,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answer(request.method(), request.uri().path(), &readiness);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = &mut connection => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        debug!(%error, "an HTTP connection ended early");
    }
}

fn answer(method: &Method, path: &str, readiness: &Readiness) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return plain(
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET and HEAD are supported\n",
        );
    }
    match path {
        "/health/live" => plain(StatusCode::OK, "live\n"),
        "/health/ready" if readiness.is_ready() => plain(StatusCode::OK, "ready\n"),
        "/health/ready" => plain(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        _ => plain(
            StatusCode::NOT_FOUND,
            "not found; there are /health/live and /health/ready\n",
        ),
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_tell_live_from_ready() {
        let readiness = Readiness::default();
        let get = |path| answer(&Method::GET, path, &readiness).status();
        assert_eq!(get("/health/live"), StatusCode::OK);
        assert_eq!(get("/health/ready"), StatusCode::SERVICE_UNAVAILABLE);
        readiness.set(true);
        assert_eq!(get("/health/ready"), StatusCode::OK);
        assert_eq!(get("/other"), StatusCode::NOT_FOUND);
        let post = answer(&Method::POST, "/health/live", &readiness);
        assert_eq!(post.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
