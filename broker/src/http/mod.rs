//! The HTTP listener: `/livez` answers while the process runs, `/readyz` says whether it serves clients and what is wrong,
//! `/metrics` and `/metrics/topics` are for Prometheus.

mod pages;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::server::listener::Listener;
use pages::{TEXT, page};

pub(crate) use pages::Pages;

/// What there is.
const PATHS: &str = "/livez, /readyz, /metrics, /metrics/topics and /metrics/groups";
/// A client that has not sent its request line and headers by then is cut off.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of request line and headers.
const MAX_HEADER_BYTES: usize = 16 << 10;
/// Wait after a failed accept, which means that the process is out of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Serves until `stop`, then finishes the requests in flight.
pub(crate) async fn serve(mut listener: Listener, pages: Arc<Pages>, stop: CancellationToken) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.next() => accepted,
        };
        match accepted {
            Some(Ok(connection)) => {
                let (pages, stop) = (Arc::clone(&pages), stop.clone());
                connections.spawn(serve_connection(TokioIo::new(connection), pages, stop));
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
    pages: Arc<Pages>,
    stop: CancellationToken,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let pages = Arc::clone(&pages);
        async move {
            let response = answer(request.method(), request.uri().path(), &pages).await;
            Ok::<_, Infallible>(response)
        }
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

async fn answer(method: &Method, path: &str, pages: &Arc<Pages>) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return page(
            StatusCode::METHOD_NOT_ALLOWED,
            TEXT,
            "only GET and HEAD are supported\n".to_owned(),
        );
    }
    let render = match path {
        "/livez" => return page(StatusCode::OK, TEXT, "live\n".to_owned()),
        "/readyz" => Pages::ready,
        "/metrics" => Pages::metrics,
        "/metrics/topics" => Pages::topics,
        "/metrics/groups" => return pages.groups().await,
        _ => {
            return page(
                StatusCode::NOT_FOUND,
                TEXT,
                format!("not found; there are {PATHS}\n"),
            );
        }
    };
    let pages = Arc::clone(pages);
    let rendered = tokio::task::spawn_blocking(move || render(&pages)).await;
    rendered.unwrap_or_else(|error| {
        warn!(%error, path, "an HTTP page could not be made");
        let text = "the page could not be made; the log of the broker says why\n".to_owned();
        page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, text)
    })
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::health::Readiness;
    use crate::metrics::Metrics;

    #[tokio::test]
    async fn a_broker_that_starts_is_live_and_not_ready_and_has_metrics() {
        let metrics = Arc::new(Metrics::new(&[]));
        let pages = Arc::new(Pages::new(Readiness::default(), metrics));
        let get = async |path| {
            let response = answer(&Method::GET, path, &pages).await;
            let status = response.status();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            (status, String::from_utf8(body.to_vec()).unwrap())
        };
        assert_eq!(get("/livez").await, (StatusCode::OK, "live\n".to_owned()));
        let (status, text) = get("/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.starts_with("not ready: it starts"), "{text}");
        let (status, text) = get("/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.contains("\nhighwater_ready 0\n"), "{text}");
        assert_eq!(get("/other").await.0, StatusCode::NOT_FOUND);
        let post = answer(&Method::POST, "/livez", &pages).await;
        assert_eq!(post.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
