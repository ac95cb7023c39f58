//! The Highwater broker as a server.
fn main() {}
