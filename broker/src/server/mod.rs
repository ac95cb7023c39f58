//! The way in: listeners, and what every call passes before its handler.

mod gate;
pub(crate) mod listener;
mod metered_body;
mod schema;

pub(crate) use gate::{AnswerCharge, explain};
pub(crate) use metered_body::{MessageCharges, out_of_memory};
