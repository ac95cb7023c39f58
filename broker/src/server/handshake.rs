//! The beginning of a connection with TLS, and an answer that is understood for those who begin without.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use highwater_proto::{BrokerId, TLS_ONLY};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::info;

use crate::tls::{Acceptor, Side, brokers_named};

/// The first byte of a connection with TLS: a record of the type handshake.
const TLS_HANDSHAKE: u8 = 0x16;
/// What is read from a client that is sent away, in bytes: its first words, so that it has time to read the answer.
const LAST_BYTES: u64 = 4096;
/// What an HTTP/2 client begins with, in bytes (RFC 9113, section 3.4).
const PREFACE_BYTES: usize = 24;
/// Length, kind, flags and stream of an HTTP/2 frame, in bytes (RFC 9113, section 4.1).
const FRAME_HEADER_BYTES: usize = 9;
/// The kind of the frame that a request begins with.
const HEADERS: u8 = 1;
/// The frame that an HTTP/2 server begins with.
const EMPTY_SETTINGS: [u8; FRAME_HEADER_BYTES] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// Completes the handshake; `None` where it fails or takes too long.
pub(super) async fn shake_hands(
    acceptor: &Acceptor,
    stream: TcpStream,
    client: SocketAddr,
) -> Option<TlsStream<TcpStream>> {
    let patience = acceptor.handshake_timeout();
    let problem = match tokio::time::timeout(patience, accept(acceptor, stream)).await {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it takes too long (server.tls.handshake_timeout_ms)".to_owned(),
    };
    info!(%client, problem, "a TLS handshake failed");
    None
}

async fn accept(acceptor: &Acceptor, mut stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 1 && first[0] != TLS_HANDSHAKE {
        send_away(&mut stream, acceptor.side()).await?;
        let problem = "the client does not begin with TLS";
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    let accepting = TlsAcceptor::from(acceptor.config()).accept(stream);
    let stream = match accepting.into_fallible().await {
        Ok(stream) => stream,
        Err((error, mut stream)) => {
            // Its alert was sent. What cannot be sent any more changes nothing about the error.
            drop(take_leave(&mut stream).await);
            return Err(error);
        }
    };
    // The authority of the brokers may have given certificates to others, too.
    if acceptor.side() == Side::Peers && brokers_shown(&stream).is_none_or(|shown| shown.is_empty())
    {
        let problem = "the certificate speaks for no broker";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
    }
    Ok(stream)
}

/// The brokers that the certificate on the other end speaks for; `None` where it shows none.
pub(super) fn brokers_shown(stream: &TlsStream<TcpStream>) -> Option<Arc<[BrokerId]>> {
    let certificates = stream.get_ref().1.peer_certificates()?;
    certificates.first().map(|leaf| brokers_named(leaf).into())
}

/// Says in the words of a client without TLS that this is needed here.
async fn send_away(stream: &mut TcpStream, side: Side) -> io::Result<()> {
    match side {
        Side::Clients | Side::Peers => {
            stream.write_all(&EMPTY_SETTINGS).await?;
            await_request(stream).await?;
            stream.write_all(&goaway()).await?;
        }
        Side::Probes => {
            let answer = format!(
                "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{TLS_ONLY}\n",
                TLS_ONLY.len() + 1
            );
            stream.write_all(answer.as_bytes()).await?;
        }
    }
    take_leave(stream).await
}

/// Ends a connection so that the client has what was sent to it: closing with bytes unread would take that away.
async fn take_leave(stream: &mut TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(LAST_BYTES), &mut tokio::io::sink()).await?;
    Ok(())
}

/// Reads up to the client's first request: one that is told to go away before it has asked for anything learns that the
/// connection was closed, and not why.
async fn await_request(stream: &mut TcpStream) -> io::Result<()> {
    let mut words = BufReader::new(stream.take(LAST_BYTES));
    words.read_exact(&mut [0; PREFACE_BYTES]).await?;
    loop {
        let mut header = [0; FRAME_HEADER_BYTES];
        words.read_exact(&mut header).await?;
        let [a, b, c, kind, ..] = header;
        if kind == HEADERS {
            return Ok(());
        }
        let length = u64::from(u32::from_be_bytes([0, a, b, c]));
        tokio::io::copy(&mut (&mut words).take(length), &mut tokio::io::sink()).await?;
    }
}

/// HTTP/2 for: not without TLS.
fn goaway() -> Vec<u8> {
    const GOAWAY: [u8; 6] = [7, 0, 0, 0, 0, 0];
    const LAST_STREAM: [u8; 4] = [0; 4];
    const INADEQUATE_SECURITY: [u8; 4] = [0, 0, 0, 0xc];
    let length = u8::try_from(8 + TLS_ONLY.len()).expect("a short sentence");
    [
        &[0, 0, length][..],
        &GOAWAY,
        &LAST_STREAM,
        &INADEQUATE_SECURITY,
        TLS_ONLY.as_bytes(),
    ]
    .concat()
}
