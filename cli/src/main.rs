//! The `highwater` command line.
fn main() {}
