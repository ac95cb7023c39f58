//! Calls made of raw bytes, as no proper client makes them.

use bytes::Bytes;
use highwater_proto::ApiError;
use http::Request;
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
    let mut request = Request::post(format!("http://broker{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = Body::new(http_body_util::Full::new(Bytes::from(body)));
    let mut channel = channel.clone();
    let response = channel
        .ready()
        .await
        .unwrap()
        .call(request.body(body).unwrap())
        .await
        .expect("the connection carries an answer");
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
    match status.code() {
        Code::Ok => Ok(()),
        _ => Err(ApiError::from(status)),
    }
}
