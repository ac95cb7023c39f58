//! A message to and fro over TCP on loopback, one at a time: the least that a request to a broker can take.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::command::bench::latencies::Latencies;

/// Bytes of a message, each way.
const MESSAGE_BYTES: usize = 100;

/// Sends and awaits messages for so long.
pub(super) fn measure(time: Duration) -> io::Result<Latencies> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut asking = TcpStream::connect(listener.local_addr()?)?;
    asking.set_nodelay(true)?;
    let (mut answering, _) = listener.accept()?;
    answering.set_nodelay(true)?;
    let echo = thread::spawn(move || -> io::Result<()> {
        let mut message = [0; MESSAGE_BYTES];
        // It ends when the other side has closed.
        while answering.read_exact(&mut message).is_ok() {
            answering.write_all(&message)?;
        }
        Ok(())
    });
    let latencies = ask(&mut asking, time);
    drop(asking);
    let echoed = echo
        .join()
        .map_err(|_| io::Error::other("the thread that answers has panicked"))?;
    latencies.and_then(|latencies| echoed.map(|()| latencies))
}

fn ask(connection: &mut TcpStream, time: Duration) -> io::Result<Latencies> {
    let mut latencies = Latencies::new();
    let mut message = [7; MESSAGE_BYTES];
    let start = Instant::now();
    loop {
        let sent = Instant::now();
        connection.write_all(&message)?;
        connection.read_exact(&mut message)?;
        latencies.record(sent.elapsed(), 1);
        if start.elapsed() >= time {
            return Ok(latencies);
        }
    }
}
