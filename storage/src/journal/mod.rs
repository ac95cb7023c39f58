//! The journal of one data directory.

mod turn;

pub use turn::{Ticket, Turn};
