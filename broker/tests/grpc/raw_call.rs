//! Calls made of raw bytes, as no proper client makes them.

use bytes::Bytes;
use highwater_proto::ApiError;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tonic::body::Body;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tower::{Service as _, ServiceExt as _};

/// A message framed as gRPC does it.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    frame
}

/// Sends `body` to `path` and returns the status of the call.
pub(crate) async fn call(
    channel: &Channel,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Result<(), ApiError> {
    let response = send(channel, path, headers, body).await;
    let status = match Status::from_header_map(response.headers()) {
        Some(status) => status,
        None => {
            let collected = response
                .into_body()
                .collect()
                .await
                .expect("the answer ends in order");
            let trailers = collected.trailers().expect("an answer ends with trailers");
            Status::from_header_map(trailers).expect("trailers hold the status")
        }
    };
    as_result(status)
}

/// The same for an answer without an end: returns when its first message is there, or its status.
pub(crate) async fn begin(
    channel: &Channel,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Result<(), ApiError> {
    let mut response = send(channel, path, headers, body).await;
    if let Some(status) = Status::from_header_map(response.headers()) {
        return as_result(status);
    }
    let frame = response.body_mut().frame().await;
    let frame = frame.expect("something follows").expect("in order");
    match frame.trailers_ref() {
        None => Ok(()),
        Some(trailers) => as_result(Status::from_header_map(trailers).expect("a status")),
    }
}

fn as_result(status: Status) -> Result<(), ApiError> {
    match status.code() {
        Code::Ok => Ok(()),
        _ => Err(ApiError::from(status)),
    }
}

/// Sends `body` to `path` and returns the answer as it comes.
pub(crate) async fn send(
    channel: &Channel,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Response<Body> {
    loop {
        let mut request = Request::post(format!("http://broker{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = Body::new(http_body_util::Full::new(Bytes::from(body.clone())));
        let mut channel = channel.clone();
        let ready = channel.ready().await.unwrap();
        match ready.call(request.body(body).unwrap()).await {
            Ok(response) => return response,
            // The channel keeps to `grpc-timeout` too; what is wanted is the broker's answer.
            Err(error) if format!("{error:?}").contains("TimeoutExpired") => {}
            Err(error) => panic!("the connection carries no answer: {error:?}"),
        }
    }
}
